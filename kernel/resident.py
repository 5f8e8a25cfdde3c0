"""Physical memory: frames, the pages in them, the queues that a page is on, and the reserve (mach.md 4.4; RES, VPO).

Interface:
    FrameStore(frames, page_size)     the bytes, one anonymous shared mapping, addressed by frame number
    Page                              a frame in use: which object's, and in what state
    thresholds(free), inactive_target(active, inactive)    Mach's formulas, pure
    ResidentPages(processor, frames, page_size)
        .alloc(object, offset) -> Page | None     vm_page_alloc: a busy page, or None when only the reserve is left
        .wait() -> bool                           vm_page_wait: until pages are free; False if none can be had
        .free(page)  .done(page)                  vm_page_free, PAGE_WAKEUP_DONE
        .activate(page)  .deactivate(page)  .take_off_queues(page)  .wire(page)  .unwire(page)
        .check(objects)                           raises AssertionError, by invariant

Invariants (the kernel mutex is held in every method):
    1. Every frame is free, or belongs to exactly one page of exactly one object.
    2. A page is on at most one queue, and its `queue` names it; a wired page is on none.
    3. A mapped page is neither busy nor absent nor in error.
    4. laundry_count and wire_count count the pages in that state.
    5. An unprivileged thread never takes a page while fewer than `reserved` are free.

Not here: what is evicted and when (kernel/pageout.py); what is in a page.
"""

from __future__ import annotations

import mmap
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.pmap import remove_all
from kernel.processor import KernelPanic, Processor

if TYPE_CHECKING:
    from kernel.pmap import Pmap
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


