"""A paging partition: page slots over a block list on a device.

Interface:
    PagingPartition(runtime, index, name, device, blocks, page_size)
        .allocate(count) -> (first slot, how many)     NoPagingSpace
        .free_slot(slot), .retire(slot)
        .read(slot, count) -> bytes, .write(slot, data)    BackingStoreError
        .begin_going_away() -> bool, .stay()
        .total, .free, .bad, .going_away; .map(first, count)
    NoPagingSpace, BackingStoreError

A slot is `page_size` bytes of the paging file, counted in file offsets; it need not be one piece on the device
(blocks of the file system may be smaller than a page, and runs may end inside one).

Invariants:
    1. Every byte that is read or written lies in a run of the block list: nothing else of the disk is touched (P1).
    2. A slot is exactly one of free, used, bad; `free` counts the free ones.
    3. A slot is handed out once until it is freed.  Freeing one that is not in use is a bug of ours, and stops us.
    4. The mutex is not held across device operations.

Not here: files and file systems (the block list is all that is known of them, paper §5.2, §8); objects.
"""

from __future__ import annotations

import itertools

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError
from mach.threads import LockRank, Runtime

FREE, USED, BAD = 0, 1, 2
_AS_TEXT = bytes.maketrans(bytes((FREE, USED, BAD)), b".#x")


class NoPagingSpace(Exception):
    """Expected: more was paged out than there is room for (P4)."""


class BackingStoreError(Exception):
    """The disk failed us."""


class PagingPartition:
    """See the head of the module."""

    def __init__(
        self, runtime: Runtime, index: int, name: str, device: BlockDevice, blocks: BlockList, page_size: int
    ) -> None:
        self.index = index
        self.name = name
        self.device = device
        self.page_size = page_size
        self.runs: tuple[Run, ...] = blocks.runs
        self.total = blocks.size // page_size
        self.free = self.total
        self.bad = 0
        self.going_away = False  # drain.py is emptying it: slots are given out only if there are none elsewhere
        self._lock = runtime.mutex("partition", LockRank.PARTITION)
        self._states = bytearray(self.total)
        self._next = 0  # next fit: what is paged out together lies together
        self._blocks = blocks
        self._check_runs()

    def _check_runs(self) -> None:
        """The block list is a client's word: runs adjoin in the file and lie inside the device."""
        offset = 0
        for run in self.runs:
            if run.file_offset != offset or run.length <= 0:
                raise BackingStoreError(f"{self.name}: its block list has a hole at {offset}")
            if run.device_offset < 0 or run.device_offset + run.length > self.device.size:
                raise BackingStoreError(f"{self.name}: a run at {run.device_offset} lies outside the device")
            offset += run.length
        if offset != self._blocks.size:
            raise BackingStoreError(f"{self.name}: its block list has {offset} bytes of {self._blocks.size}")
        spans = sorted((run.device_offset, run.device_offset + run.length) for run in self.runs)
        for (_, end), (start, _) in itertools.pairwise(spans):
            if start < end:
                raise BackingStoreError(f"{self.name}: two of its runs overlap at {start}")

    # -- slots -------------------------------------------------------------------------------------------------

    def allocate(self, count: int) -> tuple[int, int]:
        """Up to `count` slots in a row, at least one: (first, how many).  NoPagingSpace if none is to be had."""
        with self._lock:
            if self.free == 0:
                raise NoPagingSpace(self.name)
            wanted = min(count, self.free)
            while True:
                first = self._find(wanted)
                if first >= 0:
                    break
                wanted //= 2  # fragmented: a shorter row; a single free slot is always found
            self._states[first : first + wanted] = bytes((USED,)) * wanted
            self._next = first + wanted
            self.free -= wanted
            return first, wanted

    def _find(self, count: int) -> int:
        pattern = bytes(count)  # FREE is 0
        first = self._states.find(pattern, self._next)
        return first if first >= 0 else self._states.find(pattern)

    def free_slot(self, slot: int) -> None:
        self._leave(slot, FREE)

    def retire(self, slot: int) -> None:
        """Never use this slot again: its block is bad (P3)."""
        self._leave(slot, BAD)

    def _leave(self, slot: int, state: int) -> None:
        with self._lock:
            assert self._states[slot] == USED, f"INV-3: slot {slot} of {self.name} is not in use"
            self._states[slot] = state
            if state == FREE:
                self.free += 1
            else:
                self.bad += 1

    def begin_going_away(self) -> bool:
        """Be the last that slots are asked of.  False if that is so already."""
        with self._lock:
            was, self.going_away = self.going_away, True
            return not was

    def stay(self) -> None:
        with self._lock:
            self.going_away = False

    def map(self, first: int, count: int) -> bytes:
        """One character a slot: "." free, "#" used, "x" bad."""
        return bytes(self._states[first : first + count]).translate(_AS_TEXT)

    def used_slots(self) -> set[int]:
        """For checks."""
        return {slot for slot, state in enumerate(self._states) if state == USED}

    def check(self) -> None:
        assert self._states.count(FREE) == self.free, "INV-2: free"
        assert self._states.count(BAD) == self.bad, "INV-2: bad"

    # -- content -----------------------------------------------------------------------------------------------

    def read(self, slot: int, count: int) -> bytes:
        """The bytes of `count` slots.  BackingStoreError if the device does not give them all, or if there are no such
        slots: a reader may come with what it knows of another partition that had our index before."""
        if slot + count > self.total:
            raise BackingStoreError(f"{self.name} has no slot {slot + count - 1}")
        pieces = [self._read_piece(offset, length) for offset, length in self.extents(slot, count)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_piece(self, offset: int, length: int) -> bytes:
        try:
            data = self.device.read(offset, length)
        except FileSystemError as error:
            raise BackingStoreError(str(error)) from error
        if len(data) != length:
            raise BackingStoreError(f"{self.name}: {len(data)} of {length} bytes came from {offset}")
        return data

    def write(self, slot: int, data: memoryview) -> None:
        """Write whole slots from `slot` on.  BackingStoreError: what they then hold is unknown."""
        at = 0
        for offset, length in self.extents(slot, len(data) // self.page_size):
            try:
                self.device.write(offset, data[at : at + length])
            except FileSystemError as error:
                raise BackingStoreError(str(error)) from error
            at += length

    def device_offset(self, slot: int) -> int:
        """Where the slot begins on the device."""
        return self.extents(slot, 1)[0][0]

    def extents(self, slot: int, count: int) -> list[tuple[int, int]]:
        """Device byte ranges (offset, length) of the slots, in order (INV-1)."""
        pieces = self._blocks.pieces(slot * self.page_size, count * self.page_size)
        return [(piece.device_offset, piece.length) for piece in pieces]
