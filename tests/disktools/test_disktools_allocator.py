"""The allocator: whatever is taken and given, every count says what the maps say, and nothing is taken twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError
from bootfs.geometry import cgtod, fsbtobyte
from bootfs.superblock import Superblock, find_superblock
from disktools.allocator import Allocator, Run
from disktools.cylinder_group import CylinderGroup
from disktools.errors import NoRoom
from disktools.geometry_plan import DiskGeometry
from disktools.inode import indirect_blocks, map_blocks
from disktools.newfs import NewFileSystem, empty_root, plan_file_system

KINDS = [
    NewFileSystem(2 << 20, 4096, 512, geometry=DiskGeometry(16, 4, 16)),
    NewFileSystem(2 << 20, 4096, 1024, geometry=DiskGeometry(32, 4, 8), byte_order="big"),
    NewFileSystem(3 << 20, 8192, 8192, geometry=DiskGeometry(17, 7, 16)),
    NewFileSystem((1 << 20) + 1536, 8192, 2048),
]


def new(kind: NewFileSystem) -> Allocator:
    return plan_file_system(kind, empty_root(kind.block_size, 0), 0, True).allocator


def written(kind: NewFileSystem) -> MemoryDevice:
    device = MemoryDevice(bytearray(kind.size))
    plan_file_system(kind, empty_root(kind.block_size, 0), 0, True).write(device, 0, lambda _: None)
    return device


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("file"), st.integers(0, 200_000)),
        st.tuples(st.just("runs"), st.integers(1, 30)),
        st.tuples(st.just("inode"), st.integers(0, 1)),
        st.tuples(st.just("give"), st.integers(0, 1000)),
        st.tuples(st.just("extend"), st.integers(0, 1000)),
    ),
    max_size=30,
)


class Taken(dict[int, int]):
    """First fragment -> fragments, of what an allocator has given."""

    def take(self, fragment: int, count: int) -> None:
        taken = {one for first, length in self.items() for one in range(first, first + length)}
        assert taken.isdisjoint(range(fragment, fragment + count))
        self[fragment] = count


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), STEPS)
def test_the_counts_equal_the_maps_and_nothing_is_taken_twice(
    kind: NewFileSystem, steps: list[tuple[str, int]]
) -> None:
    allocator = new(kind)
    fs, frag = allocator.fs, allocator.fs.fs_frag
    mine = Taken()
    inodes: set[int] = set()
    for step, number in steps:
        before = allocator.totals()
        try:
            if step == "file":
                addresses = allocator.take_file(number, number % fs.fs_ncg)
                tail = -(-(number % fs.fs_bsize) // fs.fs_fsize) if number < 12 * fs.fs_bsize else 0
                for address in addresses:
                    mine.take(address, tail if tail and address == addresses[-1] else frag)
            elif step == "runs":
                for run in allocator.take_runs(number):
                    mine.take(run.fragment, run.blocks * frag)
            elif step == "inode":
                ino = allocator.take_inode(0, bool(number))
                assert ino not in inodes
                inodes.add(ino)
            elif mine:
                first = sorted(mine)[number % len(mine)]
                count = min(mine[first], frag)
                if step == "give" and mine[first] <= frag:
                    allocator.give_fragments(first, mine.pop(first))
                elif step == "extend" and count < frag and allocator.extend_fragments(first, count, 1):
                    del mine[first]
                    mine.take(first, count + 1)
        except NoRoom:
            if step == "runs":
                assert allocator.totals() == before
            break
        allocator.check()
    allocator.check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_packed_as_it_was_parsed(kind: NewFileSystem) -> None:
    device = written(kind)
    fs = find_superblock(device)
    for group in Allocator.open(device, fs).groups:
        assert group.pack() == device.read(fsbtobyte(fs, cgtod(fs, group.cgx)), fs.fs_cgsize)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_as_few_as_can_be_and_as_tight(kind: NewFileSystem) -> None:
    allocator = new(kind)
    stretches = sorted((run.blocks for run in allocator._stretches()), reverse=True)
    for count in range(1, len(stretches) + 1):
        for blocks in {sum(stretches[: count - 1]) + 1, sum(stretches[:count])}:
            fresh = new(kind)
            runs = fresh.take_runs(blocks)
            assert len(runs) == count
            assert sum(run.blocks for run in runs) == blocks
            assert runs == sorted(runs, key=lambda run: run.fragment)


def test_a_small_run_is_taken_from_the_smallest_stretch_that_holds_it() -> None:
    allocator = new(KINDS[0])
    stretches = list(allocator._stretches())
    smallest = min(stretches, key=lambda run: (run.blocks, run.fragment))
    assert allocator.take_runs(1) == [Run(smallest.fragment, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_block_can_be_taken_and_one_more_is_no_room(kind: NewFileSystem) -> None:
    allocator = new(kind)
    allocator.take_runs(allocator.free_blocks())
    assert allocator.free_blocks() == 0
    with pytest.raises(NoRoom):
        allocator.take_block()
    with pytest.raises(NoRoom):
        allocator.take_runs(1)
    allocator.check()


def test_fragments_come_from_the_tightest_broken_block() -> None:
    allocator = new(KINDS[0])
    block = allocator.take_block()
    allocator.give_fragments(block, 3)
    allocator.give_fragments(block + 5, 2)
    assert allocator.take_fragments(2, 0) == block + 5
    assert allocator.take_fragments(3, 0) == block


def test_inodes_run_out_with_no_room() -> None:
    allocator = new(KINDS[3])
    for _ in range(allocator.totals()["cs_nifree"]):
        allocator.take_inode(0, False)
    with pytest.raises(NoRoom, match="no free inode"):
        allocator.take_inode(0, False)


@given(st.integers(1, 3000))
@settings(max_examples=20, deadline=None)
def test_the_indirect_blocks_taken_are_those_foretold(blocks: int) -> None:
    kind = NewFileSystem(16 << 20, 4096, 512)
    allocator = new(kind)
    addresses = [run.fragment + 8 * at for run in allocator.take_runs(blocks) for at in range(run.blocks)]
    free = allocator.free_blocks()
    mapped = map_blocks(allocator, addresses, blocks * 8)
    assert free - allocator.free_blocks() == len(mapped.indirect) == indirect_blocks(allocator.fs, blocks)
    assert mapped.sectors == (blocks + len(mapped.indirect)) * 8


def damaged(offset: int, data: bytes) -> tuple[MemoryDevice, Superblock]:
    device = written(KINDS[0])
    fs = find_superblock(device)
    at = fsbtobyte(fs, cgtod(fs, 1))
    device.write(at + offset, data)
    return device, fs


@pytest.mark.parametrize(
    ("offset", "data", "why"),
    [
        (980, b"\0\0\0\0", "magic"),
        (12, b"\7\0\0\0", "its number"),
        (20, b"\7\0\0\0", "its size"),
        (28, b"\0\0\0\0", "nbfree"),
        (32, b"\0\0\0\0", "nifree"),
        (36, b"\1\0\0\0", "nffree"),
        (60, b"\1\0\0\0", "frsum"),
        (88, b"\0\0\0\0", "btot"),
        (212, b"\7\0", "rotations"),
        (24, b"\5\0\0\0", "summary of cylinder group 1"),
        (984, b"\xfe", "nbfree"),
    ],
)
def test_a_group_that_contradicts_itself_is_refused_by_name(offset: int, data: bytes, why: str) -> None:
    device, fs = damaged(offset, data)
    with pytest.raises(FileSystemError, match=why):
        Allocator.open(device, fs)


def test_a_map_that_frees_the_groups_own_metadata_is_refused() -> None:
    device = written(KINDS[0])
    fs = find_superblock(device)
    allocator = Allocator.open(device, fs)
    group: CylinderGroup = allocator.groups[1]
    group.blocks[group.reserved().start // fs.fs_frag] = group.full
    group.counts = group.recount()
    device.write(fsbtobyte(fs, cgtod(fs, 1)), group.pack())
    with pytest.raises(FileSystemError, match="metadata"):
        Allocator.open(device, fs)


def test_totals_that_are_not_the_sum_are_refused() -> None:
    device = written(KINDS[0])
    device.write(8192 + 196, b"\1\0\0\0")
    with pytest.raises(FileSystemError, match="sum of the groups"):
        Allocator.open(device, find_superblock(device))


def test_an_image_cut_short_is_refused() -> None:
    device = written(KINDS[0])
    short = MemoryDevice(device.data[: 1 << 20])
    with pytest.raises(FileSystemError, match="cut short"):
        Allocator.open(short, find_superblock(short))
