"""The address map of a task: which ranges of addresses are which part of which VM object (VMAP).

Interface:
    VmMap(page_size, objects)
        .allocate(size, address | None) -> int       vm_allocate: the start; None is "anywhere"
        .enter(entry fields) -> int                  vm_map_enter: the same, with an object
        .deallocate(address, size) -> list[MapEntry] what is not mapped any more; its references are the caller's
        .protect(address, size, set_maximum, protection)   .inherit(address, size, inheritance)
        .lookup(address) -> MapEntry | None          the entry that holds an address
        .region(address) -> MapEntry                 vm_region: the entry at or after an address
        .clip(address, size) -> list[MapEntry]       the entries inside a range, cut so that it begins and ends between
        .covered(address, size) -> bool              whether a range has no hole
        .entries
        .locked()                                    vm_map_lock: one operation on a map at a time
        .check()
    MapEntry                                         one range
    Inheritance                                      what a child gets of it (vm_inherit_t)

Addresses are rounded to pages as Mach rounds: the start down, the end up.  Errors are MachError with Mach's codes.

Invariants (the kernel mutex is held in every method):
    1. Entries are sorted, do not overlap, are not empty, lie within the map, and begin and end on pages.
    2. Each entry with an object holds one reference to it, and lies within it.
    3. protection is within max_protection.
    4. A wired entry has its object to itself: needs_copy is not set, and each of its pages is in that object, wired.
    5. An entry that is shared with another task is not needs_copy.

A fault only looks, and shadows an entry that needs a copy: it does not take the lock.  So an operation that holds it
may fault on the map, and must look again at what it cut after it has slept.

Not here: pages, faults (kernel/vm_fault.py), the pmap (kernel/pmap.py), copies (kernel/vm_copy.py).
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager

from kernel.vm_object import VmObject, VmObjects
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.threads import Thread

VM_MAX_ADDRESS = 1 << 47


class Inheritance(enum.IntEnum):
    """vm_inherit_t."""

    SHARE = 0
    COPY = 1
    NONE = 2


class MapEntry:
    """vm_map_entry: [start, end) is the object's bytes from `offset` on.  No object yet: nothing was ever touched."""

    __slots__ = (
        "end",
        "inheritance",
        "is_shared",
        "max_protection",
        "needs_copy",
        "object",
        "offset",
        "protection",
        "start",
        "wired_count",
    )

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.object: VmObject | None = None
        self.offset = 0
        self.protection = int(VmProt.DEFAULT)  # plain numbers: each fault computes with them
        self.max_protection = int(VmProt.ALL)
        self.inheritance = Inheritance.COPY
        self.wired_count = 0  # by vm_wire, nested
        self.needs_copy = False  # before the first write it gets a shadow object
        self.is_shared = False  # with a task that inherited it so

    def cut_to(self, start: int, end: int) -> MapEntry:
        """The same, for a part of the range; its reference to the object is the caller's affair."""
        part = MapEntry(start, end)
        for field in MapEntry.__slots__:
            if field not in ("start", "end"):
                setattr(part, field, getattr(self, field))
        part.offset += start - self.start
        return part


