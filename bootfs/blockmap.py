"""From a block of a file to its place on disk: direct, single, double and triple indirect pointers.

                      pointers[0..11]   blocks 0 .. 11
    pointers[12] -> [ n pointers ]      blocks 12 .. 12+n-1                    n = fs_nindir
    pointers[13] -> [ n ] -> [ n ]      blocks 12+n .. 12+n+n^2-1
    pointers[14] -> [ n ] -> [ n ] -> [ n ]   A pointer 0, at any level, is a hole as large as what it would hold.

Interface:
    Extent                                a stretch of a file whose blocks follow each other on disk, or a hole
    extents(device, fs, inode, first, end)    those of blocks first .. end-1, in order, lazily, neighbours merged
Invariants:
    1. Each stretch lies inside the file system and outside the metadata of its cylinder groups.
    2. The work is bounded by the disk: a map with more blocks than it has is refused, so a loop of pointers ends.
Not here: file contents; sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from bootfs import geometry
from bootfs.device import BlockDevice
from bootfs.dinode import SF_SNAPSHOT
from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Inode
from bootfs.layout import NDADDR, NIADDR, ByteOrder, pointer
from bootfs.layout_format import record
from bootfs.superblock import Superblock


class Extent(NamedTuple):
    """`blocks` blocks of a file from block number `block`; on disk from fragment number `fragment`, 0 for a hole."""

    block: int
    fragment: int
    blocks: int

    @property
    def is_hole(self) -> bool:
        return self.fragment == 0


def extents(device: BlockDevice, fs: Superblock, inode: Inode, first: int, end: int) -> Iterator[Extent]:
    """The extents of blocks `first` to `end` - 1 of a file, which must lie within it.

    FileSystemError FS_INVALID_FS: a pointer outside the disk or into metadata, or more blocks than there are.
    """
    held: Extent | None = None
    for extent in _Walk(device, fs, inode, first, end).pieces():
        if held is not None and _follows(fs, held, extent):
            held = Extent(held.block, held.fragment, held.blocks + extent.blocks)
            continue
        if held is not None:
            yield _checked(fs, inode, held)
        held = extent
    if held is not None:
        yield _checked(fs, inode, held)


def _follows(fs: Superblock, one: Extent, two: Extent) -> bool:
    if one.is_hole or two.is_hole:
        return one.is_hole and two.is_hole
    return one.fragment + geometry.blkstofrags(fs, one.blocks) == two.fragment


def _checked(fs: Superblock, inode: Inode, extent: Extent) -> Extent:
    """Invariant 1. The last block of a small file is measured by what it takes: a tail of fragments."""
    if extent.is_hole:
        return extent
    last = geometry.blksize(fs, inode.size, extent.block + extent.blocks - 1)
    fragments = geometry.blkstofrags(fs, extent.blocks - 1) + geometry.numfrags(fs, last)
    check_data(fs, extent.fragment, fragments, f"{inode}, block {extent.block}")
    return extent


def check_data(fs: Superblock, fragment: int, fragments: int, place: str) -> None:
    """Refuse fragments where no data may be: beyond the disk, or in metadata. FileSystemError FS_INVALID_FS names them.

    A group's metadata go from its copy of the superblock to its first data fragment; in group 0, from the boot block.
    """
    end = fragment + fragments
    if end > fs.fs_size:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"fragment {fragment} is beyond fs_size = {fs.fs_size}", place)
    for cg in range(geometry.dtog(fs, fragment), geometry.dtog(fs, end - 1) + 1):
        metadata = 0 if cg == 0 else geometry.cgsblock(fs, cg)
        if fragment < geometry.cgdmin(fs, cg) and metadata < end:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, f"fragment {fragment} is in the metadata of cylinder group {cg}", place
            )
    if fragment < fs.fs_csaddr + geometry.numfrags(fs, fs.fs_cssize) and fs.fs_csaddr < end:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"fragment {fragment} is in the cylinder group summary", place)


class _Walk:
    """One pass over the pointers of a file from block `first` to `end`."""

    def __init__(self, device: BlockDevice, fs: Superblock, inode: Inode, first: int, end: int) -> None:
        self.device, self.fs, self.inode, self.first, self.end = device, fs, inode, first, end
        self.pointer = record(pointer(fs.byte_order, fs.tables))
        # In a snapshot, small numbers stand for blocks that it does not keep (FreeBSD BLK_NOCOPY, BLK_SNAP).
        details = inode.details
        self.pointers = details.pointers
        is_snapshot = fs.format != "4.3bsd" and details.flags & SF_SNAPSHOT
        self.least = fs.fs_frag if is_snapshot else 1
        # Invariant 2: no honest map has more blocks, those of pointers included, than the disk. fs_size may claim any
        # number of them, the device cannot.
        self.budget = min(geometry.fragstoblks(fs, fs.fs_size), geometry.lblkno(fs, device.size)) + 1

    def spend(self, blocks: int) -> None:
        self.budget -= blocks
        if self.budget < 0:
            raise FileSystemError(FsCode.FS_INVALID_FS, "maps more blocks than the disk has", str(self.inode))

    def pieces(self) -> Iterator[Extent]:
        yield from self.singly(self.pointers[self.first : min(self.end, NDADDR)], self.first)
        base, span = NDADDR, self.fs.fs_nindir
        for level in range(NIADDR):
            if base >= self.end:
                return
            yield from self.indirect(self.pointers[NDADDR + level], base, span)
            base, span = base + span, span * self.fs.fs_nindir

    def indirect(self, fragment: int, base: int, span: int) -> Iterator[Extent]:
        """The blocks under one indirect block that holds `span` blocks from block `base`."""
        first, end = max(base, self.first), min(base + span, self.end)
        if first >= end:
            return
        if fragment < self.least:
            yield Extent(first, 0, end - first)
            return
        check_data(self.fs, fragment, self.fs.fs_frag, f"{self.inode}, indirect block at block {base}")
        self.spend(1)
        below = span // self.fs.fs_nindir
        low, high = (first - base) // below, (end - 1 - base) // below + 1  # only the pointers asked for are read
        place = geometry.fsbtobyte(self.fs, fragment) + low * self.pointer.size
        data = self.device.read(place, (high - low) * self.pointer.size)
        if below == 1:
            yield from self.leaf(data, base + low)
            return
        pointers = self.pointer.array(high - low).unpack(data)
        for index, further in enumerate(pointers, low):
            yield from self.indirect(further, base + index * below, below)

    def leaf(self, data: bytes, base: int) -> Iterator[Extent]:
        """The extents of the blocks from `base` that the pointers in `data` lead to."""
        count = len(data) // self.pointer.size
        (fragment,) = self.pointer.struct.unpack_from(data)
        if fragment < self.least:
            if data == bytes(len(data)):
                yield Extent(base, 0, count)
                return
        elif self.follow_each_other(data, count):  # as nearly all do; otherwise they are looked at one by one
            self.spend(count)
            yield Extent(base, fragment, count)
            return
        yield from self.singly(self.pointer.array(count).unpack(data), base)

    def follow_each_other(self, data: bytes, count: int) -> bool:
        """Whether each pointer in `data` is that to the next block on disk after the one before it.

        All of them as one large number, and again without the first: one addition then says it of all. (A pointer that
        carries into the next one is beyond any disk, and refused where it is checked.)
        """
        size, order = self.pointer.size, self.fs.byte_order
        blocks = _repeated(self.fs.fs_frag, count - 1, size, order)
        return int.from_bytes(data[:-size], order) + blocks == int.from_bytes(data[size:], order)

    def singly(self, pointers: Sequence[int], base: int) -> Iterator[Extent]:
        """As leaf, for any pointers."""
        step, least = self.fs.fs_frag, self.least
        at, count = 0, len(pointers)
        while at < count:
            fragment, start = pointers[at], at
            at += 1
            if fragment < least:
                while at < count and pointers[at] < least:
                    at += 1
                yield Extent(base + start, 0, at - start)
                continue
            while at < count and pointers[at] == fragment + (at - start) * step:
                at += 1
            self.spend(at - start)
            yield Extent(base + start, fragment, at - start)


@lru_cache(maxsize=8)
def _repeated(value: int, count: int, size: int, order: ByteOrder) -> int:
    """`count` times `value`, of `size` bytes each, as one large number."""
    return int.from_bytes(value.to_bytes(size, order) * count, order)
