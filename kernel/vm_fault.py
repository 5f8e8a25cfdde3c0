"""Page faults: finding the page that a reference needs, in memory, at its pager, or out of nothing (mach.md 5.5; VMF).

Interface:
    VmFault(processor, resident, objects, pagers)
        .fault(vm_map, pmap, address, access) -> KernReturn    vm_fault: KERN_SUCCESS with the page mapped
        .page(object, offset, access) -> Page | FaultResult    vm_fault_page
        .counts

The kernel mutex is held on entry and on return; both release it while they wait.  On success nothing can have taken the
page away: it is mapped before the mutex is released.

Where Mach keeps a busy placeholder in the top object while it walks down the shadow chain, nothing is needed here: the
walk does not sleep, but to wait for a pager, and after that it starts again from the address.

Not here: the messages (kernel/memory_object.py); making pages free (kernel/pageout.py).
"""

from __future__ import annotations

import enum
from collections import Counter

from kernel.memory_object import MemoryObjects
from kernel.pmap import Pmap, remove_all
from kernel.processor import Processor
from kernel.resident import Page, ResidentPages
from kernel.vm_map import VmMap
from kernel.vm_object import Existence, VmObject, VmObjects
from mach.kern_return import KernReturn
from mach.memory_object import VmProt

READ = int(VmProt.READ)  # plain numbers: each fault computes with them
WRITE = int(VmProt.WRITE)


class FaultResult(enum.Enum):
    """vm_fault_return_t, but for SUCCESS, which is a page."""

    RETRY = enum.auto()  # it has slept: look again from the address
    MEMORY_SHORTAGE = enum.auto()  # vm_page_wait, then look again
    MEMORY_ERROR = enum.auto()  # the page cannot be had


class VmFault:
    """See the head of the module."""

    def __init__(
        self, processor: Processor, resident: ResidentPages, objects: VmObjects, pagers: MemoryObjects
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._pagers = pagers

    def fault(self, vm_map: VmMap, pmap: Pmap, address: int, access: int) -> KernReturn:
        """Map the page at `address` for `access`.  KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE, KERN_MEMORY_ERROR;
        KERN_RESOURCE_SHORTAGE if no memory can ever be freed because the default pager is dead."""
        if (tracer := self._processor.runtime.tracer) is None:
            return self._fault(vm_map, pmap, address, access)
        with tracer.span("fault", address=address, access="write" if access & WRITE else "read") as end:
            code = self._fault(vm_map, pmap, address, access)
            end["result"] = code.name
            return code

    def _fault(self, vm_map: VmMap, pmap: Pmap, address: int, access: int) -> KernReturn:
        self.counts["faults"] += 1
        page_size = self._resident.page_size
        address -= address % page_size
        while True:
            entry = vm_map.lookup(address)
            if entry is None:
                return KernReturn.KERN_INVALID_ADDRESS
            if access & ~entry.protection:
                return KernReturn.KERN_PROTECTION_FAILURE
            object = entry.object or vm_map.object_of(entry)
            page = self.page(object, entry.offset + address - entry.start, access)
            if isinstance(page, Page):
                # A page of a lower object is shared: only its copy may be written to.
                writable = page.object is object and bool(entry.protection & WRITE)
                pmap.enter(address // page_size, page, writable)
                self._resident.tell("enter", page, virtual_page=address // page_size, writable=writable)
                page.reference = True
                self._resident.activate(page)
                return KernReturn.KERN_SUCCESS
            if page is FaultResult.MEMORY_ERROR:
                self.counts["memory_errors"] += 1
                return KernReturn.KERN_MEMORY_ERROR
            if page is FaultResult.MEMORY_SHORTAGE and not self._resident.wait():
                return KernReturn.KERN_RESOURCE_SHORTAGE

    def page(self, top: VmObject, top_offset: int, access: int) -> Page | FaultResult:
        """The page that `access` needs at `top_offset`: of `top` itself, or, for reading, of a lower object."""
        object, offset = top, top_offset
        while True:
            page = object.pages.get(offset)
            if page is not None:
                if page.busy:
                    return self._wait(page)
                if page.error:
                    self._resident.free(page)
                    return FaultResult.MEMORY_ERROR
                if not page.absent:
                    if object is top:
                        return page
                    return self._found_below(page, top, top_offset, access)
                if object is not top:
                    self._resident.free(page)
            elif object.pager is not None and self._may_have(object, offset):
                return self._page_in(object, offset, access if object is top else READ)
            if offset in object.lost:
                return FaultResult.MEMORY_ERROR
            if object.shadow is None:
                return self._zero_fill(top, top_offset)
            offset += object.shadow_offset
            object = object.shadow

    def _wait(self, page: Page) -> FaultResult:
        page.wanted = True
        self._processor.wait(page, lambda: f"page {page!r}, which is {'asked for' if page.absent else 'going out'}")
        return FaultResult.RETRY

    @staticmethod
    def _may_have(object: VmObject, offset: int) -> bool:
        return object.existence is not None and object.existence.state(offset) is not Existence.ABSENT

    def _page_in(self, object: VmObject, offset: int, access: int) -> FaultResult:
        """Ask the pager for a page, and wait for its answer."""
        if not object.pager_ready:
            self._processor.wait((object, "ready"), lambda: f"the pager of object {object.object_id} to be ready")
            return FaultResult.RETRY
        page = self._resident.alloc(object, offset)  # real before the request: the supply must not block (mach.md 4.10)
        if page is None:
            return FaultResult.MEMORY_SHORTAGE
        page.absent = True
        self._objects.paging_begin(object)
        sent = self._pagers.data_request(object, offset, self._resident.page_size, access)
        if not sent and page.busy:  # else the notification of the death was here first, and the page is in error
            page.absent, page.error = False, True
            self._resident.activate(page)
            self._resident.done(page)
        while page.busy:
            page.wanted = True
            self._processor.wait(page, lambda: f"page {page!r}, which its pager owes it")
        self._objects.paging_end(object)
        return FaultResult.RETRY

    def _found_below(self, page: Page, top: VmObject, top_offset: int, access: int) -> Page | FaultResult:
        """The page is in a shadowed object: readers share it, a writer gets a copy in the top object."""
        copy = top.pages.get(top_offset)  # absent: the top object's pager had nothing
        if not access & WRITE:
            if copy is not None:
                self._resident.free(copy)
            return page
        if copy is None:
            copy = self._resident.alloc(top, top_offset)
            if copy is None:
                return FaultResult.MEMORY_SHORTAGE
        self._resident.store.write(copy.frame, self._resident.store.read(page.frame))
        copy.absent = copy.busy = False
        copy.dirty = True
        remove_all(page)  # whoever maps it through `top` must find the copy now
        self._resident.deactivate(page)
        self.counts["cow_faults"] += 1
        self._resident.tell("copy", copy, source=page.frame)
        return copy

    def _zero_fill(self, top: VmObject, top_offset: int) -> Page | FaultResult:
        """Nobody has the page.  It is clean until somebody writes to it: unwritten, it is simply dropped."""
        page = top.pages.get(top_offset)
        if page is None:
            page = self._resident.alloc(top, top_offset)
            if page is None:
                return FaultResult.MEMORY_SHORTAGE
        page.absent = page.busy = False
        self._resident.store.zero(page.frame)
        self.counts["zero_fills"] += 1
        self._resident.tell("zero_fill", page)
        return page
