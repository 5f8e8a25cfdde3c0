"""Page faults: finding the page that a reference needs, in memory, at its pager, or out of nothing (mach.md 5.5; VMF).

Interface:
    VmFault(processor, resident, objects, pagers, laundry, shadows, pager_seconds, cluster_pages)
        .fault(vm_map, pmap, address, access) -> KernReturn    vm_fault: KERN_SUCCESS with the page mapped
        .reach(vm_map, address, access) -> (MapEntry, Page) | KernReturn    the same, not mapped
        .page(object, offset, access) -> Page | FaultResult    vm_fault_page
        .resolve(object, offset, access) -> Page | KernReturn  the same, again and again until it is settled
        .counts

The kernel mutex is held on entry and on return; both release it while they wait.  On success nothing can have taken the
page away: it is mapped before the mutex is released.

Where Mach keeps a busy placeholder in the top object while it walks down the shadow chain, nothing is needed here: the
walk does not sleep, but to wait for a pager, and after that it starts again from the address.

`pager_seconds`: how long a fault waits for a pager before it is a memory error (P5); None is for ever, as in Mach.
`cluster_pages`: how many pages one request may ask for, of those that the pager is known to have; 1 is Mach's.

Not here: the messages (kernel/pagers.py, kernel/memory_object.py); making pages free (kernel/pageout.py).
"""

from __future__ import annotations

import enum
from collections import Counter

from kernel.laundry import Laundry
from kernel.page import Page
from kernel.pagers import Pagers
from kernel.pmap import Pmap
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.shadow import Shadows
from kernel.vm_map import MapEntry, VmMap
from kernel.vm_object import VmObject, VmObjects
from mach.kern_return import KernReturn
from mach.memory_object import VmProt

READ = int(VmProt.READ)  # plain numbers: each fault computes with them
WRITE = int(VmProt.WRITE)

ABSENT_MAX = 50  # vm_object_absent_max: pages that an external pager may owe for one object (mach.md 4.10)


class FaultResult(enum.Enum):
    """vm_fault_return_t, but for SUCCESS, which is a page."""

    RETRY = enum.auto()  # it has slept: look again from the address
    MEMORY_SHORTAGE = enum.auto()  # vm_page_wait, then look again
    MEMORY_ERROR = enum.auto()  # the page cannot be had


