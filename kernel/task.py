"""Tasks: an address map, a pmap, and memory that is referenced as a program would reference it.

Interface:
    Task(host, task_id, name)
        .vm_allocate(size, address=None) -> int   .vm_deallocate(address, size)
        .vm_protect(address, size, protection, set_maximum=False)
        .vm_region(address) -> MapEntry
        .read(address, length) -> bytes           .write(address, data)
        .terminate()
        .check()

`read` and `write` are the program's own loads and stores: page by page through the pmap, with a fault where that has no
page.  Long ones are cheap: the kernel is entered once for all pages that are resident.  Errors are MachError with the
code that the exception would carry: KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE, KERN_MEMORY_ERROR,
KERN_RESOURCE_SHORTAGE.  What was written before the failing page stays written.

Not here: threads of the task: any thread of the runtime may call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.pmap import Pmap
from kernel.resident import Page
from kernel.vm_map import MapEntry, VmMap
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt

if TYPE_CHECKING:
    from kernel.host import Host

READ = int(VmProt.READ)
WRITE = int(VmProt.WRITE)


class Task:
    """See the head of the module.  Made by Host.task_create."""

    def __init__(self, host: Host, task_id: int, name: str) -> None:
        self.host = host
        self.task_id = task_id
        self.name = name
        self.map = VmMap(host.page_size, host.objects)
        self.pmap = Pmap()
        self.faults = 0
        self._page_size = host.page_size
        self._lock = host.processor.lock
        self._view = host.resident.store.view

    def vm_allocate(self, size: int, address: int | None = None) -> int:
        """Zero-filled memory: at `address`, or anywhere.  KERN_NO_SPACE, KERN_INVALID_ADDRESS."""
        with self._lock:
            return self.map.allocate(size, address)

    def vm_deallocate(self, address: int, size: int) -> None:
        """Give memory back.  Waits until what is being paged of it has come to rest."""
        with self._lock:
            if size > 0:
                last = -(-(address + size) // self._page_size)
                self.pmap.remove(address // self._page_size, last)
            for object in self.map.deallocate(address, size):
                self.host.objects.deallocate(object)

    def vm_protect(self, address: int, size: int, protection: VmProt, set_maximum: bool = False) -> None:
        """KERN_PROTECTION_FAILURE if the maximum forbids it.  Less takes effect at once, more at the next fault."""
        with self._lock:
            self.map.protect(address, size, set_maximum, protection)
            for entry in self.map.entries:
                if entry.start < address + size and entry.end > address:
                    self.pmap.protect(
                        entry.start // self._page_size,
                        entry.end // self._page_size,
                        readable=bool(entry.protection & READ),
                        writable=bool(entry.protection & WRITE),
                    )

    def vm_region(self, address: int) -> MapEntry:
        """The range that holds `address`, or the next one above.  KERN_NO_SPACE if there is none."""
        with self._lock:
            return self.map.region(address)

    def read(self, address: int, length: int) -> bytes:
        """Load `length` bytes."""
        page_size, view, readable = self._page_size, self._view, self.pmap.readable
        parts: list[bytes] = []
        views: list[memoryview] = []  # of resident pages; copied before the kernel is left, when they may change
        with self._lock:
            end = address + length
            while address < end:
                virtual_page, within = divmod(address, page_size)
                page = readable.get(virtual_page)
                if page is None:
                    parts.append(b"".join(views))
                    views.clear()
                    self._fault(address, READ)
                    page = readable[virtual_page]
                page.reference = True
                size = min(page_size - within, end - address)
                start = page.frame * page_size + within
                views.append(view[start : start + size])
                address += size
            parts.append(b"".join(views))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data`."""
        page_size, view, writable = self._page_size, self._view, self.pmap.writable
        source = memoryview(data)
        done = 0
        with self._lock:
            while done < len(source):
                virtual_page, within = divmod(address + done, page_size)
                page = writable.get(virtual_page)
                if page is None:
                    self._fault(address + done, WRITE)
                    page = writable[virtual_page]
                page.reference = page.modified = True
                size = min(page_size - within, len(source) - done)
                start = page.frame * page_size + within
                view[start : start + size] = source[done : done + size]
                done += size

    def _fault(self, address: int, access: int) -> None:
        """Enter the kernel for a page.  It is mapped on return, and stays so until the mutex is released."""
        self.faults += 1
        code = self.host.vm_fault.fault(self.map, self.pmap, address, access)
        if code is not KernReturn.KERN_SUCCESS:
            raise MachError(code, f"task {self.name} at {address:#x}", address)

    def resident_page(self, address: int, access: int) -> Page:
        """The page at `address`, faulted in for `access`.  The kernel mutex is held, and released by a fault."""
        mapped = self.pmap.writable if access & WRITE else self.pmap.readable
        while (page := mapped.get(address // self._page_size)) is None:
            self._fault(address, access)
        return page

    def terminate(self) -> None:
        """Give all memory back; the task is gone."""
        self.vm_deallocate(self.map.minimum, self.map.maximum - self.map.minimum)
        with self._lock:
            self.host.tasks.pop(self.task_id, None)

    def check(self) -> None:
        self.map.check()
        self.pmap.check()
        for virtual_page in self.pmap.readable:
            assert self.map.lookup(virtual_page * self._page_size) is not None, "a page is mapped where nothing is"
