"""Copies of ranges of address maps: fork with inheritance, vm_copy, the kernel's own loads and stores (mach.md 5.2).

Interface:
    VmCopy(processor, objects, resident, shadows, vm_fault)
        .fork(parent, pmap, child)                       vm_map_fork: what the child inherits
        .copy(vm_map, pmap, source, size, target)        vm_copy
        .part(pmap, entry) -> MapEntry                   a copy of an entry's range, to be entered somewhere
        .read(vm_map, address, size) -> bytes            vm_read
        .write(vm_map, address, data)                    vm_write

Nothing is copied that need not be: temporary memory that one task writes to is named twice and copied by who writes
first; what several tasks write to, and permanent objects whose pager allows it, get a copy object; what is wired, or
what its pager wants copied at once, is copied page by page.  Errors are MachError.

The map that is copied from is locked (VmMap.locked) by who calls; the kernel mutex is held, and released in waits.

Not here: shadow and copy objects themselves (kernel/shadow.py).
"""

from __future__ import annotations

from collections import Counter

from kernel.page import Page
from kernel.pmap import Pmap
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.shadow import Shadows
from kernel.vm_fault import READ, WRITE, VmFault
from kernel.vm_map import Inheritance, MapEntry, VmMap
from kernel.vm_object import VmObject, VmObjects
from mach.kern_return import KernReturn, MachError
from mach.memory_object import CopyStrategy


