"""Tasks: an address map, a pmap, and memory that is referenced as a program would reference it.

Interface:
    Task(host, task_id, name)         made by Host.task_create
        .vm_allocate .vm_deallocate .vm_protect .vm_inherit .vm_region .vm_copy .vm_read .vm_write .vm_map
        .fork(name) -> Task
        .read(address, length) -> bytes    .write(address, data)     a program's loads and stores
        .reference(addresses, write)                                 many references at once, of no bytes
        .terminate()
        .check()

`read` and `write` are the program's own loads and stores: page by page through the pmap, with a fault where that has no
page.  Long ones are cheap: the kernel is entered once for all pages that are resident.  vm_read and vm_write are calls
to the kernel: the same bytes, without a mapping.  Errors are MachError with the code that the call, or the exception,
would carry: KERN_INVALID_ADDRESS, KERN_PROTECTION_FAILURE, KERN_NO_SPACE, KERN_MEMORY_ERROR, KERN_RESOURCE_SHORTAGE.
What was written before the failing page stays written.

Not here: threads of the task: any thread of the runtime may call; vm_wire, which needs the host (kernel/host.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kernel.page import REFERENCED, USED, Page
from kernel.pmap import Pmap
from kernel.vm_map import Inheritance, MapEntry, VmMap
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.ports import SendRight

if TYPE_CHECKING:
    from kernel.host import Host

READ = int(VmProt.READ)
WRITE = int(VmProt.WRITE)


class Task:
    """See the head of the module."""

    def __init__(self, host: Host, task_id: int, name: str) -> None:
        self.host = host
        self.task_id = task_id
        self.name = name
        self.map = VmMap(host.page_size, host.objects)
        self.pmap = Pmap(host.resident.pv)
        self.faults = 0
        self._page_size = host.page_size
        self._lock = host.processor.lock
        self._view = host.resident.store.view
        self._flags = host.resident.frames.flags

    # -- calls to the kernel -----------------------------------------------------------------------------------

    def vm_allocate(self, size: int, address: int | None = None) -> int:
        """Zero-filled memory: at `address`, or anywhere.  KERN_NO_SPACE, KERN_INVALID_ADDRESS."""
        with self._lock, self.map.locked():
            return self.map.allocate(size, address)

    def vm_deallocate(self, address: int, size: int) -> None:
        """Give memory back.  Waits until what is being paged of it has come to rest."""
        with self._lock, self.map.locked():
            gone = self.map.deallocate(address, size)
            for entry in gone:
                self.host.wiring.release(entry)
                self.pmap.remove(entry.start // self._page_size, entry.end // self._page_size)
            for entry in gone:
                self.host.objects.deallocate(entry.object)

    def vm_protect(self, address: int, size: int, protection: VmProt, set_maximum: bool = False) -> None:
        """KERN_PROTECTION_FAILURE if the maximum forbids it.  Less takes effect at once, more at the next fault."""
        with self._lock, self.map.locked():
            self.map.protect(address, size, set_maximum, protection)
            for entry in self.map.clip(address, size):
                self.pmap.protect(
                    entry.start // self._page_size,
                    entry.end // self._page_size,
                    readable=bool(entry.protection & READ),
                    writable=bool(entry.protection & WRITE),
                )

    def vm_inherit(self, address: int, size: int, inheritance: Inheritance) -> None:
        """What children get of the range: a share, a copy, nothing."""
        with self._lock, self.map.locked():
            self.map.inherit(address, size, inheritance)

    def vm_region(self, address: int) -> MapEntry:
        """The range that holds `address`, or the next one above.  KERN_NO_SPACE if there is none."""
        with self._lock:
            return self.map.region(address)

    def vm_copy(self, source: int, size: int, target: int) -> None:
        """Copy memory over memory, without touching a page where that can be avoided."""
        with self._lock, self.map.locked():
            self.host.vm_copy.copy(self.map, self.pmap, source, size, target)

    def vm_read(self, address: int, size: int) -> bytes:
        with self._lock:
            return self.host.vm_copy.read(self.map, address, size)

    def vm_write(self, address: int, data: bytes) -> None:
        with self._lock:
            self.host.vm_copy.write(self.map, address, data)

    def vm_map(
        self,
        memory_object: SendRight | None,
        size: int,
        address: int | None = None,
        *,
        offset: int = 0,
        copy: bool = False,
        protection: VmProt = VmProt.DEFAULT,
        max_protection: VmProt = VmProt.ALL,
        inheritance: Inheritance = Inheritance.COPY,
    ) -> int:
        """Map `size` bytes of a memory object, from `offset` on, or a copy of them as they are now.  The right is
        copied. KERN_INVALID_ARGUMENT for an offset inside a page, or more protection than the maximum."""
        if offset < 0 or offset % self._page_size or size <= 0 or protection & ~max_protection:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"vm_map of {size} bytes at offset {offset}")
        with self._lock, self.map.locked():
            entry = MapEntry(0, self.map.round(size))
            entry.protection, entry.max_protection = int(protection), int(max_protection)
            entry.inheritance, entry.offset = inheritance, offset
            if memory_object is not None:
                entry.object = self.host.pagers.enter(memory_object, offset + self.map.round(size))
            try:
                if copy and entry.object is not None:
                    source, entry = entry, self.host.vm_copy.part(self.pmap, entry)
                    self.host.objects.deallocate(source.object)
                return self.map.enter(entry, size, address)
            except MachError:
                self.host.objects.deallocate(entry.object)
                raise

    def fork(self, name: str) -> Task:
        """task_create: a child that inherits what this task's entries let it inherit."""
        child = self.host.task_create(name)
        try:
            with self._lock, self.map.locked():
                self.host.vm_copy.fork(self.map, self.pmap, child.map)
        except MachError:
            child.terminate()
            raise
        return child

    def terminate(self) -> None:
        """Give all memory back; the task is gone."""
        self.vm_deallocate(self.map.minimum, self.map.maximum - self.map.minimum)
        with self._lock:
            self.pmap.destroy()
            self.host.tasks.pop(self.task_id, None)

    # -- the program -------------------------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """Load `length` bytes."""
        page_size, view, pmap, flags = self._page_size, self._view, self.pmap, self._flags
        parts: list[bytes] = []
        views: list[memoryview] = []  # of resident pages; copied before the kernel is left, when they may change
        with self._lock:
            end = address + length
            while address < end:
                virtual_page, within = divmod(address, page_size)
                frame = pmap.frame(virtual_page)
                if frame < 0:
                    parts.append(b"".join(views))
                    views.clear()
                    frame = self._fault(address, READ)
                flags[frame] |= REFERENCED
                size = min(page_size - within, end - address)
                start = frame * page_size + within
                views.append(view[start : start + size])
                address += size
            parts.append(b"".join(views))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data`."""
        page_size, view, pmap, flags = self._page_size, self._view, self.pmap, self._flags
        source = memoryview(data)
        done = 0
        with self._lock:
            while done < len(source):
                virtual_page, within = divmod(address + done, page_size)
                frame = pmap.frame(virtual_page, write=True)
                if frame < 0:
                    frame = self._fault(address + done, WRITE)
                flags[frame] |= USED
                size = min(page_size - within, len(source) - done)
                start = frame * page_size + within
                view[start : start + size] = source[done : done + size]
                done += size

    def reference(self, addresses: Iterable[int], write: bool = False) -> None:
        """Reference a byte at each address, as a trace does: faults, and the hardware's bits, but no bytes."""
        page_size, find, flags = self._page_size, self.pmap.frame, self._flags
        bits, access = (USED, WRITE) if write else (REFERENCED, READ)
        with self._lock:
            for address in addresses:
                frame = find(address // page_size, write)
                if frame < 0:
                    frame = self._fault(address, access)
                flags[frame] |= bits

    def _fault(self, address: int, access: int) -> int:
        """Enter the kernel for a page; its frame.  It is mapped on return, and stays so until the mutex is released."""
        self.faults += 1
        code = self.host.vm_fault.fault(self.map, self.pmap, address, access)
        if code is not KernReturn.KERN_SUCCESS:
            raise MachError(code, f"task {self.name} at {address:#x}", address)
        return self.pmap.frame(address // self._page_size)

    def resident_page(self, address: int, access: int) -> Page:
        """The page at `address`, faulted in for `access`.  The kernel mutex is held, and released by a fault."""
        frame = self.pmap.frame(address // self._page_size, bool(access & WRITE))
        return self.host.resident.frames.page(frame if frame >= 0 else self._fault(address, access))

    def check(self) -> None:
        self.map.check()
        self.pmap.check()
        for virtual_page, frame, writable in self.pmap.mapped():
            entry = self.map.lookup(virtual_page * self._page_size)
            assert entry is not None, "a page is mapped where nothing is"
            page = self.host.resident.frames.page(frame)
            assert entry.protection & READ, f"{page!r} is mapped though it may not be read"
            if writable:
                assert entry.protection & WRITE, f"{page!r} is writable where nobody may write"
                assert page.object is entry.object, f"{page!r} is writable through a shadow"
                assert not entry.needs_copy, f"{page!r} is writable though it is a copy"
