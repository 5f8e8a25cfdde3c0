"""VM objects: the memory that address maps name, page by page resident, paged out, or never written (mach.md 5.1).

Interface:
    VmObject                                    one object: its pages, its pager's rights, what it shadows
    VmObjects(processor, resident)              all of them, by number
        .allocate(size) -> VmObject   .reference(object)
        .deallocate(object)           drops a reference; the last one terminates the object, or caches it (mach.md 5.8)
        .uncache(object)              it may not be cached (any more)
        .paging_begin/paging_end(object)
        .check()

Invariants (the kernel mutex is held in every method; deallocate may release it):
    1. An object is registered exactly while it lives; it lives while references > 0, or in the cache with none.
    2. A page is busy, and not absent, only while paging_in_progress > 0 of its object, or within one stay in the
       kernel.
    3. An offset in `lost` is not resident, but for a placeholder: its only copy died with a pager (P5).
    4. With a pager there are a control and a name port; without one there are none.
    5. If object.copy is K, then K.shadow is the object and K.shadow_offset is 0.

Not here: messages (kernel/memory_object.py); who asks for pages (kernel/vm_fault.py); copies (kernel/shadow.py).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Protocol

from kernel.existence import Existence, ExistenceMap
from kernel.page import ABSENT, BUSY, DIRTY, MODIFIED, PLACEHOLDER, PRECIOUS, Frames, ObjectPages, Page
from kernel.processor import Processor
from kernel.resident import ResidentPages
from mach.memory_object import CopyStrategy
from mach.ports import ReceiveRight, SendRight

CACHED_MAX = 100  # vm_object_cached_max: objects that nobody references and whose pagers let them persist


class VmObject:
    """vm_object.  As made by the kernel: internal, temporary, with no pager until its first pageout."""

    __slots__ = (
        "absent_count",
        "alive",
        "can_persist",
        "control",
        "copy",
        "copy_strategy",
        "existence",
        "internal",
        "lost",
        "name",
        "object_id",
        "orphan",
        "pager",
        "pager_ready",
        "pages",
        "paging_in_progress",
        "paging_offset",
        "references",
        "shadow",
        "shadow_offset",
        "shadowed",
        "size",
        "temporary",
        "use_old_pageout",
        "use_shared_copy",
    )

    def __init__(self, object_id: int, size: int, frames: Frames, page_size: int) -> None:
        self.object_id = object_id
        self.size = size  # bytes
        self.references = 1
        self.pages = ObjectPages(frames, page_size)  # by offset in bytes
        self.alive = True
        self.internal = True  # made by the kernel, paged by the default manager
        self.temporary = True  # its content matters to nobody once it is terminated
        self.paging_in_progress = 0
        self.absent_count = 0  # pages that an external pager has been asked for
        self.pager: SendRight | None = None  # the memory object
        self.control: ReceiveRight | None = None  # pager_request: where the pager answers
        self.name: ReceiveRight | None = None
        self.pager_ready = False
        self.paging_offset = 0  # of this object, in the memory object
        self.existence: ExistenceMap | None = None  # None: not known, so the pager is asked
        self.lost: set[int] = set()
        self.orphan = False  # its user pager died: what is neither here nor at its next pager is lost
        self.copy_strategy = CopyStrategy.NONE
        self.can_persist = False
        self.use_old_pageout = True  # data_write, not data_return
        self.shadow: VmObject | None = None  # where pages are that are not here; shadow_offset bytes into it
        self.shadow_offset = 0
        self.shadowed = False  # some entry that names it, or named it, is to be copied before it is written
        self.use_shared_copy = False  # several entries write to it: a copy must be a copy object
        self.copy: VmObject | None = None  # its copy object: gets the old pages before they are written

    def may_have(self, offset: int) -> bool:
        """Whether the pager must be asked for a page that is not resident (vm_external_state_get)."""
        if self.pager is None:
            return False
        if self.existence is None:
            return True
        return self.existence.state(offset + self.paging_offset) is not Existence.ABSENT

    def was_sent(self, offset: int) -> bool:
        """Whether the default pager has been given the page, and so must not say that it has nothing (P2)."""
        return self.existence is not None and self.existence.sent(offset + self.paging_offset)

    def is_lost(self, offset: int) -> bool:
        """Whether a page that is not resident, and that no pager has, is not zeros but gone (P5)."""
        return offset in self.lost or (self.orphan and not self.was_sent(offset))


class Goodbye(Protocol):
    """How pagers are told of an object's end (kernel/memory_object.py)."""

    def return_pages(self, object: VmObject, pages: list[Page]) -> None: ...
    def terminate(self, object: VmObject) -> None: ...


