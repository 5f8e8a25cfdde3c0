"""A paging partition: page slots over a block list on a device.

Interface:
    PagingPartition(runtime, index, name, device, blocks, page_size)
        .allocate(count, owner) -> (first slot, how many)     NoPagingSpace
        .free_slot(slot), .retire(slot), .used_row(slot, limit)
        .read(slot, count) -> bytes, .write(slot, data)    BackingStoreError
        .begin_going_away() -> bool, .stay(), .close() -> bool, .grow(blocks)
        .total, .free, .bad, .going_away, .is_failing, .priority; .map(first, count), .bad_slots(limit)
    NoPagingSpace, BackingStoreError

A slot is `page_size` bytes of the paging file, counted in file offsets; it need not be one piece on the device
(blocks of the file system may be smaller than a page, and runs may end inside one).

Invariants:
    1. Every byte that is read or written lies in a run of the block list: nothing else of the disk is touched (P1).
    2. A slot is handed out once until it is freed.  Freeing one that is not in use is a bug of ours, and stops us.
    3. The mutex is not held across device operations.
    4. A thread gives up its duty (mach/threads) before an operation that may take long (response_time.py).

Not here: files and file systems (the block list is all that is known of them, paper §5.2, §8); objects; which slots
are free (slots.py).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError
from mach.threads import LockRank, Runtime
from mach.trace import span
from pager.response_time import ResponseTime
from pager.slots import SlotTable

FAILING_WRITES = 3  # in a row: it is not this block or that, it is the disk


class NoPagingSpace(Exception):
    """Expected: more was paged out than there is room for (P4)."""


class BackingStoreError(Exception):
    """The disk failed us."""


class PagingPartition:
    """See the head of the module."""

    def __init__(
        self,
        runtime: Runtime,
        index: int,
        name: str,
        device: BlockDevice,
        blocks: BlockList,
        page_size: int,
        priority: int = 0,
    ) -> None:
        self.index = index
        self.name = name
        self.device = device
        self.page_size = page_size
        self.priority = priority  # of two partitions with room the one with the higher is written to
        self._failures = 0  # writes that failed since one was good
        self.going_away = False  # drain.py is emptying it: slots are given out only if there are none elsewhere
        self._closed = False
        self._runtime = runtime
        self._reads, self._writes = ResponseTime(runtime), ResponseTime(runtime)
        self._lock = runtime.mutex("partition", LockRank.PARTITION)
        self._cached: Callable[[int, int], bytes | None] | None = getattr(device, "read_cached", None)
        self._check_runs(blocks)
        self._blocks = blocks
        self._starts = [run.file_offset for run in blocks.runs]
        self._slots = SlotTable(blocks.size // page_size)

    def _check_runs(self, blocks: BlockList) -> None:
        """The block list is a client's word: runs adjoin in the file and lie inside the device."""
        offset = 0
        for run in blocks.runs:
            if run.file_offset != offset or run.length <= 0:
                raise BackingStoreError(f"{self.name}: its block list has a hole at {offset}")
            if run.device_offset < 0 or run.device_offset + run.length > self.device.size:
                raise BackingStoreError(f"{self.name}: a run at {run.device_offset} lies outside the device")
            offset += run.length
        if offset != blocks.size:
            raise BackingStoreError(f"{self.name}: its block list has {offset} bytes of {blocks.size}")
        spans = sorted((run.device_offset, run.device_offset + run.length) for run in blocks.runs)
        for (_, end), (start, _) in itertools.pairwise(spans):
            if start < end:
                raise BackingStoreError(f"{self.name}: two of its runs overlap at {start}")

    @property
    def runs(self) -> tuple[Run, ...]:
        return self._blocks.runs

    @property
    def total(self) -> int:
        return self._slots.total

    @property
    def free(self) -> int:
        return self._slots.free

    @property
    def bad(self) -> int:
        return self._slots.bad

    # -- slots -------------------------------------------------------------------------------------------------

    def allocate(self, count: int, owner: int = 0) -> tuple[int, int]:
        """Up to `count` slots in a row, at least one: (first, how many), for `owner` and those that follow it.

        NoPagingSpace if none is to be had.
        """
        with self._lock:
            first, given = (0, 0) if self._closed else self._slots.allocate(count, owner)
        if not given:
            raise NoPagingSpace(self.name)
        return first, given

    def free_slot(self, slot: int) -> None:
        if (tracer := self._runtime.tracer) is not None:
            tracer.event("slot_free", partition=self.index, slot=slot)
        with self._lock:
            self._slots.give_back(slot)

    def retire(self, slot: int) -> None:
        """Never use this slot again: its block is bad (P3).  If it is the whole disk that fails, that is no news of the
        block: the slot is free."""
        with self._lock:
            if self.is_failing:
                self._slots.give_back(slot)
            else:
                self._slots.retire(slot)

    @property
    def is_failing(self) -> bool:
        """One write after the other has failed: it is not asked for slots while another partition has any."""
        return self._failures >= FAILING_WRITES

    def used_row(self, slot: int, limit: int) -> tuple[int, int, int]:
        """The next row of slots in use: first, how many, the first one's owner; (-1, 0, 0) if there is none."""
        with self._lock:
            return self._slots.used_row(slot, limit)

    def bad_slots(self, limit: int) -> list[int]:
        with self._lock:
            return self._slots.bad_slots(limit)

    def begin_going_away(self) -> bool:
        """Be the last that slots are asked of.  False if that is so already."""
        with self._lock:
            was, self.going_away = self.going_away, True
            return not was

    def close(self) -> bool:
        """Give out no slots any more, if none is in use; whether that is so.  Only so can nobody come in between."""
        with self._lock:
            self._closed = self._slots.total == self._slots.free + self._slots.bad
            return self._closed

    def stay(self) -> None:
        with self._lock:
            self.going_away = False

    def grow(self, blocks: BlockList) -> int:
        """Its file has more blocks now; returns how many slots came with them.  BackingStoreError, and nothing changes.

        What was there must be where it was: pages are on it.
        """
        self._check_runs(blocks)
        with self._lock:
            old = self._blocks
            if blocks.size < old.size or tuple(blocks.pieces(0, old.size)) != old.runs:
                raise BackingStoreError(f"{self.name}: its blocks are not where they were; nothing is changed")
            before = self._slots.total
            self._blocks = blocks
            self._starts = [run.file_offset for run in blocks.runs]
            self._slots.grow(blocks.size // self.page_size)
            return self._slots.total - before

    def map(self, first: int, count: int) -> bytes:
        """One character a slot: "." free, "#" used, "x" bad."""
        with self._lock:
            return self._slots.map(first, count)

    def used_slots(self) -> set[int]:
        """For checks."""
        return {slot for slot, state in enumerate(self.map(0, self.total)) if state == ord("#")}

    def check(self) -> None:
        with self._lock:
            self._slots.check()

    # -- content -----------------------------------------------------------------------------------------------

    def read(self, slot: int, count: int) -> bytes:
        """The bytes of `count` slots.  BackingStoreError if the device does not give them all, or if there are no such
        slots: a reader may come with what it knows of another partition that had our index before."""
        if slot + count > self.total:
            raise BackingStoreError(f"{self.name} has no slot {slot + count - 1}")
        if (tracer := self._runtime.tracer) is not None:
            tracer.event("slots_read", partition=self.index, slot=slot, count=count)
        extents = self.extents(slot, count)
        if len(extents) == 1:
            return self._read_piece(*extents[0])
        return b"".join([self._read_piece(offset, length) for offset, length in extents])

    def _read_piece(self, offset: int, length: int) -> bytes:
        try:
            if self._runtime.tracer is None:
                data = self._read_device(offset, length)
            else:
                with span(self._runtime, "device_read", partition=self.index, offset=offset, length=length):
                    data = self._read_device(offset, length)
        except FileSystemError as error:
            raise BackingStoreError(str(error)) from error
        if len(data) != length:
            raise BackingStoreError(f"{self.name}: {len(data)} of {length} bytes came from {offset}")
        return data

    def _read_device(self, offset: int, length: int) -> bytes:
        data = self._cached(offset, length) if self._cached is not None else None
        if data is None:
            began = self._reads.before(length)
            try:
                data = self.device.read(offset, length)
            finally:
                self._reads.after(length, began)
        return data

    def write(self, slot: int, data: memoryview) -> None:
        """Write whole slots from `slot` on.  BackingStoreError: what they then hold is unknown."""
        count = len(data) // self.page_size
        if (tracer := self._runtime.tracer) is not None:
            tracer.event("slots_write", partition=self.index, slot=slot, count=count)
        began = self._writes.before(len(data))
        at = 0
        try:
            for offset, length in self.extents(slot, count):
                self._write_piece(offset, data[at : at + length] if length < len(data) else data)
                at += length
        except FileSystemError as error:
            self._failures += 1
            raise BackingStoreError(str(error)) from error
        finally:
            self._writes.after(len(data), began)
        if self._failures:
            self._failures = 0

    def _write_piece(self, offset: int, data: memoryview) -> None:
        if self._runtime.tracer is None:
            self.device.write(offset, data)
        else:
            with span(self._runtime, "device_write", partition=self.index, offset=offset, length=len(data)):
                self.device.write(offset, data)

    def device_offset(self, slot: int) -> int:
        """Where the slot begins on the device."""
        return self.extents(slot, 1)[0][0]

    def extents(self, slot: int, count: int) -> list[tuple[int, int]]:
        """Device byte ranges (offset, length) of the slots, in order (INV-1)."""
        offset, length = slot * self.page_size, count * self.page_size
        run = self._blocks.runs[bisect_right(self._starts, offset) - 1]
        if offset + length <= run.file_offset + run.length:  # as nearly all
            return [(run.device_offset + offset - run.file_offset, length)]
        return [(piece.device_offset, piece.length) for piece in self._blocks.pieces(offset, length)]
