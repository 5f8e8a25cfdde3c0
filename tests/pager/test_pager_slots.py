"""The slot table against a plain model: many chunks, rows, owners, growth."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from paging import PAGE, Disk, block_list

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from mach.threads import NativeRuntime
from pager.backing_store import STRIDE_PAGES, BackingStore
from pager.integrity import DIGEST_BYTES
from pager.page_map import Fate, PageMap, Row
from pager.partition import BackingStoreError, NoPagingSpace
from pager.slots import CHUNK_SLOTS, OWNER_OBJECT_BITS, SlotTable, owner_object, owner_page, slot_owner

RUNTIME = NativeRuntime()


class Slots(RuleBasedStateMachine):
    """Two chunks and a bit, mostly full: rows are short, and the ends of chunks are met."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(2 * CHUNK_SLOTS + 10)
        self.owners: dict[int, int] = {}  # of used slots
        self.bad: set[int] = set()
        while self.table.free > 300:
            self.allocate(256, 1 << OWNER_OBJECT_BITS)

    @rule(count=st.integers(1, 300), owner=st.integers(1, 1 << 60))
    def allocate(self, count: int, owner: int) -> None:
        room = self.table.free
        first, given = self.table.allocate(count, owner)
        assert (given > 0) == (room > 0)
        assert given <= count
        for at in range(given):
            assert first + at not in self.owners
            assert first + at not in self.bad
            self.owners[first + at] = owner + at

    @precondition(lambda self: self.owners)
    @rule(where=st.floats(0, 0.999), count=st.integers(1, 40), bad=st.booleans())
    def leave(self, where: float, count: int, bad: bool) -> None:
        slots = sorted(self.owners)
        for slot in slots[int(where * len(slots)) :][:count]:
            del self.owners[slot]
            if bad:
                self.table.retire(slot)
                self.bad.add(slot)
            else:
                self.table.give_back(slot)

    @rule(more=st.integers(0, CHUNK_SLOTS))
    def grow(self, more: int) -> None:
        if self.table.total < 5 * CHUNK_SLOTS:
            self.table.grow(self.table.total + more)

    @invariant()
    def it_agrees(self) -> None:
        self.table.check()
        assert self.table.free == self.table.total - len(self.owners) - len(self.bad)
        assert self.table.bad_slots(1000) == sorted(self.bad)[:1000]

    def teardown(self) -> None:
        rows: dict[int, int] = {}
        slot, count, owner = self.table.used_row(0, 64)
        while count:
            assert 1 <= count <= 64
            rows |= {slot + at: owner + at for at in range(count)}
            slot, count, owner = self.table.used_row(slot + count, 64)
        assert rows == self.owners
        text = self.table.map(0, self.table.total)
        assert text.count(b"#") == len(self.owners)
        assert text.count(b"x") == len(self.bad)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_an_owner_is_an_object_and_a_page() -> None:
    owner = slot_owner(7, (1 << 36) - 1)
    assert (owner_object(owner), owner_page(owner)) == (7, (1 << 36) - 1)
    assert owner_object(slot_owner((5 << OWNER_OBJECT_BITS) + 9, 1)) == 9, "the low bits of a very large number"


def test_what_is_not_in_use_takes_no_memory() -> None:
    """Weakness 12: what was for pages that have gone is given back at once."""
    table = SlotTable(16 << 20)
    assert sum(chunk is not None for chunk in table._chunks) == 0
    first, count = table.allocate(256, 1)
    assert sum(chunk is not None for chunk in table._chunks) == 1
    for slot in range(first, first + count):
        table.give_back(slot)
    assert sum(chunk is not None for chunk in table._chunks) == 0


def test_searches_that_fail_are_not_made_again() -> None:
    """Weakness 11: in a full table with single free slots everywhere, rows are looked for once, and not each time."""
    table = SlotTable(64 * CHUNK_SLOTS)
    while table.allocate(256, 1)[1]:
        pass
    for slot in range(0, table.total, 2):
        table.give_back(slot)
    assert table.allocate(2, 1)[1] == 1, "there are no two in a row; every chunk was searched"
    assert not any(any(may) for may in table._may_have[1:]), "and is not searched again"


def test_a_page_on_backing_store_costs_at_most_40_bytes() -> None:
    """Weakness 2: what the pager takes is bounded by what is paged: map, digest, owner and state, with what Python
    adds, at most 8 and 32 bytes."""
    pages = 64 * CHUNK_SLOTS
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        table, page_map = SlotTable(pages), PageMap()
        empty, _ = tracemalloc.get_traced_memory()
        for page in range(0, pages, 256):
            first, given = table.allocate(256, page)
            page_map.store(Row(page, Fate.STORED, 0, first, [0] * given, bytes(DIGEST_BYTES * given)))
        full, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (full - before) / pages <= 40
    assert (empty - before) / pages < 0.1, "what is not in use costs nothing"


