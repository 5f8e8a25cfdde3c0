"""Physical memory: the frames' content, the life of a page, the queues that it is on, and the reserve (mach.md 4.4).

Interface:
    FrameStore(frames, page_size)     the bytes, one anonymous shared mapping, addressed by frame number
    thresholds(free)                  Mach's formulas, pure
    ResidentPages(processor, frames, page_size, policy)
        .alloc(object, offset) -> Page | None     vm_page_alloc: a busy page, or None when only the reserve is left
        .wait() -> bool                           vm_page_wait: until pages are free; False if none can be had
        .free(page)  .done(page)                  vm_page_free, PAGE_WAKEUP_DONE
        .wait_for(page, why, timeout, line)       PAGE_ASSERT_WAIT: until it is done, freed, or unlocked
        .rename(page, object, offset)             vm_page_rename: it is another object's now
        .activate(page)  .deactivate(page)  .next_to_go(page)  .take_off_queues(page)  .wire(page)  .unwire(page)
        .copy(source, target)  .zero(page)
        .check(objects)                           raises AssertionError, by invariant

Invariants (the kernel mutex is held in every method):
    1. Every frame is free, or belongs to exactly one page of exactly one object.
    2. A page is on at most one queue, and its `queue` names it; a wired page is on none.
    3. A mapped page is neither busy nor absent nor in error.
    4. laundry_count and wire_count count the pages in that state.
    5. An unprivileged thread never takes a page while fewer than `reserved` are free.

Not here: what is evicted and when (kernel/pageout.py, kernel/replacement/); what a page looks like (kernel/page.py).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.page import BUSY, LAUNDRY, UNMAPPABLE, WANTED, Frames, Page, PageQueue
from kernel.pmap import PvTable
from kernel.processor import KernelPanic, Processor
from kernel.replacement import DEFAULT, POLICIES
from kernel.tracing.queue import TracedQueue
from mach.feeder import Line

if TYPE_CHECKING:
    from kernel.vm_object import VmObject

FREE_RESERVED = 15  # vm_page_free_reserved: pages that only privileged threads may take (mach.md 4.4)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When pageout starts and stops.  Pages."""

    reserved: int  # for privileged threads alone
    reserved_internal: int  # below: external objects' dirty pages are paged twice
    reserved_really: int  # below: pageout waits for its laundry
    free_min: int  # below: pageout is woken
    free_target: int  # pageout stops here


