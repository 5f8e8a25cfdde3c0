"""The address map of a task: which ranges of addresses are which part of which VM object (VMAP).

Interface:
    VmMap(page_size, objects)
        .allocate(size, address | None) -> int       vm_allocate: the start; None is "anywhere"
        .deallocate(address, size) -> list[VmObject] the references that must be dropped now
        .protect(address, size, set_maximum, protection)
        .lookup(address) -> MapEntry | None          the entry that holds an address
        .region(address) -> MapEntry                 vm_region: the entry at or after an address
        .entries
        .check()
    MapEntry                                         one range

Addresses are rounded to pages as Mach rounds: the start down, the end up.  Errors are MachError with Mach's codes.

Invariants (the kernel mutex is held in every method):
    1. Entries are sorted, do not overlap, are not empty, lie within the map, and begin and end on pages.
    2. Each entry with an object holds one reference to it, and lies within it.
    3. protection is within max_protection.

Not here: pages, faults (kernel/vm_fault.py), the pmap (kernel/pmap.py).
"""

from __future__ import annotations

from bisect import bisect_right

from kernel.vm_object import VmObject, VmObjects
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt

VM_MAX_ADDRESS = 1 << 47
INHERIT_COPY = 1  # vm_inherit_t, Mach's default


class MapEntry:
    """vm_map_entry: [start, end) is the object's bytes from `offset` on.  No object yet: nothing was ever touched."""

    __slots__ = ("end", "inheritance", "max_protection", "object", "offset", "protection", "start", "wired_count")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.object: VmObject | None = None
        self.offset = 0
        self.protection = int(VmProt.DEFAULT)  # plain numbers: each fault computes with them
        self.max_protection = int(VmProt.ALL)
        self.inheritance = INHERIT_COPY
        self.wired_count = 0


