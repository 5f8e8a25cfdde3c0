"""VM objects: the memory that address maps name, page by page resident, paged out, or never written (mach.md 5.1).

Interface:
    Existence, ExistenceMap(size, page_size)    which pages the pager has been given (VEXT)
    VmObject                                    one object: its pages, its pager's rights
    VmObjects(processor, resident)              all of them, by number
        .allocate(size) -> VmObject   .reference(object)
        .deallocate(object)           drops a reference; the last one terminates the object, and waits for its paging
        .paging_begin/paging_end(object)
        .check()

Invariants (the kernel mutex is held in every method):
    1. An object is registered exactly while it lives, and it lives while references > 0.
    2. A page is busy only while paging_in_progress > 0 of its object, or within one stay in the kernel.
    3. An offset in `lost` is not resident: its only copy died with a pager (P5).
    4. With a pager there are a control and a name port; without one there are none.

Not here: messages (kernel/memory_object.py); who asks for pages (kernel/vm_fault.py).
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable

from kernel.processor import Processor
from kernel.resident import Page, ResidentPages
from mach.memory_object import CopyStrategy
from mach.ports import ReceiveRight, SendRight

EXISTENCE_MAP_PAGES = 8192  # vm_external: no map for larger objects, so their pager is always asked (mach.md 5.4)


class Existence(enum.Enum):
    """vm_external_state_t: does the pager have a page?"""

    EXISTS = enum.auto()
    ABSENT = enum.auto()
    UNKNOWN = enum.auto()


class ExistenceMap:
    """One bit a page, set at each pageout and never cleared.

    Mach keeps no map for an object of more than 8192 pages, and answers UNKNOWN for it.  So do we; but which pages were
    sent is remembered all the same, to tell a page that a pager has lost from one that never was (P2).
    """

    __slots__ = ("_bits", "_page_size", "count", "unknown")

    def __init__(self, size: int, page_size: int) -> None:
        pages = -(-size // page_size)
        self.unknown = Existence.UNKNOWN if pages > EXISTENCE_MAP_PAGES else Existence.ABSENT
        self.count = 0
        self._page_size = page_size
        self._bits = bytearray((pages + 7) // 8)

    def set(self, offset: int) -> None:
        page = offset // self._page_size
        if not self._bits[page >> 3] & 1 << (page & 7):
            self._bits[page >> 3] |= 1 << (page & 7)
            self.count += 1

    def sent(self, offset: int) -> bool:
        """Whether the page has ever been sent to the pager."""
        page = offset // self._page_size
        return bool(self._bits[page >> 3] & 1 << (page & 7))

    def state(self, offset: int) -> Existence:
        return Existence.EXISTS if self.sent(offset) else self.unknown

    def offsets(self) -> list[int]:
        """All that were sent."""
        return [
            (index * 8 + bit) * self._page_size
            for index, byte in enumerate(self._bits)
            if byte
            for bit in range(8)
            if byte >> bit & 1
        ]


class VmObject:
    """vm_object.  As made by the kernel: internal, temporary, with no pager until its first pageout."""

    __slots__ = (
        "alive",
        "control",
        "copy",
        "copy_strategy",
        "existence",
        "internal",
        "lost",
        "name",
        "object_id",
        "pager",
        "pager_ready",
        "pages",
        "paging_in_progress",
        "paging_offset",
        "references",
        "shadow",
        "shadow_offset",
        "size",
        "temporary",
    )

    def __init__(self, object_id: int, size: int) -> None:
        self.object_id = object_id
        self.size = size  # bytes
        self.references = 1
        self.pages: dict[int, Page] = {}  # by offset in bytes
        self.alive = True
        self.internal = True
        self.temporary = True
        self.paging_in_progress = 0
        self.pager: SendRight | None = None  # the memory object
        self.control: ReceiveRight | None = None  # pager_request: where the pager answers
        self.name: ReceiveRight | None = None
        self.pager_ready = False
        self.paging_offset = 0
        self.existence: ExistenceMap | None = None
        self.lost: set[int] = set()
        self.copy_strategy = CopyStrategy.NONE
        self.shadow: VmObject | None = None  # where pages are that are not here; shadow_offset bytes into it
        self.shadow_offset = 0
        self.copy: VmObject | None = None


class VmObjects:
    """All VM objects of a machine."""

    def __init__(self, processor: Processor, resident: ResidentPages) -> None:
        self.by_id: dict[int, VmObject] = {}
        self.terminate: Callable[[VmObject], None] = lambda object: None  # how its pager is told (memory_object.py)
        self._processor = processor
        self._resident = resident
        self._numbers = itertools.count(1)

    def allocate(self, size: int) -> VmObject:
        """A new object of `size` bytes, a multiple of the page size, with one reference."""
        object = VmObject(next(self._numbers), size)
        self.by_id[object.object_id] = object
        return object

    def reference(self, object: VmObject) -> None:
        object.references += 1

    def deallocate(self, object: VmObject) -> None:
        """Drop one reference.  The last: wait until nothing is being paged, then free all (mach.md 5.8)."""
        next_object: VmObject | None = object
        while next_object is not None:  # the shadow's reference goes iteratively
            dying = next_object
            dying.references -= 1
            if dying.references:
                return
            next_object = dying.shadow
            self._terminate(dying)

    def _terminate(self, object: VmObject) -> None:
        object.alive = False
        if object.shadow is not None and object.shadow.copy is object:
            object.shadow.copy = None
        while object.paging_in_progress:
            self._processor.wait(object, lambda: f"the paging of object {object.object_id} to end")
        for page in list(object.pages.values()):  # temporary: nothing is written (mach.md 8, test 51)
            self._resident.free(page)
        del self.by_id[object.object_id]
        object.shadow = None
        if object.pager is not None:
            self.terminate(object)

    def paging_begin(self, object: VmObject) -> None:
        object.paging_in_progress += 1

    def paging_end(self, object: VmObject) -> None:
        object.paging_in_progress -= 1
        if object.paging_in_progress == 0 and not object.alive:
            self._processor.wakeup(object)

    def check(self) -> None:
        """The invariants, by number."""
        for object in self.by_id.values():
            assert (object.references > 0) == object.alive, f"INV-1: object {object.object_id}"
            assert not object.lost & object.pages.keys(), f"INV-3: object {object.object_id}"
            ports = (object.control is not None, object.name is not None)
            assert ports == (object.pager is not None,) * 2, f"INV-4: object {object.object_id}"
            if object.paging_in_progress == 0:
                busy = [page for page in object.pages.values() if page.busy]
                assert not busy, f"INV-2: {busy} in object {object.object_id}"
