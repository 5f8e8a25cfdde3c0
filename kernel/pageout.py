"""The pageout daemon: makes pages free, by Mach's thresholds and flow control (mach.md 4.4 - 4.7, 5.6; VPO).

Interface:
    FlowControl(time_scale)       how long the daemon pauses so that pagers can catch up: Mach's adaptive rule
    should_pause(...)             whether it must
    PageoutDaemon(processor, resident, objects, pagers, laundry, shadows, time_scale, cluster_pages)
        .start()                  forks the daemon thread, which is privileged
        .counts

`cluster_pages`: how many dirty pages that follow each other go in one message; 1 is Mach's.

A pause is measured in milliseconds a page: what a disk of 1991 took.  `time_scale` stretches or shrinks them all, for
pagers of another age; 1.0 is Mach's.

Invariants:
    1. A dirty or precious page leaves its object only after the pager's queue has taken its content.
    2. The daemon takes no page for itself: it works when none is free.

Not here: which page goes next (kernel/replacement/); its way to the pager (kernel/laundry.py).
"""

from __future__ import annotations

from collections import Counter

from kernel.laundry import Laundry
from kernel.page import ABSENT, BUSY, DIRTY, ERROR, MODIFIED, PRECIOUS, REFERENCED, Page
from kernel.pagers import Pagers
from kernel.processor import Processor
from kernel.resident import ResidentPages, Thresholds
from kernel.shadow import Shadows
from kernel.vm_object import VmObjects
from mach.threads import Thread
from mach.trace import span

BURST_MAX = 10  # pages sent without a pause
BURST_MIN = 5  # laundry that is no sign of a slow pager
BURST_WAIT = 30  # ms a page, at first
EMPTY_WAIT = 200  # ms, when nothing is inactive
PAUSE_MAX = 10  # pauses without need before they become shorter