class VmMap:
    """See the head of the module."""

    def __init__(self, page_size: int, objects: VmObjects) -> None:
        self.page_size = page_size
        self.minimum = page_size  # page 0 stays unmapped: a null pointer faults
        self.maximum = VM_MAX_ADDRESS
        self.entries: list[MapEntry] = []
        self._starts: list[int] = []  # of the entries, for the search
        self._objects = objects

    def allocate(self, size: int, address: int | None = None) -> int:
        """Zero-filled memory.  KERN_NO_SPACE if it does not fit there, KERN_INVALID_ADDRESS outside the map."""
        if size < 0:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"memory of {size} bytes")
        if size == 0:
            return 0  # as Mach's: success, and nothing is allocated
        if address is None:
            start = self._find_space(self._round(size))
        else:
            start = self._trunc(address)
        end = self._round(size if address is None else address + size)
        end = start + end if address is None else end
        if start < self.minimum or end > self.maximum:
            raise MachError(KernReturn.KERN_INVALID_ADDRESS, f"{start:#x} - {end:#x} is not within the address map")
        index = self._index(start)
        if (index and self.entries[index - 1].end > start) or (
            index < len(self.entries) and self.entries[index].start < end
        ):
            raise MachError(KernReturn.KERN_NO_SPACE, f"{start:#x} - {end:#x} is not free")
        self._insert(index, MapEntry(start, end))
        return start

    def enter(self, object: VmObject, size: int) -> int:
        """Map an object of `size` bytes anywhere; a reference of the caller's becomes the entry's."""
        start = self.allocate(size)
        entry = self.lookup(start)
        assert entry is not None
        entry.object = object
        return start

    def deallocate(self, address: int, size: int) -> list[VmObject]:
        """Remove what is allocated within the range; holes are no error.  The caller drops a reference of each object
        that is returned, once nothing maps its pages any more: the last reference waits for paging.  Pages of an object
        that is still referenced stay with it, as in Mach, though nobody can reach them."""
        first, last = self._clip(address, size)
        gone = self.entries[first:last]
        del self.entries[first:last], self._starts[first:last]
        return [entry.object for entry in gone if entry.object is not None]

    def protect(self, address: int, size: int, set_maximum: bool, protection: VmProt) -> None:
        """vm_protect.  KERN_PROTECTION_FAILURE, and nothing changed, if a maximum forbids it; holes are no error."""
        if size <= 0:
            return
        allowed = int(protection)
        touched = [entry for entry in self.entries if entry.start < address + size and entry.end > address]
        if any(allowed & ~entry.max_protection for entry in touched):
            raise MachError(KernReturn.KERN_PROTECTION_FAILURE, f"{protection!r} is more than the maximum allows")
        first, last = self._clip(address, size)
        for entry in self.entries[first:last]:
            if set_maximum:
                entry.max_protection = allowed
                entry.protection &= allowed
            else:
                entry.protection = allowed

    def lookup(self, address: int) -> MapEntry | None:
        """The entry that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.entries[index].end:
            return self.entries[index]
        return None

    def region(self, address: int) -> MapEntry:
        """The entry that holds `address`, or the next one; KERN_NO_SPACE if there is none."""
        for entry in self.entries:
            if entry.end > address:
                return entry
        raise MachError(KernReturn.KERN_NO_SPACE, f"nothing is allocated at {address:#x} or above")

    def object_of(self, entry: MapEntry) -> VmObject:
        """The entry's object; made when it is first needed (vm_map_lookup)."""
        if entry.object is None:
            entry.object = self._objects.allocate(entry.end - entry.start)
            entry.offset = 0
        return entry.object

    # -- the sorted list ---------------------------------------------------------------------------------------

    def _trunc(self, address: int) -> int:
        return address - address % self.page_size

    def _round(self, address: int) -> int:
        return -(-address // self.page_size) * self.page_size

    def _index(self, start: int) -> int:
        return bisect_right(self._starts, start)

    def _insert(self, index: int, entry: MapEntry) -> None:
        self.entries.insert(index, entry)
        self._starts.insert(index, entry.start)

    def _find_space(self, size: int) -> int:
        """First fit, from the bottom."""
        start = self.minimum
        for entry in self.entries:
            if entry.start - start >= size:
                return start
            start = entry.end
        if start + size > self.maximum:
            raise MachError(KernReturn.KERN_NO_SPACE, f"no room for {size} bytes")
        return start

    def _clip(self, address: int, size: int) -> tuple[int, int]:
        """Cut entries so that the range begins and ends between entries; returns the indices of those inside."""
        if size <= 0:
            return 0, 0
        start, end = self._trunc(address), self._round(address + size)
        self._cut(start)
        self._cut(end)
        return bisect_right(self._starts, start - 1), bisect_right(self._starts, end - 1)

    def _cut(self, address: int) -> None:
        """Make two entries of the one that `address` lies inside of."""
        entry = self.lookup(address)
        if entry is None or entry.start == address:
            return
        upper = MapEntry(address, entry.end)
        for field in ("object", "protection", "max_protection", "inheritance", "wired_count"):
            setattr(upper, field, getattr(entry, field))
        upper.offset = entry.offset + address - entry.start
        entry.end = address
        if entry.object is not None:
            self._objects.reference(entry.object)
        self._insert(self._index(address), upper)

    def check(self) -> None:
        """The invariants, by number."""
        assert self._starts == [entry.start for entry in self.entries], "INV-1: the index is stale"
        end = self.minimum
        for entry in self.entries:
            assert end <= entry.start < entry.end <= self.maximum, f"INV-1: {entry.start:#x}"
            assert entry.start % self.page_size == entry.end % self.page_size == 0, "INV-1: not on a page"
            assert not entry.protection & ~entry.max_protection, "INV-3"
            if entry.object is not None:
                assert entry.object.references > 0, "INV-2: a dead object is mapped"
                assert entry.offset + entry.end - entry.start <= entry.object.size, "INV-2: beyond the object"
            end = entry.end