# -- partitions together -----------------------------------------------------------------------------------------------


def store_of(*partitions: tuple[str, int, int | None]) -> BackingStore:
    store = BackingStore(RUNTIME, PAGE)
    for name, pages, priority in partitions:
        store.add(name, Disk(RUNTIME, (1 << 16) + pages * PAGE), block_list(pages), priority)
    return store


def order(store: BackingStore, cluster: int) -> list[str]:
    """In which partition each cluster goes, until all is full."""
    names = []
    while True:
        try:
            index, _, _ = store.allocate(cluster)
        except NoPagingSpace:
            return names
        names.append(store.partition(index).name)


def test_the_partition_with_the_highest_priority_is_filled_first() -> None:
    store = store_of(("low", 16, 1), ("high", 16, 5), ("none", 16, None))
    assert order(store, 8) == ["high"] * 2 + ["low"] * 2 + ["none"] * 2


def test_without_priorities_the_first_is_filled_first() -> None:
    """As swapon: each that names none is one below all others."""
    store = store_of(("a", 8, None), ("b", 8, None), ("c", 8, 0))
    assert [partition.priority for partition in store.partitions()] == [-1, -2, 0]
    assert order(store, 8) == ["c", "a", "b"]


def test_partitions_of_one_priority_take_turns_and_keep_neighbours_together() -> None:
    pages = 4 * STRIDE_PAGES
    store = store_of(("a", pages, 3), ("b", pages, 3), ("small", STRIDE_PAGES // 2, 3))
    names = order(store, 64)
    turn = STRIDE_PAGES // 64
    assert names[: 2 * turn + turn // 2] == ["a"] * turn + ["b"] * turn + ["small"] * (turn // 2)
    assert names.count("a") == names.count("b") == 4 * turn
    longest = max(len(run) for run in "".join(name[0] for name in names).replace("b", " ").replace("s", " ").split())
    assert longest <= 2 * turn, "the others are not left out"


@pytest.mark.parametrize("seed", range(5))
def test_no_page_is_refused_while_any_partition_has_room(seed: int) -> None:
    """mach.md 8.22 and 8.52: what is larger than any partition fills several."""
    chance = random.Random(seed)
    store = store_of(*((f"p{n}", chance.randrange(1, 300), chance.choice((None, 1, 1, 2))) for n in range(6)))
    total = store.free_pages
    given = 0
    while store.free_pages:
        given += store.allocate(chance.randrange(1, 40))[2]
    assert given == total


# -- growth ------------------------------------------------------------------------------------------------------------


def test_a_partition_grows_by_the_blocks_that_were_added_to_its_file() -> None:
    store = store_of(("p", 8, None))
    partition = store.partition(0)
    assert partition.allocate(8) == (0, 8)
    partition.write(0, memoryview(bytes(range(256)) * 16 * 8))
    disk = partition.device
    assert isinstance(disk, MemoryDevice)
    disk.data.extend(bytes(1 << 20))
    disk._size = len(disk.data)
    runs = (Run(0, 1 << 16, 8 * PAGE), Run(8 * PAGE, 1 << 18, 4 * PAGE))
    assert store.grow(partition, BlockList(runs, 12 * PAGE, PAGE)) == 4
    assert partition.allocate(8) == (8, 4)
    partition.write(8, memoryview(b"x" * PAGE))
    assert bytes(disk.data[1 << 18 :][:PAGE]) == b"x" * PAGE
    assert partition.read(0, 1) == bytes(range(256)) * 16, "what was there is where it was"


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ((Run(0, 1 << 16, 4 * PAGE),), "not where they were"),
        ((Run(0, (1 << 16) + PAGE, 8 * PAGE),), "not where they were"),
        ((Run(0, 1 << 16, 8 * PAGE), Run(8 * PAGE, 1 << 30, PAGE)), "outside the device"),
        ((Run(0, 1 << 16, 8 * PAGE), Run(8 * PAGE, 0, 2 * PAGE)), "already pages on these blocks"),
    ],
)
def test_growth_that_does_not_fit_changes_nothing(runs: tuple[Run, ...], words: str) -> None:
    store = BackingStore(RUNTIME, PAGE)
    disk = MemoryDevice(bytearray(1 << 20))
    partition = store.add("p", disk, block_list(8))
    store.add("q", disk, block_list(4, base=0))
    with pytest.raises(BackingStoreError, match=words):
        store.grow(partition, BlockList(runs, sum(run.length for run in runs), PAGE))
    assert partition.total == 8
    assert partition.runs == block_list(8).runs