class VmFault:
    """See the head of the module."""

    def __init__(
        self,
        processor: Processor,
        resident: ResidentPages,
        objects: VmObjects,
        pagers: Pagers,
        laundry: Laundry,
        shadows: Shadows,
        pager_seconds: float | None = None,
        cluster_pages: int = 1,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.pager_seconds = pager_seconds
        self.cluster_pages = cluster_pages
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._pagers = pagers
        self._laundry = laundry
        self._shadows = shadows

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
        reached = self.reach(vm_map, address, access)
        if isinstance(reached, KernReturn):
            return reached
        entry, page = reached
        virtual_page, writable = address // self._resident.page_size, self._is_writable(entry, page, access)
        pmap.enter(virtual_page, page, writable)
        self._resident.tell("enter", page, virtual_page=virtual_page, writable=writable)
        page.reference = True
        self._resident.activate(page)
        return KernReturn.KERN_SUCCESS

    def reach(self, vm_map: VmMap, address: int, access: int) -> tuple[MapEntry, Page] | KernReturn:
        """The page at an address of a map, and the entry that it is reached by."""
        while True:
            entry = vm_map.lookup(address)
            if entry is None:
                return KernReturn.KERN_INVALID_ADDRESS
            if access & ~entry.protection:
                return KernReturn.KERN_PROTECTION_FAILURE
            object = self._object_for(vm_map, entry, access)
            page = self.page(object, entry.offset + vm_map.trunc(address) - entry.start, access)
            if isinstance(page, Page):
                return entry, page
            failure = self._failure(page)
            if failure is not None:
                return failure

    def resolve(self, object: VmObject, offset: int, access: int) -> Page | KernReturn:
        """A page for the kernel's own use; who calls holds a reference to the object."""
        while True:
            page = self.page(object, offset, access)
            if isinstance(page, Page):
                return page
            failure = self._failure(page)
            if failure is not None:
                return failure

    def _failure(self, result: FaultResult) -> KernReturn | None:
        """What ends the fault; None to try again, after a wait for memory if there was none."""
        if result is FaultResult.MEMORY_ERROR:
            self.counts["memory_errors"] += 1
            return KernReturn.KERN_MEMORY_ERROR
        if result is FaultResult.MEMORY_SHORTAGE and not self._resident.wait():
            return KernReturn.KERN_RESOURCE_SHORTAGE
        return None

    def _object_for(self, vm_map: VmMap, entry: MapEntry, access: int) -> VmObject:
        """vm_map_lookup: the entry's object; before a write to what is only a copy, an object of its own."""
        if entry.needs_copy and access & WRITE:
            self._shadows.shadow(entry)
        return entry.object or vm_map.object_of(entry)

    @staticmethod
    def _is_writable(entry: MapEntry, page: Page, access: int) -> bool:
        """Whether the next write need not fault."""
        object = page.object
        if not entry.protection & WRITE or entry.needs_copy or object is not entry.object:
            return False
        if object.copy is not None and not access & WRITE:
            return False  # the old page must go to the copy object first
        return not page.page_lock & WRITE

    # -- vm_fault_page -----------------------------------------------------------------------------------------

    def page(self, top: VmObject, top_offset: int, access: int) -> Page | FaultResult:
        """The page that `access` needs at `top_offset`: of `top` itself, or, for reading, of a lower object."""
        object, offset = top, top_offset
        placeholders: list[Page] = []  # pages that pagers have said they do not have
        while True:
            page = object.pages.get(offset)
            wanted = access if object is top else access & ~WRITE | READ
            if page is not None:
                if page.busy:
                    return self._wait(page)
                if page.error:
                    self._resident.free(page)
                    return FaultResult.MEMORY_ERROR
                if not page.absent:
                    if wanted & page.page_lock:
                        return self._unlock(page, wanted)
                    break
                placeholders.append(page)
            elif offset not in object.lost and object.may_have(offset):
                return self._page_in(object, offset, wanted)
            if object.is_lost(offset):
                return FaultResult.MEMORY_ERROR
            if object.shadow is None:
                page = None
                break
            offset += object.shadow_offset
            object = object.shadow
        return self._settle(page, placeholders, top, top_offset, access)

    def _settle(
        self, page: Page | None, placeholders: list[Page], top: VmObject, top_offset: int, access: int
    ) -> Page | FaultResult:
        """The walk is over: `page` was found, or nobody has it.  Nothing below sleeps but the push to a copy."""
        if page is None or (page.object is not top and access & WRITE):
            mine = next((free for free in placeholders if free.object is top), None)
            if mine is None:
                mine = self._resident.alloc(top, top_offset)
                if mine is None:
                    return FaultResult.MEMORY_SHORTAGE
            placeholders = [free for free in placeholders if free != mine]
            page = self._fill(mine, page, top)
        for free in placeholders:
            self._resident.free(free)
        if access & WRITE and top.copy is not None:
            return self._push(page, top.copy)
        return page

    def _fill(self, page: Page, source: Page | None, top: VmObject) -> Page:
        """A page of the top object: a copy of the one found below, or zeros."""
        if source is None:
            self._resident.zero(page)
            self.counts["zero_fills"] += 1  # clean until somebody writes to it: unwritten, it is simply dropped
            self._resident.tell("zero_fill", page)
        else:
            self._resident.copy(source, page)
            page.dirty = True
            self._resident.pv.remove_all(source)  # whoever maps it through `top` must find the copy now
            self._resident.deactivate(source)
            self.counts["cow_faults"] += 1
            self._resident.tell("copy", page, source=source.frame)
        page.absent = False
        self._resident.done(page)
        self._resident.activate(page)
        if source is not None:
            self._shadows.collapse(top)
        return page

    def _push(self, page: Page, copy: VmObject) -> Page | FaultResult:
        """Before the first write to a page, give the old one to the copy object (mach.md 5.2)."""
        offset = page.offset
        there = copy.pages.get(offset)
        if offset >= copy.size or (there is None and (offset in copy.lost or copy.was_sent(offset))):
            return page
        if there is not None and there.busy:
            return self._wait(there)
        if there is not None and not there.absent:
            there.dirty = True  # a clean page of zeros could be dropped, and would then be looked for down here
            return page
        if there is None:
            there = self._resident.alloc(copy, offset)
            if there is None:
                return FaultResult.MEMORY_SHORTAGE
        self._resident.copy(page, there)
        there.absent, there.dirty = False, True
        self._resident.pv.remove_all(page)
        self.counts["pages_pushed"] += 1
        if copy.pager is not None:
            there.busy = True
            self._laundry.send(copy, [there], initial=True)
            return FaultResult.RETRY
        self._resident.done(there)
        self._resident.activate(there)
        return page

    # -- pagers ------------------------------------------------------------------------------------------------

    def _wait(self, page: Page) -> FaultResult:
        """Wait for a busy page.  One that its pager owes is in error when the time is over (P5)."""
        object, offset = page.object, page.offset  # `page` may be another's by the time that a report is made
        if not page.absent:
            self._resident.wait_for(page, lambda: f"page {object.object_id}:{offset:#x}, which is going out")
            return FaultResult.RETRY
        answered = self._resident.wait_for(
            page,
            lambda: f"page {object.object_id}:{offset:#x}, which its pager owes it",
            self.pager_seconds,
            object.pager.port.line if object.pager is not None else None,
        )
        if not answered:
            late = object.pages.get(offset)
            if late is not None and late.busy and late.absent:
                self.counts["pager_timeouts"] += 1
                self._pagers.fail(late)
        return FaultResult.RETRY

    def _page_in(self, object: VmObject, offset: int, access: int) -> FaultResult:
        """Ask the pager for a page; the next look will find it busy, and wait."""
        if not object.pager_ready:
            return self._wait_ready(object)
        if not object.internal and object.absent_count >= ABSENT_MAX:
            self._processor.wait(
                (object, "absent"),
                lambda: f"the pager of object {object.object_id}, which owes {object.absent_count} pages already",
                self.pager_seconds,
            )
            return FaultResult.RETRY
        page = self._resident.alloc(object, offset)  # real before the request: the supply must not block (mach.md 4.10)
        if page is None:
            return FaultResult.MEMORY_SHORTAGE
        pages = [page, *self._cluster(object, offset)]
        for asked in pages:
            asked.absent = True
        object.absent_count += len(pages)
        self._objects.paging_begin(object)
        size = self._resident.page_size
        if not self._pagers.data_request(object, offset, len(pages) * size, access):
            for at in range(offset, offset + len(pages) * size, size):
                asked_for = object.pages.get(at)
                if asked_for is not None and asked_for.busy and asked_for.absent:
                    self._pagers.fail(asked_for)  # unless the notification of the death was here first
        self._objects.paging_end(object)
        return FaultResult.RETRY

    def _cluster(self, object: VmObject, offset: int) -> list[Page]:
        """The pages after it that its pager is known to have, as long as they do not need the reserve.

        Between the reserve and free_target is where a machine that pages is all the time: to ask for more would leave
        nothing of clusters just when they are worth most.  What they take, pageout is woken to bring back.
        """
        pages: list[Page] = []
        size = self._resident.page_size
        for at in range(offset + size, min(offset + self.cluster_pages * size, object.size), size):
            plenty = self._resident.free_count > self._resident.thresholds.reserved
            if not plenty or at in object.pages or at in object.lost or not object.was_sent(at):
                break
            page = self._resident.alloc(object, at)
            if page is None:
                break
            pages.append(page)
        return pages

    def _wait_ready(self, object: VmObject) -> FaultResult:
        ready = self._processor.wait(
            (object, "ready"), lambda: f"the pager of object {object.object_id} to be ready", self.pager_seconds
        )
        if ready:
            return FaultResult.RETRY
        self.counts["pager_timeouts"] += 1
        return FaultResult.MEMORY_ERROR

    def _unlock(self, page: Page, access: int) -> FaultResult:
        """The pager's lock forbids the access: ask it, once, to unlock the page, and wait (mach.md 5.5)."""
        if access & ~page.unlock_request:
            object = page.object
            page.unlock_request |= access
            self._objects.paging_begin(object)
            sent = self._pagers.data_unlock(object, page.offset, self._resident.page_size, access)
            self._objects.paging_end(object)
            return FaultResult.RETRY if sent else FaultResult.MEMORY_ERROR
        object, offset = page.object, page.offset
        words = f"page {page!r}, which its pager is to unlock"
        if self._resident.wait_for(page, words, self.pager_seconds):
            return FaultResult.RETRY
        late = object.pages.get(offset)
        if late is not None:
            late.unlock_request = 0
        self.counts["pager_timeouts"] += 1
        return FaultResult.MEMORY_ERROR
