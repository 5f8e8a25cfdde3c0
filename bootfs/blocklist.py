"""The block list: where a file's bytes are on the device, and nothing else about it. The boundary object of the system.

The paper's section 8: a file system gives the pager the list of blocks of a file, and steps out of the way. The pager
sees neither path nor inode, only runs `file offset -> device byte range`.

Interface:
    Run                              `length` bytes of the file and where they are on the whole device
    Hole                             `length` bytes that are on no device: they read as zeros
    BlockList                        runs, size, block size, tail
    BlockList.pieces(offset, length)   the device ranges of a stretch of the file
    make_block_list(runs, ...)       FileSystemError: a hole (by name), or the same disk block twice
Invariants:
    1. The runs are in file order, without gaps, from 0 to `size`, a multiple of `block_size`; neighbours are merged.
    2. No device byte is in two runs.
Not here: file systems, reading, writing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from bootfs.errors import FileSystemError, FsCode


class Run(NamedTuple):
    """`length` bytes of a file from `file_offset`, on the whole device from `device_offset`. All in bytes."""

    file_offset: int
    device_offset: int
    length: int


class Hole(NamedTuple):
    """`length` bytes of a file from `file_offset` that were never written."""

    file_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class BlockList:
    """The whole blocks of a file. `size` is their sum in bytes; `tail` counts the bytes of the file after them.

    Mach takes floor(i_size / fs_bsize) blocks and ignores the rest (file_io.c:1110); so do we.
    """

    runs: tuple[Run, ...]
    size: int
    block_size: int
    tail: int = 0

    def pieces(self, offset: int, length: int) -> Iterator[Run]:
        """The runs of `length` bytes from `offset`, cut to fit. FileSystemError FS_NOT_IN_FILE outside [0, size)."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FileSystemError(
                FsCode.FS_NOT_IN_FILE, f"{length} bytes at {offset} are not within {self.size}", "block list"
            )
        at = bisect_right(self.runs, offset, key=lambda run: run.file_offset) - 1
        while length > 0:
            run = self.runs[at]
            skip = offset - run.file_offset
            part = min(length, run.length - skip)
            yield Run(offset, run.device_offset + skip, part)
            offset, length, at = offset + part, length - part, at + 1


def make_block_list(runs: Iterable[Run | Hole], size: int, block_size: int, place: str) -> BlockList:
    """The block list of a file of `size` bytes from its runs in order.

    FileSystemError FS_NOT_IN_FILE: a hole, which no page could ever be written to; FS_INVALID_FS: a block used twice.
    """
    capacity = size // block_size * block_size
    kept: list[Run] = []
    for run in runs:
        if isinstance(run, Hole):
            raise FileSystemError(
                FsCode.FS_NOT_IN_FILE,
                f"a hole of {run.length} bytes at file offset {run.file_offset}; all its blocks must be there",
                place,
            )
        length = min(run.length, capacity - run.file_offset)
        if length > 0:
            kept.append(Run(run.file_offset, run.device_offset, length))
    for one, two in pairwise(sorted(kept, key=lambda run: run.device_offset)):
        if one.device_offset + one.length > two.device_offset:
            raise FileSystemError(
                FsCode.FS_INVALID_FS,
                f"file offsets {one.file_offset} and {two.file_offset} share the block at {two.device_offset}",
                place,
            )
    return BlockList(tuple(kept), capacity, block_size, size - capacity)
