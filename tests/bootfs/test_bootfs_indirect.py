"""Indirect blocks lead to the right blocks, at every level, and never for ever."""

import struct
from itertools import pairwise

import pytest
from ffs_builder import FILE, Builder, failing
from hypothesis import given
from hypothesis import strategies as st

from bootfs.blocklist import Hole, Run
from bootfs.errors import FsCode
from bootfs.filesystem import FileSystem

N = 1024  # pointers in a block of the builder's usual file system


@pytest.mark.parametrize(
    "block",
    [0, 11, 12, 12 + N - 1, 12 + N, 12 + N + N * N - 1, 12 + N + N * N, 12 + N + N * N + 5 * N * N + 7 * N + 9],
    ids=lambda block: f"block {block}",
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_each_level_of_indirection_begins_and_ends_where_it_should(order: str, block: int) -> None:
    """mach.md 8.32; weakness 18: the triple indirect blocks begin where they should, too."""
    builder = Builder(order, "4.4")
    ino = builder.node(FILE, (block + 1) * 4096 + 10, "sparse")
    marked = builder.allocate(b"M" * 4096)
    builder.set_pointer(ino, block, marked)
    fs = builder.mount()
    inode = fs.inode(ino)
    assert fs.read(inode, block * 4096, 4096) == b"M" * 4096
    assert fs.read(inode, (block + 1) * 4096, 10) == bytes(10)
    if block:
        assert fs.read(inode, block * 4096 - 10, 20) == bytes(10) + b"M" * 10
    holes = [Hole(0, block * 4096)] if block else []
    assert [*fs.runs(inode)] == [*holes, Run(block * 4096, marked * 512, 4096), Hole((block + 1) * 4096, 10)]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_block_far_out_costs_one_pointer_a_level_and_itself(level: int) -> None:
    """Weakness 18: Mach reads each indirect block whole, keeps one, and its triple indirect ones wrap at 8 KiB."""
    builder = Builder("little", "4.4", 8192, 1024)
    n = builder.nindir
    block = 12 + sum(n**below for below in range(1, level)) + 5
    ino = builder.node(FILE, (block + 1) * 8192, "sparse")
    builder.set_pointer(ino, block, builder.allocate(b"M" * 8192))
    device = builder.device()
    fs = FileSystem.open(device)
    inode = fs.inode(ino)
    lengths: list[int] = []
    read = device.read

    def counted(offset: int, length: int) -> bytes:
        lengths.append(length)
        return read(offset, length)

    device.read = counted  # type: ignore[method-assign]
    assert fs.read(inode, block * 8192, 8192) == b"M" * 8192
    assert lengths == [builder.pointer.size] * level + [8192]


def test_the_last_block_of_a_level_and_the_first_of_the_next_make_one_run() -> None:
    builder = Builder("big", "4.4")
    for edge in (12, 12 + N, 12 + N + N * N):
        ino = builder.node(FILE, (edge + 1) * 4096, f"edge{edge}")
        builder.set_pointer(ino, edge - 1, 8 * 300)
        builder.set_pointer(ino, edge, 8 * 301)
    fs = builder.mount()
    for edge in (12, 12 + N, 12 + N + N * N):
        runs = [run for run in fs.runs(fs.lookup(f"edge{edge}")) if isinstance(run, Run)]
        assert runs == [Run((edge - 1) * 4096, 8 * 300 * 512, 8192)]


@given(
    order=st.sampled_from(["little", "big"]),
    variant=st.sampled_from(["4.4", "ufs2"]),
    stretches=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 700), st.booleans()), min_size=1, max_size=8),
    first=st.integers(0, 1500),
)
def test_a_map_is_read_as_if_pointer_by_pointer(
    order: str, variant: str, stretches: list[tuple[int, int, bool]], first: int
) -> None:
    """However its blocks lie: whole indirect blocks of neighbours, which are compared at once, breaks and holes."""
    builder = Builder(order, variant, size=64 * 1024)
    begin = builder.next_fragment + 64 * 8
    pointers: list[int] = []
    for gap, count, is_hole in stretches:
        begin += gap * builder.frag
        pointers += [0] * count if is_hole else range(begin, begin + count * builder.frag, builder.frag)
        begin += count * builder.frag
    ino = builder.node(FILE, len(pointers) * 4096, "file")
    for block, fragment in enumerate(pointers):
        if fragment:
            builder.set_pointer(ino, block, fragment)
    fs = builder.mount()
    first = min(first, len(pointers) - 1)
    pieces = list(fs.block_runs(fs.inode(ino), first, len(pointers)))
    found: list[int] = []
    for piece in pieces:
        assert piece.file_offset == (first + len(found)) * 4096
        start = 0 if isinstance(piece, Hole) else piece.device_offset // builder.fsize
        found += [start + block * builder.frag if start else 0 for block in range(piece.length // 4096)]
    assert found == pointers[first:]
    breaks = sum(two != (one and one + builder.frag) for one, two in pairwise(found))
    assert len(pieces) == breaks + 1, "neighbours are not merged"


def test_a_size_beyond_the_triple_indirect_block_is_refused() -> None:
    builder = Builder("little", "4.4")
    limit = (12 + N + N**2 + N**3) * 4096
    builder.node(FILE, limit, "most")
    for number, size in enumerate((limit + 1, 2**63 - 1, 2**64 - 1)):
        builder.node(FILE, size, f"more{number}")
    fs = builder.mount()
    assert fs.read(fs.lookup("most"), limit - 5, 5) == bytes(5)
    for number in range(3):
        with failing(FsCode.FS_INVALID_FS, "triple indirect"):
            fs.lookup(f"more{number}")


@pytest.mark.parametrize("claimed", [4096, 0x7FFFFFF8])
def test_an_indirect_block_that_points_to_itself_comes_to_an_end(claimed: int) -> None:
    builder = Builder("little", "4.4")
    builder.fields |= {"fs_size": claimed, "fs_fpg": claimed}
    loop = builder.allocate()
    builder.image[loop * 512 : loop * 512 + 4096] = struct.pack("<I", loop) * N
    for level in range(3):
        ino = builder.node(FILE, (12 + N + N**2 + N**3) * 4096, f"loop{level}")
        builder.nodes[ino]["pointers"][12 + level] = loop
    fs = builder.mount()
    for level in range(3):
        with failing(FsCode.FS_INVALID_FS, "more blocks than the disk"):
            list(fs.runs(fs.lookup(f"loop{level}")))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("variant", ["4.4", "ufs2"])
def test_pointers_beyond_the_disk_are_refused_although_together_they_read_as_neighbours(
    order: str, variant: str
) -> None:
    """Added up as one number, one that overflows carries into the next: 2^n - 8, then 0, then 9."""
    builder = Builder(order, variant)
    ino = builder.node(FILE, (12 + 4) * 4096, "file")
    most = 1 << 8 * builder.pointer.size
    for block in range(12):
        builder.set_pointer(ino, block, builder.allocate())
    block_of_pointers = builder.allocate()
    builder.nodes[ino]["pointers"][12] = block_of_pointers
    pointers = (most - 16, most - 8, 0, 9) if order == "little" else (most - 16, most - 7, 1, 9)
    builder.pointer.array(4).pack_into(builder.image, block_of_pointers * builder.fsize, *pointers)
    fs = builder.mount()
    with failing(FsCode.FS_INVALID_FS, "beyond fs_size"):
        list(fs.runs(fs.lookup("/file")))