class VmCopy:
    """See the head of the module."""

    def __init__(
        self, processor: Processor, objects: VmObjects, resident: ResidentPages, shadows: Shadows, vm_fault: VmFault
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._processor = processor
        self._objects = objects
        self._resident = resident
        self._shadows = shadows
        self._vm_fault = vm_fault
        self._page_size = resident.page_size

    def fork(self, parent: VmMap, pmap: Pmap, child: VmMap) -> None:
        """Give `child`, which is empty, what the parent's entries let it inherit.  If a page cannot be had that must be
        copied now, MachError; what has been entered so far is the caller's to deallocate."""
        for entry in list(parent.entries):
            if entry.inheritance == Inheritance.NONE:
                continue
            share = entry.inheritance == Inheritance.SHARE
            part = self._share(parent, pmap, entry) if share else self.part(pmap, entry)
            child.enter(part, part.end - part.start, part.start)

    def _share(self, vm_map: VmMap, pmap: Pmap, entry: MapEntry) -> MapEntry:
        """Both write to one object from now on; what is only a copy, or copied from, is shadowed before."""
        object = vm_map.object_of(entry)
        settled = (
            entry.is_shared or entry.wired_count
        )  # it must stay the same object, and nobody else names these pages
        if entry.needs_copy or (object.shadowed and not settled):
            self._write_protect(pmap, entry)
            self._shadows.shadow(entry)
            object = vm_map.object_of(entry)
        object.use_shared_copy = True
        entry.is_shared = True
        self._objects.reference(object)
        part = entry.cut_to(entry.start, entry.end)
        part.wired_count = 0
        return part

    def part(self, pmap: Pmap, entry: MapEntry) -> MapEntry:
        """A copy of the entry's range, with its protections; it holds a reference of its own."""
        part = entry.cut_to(entry.start, entry.end)
        part.is_shared, part.wired_count, part.needs_copy = False, 0, False
        object = entry.object
        if object is None:
            return part
        if object.pager is not None and not object.internal:
            self._await_ready(object)
        wired = entry.wired_count > 0
        if object.temporary and not object.use_shared_copy and not wired:
            self._objects.reference(object)
            object.shadowed = True
            if not entry.needs_copy:
                self._write_protect(pmap, entry)
                entry.needs_copy = True
            part.needs_copy = True
        elif (object.temporary or object.copy_strategy == CopyStrategy.DELAY) and not wired:
            part.object = self._shadows.copy_delayed(object)
            part.needs_copy = True  # another copy may share the copy object
        else:
            part.object, part.offset = self._copy_slowly(object, entry.offset, entry.end - entry.start), 0
        return part

    def _write_protect(self, pmap: Pmap, entry: MapEntry) -> None:
        size = self._page_size
        pmap.protect(entry.start // size, entry.end // size, readable=True, writable=False)

    def _await_ready(self, object: VmObject) -> None:
        """Its pager says with set_attributes how it may be copied."""
        while not object.pager_ready and object.pager is not None:
            ready = self._processor.wait(
                (object, "ready"),
                lambda: f"the pager of object {object.object_id} to be ready to be copied",
                self._vm_fault.pager_seconds,
            )
            if not ready:
                raise MachError(KernReturn.KERN_MEMORY_ERROR, f"the pager of object {object.object_id} is not ready")

    def _copy_slowly(self, source: VmObject, offset: int, size: int) -> VmObject:
        """vm_object_copy_slowly: a new object with the pages of a range, all of them now."""
        made = self._objects.allocate(size)
        self._objects.reference(source)  # it may be given up meanwhile
        try:
            for at in range(0, size, self._page_size):
                page = self._must(self._vm_fault.resolve(source, offset + at, READ))
                data = self._resident.store.read(page.frame)
                self._store(self._must(self._vm_fault.resolve(made, at, WRITE)), 0, data)
        except MachError:
            self._objects.deallocate(made)
            raise
        finally:
            self._objects.deallocate(source)
        self.counts["slow_copies"] += 1
        return made

    @staticmethod
    def _must(page: Page | KernReturn) -> Page:
        if isinstance(page, KernReturn):
            raise MachError(page, "a page cannot be copied")
        return page

    # -- vm_copy -----------------------------------------------------------------------------------------------

    def copy(self, vm_map: VmMap, pmap: Pmap, source: int, size: int, target: int) -> None:
        """Overwrite what is at `target` with what is at `source`, which stays.  KERN_INVALID_ADDRESS for a hole in
        either range, KERN_PROTECTION_FAILURE if one may not be read, or the other not written; then nothing was
        changed."""
        if size <= 0:
            return
        self._require(vm_map, source, size, READ)
        self._require(vm_map, target, size, WRITE)
        if source % self._page_size or target % self._page_size or size % self._page_size:
            self.write(vm_map, target, self.read(vm_map, source, size))
            return
        parts = []
        try:
            for entry in vm_map.clip(source, size):
                parts.append((entry.start - source, self.part(pmap, entry)))
            for distance, part in parts:
                self._overwrite(vm_map, pmap, target + distance, part)
        finally:
            for _, part in parts:  # those not taken over, and the old objects of those that were
                self._objects.deallocate(part.object)

    def _require(self, vm_map: VmMap, address: int, size: int, access: int) -> None:
        if not vm_map.covered(address, size):
            raise MachError(KernReturn.KERN_INVALID_ADDRESS, f"there is a hole in {address:#x} - {address + size:#x}")
        at = address
        while at < address + size:
            entry = vm_map.lookup(at)
            if entry is None or access & ~entry.protection:
                raise MachError(KernReturn.KERN_PROTECTION_FAILURE, f"at {at:#x}")
            at = entry.end

    def _overwrite(self, vm_map: VmMap, pmap: Pmap, address: int, part: MapEntry) -> None:
        """Let entries of private memory name the copy instead; copy the bytes where others would not see that."""
        size = part.end - part.start
        for entry in vm_map.clip(address, size):
            distance = entry.start - address
            object = entry.object
            private = object is None or entry.needs_copy or (object.temporary and not object.use_shared_copy)
            if entry.wired_count or entry.is_shared or not private:
                self._overwrite_slowly(vm_map, entry, part, distance)
                continue
            pmap.remove(entry.start // self._page_size, entry.end // self._page_size)
            if part.object is not None:
                self._objects.reference(part.object)
            entry.object, entry.offset, entry.needs_copy = part.object, part.offset + distance, part.object is not None
            self._objects.deallocate(object)

    def _overwrite_slowly(self, vm_map: VmMap, entry: MapEntry, part: MapEntry, distance: int) -> None:
        for at in range(0, entry.end - entry.start, self._page_size):
            data = bytes(self._page_size)
            if part.object is not None:
                page = self._must(self._vm_fault.resolve(part.object, part.offset + distance + at, READ))
                data = self._resident.store.read(page.frame)
            self.write(vm_map, entry.start + at, data)

    # -- the kernel's own loads and stores ---------------------------------------------------------------------

    def read(self, vm_map: VmMap, address: int, size: int) -> bytes:
        """What a task sees.  The code of the first page that cannot be had."""
        parts = []
        while size > 0:
            reached = self._vm_fault.reach(vm_map, address, READ)
            if isinstance(reached, KernReturn):
                raise MachError(reached, f"at {address:#x}")
            within = address % self._page_size
            count = min(size, self._page_size - within)
            start = reached[1].frame * self._page_size + within
            parts.append(bytes(self._resident.store.view[start : start + count]))
            address += count
            size -= count
        return b"".join(parts)

    def write(self, vm_map: VmMap, address: int, data: bytes | memoryview) -> None:
        """What was written before the failing page stays written."""
        left = memoryview(data)
        while left:
            reached = self._vm_fault.reach(vm_map, address, WRITE)
            if isinstance(reached, KernReturn):
                raise MachError(reached, f"at {address:#x}")
            within = address % self._page_size
            count = min(len(left), self._page_size - within)
            self._store(reached[1], within, left[:count])
            address += count
            left = left[count:]

    def _store(self, page: Page, within: int, data: bytes | memoryview) -> None:
        start = page.frame * self._page_size + within
        self._resident.store.view[start : start + len(data)] = data
        page.dirty = True
        self._resident.activate(page)