class FlowControl:
    """vm_pageout_burst_wait and how it adapts (mach.md 4.7)."""

    def __init__(self, time_scale: float = 1.0) -> None:
        self.burst_wait = BURST_WAIT
        self.pause_count = 0
        self._milliseconds = 0.001 * time_scale

    def pause_seconds(self, burst: int, laundry: int, inactive_is_empty: bool) -> float:
        milliseconds = max(laundry, burst) * self.burst_wait
        if inactive_is_empty:
            milliseconds = max(milliseconds, EMPTY_WAIT)
        return milliseconds * self._milliseconds

    def after_pause(self, laundry: int) -> None:
        """Pause longer if the pagers have not caught up; shorter after many pauses in which they had."""
        if laundry > BURST_MIN:
            self.burst_wait += 1
            self.pause_count = 0
            return
        self.pause_count += 1
        if self.pause_count > PAUSE_MAX:
            self.burst_wait = max(self.burst_wait * 3 // 4, 1)
            self.pause_count = 0


def should_pause(limits: Thresholds, free: int, inactive: int, burst: int, laundry: int) -> bool:
    """mach.md 4.7: nothing to look at, enough sent, or so short of memory that the laundry must come back first."""
    return (
        inactive == 0 or burst >= BURST_MAX or laundry >= BURST_MAX or (free < limits.reserved_really and laundry > 0)
    )


class PageoutDaemon:
    """See the head of the module."""

    def __init__(
        self,
        processor: Processor,
        resident: ResidentPages,
        objects: VmObjects,
        pagers: Pagers,
        laundry: Laundry,
        shadows: Shadows,
        time_scale: float = 1.0,
        cluster_pages: int = 1,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.flow = FlowControl(time_scale)
        self.cluster_pages = cluster_pages
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._pagers = pagers
        self._laundry = laundry
        self._shadows = shadows
        self._stuck = 0  # dirty pages in a row that nobody would take
        self.thread: Thread | None = None

    def start(self) -> None:
        """The thread may use the reserve (mach.md 4.5), though it needs none of it."""
        self.thread = self._processor.runtime.fork(self._run, "pageout daemon", daemon=True)
        self.thread.vm_privilege = True

    def _run(self) -> None:
        resident = self._resident
        with self._processor.lock:
            while True:
                with span(self._processor.runtime, "pageout_scan"):
                    self._scan()
                while not resident.pageout_requested:
                    resident.pageout_wanted.wait("a shortage of memory")
                resident.pageout_requested = False

    def _scan(self) -> None:
        """vm_pageout_scan: until enough is free and nobody waits for a page, or nothing more can be done."""
        resident, counts = self._resident, self.counts
        burst = 0
        self._stuck = 0
        self._pagers.reclaim()
        while resident.free_count < resident.thresholds.free_target or resident.free_wanted:
            if self._stuck > len(resident.active) + len(resident.inactive):
                counts["given_up"] += 1
                resident.give_up()
                resident.pageout_wanted.wait("a page that can be freed: the default pager is dead")
                self._stuck = 0
                continue
            page = resident.policy.victim()
            candidates = resident.policy.candidates if page is not None else 0
            if page is None or should_pause(
                resident.thresholds, resident.free_count, candidates, burst, resident.laundry_count
            ):
                self._pause(burst, page is None)
                burst = 0
                continue
            burst += self._look_at(page)

    def _look_at(self, page: Page) -> int:
        """Decide on the page that is to go next.  Returns how many pages were sent."""
        resident, counts = self._resident, self.counts
        counts["scanned"] += 1
        if page.busy or not page.object.alive:
            resident.take_off_queues(page)  # who made it busy will put it back
        elif page.absent or page.error:  # a placeholder: the pager can be asked again
            self._stuck = 0
            resident.free(page)
        else:
            self._withdraw(page)
            if page.dirty or page.precious:
                where = {"frame": page.frame, "object": page.object.object_id, "offset": page.offset}
                with span(self._processor.runtime, "page_out", **where):
                    return self._page_out(page)
            self._stuck = 0
            resident.free(page)
            counts["clean_pages_freed"] += 1
        return 0

    def _withdraw(self, page: Page) -> None:
        """Unmap it, and merge the hardware's dirty bit."""
        self._resident.pv.remove_all(page)
        page.dirty |= page.modified
        page.modified = False

    def _page_out(self, first: Page) -> int:
        """Send pages to their pager, which is made now if there is none.  Returns how many were taken."""
        object, soon = first.object, self._resident.free_count < self._resident.thresholds.reserved_internal
        if object.pager is None:
            self._shadows.collapse(object)  # perhaps it takes over one (mach.md 5.3)
        row = self._row(first) if object.pager is not None else [first]
        for page in row:
            self._resident.take_off_queues(page)
            page.busy = True
        self._objects.paging_begin(object)
        if object.pager is not None or self._pagers.create(object):
            taken = self._laundry.send(object, row, soon=soon)
        else:
            taken = False
            self._keep(row)
        self._objects.paging_end(object)
        if taken:
            self._stuck = 0
            self.counts["pageouts"] += len(row)
            self.counts["pageout_messages"] += 1
            self.counts["double_paged"] += soon and not object.internal
            return len(row)
        self._stuck += 1
        self.counts["pageouts_failed"] += 1
        return 0

    def _keep(self, row: list[Page]) -> None:
        """Nobody takes them (P5)."""
        for page in row:
            page.dirty = True
            self._resident.activate(page)
            self._resident.done(page)

    def _row(self, first: Page) -> list[Page]:
        """The page, and those after it that may go with it: dirty, and not used since they were put on their queue."""
        row, object, at = [first], first.object, first.offset
        while len(row) < self.cluster_pages:
            at += self._resident.page_size
            page = object.pages.get(at)
            if page is None or page.flags & (BUSY | ABSENT | ERROR | REFERENCED) or page.queue is None:
                break
            if not page.flags & (DIRTY | MODIFIED | PRECIOUS):
                break
            self._withdraw(page)
            row.append(page)
        return row

    def _pause(self, burst: int, nothing: bool) -> None:
        """Sleep; nothing wakes the daemon early, as in Mach, but a first page to look at when there was none at all."""
        resident = self._resident
        seconds = self.flow.pause_seconds(burst, resident.laundry_count, nothing)
        self.counts["pauses"] += 1
        why = f"the pagers to free {resident.laundry_count} pages in the laundry"
        if nothing and not resident.active and not resident.inactive and resident.laundry_count == 0:
            resident.pageout_wanted.wait("a page to page out: every page is wired or busy")
        else:
            with self._processor.unlocked:
                self._processor.runtime.sleep(seconds, why, owed_by=lambda: self._processor.owers(self))
        self.flow.after_pause(resident.laundry_count)