def thresholds(free_at_start: int) -> Thresholds:
    """Mach's figures for a machine with so many free pages when the pageout daemon starts (mach.md 4.4)."""
    pageable = free_at_start - FREE_RESERVED
    free_min = FREE_RESERVED + 10 + pageable // 100
    return Thresholds(
        reserved=FREE_RESERVED,
        reserved_internal=FREE_RESERVED - 5,
        reserved_really=FREE_RESERVED - 10,
        free_min=free_min,
        free_target=max(FREE_RESERVED + 15 + pageable // 80, free_min + 5),
    )


def inactive_target(active: int, inactive: int) -> int:
    """How many pages should be inactive: two thirds of those that are on the two queues (mach.md 4.4)."""
    return (active + inactive) * 2 // 3


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


PageQueue = OrderedDict["Page", None]  # in order of arrival, with removal from the middle


class Page:
    """vm_page: a frame that holds a page of an object.  A new page is busy (mach.md 5.1)."""

    __slots__ = (
        "absent",
        "busy",
        "dirty",
        "error",
        "frame",
        "laundry",
        "mappings",
        "modified",
        "object",
        "offset",
        "precious",
        "queue",
        "reference",
        "wanted",
        "wire_count",
    )

    def __init__(self, frame: int, object: VmObject, offset: int) -> None:
        self.frame = frame
        self.object = object
        self.offset = offset  # bytes, in the object
        self.mappings: list[tuple[Pmap, int]] = []  # who maps it, at which virtual page
        self.queue: PageQueue | None = None
        self.wire_count = 0
        self.busy = True  # in transit: nobody may use it but who made it busy
        self.wanted = False  # somebody sleeps on it
        self.absent = False  # requested from the pager, or (not busy) the pager has said that it has nothing
        self.error = False  # the pager could not give it
        self.laundry = False  # on its way to the pager
        self.dirty = False  # differs from what the pager has; the hardware's `modified` is merged into it
        self.precious = False  # the pager keeps no copy: it must go back even if clean
        self.modified = False  # the hardware's bits, set by every write, every reference through a pmap
        self.reference = False

    def __repr__(self) -> str:
        return f"{self.object.object_id}:{self.offset:#x}"


class ResidentPages:
    """All pages that hold something, and the frames that do not."""

    def __init__(self, processor: Processor, frames: int, page_size: int) -> None:
        self.processor = processor
        self.store = FrameStore(frames, page_size)
        self.page_size = page_size
        self.free_frames = array("I", range(frames - 1, -1, -1))
        self.free_count = frames
        self.active: PageQueue = OrderedDict()
        self.inactive: PageQueue = OrderedDict()
        self.wire_count = 0
        self.laundry_count = 0
        self.free_wanted = 0  # threads that wait for a page
        self.free_low = frames  # the fewest frames that were ever free
        self.thresholds = thresholds(frames)
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
            if free == 0:
                raise KernelPanic("vm_page_grab: a privileged thread finds no free page: the reserve is used up")
        frame = self.free_frames.pop()
        self.free_count = free = free - 1
        if free < self.free_low:
            self.free_low = free
        if free < limits.free_min or (
            free < limits.free_target and len(self.inactive) < inactive_target(len(self.active), len(self.inactive))
        ):
            self.request_pageout()
        page = Page(frame, object, offset)
        object.pages[offset] = page
        self.tell("page_alloc", page)
        return page

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
        self.tell("page_free", page)
        if page.mappings:
            remove_all(page)
        self.take_off_queues(page)
        if page.wire_count:
            self.wire_count -= 1
        if page.laundry:
            self.laundry_count -= 1
        del page.object.pages[page.offset]
        self.free_frames.append(page.frame)
        self.free_count += 1
        if self.free_wanted and self.free_count >= self.thresholds.reserved:
            self.free_wanted -= 1
            self._freed.signal()  # exactly one (mach.md 4.4)
        if page.wanted:
            page.wanted = False
            self.processor.wakeup(page)

    def done(self, page: Page) -> None:
        """PAGE_WAKEUP_DONE: the page is no longer busy."""
        page.busy = False
        if page.wanted:
            page.wanted = False
            self.processor.wakeup(page)

    # -- queues ------------------------------------------------------------------------------------------------

    def take_off_queues(self, page: Page) -> None:
        if page.queue is not None:
            del page.queue[page]
            page.queue = None

    def activate(self, page: Page) -> None:
        """To the tail of the active queue, unless it is wired."""
        if page.queue is not None:
            del page.queue[page]
            page.queue = None
        if page.wire_count == 0:
            self.active[page] = None
            page.queue = self.active
            self.tell("activate", page)
            if self.free_wanted and len(self.active) == 1:
                self.request_pageout()  # it may sleep because there was nothing to page out

    def deactivate(self, page: Page) -> None:
        """To the tail of the inactive queue: it has until it reaches the head to be referenced again."""
        self.take_off_queues(page)
        page.reference = False
        if page.wire_count == 0:
            self.inactive[page] = None
            page.queue = self.inactive
            self.tell("deactivate", page)

    def wire(self, page: Page) -> None:
        if page.wire_count == 0:
            self.take_off_queues(page)
            self.wire_count += 1
            self.tell("wire", page)
        page.wire_count += 1

    def unwire(self, page: Page) -> None:
        """The last unwiring puts it on the active queue (mach.md 4.1)."""
        page.wire_count -= 1
        if page.wire_count == 0:
            self.wire_count -= 1
            self.activate(page)

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
        free = set(self.free_frames)
        assert self.free_count == len(self.free_frames) == len(free), "INV-1: a frame is free twice"
        assert used.isdisjoint(free), "INV-1: a frame is free and in use"
        assert len(used) + len(free) == self.store.frames, "INV-1: frames have leaked"
        assert (wired, laundry) == (self.wire_count, self.laundry_count), "INV-4"
        assert self.free_low >= 0, "INV-5"

    def _check_page(self, page: Page) -> None:
        on = [queue for queue in (self.active, self.inactive) if page in queue]
        assert on == ([] if page.queue is None else [page.queue]), f"INV-2: {page!r}"
        assert not on or page.wire_count == 0, f"INV-2: {page!r} is wired and on a queue"
        if page.mappings:
            assert not any((page.busy, page.absent, page.error)), f"INV-3: {page!r} is mapped"
        for pmap, virtual_page in page.mappings:
            assert pmap.readable[virtual_page] is page, f"INV-3: {page!r} is not where it says"
