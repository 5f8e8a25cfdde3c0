"""The pageout daemon: makes pages free by Mach's FIFO with second chance (mach.md 4.4 - 4.7, 5.6; VPO).

Interface:
    FlowControl(time_scale)       how long the daemon pauses so that pagers can catch up: Mach's adaptive rule
    should_pause(...)             whether it must
    PageoutDaemon(processor, resident, objects, pagers, manager, time_scale)
        .start()                  forks the daemon thread, which is privileged
        .counts

A pause is measured in milliseconds a page: what a disk of 1991 took.  `time_scale` stretches or shrinks them all, for
pagers of another age; 1.0 is Mach's.

Invariants:
    1. A page on its way out is busy, unmapped, on no queue, wired, and counted in the laundry; it can still be found
       in its object, so that a fault waits for it rather than asks for it.
    2. A dirty or precious page is freed only after the pager's queue has taken its content.
    3. The daemon takes no page for itself: it works when none is free.

Not here: what happens to a page at its pager.
"""

from __future__ import annotations

from collections import Counter

from kernel.default_manager import DefaultManager
from kernel.memory_object import MemoryObjects
from kernel.pmap import remove_all
from kernel.processor import Processor
from kernel.resident import Page, ResidentPages, Thresholds, inactive_target
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
        pagers: MemoryObjects,
        manager: DefaultManager,
        time_scale: float = 1.0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.flow = FlowControl(time_scale)
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._pagers = pagers
        self._manager = manager
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
        while True:
            self._refill()
            if resident.free_count >= resident.thresholds.free_target and not resident.free_wanted:
                return
            if self._stuck > len(resident.active) + len(resident.inactive):
                counts["given_up"] += 1
                resident.give_up()
                resident.pageout_wanted.wait("a page that can be freed: the default pager is dead")
                self._stuck = 0
                continue
            inactive = len(resident.inactive)
            if should_pause(resident.thresholds, resident.free_count, inactive, burst, resident.laundry_count):
                self._pause(burst)
                burst = 0
                continue
            page = next(iter(resident.inactive))
            burst += self._look_at(page)

    def _refill(self) -> None:
        """Move the oldest active pages to the inactive queue until that has its two thirds (mach.md 5.6)."""
        resident = self._resident
        active, inactive = resident.active, resident.inactive
        while active and len(inactive) < inactive_target(len(active), len(inactive)):
            page = next(iter(active))
            if page.busy:
                resident.take_off_queues(page)  # who made it busy will put it back
            else:
                resident.deactivate(page)

    def _look_at(self, page: Page) -> int:
        """Decide on the page at the head of the inactive queue.  Returns how many pages were sent."""
        resident, counts = self._resident, self.counts
        counts["scanned"] += 1
        if page.busy or not page.object.alive:
            resident.take_off_queues(page)
        elif page.absent or page.error:  # a placeholder: the pager can be asked again
            self._stuck = 0
            resident.free(page)
        elif page.reference:
            resident.activate(page)
            counts["reactivations"] += 1
        else:
            remove_all(page)
            page.dirty |= page.modified
            page.modified = False
            if page.dirty or page.precious:
                with span(
                    self._processor.runtime,
                    "page_out",
                    frame=page.frame,
                    object=page.object.object_id,
                    offset=page.offset,
                ):
                    return self._page_out(page)
            self._stuck = 0
            resident.free(page)
            counts["clean_pages_freed"] += 1
        return 0

    def _page_out(self, page: Page) -> int:
        """vm_pageout_page: send the page to its pager, which is made now if it has none.  1 if it was taken."""
        resident, object = self._resident, page.object
        resident.take_off_queues(page)
        page.busy = True
        self._objects.paging_begin(object)
        taken = False
        if object.pager is not None or self._pagers.create(object):
            resident.wire(page)  # §5.5: what is sent to the default manager is locked down
            page.laundry = True
            resident.laundry_count += 1
            taken = self._pagers.data_write(object, page.offset, resident.store.read(page.frame))
        if taken:
            self._stuck = 0
            self.counts["pageouts"] += 1
            resident.free(page)  # its wiring and its laundry end here (mach.md 8, test 50)
        else:  # the pager is dead: the page lives on here (P5)
            if page.laundry:
                page.laundry = False
                resident.laundry_count -= 1
                resident.unwire(page)
            self._stuck += 1
            self.counts["pageouts_failed"] += 1
            page.dirty = True
            resident.activate(page)
            resident.done(page)
        self._objects.paging_end(object)
        return int(taken)

    def _pause(self, burst: int) -> None:
        """Sleep; nothing wakes the daemon early, as in Mach, but a first page to look at when there was none at all."""
        resident = self._resident
        nothing = not resident.active and not resident.inactive
        seconds = self.flow.pause_seconds(burst, resident.laundry_count, not resident.inactive)
        self.counts["pauses"] += 1
        if nothing and resident.laundry_count == 0:
            resident.pageout_wanted.wait("a page to page out: every page is wired or busy")
        else:
            with self._processor.unlocked:
                self._processor.runtime.sleep(
                    seconds, "a pause for the pagers", owed_by=lambda: self._processor.owers(self)
                )
        self.flow.after_pause(resident.laundry_count)