class VmMap:
    """See the head of the module."""

    def __init__(self, page_size: int, objects: VmObjects) -> None:
        self.page_size = page_size
        self.minimum = page_size  # page 0 stays unmapped: a null pointer faults
        self.maximum = VM_MAX_ADDRESS
        self.entries: list[MapEntry] = []
        self._starts: list[int] = []  # of the entries, for the search
        self._objects = objects
        self.holder: Thread | None = None  # who has it locked

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the map against other operations, also while the kernel mutex is released."""
        processor = self._objects.processor
        while self.holder is not None:
            processor.wait(
                (self, "lock"), lambda: f"the lock of an address map, held by {self.holder.name if self.holder else ''}"
            )
        self.holder = processor.runtime.current()
        try:
            yield
        finally:
            self.holder = None
            processor.wakeup((self, "lock"))

    # -- operations --------------------------------------------------------------------------------------------

    def allocate(self, size: int, address: int | None = None) -> int:
        """Zero-filled memory.  KERN_NO_SPACE if it does not fit there, KERN_INVALID_ADDRESS outside the map."""
        if size < 0:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"memory of {size} bytes")
        if size == 0:
            return 0  # as Mach's: success, and nothing is allocated
        return self.enter(MapEntry(0, 0), size, address)

    def enter(self, entry: MapEntry, size: int, address: int | None = None) -> int:
        """Put `entry` at `address`, or where there is room, with the reference that it holds."""
        start = self._find_space(self.round(size)) if address is None else self.trunc(address)
        end = start + self.round(size) if address is None else self.round(address + size)
        if start < self.minimum or end > self.maximum:
            raise MachError(KernReturn.KERN_INVALID_ADDRESS, f"{start:#x} - {end:#x} is not within the address map")
        index = self._index(start)
        if (index and self.entries[index - 1].end > start) or (
            index < len(self.entries) and self.entries[index].start < end
        ):
            raise MachError(KernReturn.KERN_NO_SPACE, f"{start:#x} - {end:#x} is not free")
        entry.start, entry.end = start, end
        self._insert(index, entry)
        return start

    def deallocate(self, address: int, size: int) -> list[MapEntry]:
        """Remove what is allocated within the range; holes are no error.  The caller unwires what was wired, and drops
        a reference of each object, once nothing maps its pages any more: the last reference waits for paging.  Pages
        of an object that is still referenced stay with it, as in Mach, though nobody can reach them."""
        gone = self.clip(address, size)
        if gone:
            first = self._index(gone[0].start) - 1
            del self.entries[first : first + len(gone)], self._starts[first : first + len(gone)]
        return gone

    def protect(self, address: int, size: int, set_maximum: bool, protection: VmProt) -> None:
        """vm_protect.  KERN_PROTECTION_FAILURE, and nothing changed, if a maximum forbids it; holes are no error."""
        if size <= 0:
            return
        allowed = int(protection)
        touched = [entry for entry in self.entries if entry.start < address + size and entry.end > address]
        if any(allowed & ~entry.max_protection for entry in touched):
            raise MachError(KernReturn.KERN_PROTECTION_FAILURE, f"{protection!r} is more than the maximum allows")
        for entry in self.clip(address, size):
            if set_maximum:
                entry.max_protection = allowed
                entry.protection &= allowed
            else:
                entry.protection = allowed

    def inherit(self, address: int, size: int, inheritance: Inheritance) -> None:
        """vm_inherit: what children are to get of the range; holes are no error."""
        for entry in self.clip(address, size):
            entry.inheritance = inheritance

    def lookup(self, address: int) -> MapEntry | None:
        """The entry that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.entries[index].end:
            return self.entries[index]
        return None

    def region(self, address: int) -> MapEntry:
        """The entry that holds `address`, or the next one; KERN_NO_SPACE if there is none."""
        index = max(bisect_right(self._starts, address) - 1, 0)
        for entry in self.entries[index : index + 2]:
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

    def trunc(self, address: int) -> int:
        return address - address % self.page_size

    def round(self, address: int) -> int:
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

    def clip(self, address: int, size: int) -> list[MapEntry]:
        """Cut entries so that the range begins and ends between entries; returns those inside."""
        if size <= 0:
            return []
        start, end = self.trunc(address), self.round(address + size)
        self._cut(start)
        self._cut(end)
        return self.entries[bisect_right(self._starts, start - 1) : bisect_right(self._starts, end - 1)]

    def covered(self, address: int, size: int) -> bool:
        """Whether every page of the range is allocated."""
        at, end = self.trunc(address), self.round(address + size)
        while at < end:
            entry = self.lookup(at)
            if entry is None:
                return False
            at = entry.end
        return True

    def _cut(self, address: int) -> None:
        """Make two entries of the one that `address` lies inside of."""
        entry = self.lookup(address)
        if entry is None or entry.start == address:
            return
        upper = entry.cut_to(address, entry.end)
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
            assert not (entry.is_shared and entry.needs_copy), "INV-5"
            if entry.object is not None:
                assert entry.object.references > 0, "INV-2: a dead object is mapped"
                assert entry.offset + entry.end - entry.start <= entry.object.size, "INV-2: beyond the object"
            if entry.wired_count:
                self._check_wired(entry)
            end = entry.end

    def _check_wired(self, entry: MapEntry) -> None:
        assert entry.object is not None, "INV-4"
        assert not entry.needs_copy, "INV-4"
        for at in range(entry.offset, entry.offset + entry.end - entry.start, self.page_size):
            page = entry.object.pages.get(at)
            assert page is not None, f"INV-4: page {at:#x} of object {entry.object.object_id} is wired and not there"
            assert page.wire_count, f"INV-4: {page!r} is not wired"
