"""A block list holds the whole blocks of a file, all of them, each once."""

import pytest
from ffs_builder import FILE, Builder
from hypothesis import given
from hypothesis import strategies as st

from bootfs.blocklist import BlockList, Hole, Run, make_block_list
from bootfs.errors import FileSystemError, FsCode


def test_contiguous_blocks_make_one_run(builder: Builder) -> None:
    ino = builder.file("paging_file", b"p" * (12 * 4096))
    fs = builder.mount()
    (run,) = fs.block_list(fs.inode(ino)).runs
    assert (run.file_offset, run.length) == (0, 12 * 4096)
    assert fs.block_list(fs.inode(ino)) == BlockList((run,), 12 * 4096, 4096, 0)


def test_the_tail_of_a_file_of_two_and_a_half_blocks_is_left_out_and_told(builder: Builder) -> None:
    ino = builder.file("paging_file", b"p" * (2 * 4096 + 2048))
    fs = builder.mount()
    found = fs.block_list(fs.inode(ino))
    assert (found.size, found.tail, sum(run.length for run in found.runs)) == (8192, 2048, 8192)


def test_a_hole_is_refused_by_name(builder: Builder) -> None:
    ino = builder.file("paging_file", b"p" * (20 * 4096))
    builder.set_pointer(ino, 14, 0)
    fs = builder.mount()
    with pytest.raises(FileSystemError, match="hole of 4096 bytes at file offset 57344") as error:
        fs.block_list(fs.inode(ino))
    assert error.value.code == FsCode.FS_NOT_IN_FILE
    assert error.value.place == f"inode {ino}"


def test_a_hole_in_the_tail_is_refused_too(builder: Builder) -> None:
    ino = builder.node(FILE, 5000, "paging_file")
    builder.set_pointer(ino, 0, builder.allocate())
    fs = builder.mount()
    with pytest.raises(FileSystemError, match="file offset 4096"):
        fs.block_list(fs.inode(ino))


def test_a_block_used_twice_is_refused(builder: Builder) -> None:
    ino = builder.file("paging_file", b"p" * (5 * 4096))
    builder.set_pointer(ino, 4, builder.nodes[ino]["pointers"][1])
    fs = builder.mount()
    with pytest.raises(FileSystemError, match="file offsets 0 and 16384 share") as error:
        fs.block_list(fs.inode(ino))
    assert error.value.code == FsCode.FS_INVALID_FS


def test_only_a_regular_file_has_a_block_list(builder: Builder) -> None:
    fs = builder.mount()
    with pytest.raises(FileSystemError) as error:
        fs.block_list(fs.root())
    assert error.value.code == FsCode.FS_INVALID_PARAMETER


def test_an_empty_file_has_an_empty_list(builder: Builder) -> None:
    ino = builder.node(FILE, 0, "empty")
    fs = builder.mount()
    assert fs.block_list(fs.inode(ino)) == BlockList((), 0, 4096, 0)


@given(
    lengths=st.lists(st.integers(1, 20), max_size=10),
    span=st.tuples(st.integers(-5, 900), st.integers(-5, 900)),
)
def test_pieces_are_the_runs_cut_to_fit(lengths: list[int], span: tuple[int, int]) -> None:
    runs: list[Run | Hole] = []
    for number, length in enumerate(lengths):
        at = sum(lengths[:number])
        runs.append(Run(at * 8, 10_000 * (number % 2) + 1000 * number, length * 8))
    size = 8 * sum(lengths)
    found = make_block_list(runs, size, 8, "test")
    where = {
        run.file_offset + at: run.device_offset + at for run in runs if isinstance(run, Run) for at in range(run.length)
    }
    offset, length = span
    if offset < 0 or length < 0 or offset + length > size:
        with pytest.raises(FileSystemError) as error:
            list(found.pieces(offset, length))
        assert error.value.code == FsCode.FS_NOT_IN_FILE
        return
    pieces = list(found.pieces(offset, length))
    covered = [(piece.file_offset + at, piece.device_offset + at) for piece in pieces for at in range(piece.length)]
    assert covered == [(place, where[place]) for place in range(offset, offset + length)]
