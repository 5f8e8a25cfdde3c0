"""Partitions, against a plain model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from paging import PAGE, Disk, block_list

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from mach.threads import NativeRuntime
from pager.backing_store import BackingStore
from pager.partition import BackingStoreError, NoPagingSpace, PagingPartition

RUNTIME = NativeRuntime()


class Slots(RuleBasedStateMachine):
    """Allocation against a set."""

    def __init__(self) -> None:
        super().__init__()
        self.partition = PagingPartition(RUNTIME, 0, "p", MemoryDevice(bytearray(1 << 20)), block_list(40), PAGE)
        self.used: set[int] = set()
        self.bad: set[int] = set()

    @rule(count=st.integers(1, 50))
    def allocate(self, count: int) -> None:
        room = 40 - len(self.used) - len(self.bad)
        try:
            first, given_count = self.partition.allocate(count)
        except NoPagingSpace:
            assert room == 0
            return
        got = set(range(first, first + given_count))
        assert 1 <= given_count <= count
        assert not got & (self.used | self.bad)
        assert max(got) < 40
        self.used |= got

    @precondition(lambda self: self.used)
    @rule(at=st.integers(0, 39), bad=st.booleans())
    def give_back(self, at: int, bad: bool) -> None:
        slot = sorted(self.used)[at % len(self.used)]
        self.used.remove(slot)
        if bad:
            self.partition.retire(slot)
            self.bad.add(slot)
        else:
            self.partition.free_slot(slot)

    @invariant()
    def the_partition_agrees(self) -> None:
        self.partition.check()
        assert self.partition.used_slots() == self.used
        assert self.partition.free == 40 - len(self.used) - len(self.bad)
        text = self.partition.map(0, 100)
        assert [i for i, c in enumerate(text) if c == ord("x")] == sorted(self.bad)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=40, deadline=None)


def test_a_slot_freed_twice_stops_us() -> None:
    partition = PagingPartition(RUNTIME, 0, "p", MemoryDevice(bytearray(1 << 20)), block_list(4), PAGE)
    slot, _ = partition.allocate(1)
    partition.free_slot(slot)
    with pytest.raises(AssertionError, match="not in use"):
        partition.free_slot(slot)


def test_what_is_paged_out_together_lies_together() -> None:
    """Weakness 11: next fit, in rows."""
    partition = PagingPartition(RUNTIME, 0, "p", MemoryDevice(bytearray(1 << 20)), block_list(40), PAGE)
    assert partition.allocate(16) == (0, 16)
    assert partition.allocate(8) == (16, 8)
    for slot in range(4, 8):
        partition.free_slot(slot)
    assert partition.allocate(8) == (24, 8), "not squeezed into the gap"
    assert partition.allocate(16) == (32, 8) or partition.free


@pytest.mark.parametrize("block", [512, 1024, 4096, 8192])
def test_a_page_need_not_be_one_piece_on_the_disk(block: int) -> None:
    """mach.md 8, test 30: blocks smaller or larger than a page, none adjoining."""
    disk = Disk(RUNTIME, 1 << 20)
    blocks = block_list(16, block=block, gap=512)
    partition = PagingPartition(RUNTIME, 0, "p", disk, blocks, PAGE)
    disk.data[:] = b"\xee" * len(disk.data)
    first, count = partition.allocate(16)
    content = bytes(range(256)) * 16 * 16
    partition.write(first, memoryview(content))
    assert partition.read(first, count) == content
    inside = bytearray(len(disk.data))
    for run in blocks.runs:
        inside[run.device_offset : run.device_offset + run.length] = b"\1" * run.length
    assert all(disk.data[at] == 0xEE for at in range(len(inside)) if not inside[at]), "P1"


def test_capacity_is_whole_pages() -> None:
    """mach.md 8, test 29, at the pager's side of the boundary."""
    blocks = BlockList((Run(0, 0, 3 * PAGE - 512),), 3 * PAGE - 512, 512)
    assert PagingPartition(RUNTIME, 0, "p", MemoryDevice(bytearray(1 << 16)), blocks, PAGE).total == 2


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ((Run(0, 0, PAGE), Run(2 * PAGE, PAGE, PAGE)), "hole at 4096"),
        ((Run(0, 1 << 20, PAGE),), "outside the device"),
        ((Run(0, -PAGE, PAGE),), "outside the device"),
        ((Run(0, 0, 2 * PAGE), Run(2 * PAGE, PAGE, PAGE)), "overlap"),
        ((Run(0, 0, 0),), "hole at 0"),
    ],
)
def test_a_block_list_is_checked_before_it_is_used(runs: tuple[Run, ...], words: str) -> None:
    """mach.md 8, test 28: Mach takes holes and duplicates, and fails at run time."""
    blocks = BlockList(runs, sum(run.length for run in runs), PAGE)
    with pytest.raises(BackingStoreError, match=words):
        PagingPartition(RUNTIME, 0, "p", MemoryDevice(bytearray(1 << 16)), blocks, PAGE)


def test_the_same_blocks_are_not_taken_twice() -> None:
    """Weakness 7: in Mach the same file added twice is silent corruption; 10: names that collide."""
    store = BackingStore(RUNTIME, PAGE)
    disk = MemoryDevice(bytearray(1 << 20))
    store.add("ab", disk, block_list(8))
    with pytest.raises(BackingStoreError, match="already pages on these blocks"):
        store.add("other name", disk, block_list(4))
    with pytest.raises(BackingStoreError, match="already pages on these blocks"):
        store.add("ab", MemoryDevice(bytearray(1 << 20)), block_list(4))
    store.add("ba", disk, block_list(4, base=1 << 18))  # an anagram is another name (test 26)
    assert store.total_pages == 12


def test_a_partition_smaller_than_a_page_is_refused() -> None:
    store = BackingStore(RUNTIME, PAGE)
    with pytest.raises(BackingStoreError, match="smaller than a page"):
        store.add("p", MemoryDevice(bytearray(1 << 20)), BlockList((Run(0, 0, 512),), 512, 512))