def thresholds(free_at_start: int, reserved: int = FREE_RESERVED) -> Thresholds:
    """Mach's figures for a machine with so many free pages when the pageout daemon starts (mach.md 4.4).  Another
    reserve than Mach's moves nothing else: the daemon starts and stops where it would."""
    pageable = free_at_start - FREE_RESERVED
    free_min = FREE_RESERVED + 10 + pageable // 100
    return Thresholds(
        reserved=reserved,
        reserved_internal=max(reserved - 5, 0),
        reserved_really=max(reserved - 10, 0),
        free_min=free_min,
        free_target=max(FREE_RESERVED + 15 + pageable // 80, free_min + 5),
    )


class FrameStore:
    """All physical memory.  The mapping is shared, so that a pager could be given frames rather than copies."""

    def __init__(self, frames: int, page_size: int) -> None:
        self.frames = frames
        self.page_size = page_size
        self._mapping = mmap.mmap(-1, frames * page_size)
        self.view = memoryview(self._mapping)
        self._zeros = bytes(page_size)

    def read(self, frame: int) -> bytes:
        start = frame * self.page_size
        return bytes(self.view[start : start + self.page_size])

    def write(self, frame: int, data: bytes | memoryview) -> None:
        """`data` is exactly one page."""
        start = frame * self.page_size
        self.view[start : start + self.page_size] = data

    def zero(self, frame: int) -> None:
        self.write(frame, self._zeros)


class ResidentPages:
    """All pages that hold something, and the frames that do not."""

    def __init__(
        self,
        processor: Processor,
        frames: int,
        page_size: int,
        policy: str = DEFAULT,
        reserved: int = FREE_RESERVED,
    ) -> None:
        self.processor = processor
        self.store = FrameStore(frames, page_size)
        self.page_size = page_size
        self.frames = Frames(frames)
        self.pv = PvTable(self.frames)
        self._free = PageQueue(self.frames, "free")
        for frame in range(frames - 1, -1, -1):
            self._free.prepend(Page(self.frames, frame))
        self.free_count = frames
        self.active = self._pageable("active")
        self.inactive = self._pageable("inactive")
        self.policy = POLICIES[policy](self.active, self.inactive)
        self.wire_count = 0
        self.laundry_count = 0
        self.free_wanted = 0  # threads that wait for a page
        self.free_low = frames  # the fewest frames that were ever free
        self.thresholds = thresholds(frames, reserved)
        self.pageout_wanted = processor.condition("pageout daemon")
        self.pageout_requested = False
        self._freed = processor.condition("free pages")
        self._given_up = 0  # how often pageout has told waiters that nothing can be freed

    # -- the reserve -------------------------------------------------------------------------------------------

    def alloc(self, object: VmObject, offset: int) -> Page | None:
        """A busy page at `offset` of `object`, its content undefined; None if the caller must wait() first."""
        free = self.free_count
        limits = self.thresholds
        if free < limits.free_target:
            if free < limits.reserved and not self.processor.runtime.current().vm_privilege:
                return None
            if free == 0 and not limits.reserved:  # then privilege is worth nothing
                return None
            if free == 0:
                raise KernelPanic("vm_page_grab: a privileged thread finds no free page: the reserve is used up")
        page = self._free.first()
        assert page is not None
        self._free.remove(page)
        self.free_count = free = free - 1
        if free < self.free_low:
            self.free_low = free
        if free < limits.free_min or (free < limits.free_target and self.policy.runs_short()):
            self.request_pageout()
        frames, frame = self.frames, page.frame
        frames.object[frame], frames.offset[frame], frames.flags[frame] = object, offset, BUSY
        object.pages[offset] = page
        self.tell("page_alloc", page)
        return page

    def _pageable(self, name: str) -> PageQueue:
        runtime = self.processor.runtime
        return PageQueue(self.frames, name) if runtime.tracer is None else TracedQueue(self.frames, name, runtime)

    def tell(self, kind: str, page: Page, **values: int) -> None:
        """What happens to a page, for who traces the machine (mach/trace.py)."""
        if (tracer := self.processor.runtime.tracer) is not None:
            tracer.event(kind, frame=page.frame, object=page.object.object_id, offset=page.offset, **values)

    def wait(self) -> bool:
        """Sleep until pageout has freed pages; at once if there are enough.  False if none can be had (P5)."""
        if self.free_count >= self.thresholds.free_target:
            return True
        given_up = self._given_up
        self.free_wanted += 1
        if self.free_wanted == 1:
            self.request_pageout()
        self._freed.wait(
            lambda: (
                f"a page of memory (free {self.free_count}, reserved {self.thresholds.reserved}), "
                "which the pageout daemon owes it"
            ),
            owed_by=lambda: self.processor.owers(self),
        )
        return self._given_up == given_up

    def request_pageout(self) -> None:
        """Wake the pageout daemon, or have it scan once more before it sleeps."""
        self.pageout_requested = True
        self.pageout_wanted.signal()

    def give_up(self) -> None:
        """Tell all who wait for a page that none can be freed: what is dirty has nowhere to go."""
        self._given_up += 1
        self.free_wanted = 0
        self._freed.broadcast()

    def free(self, page: Page) -> None:
        """vm_page_free: the page leaves its object, its frame is free; one who waits for memory is woken."""
        frames, frame = self.frames, page.frame
        self.tell("page_free", page)
        self.pv.remove_all(page)
        self.take_off_queues(page)
        if frames.wire_count[frame]:
            frames.wire_count[frame] = 0
            self.wire_count -= 1
        if frames.flags[frame] & LAUNDRY:
            self.laundry_count -= 1
        self.wake(page)
        del page.object.pages[page.offset]
        frames.object[frame] = None
        frames.flags[frame] = 0
        self._free.prepend(page)
        self.free_count += 1
        if self.free_wanted and self.free_count >= self.thresholds.reserved:
            self.free_wanted -= 1
            self._freed.signal()  # exactly one (mach.md 4.4)

    def done(self, page: Page) -> None:
        """PAGE_WAKEUP_DONE: the page is no longer busy."""
        page.busy = False
        self.wake(page)

    def wake(self, page: Page) -> None:
        """Wake who waits for the page: it is done, or its pager's lock has changed."""
        if page.flags & WANTED:
            page.wanted = False
            self.processor.wakeup((page.object, page.offset))

    def wait_for(
        self, page: Page, why: str | Callable[[], str], timeout: float | None = None, line: Line | None = None
    ) -> bool:
        """Sleep until the page is done or freed; afterwards `page` may be another's.  False if the time passed."""
        page.wanted = True
        return self.processor.wait((page.object, page.offset), why, timeout, line)

    def rename(self, page: Page, object: VmObject, offset: int) -> None:
        """Move the page to another object, and wake who waits for it at the old place."""
        self.wake(page)
        del page.object.pages[page.offset]
        self.frames.object[page.frame], self.frames.offset[page.frame] = object, offset
        object.pages[offset] = page

    # -- content -----------------------------------------------------------------------------------------------

    def copy(self, source: Page, target: Page) -> None:
        """vm_page_copy."""
        view, size = self.store.view, self.page_size
        start, to = source.frame * size, target.frame * size
        view[to : to + size] = view[start : start + size]

    def zero(self, page: Page) -> None:
        self.store.zero(page.frame)

    # -- queues ------------------------------------------------------------------------------------------------

    def take_off_queues(self, page: Page) -> None:
        if self.frames.queue[page.frame]:
            self.policy.remove(page)

    def activate(self, page: Page) -> None:
        """It has been used, and may be paged out from now on, unless it is wired."""
        self.take_off_queues(page)
        if page.wire_count == 0:
            self.policy.activate(page)
            if self.free_wanted and len(self.active) == 1:
                self.request_pageout()  # it may sleep because there was nothing to page out

    def deactivate(self, page: Page) -> None:
        """It is not expected to be used soon."""
        self.take_off_queues(page)
        page.reference = False
        if page.wire_count == 0:
            self.policy.deactivate(page)

    def next_to_go(self, page: Page) -> None:
        """It is the next that pageout looks at."""
        self.take_off_queues(page)
        self.policy.next_to_go(page)

    def wire(self, page: Page) -> None:
        if page.wire_count == 0:
            self.take_off_queues(page)
            self.wire_count += 1
            self.tell("wire", page)
        self.frames.wire_count[page.frame] += 1

    def unwire(self, page: Page) -> None:
        """The last unwiring makes it pageable again (mach.md 4.1)."""
        assert page.wire_count, f"{page!r} is unwired once too often"
        self.frames.wire_count[page.frame] -= 1
        if page.wire_count == 0:
            self.wire_count -= 1
            self.activate(page)

    # -- self-examination --------------------------------------------------------------------------------------

    def check(self, objects: Iterable[VmObject]) -> None:
        """The invariants, by number."""
        used: set[int] = set()
        wired = laundry = 0
        for object in objects:
            for offset, page in object.pages.items():
                assert (page.object, page.offset) == (object, offset), f"INV-1: {page!r} stands at {offset:#x}"
                assert page.frame not in used, f"INV-1: frame {page.frame} belongs to two pages"
                used.add(page.frame)
                self._check_page(page)
                wired += page.wire_count > 0
                laundry += page.laundry
        free = {page.frame for page in self._free}
        assert self.free_count == len(self._free) == len(free), "INV-1: a frame is free twice"
        assert used.isdisjoint(free), "INV-1: a frame is free and in use"
        assert len(used) + len(free) == self.store.frames, "INV-1: frames have leaked"
        assert (wired, laundry) == (self.wire_count, self.laundry_count), "INV-4"
        assert self.free_low >= 0, "INV-5"
        for queue in (self.active, self.inactive):
            assert sum(1 for _ in queue) == len(queue), f"INV-2: the {queue.name} queue"
            assert all(page.queue is queue for page in queue), f"INV-2: the {queue.name} queue"

    def _check_page(self, page: Page) -> None:
        assert page.queue in (None, self.active, self.inactive), f"INV-2: {page!r}"
        assert page.queue is None or page.wire_count == 0, f"INV-2: {page!r} is wired and on a queue"
        for pmap, virtual_page in self.pv.mappings(page):
            assert not page.flags & UNMAPPABLE, f"INV-3: {page!r} is mapped"
            assert pmap.frame(virtual_page) == page.frame, f"INV-3: {page!r} is not where it says"
