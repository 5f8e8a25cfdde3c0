"""vm_wire: memory that is there and stays there (paper §5.1; mach.md 4.1).

Interface:
    VmWire(resident, shadows, vm_fault)
        .wire(vm_map, address, size, access)     MachError: KERN_FAILURE, KERN_MEMORY_ERROR ...
        .unwire(vm_map, address, size)           MachError: KERN_INVALID_ARGUMENT
        .release(entry)                          the entry is going, wired or not

Wirings of a range nest: an entry counts them, and wires its pages once.  Mach counts first, and then takes it for
granted that each page can be had; here the pages come first, and success means that all of them are in memory.

The map is locked by who calls; the kernel mutex is held, and released in waits.

Not here: who may (kernel/host.py asks for the privileged host port).
"""

from __future__ import annotations

from kernel.resident import ResidentPages
from kernel.shadow import Shadows
from kernel.vm_fault import READ, WRITE, VmFault
from kernel.vm_map import MapEntry, VmMap
from mach.kern_return import KernReturn, MachError


class VmWire:
    """See the head of the module."""

    def __init__(self, resident: ResidentPages, shadows: Shadows, vm_fault: VmFault) -> None:
        self._resident = resident
        self._shadows = shadows
        self._vm_fault = vm_fault

    def wire(self, vm_map: VmMap, address: int, size: int, access: int) -> None:
        """KERN_FAILURE for a hole, or a page whose protection does not include `access`; the code of the first page
        that cannot be had.  Then everything is as it was."""
        if not vm_map.covered(address, size):
            raise MachError(KernReturn.KERN_FAILURE, f"there is a hole in {address:#x} - {address + size:#x}")
        entries = vm_map.clip(address, size)
        if any(access & ~entry.protection for entry in entries):
            raise MachError(KernReturn.KERN_FAILURE, f"{address:#x} - {address + size:#x} is protected")
        done: list[tuple[MapEntry, int]] = []  # how far each entry was wired
        try:
            for entry in entries:
                if entry.wired_count == 0:
                    done.append((entry, entry.offset))
                    self._wire_pages(vm_map, done)
        except MachError:
            for entry, upto in done:
                self._unwire_pages(entry, upto)
            raise
        for entry in entries:
            entry.wired_count += 1

    def unwire(self, vm_map: VmMap, address: int, size: int) -> None:
        """KERN_INVALID_ARGUMENT, and nothing changed, unless all of the range is wired."""
        entries = vm_map.clip(address, size)
        if not vm_map.covered(address, size) or not all(entry.wired_count for entry in entries):
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"not all of {address:#x} - {address + size:#x} is wired")
        for entry in entries:
            entry.wired_count -= 1
            if entry.wired_count == 0:
                self._unwire_pages(entry, entry.offset + entry.end - entry.start)

    def release(self, entry: MapEntry) -> None:
        """Mach unwires what is deallocated."""
        if entry.wired_count:
            entry.wired_count = 0
            self._unwire_pages(entry, entry.offset + entry.end - entry.start)

    def _wire_pages(self, vm_map: VmMap, done: list[tuple[MapEntry, int]]) -> None:
        """Every page of the last entry of `done`, in the entry's own object, where no later write can replace it."""
        entry, _ = done[-1]
        if entry.needs_copy:
            self._shadows.shadow(entry)
        object = vm_map.object_of(entry)
        access = WRITE if object.shadow is not None else READ  # a page found below is copied up
        done[-1] = entry, entry.offset
        for at in range(entry.offset, entry.offset + entry.end - entry.start, vm_map.page_size):
            page = self._vm_fault.resolve(object, at, access)
            if isinstance(page, KernReturn):
                raise MachError(page, f"a page at {entry.start + at - entry.offset:#x} cannot be wired")
            self._resident.wire(page)
            done[-1] = entry, at + vm_map.page_size

    def _unwire_pages(self, entry: MapEntry, upto: int) -> None:
        """Those from the entry's beginning to `upto`, an offset in its object."""
        if entry.object is not None:
            for _, page in list(entry.object.pages.items(entry.offset, upto)):
                self._resident.unwire(page)
            self._resident.processor.wakeup((entry.object, "unwired"))
