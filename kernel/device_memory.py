"""The memory of device transfers: frames for what is read, and pages that stay put while they are written.

Interface:
    DeviceMemory(processor, resident, objects)
        .allocate(size) -> VmObject                wired frames; waits for them as its caller may (MachError)
        .release(object)                           they are not needed after all
        .deliver(object, data, wired) -> Transfer  the data in them: page data of a message, freed by its receiver
        .pin(task, address, length) -> PageList    a task's pages, in memory and staying there until they are freed
        .copy(task, address, length) -> Transfer   a pageable copy of a task's pages: what a message to a task carries
        .map_into(task, transfer) -> address       vm_map_copyout: the pages are the task's memory now
    Transfer                                       page data whose pages are an object of their own

Invariants (the kernel mutex is held in every method, but pin, copy and map_into take it):
    1. What is pinned or wired here is neither paged out nor freed before its PageList is.
    2. One unprivileged transfer at a time collects frames, in the order of arrival: two that each hold half of what
       they need would wait for ever, and a large one would starve behind small ones (weakness 16).  A privileged thread
       never waits for them.

Not here: devices, messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kernel.page import Page
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.task import Task
from kernel.vm_map import MapEntry
from kernel.vm_object import VmObject, VmObjects
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.page_list import PageList
from mach.threads import Thread


class Transfer(PageList):
    """Page data whose pages stand in an object of their own, and can be mapped."""

    object: VmObject

    def __new__(cls, pages: bytes, freed: Callable[[], None], object: VmObject | None = None) -> Transfer:
        assert object is not None
        made = super().__new__(cls, pages, freed)
        assert isinstance(made, Transfer)
        made.object = object
        return made


class DeviceMemory:
    """See the head of the module."""

    def __init__(self, processor: Processor, resident: ResidentPages, objects: VmObjects) -> None:
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._page_size = resident.page_size
        self.collecting: deque[Thread] = deque()  # unprivileged threads that need frames; the first collects

    # -- frames for what is read -------------------------------------------------------------------------------

    def allocate(self, size: int) -> VmObject:
        """kmem_alloc.  D_NO_MEMORY if so many frames are never free at once, or if none can be freed any more."""
        limits = self._resident.thresholds
        pages = -(-size // self._page_size)
        if pages > limits.free_target - limits.reserved:
            raise MachError(KernReturn.D_NO_MEMORY, f"{size} bytes are more than this machine has to spare")
        me = self._processor.runtime.current()
        if me.vm_privilege:
            return self._collect(pages)
        self.collecting.append(me)
        while self.collecting[0] is not me:
            self._processor.wait(
                me, lambda: f"the device transfer of {self.collecting[0].name}, which collects its frames first"
            )
        try:
            return self._collect(pages)
        finally:
            self.collecting.popleft()
            if self.collecting:
                self._processor.wakeup(self.collecting[0])

    def _collect(self, pages: int) -> VmObject:
        object = self._objects.allocate(pages * self._page_size)
        for offset in range(0, pages * self._page_size, self._page_size):
            while (page := self._resident.alloc(object, offset)) is None:
                if not self._resident.wait():
                    self._objects.deallocate(object)
                    raise MachError(KernReturn.D_NO_MEMORY, "no memory can be freed: the default pager is dead")
            page.dirty = True  # its content is nowhere else
            self._resident.wire(page)
            self._resident.done(page)
        return object

    def release(self, object: VmObject) -> None:
        self._objects.deallocate(object)

    def deliver(self, object: VmObject, data: bytes, wired: bool) -> Transfer:
        """Put `data` into the frames, zeros behind it.  Without `wired` they are pageable from now on."""
        for offset, page in list(object.pages.items()):
            self._resident.store.write(
                page.frame, data[offset : offset + self._page_size].ljust(self._page_size, b"\0")
            )
            if not wired:
                self._resident.unwire(page)
        return self._transfer(object, data)

    def _transfer(self, object: VmObject, data: bytes) -> Transfer:
        def freed() -> None:
            with self._processor.lock:
                self._objects.deallocate(object)

        return Transfer(data, freed, object)

    # -- pages of tasks ----------------------------------------------------------------------------------------

    def pin(self, task: Task, address: int, length: int) -> PageList:
        """Fault the pages in and wire them: the caller waits for that, not a service (paper §5.6)."""
        pinned = []
        with self._processor.lock:
            first = address // self._page_size
            try:
                for virtual_page in range(first, -(-(address + length) // self._page_size)):
                    page = task.resident_page(virtual_page * self._page_size, VmProt.READ)
                    self._objects.reference(page.object)  # the task may give its memory back meanwhile
                    self._resident.wire(page)
                    pinned.append(page)
                data = b"".join(self._resident.store.read(page.frame) for page in pinned)
            except MachError:
                self._unpin(pinned)
                raise

        def freed() -> None:
            with self._processor.lock:
                self._unpin(pinned)

        start = address % self._page_size
        return PageList(data[start : start + length], freed)

    def _unpin(self, pages: list[Page]) -> None:
        for page in pages:
            object = page.object
            self._resident.unwire(page)
            self._objects.deallocate(object)
        pages.clear()

    def copy(self, task: Task, address: int, length: int) -> Transfer:
        """What the kernel does with out-of-line data of a message that waits for its receiver: pageable memory."""
        data = task.read(address, length)
        with self._processor.lock:
            return self.deliver(self.allocate(length), data, wired=False)

    def map_into(self, task: Task, transfer: Transfer) -> int:
        """The reference of the transfer becomes the address map's: freeing it is vm_deallocate of the memory now."""
        with self._processor.lock:
            self._objects.reference(transfer.object)
            entry = MapEntry(0, transfer.object.size)
            entry.object = transfer.object
            address = task.map.enter(entry, transfer.object.size)
        transfer.deallocate()
        return address
