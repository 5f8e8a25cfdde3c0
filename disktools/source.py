"""A file of this machine that is to be copied onto a disk: which of its blocks hold anything.

Interface:
    open_source(path)                      for reading; a symbolic link in its place is an OSError
    data_blocks(path, size, block_bytes)   the blocks of the file that are no holes, as ranges in order; Refusal
Not here: where they go.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import BinaryIO

from disktools.errors import Refusal


def open_source(path: bytes) -> BinaryIO:
    """The file, whose kind was looked at before: what has become a link since is refused by the system."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))


def data_blocks(path: bytes, size: int, block_bytes: int) -> list[range]:
    """Ranges of block numbers, apart from each other. Refusal: it cannot be read.

    The last block is always among them: a BSD kernel that makes the file longer relies on its being there (4.3BSD's
    realloccg panics without it; FreeBSD's ffs_truncate allocates it).
    """
    ranges: list[range] = []
    try:
        with open_source(path) as file:
            for first, end in _data(file.fileno(), size):
                blocks = range(first // block_bytes, -(-end // block_bytes))
                if ranges and blocks.start <= ranges[-1].stop:
                    blocks = range(ranges.pop().start, blocks.stop)
                ranges.append(blocks)
    except OSError as error:
        raise Refusal(f"{os.fsdecode(path)} cannot be read: {error.strerror}") from error
    return ranges


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The stretches of bytes that the host's file system has something for, and the last byte."""
    at = 0
    while at < size:
        try:
            first = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a hole to the end
                raise
            break
        at = min(os.lseek(descriptor, first, os.SEEK_HOLE), size)
        if first < at:
            yield first, at
    if size:
        yield size - 1, size