class VmObjects:
    """All VM objects of a machine."""

    goodbye: Goodbye

    def __init__(self, processor: Processor, resident: ResidentPages) -> None:
        self.by_id: dict[int, VmObject] = {}
        self.cached: OrderedDict[VmObject, None] = OrderedDict()  # the oldest first
        self.processor = processor
        self._resident = resident
        self._numbers = itertools.count(1)

    def allocate(self, size: int) -> VmObject:
        """A new object of `size` bytes, a multiple of the page size, with one reference."""
        object = VmObject(next(self._numbers), size, self._resident.frames, self._resident.page_size)
        self.by_id[object.object_id] = object
        return object

    def reference(self, object: VmObject) -> None:
        object.references += 1
        self.cached.pop(object, None)

    def deallocate(self, object: VmObject | None) -> None:
        """Drop one reference.  The last: cache the object, or wait until nothing is being paged and free all."""
        while object is not None:  # the shadow's reference goes iteratively
            object.references -= 1
            if object.references:
                return
            if object.can_persist and object.pager is not None:
                self._cache(object)
                return
            shadow = object.shadow
            self._terminate(object)
            object = shadow

    def uncache(self, object: VmObject) -> None:
        """Terminate the object if only the cache keeps it."""
        if object in self.cached:
            del self.cached[object]
            shadow = object.shadow
            self._terminate(object)
            self.deallocate(shadow)

    def _cache(self, object: VmObject) -> None:
        self.cached[object] = None
        for page in object.pages.values():
            if not page.busy:
                self._resident.deactivate(page)
        if len(self.cached) > CACHED_MAX:
            self.uncache(next(iter(self.cached)))

    def _terminate(self, object: VmObject) -> None:
        object.alive = False
        if object.shadow is not None and object.shadow.copy is object:
            object.shadow.copy = None
        while object.paging_in_progress:
            self.processor.wait(object, lambda: f"the paging of object {object.object_id} to end")
        if object.pager is not None and not object.temporary:
            self._return_dirty(object)
        for page in list(object.pages.values()):  # temporary: nothing is written (mach.md 8, test 51)
            self._resident.free(page)
        del self.by_id[object.object_id]
        object.shadow = None
        if object.pager is not None:
            self.goodbye.terminate(object)

    def _return_dirty(self, object: VmObject) -> None:
        """A permanent object: its pager gets every page that is dirty or precious (mach.md 8, test 51)."""
        for page in list(object.pages.values()):
            if page.flags & (ABSENT | BUSY):
                continue
            self._resident.pv.remove_all(page)
            if page.flags & (DIRTY | MODIFIED | PRECIOUS):
                self.goodbye.return_pages(object, [page])

    def paging_begin(self, object: VmObject) -> None:
        object.paging_in_progress += 1

    def paging_end(self, object: VmObject) -> None:
        object.paging_in_progress -= 1
        if object.paging_in_progress == 0:
            self.processor.wakeup(object)

    def check(self) -> None:
        """The invariants, by number."""
        for object in self.by_id.values():
            cached = object in self.cached
            assert object.alive == (object.references > 0 or cached), f"INV-1: object {object.object_id}"
            found = [object.pages.get(at) for at in object.lost]
            solid = [page for page in found if page is not None and not page.flags & PLACEHOLDER]
            assert not solid, f"INV-3: {solid} in object {object.object_id}"
            ports = (object.control is not None, object.name is not None)
            assert ports == (object.pager is not None,) * 2, f"INV-4: object {object.object_id}"
            if object.copy is not None:
                assert object.copy.shadow is object, f"INV-5: object {object.object_id}"
                assert object.copy.shadow_offset == 0, f"INV-5: object {object.object_id}"
            if object.paging_in_progress == 0:
                busy = [page for page in object.pages.values() if page.busy and not page.absent]
                assert not busy, f"INV-2: {busy} in object {object.object_id}"
