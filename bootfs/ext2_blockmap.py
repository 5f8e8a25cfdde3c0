"""From a block of an ext2 file to its place on disk: direct, single, double and triple indirect pointers.

The tree of pointers is that of the FFS (blockmap draws it), with 4-byte block numbers and no fragments.

Interface:
    block_runs(device, fs, inode, first, end)    blocks first .. end-1 in order, lazily, neighbours merged, in bytes
Invariants:
    1. Each run lies inside the file system and outside the metadata of its groups.
    2. The work is bounded by the disk: a map with more blocks than it has is refused, so a loop of pointers ends.
Not here: file contents; the cut at the end of a file.
"""

from __future__ import annotations

from collections.abc import Iterator

from bootfs.blocklist import Hole, Run
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.ext2_superblock import DataBlocks, Ext2Superblock
from bootfs.inode import Inode
from bootfs.layout_ext2 import EXT2_NDIR_BLOCKS, POINTER
from bootfs.layout_format import record

Stretch = tuple[int, int, int]  # block of the file, block on disk (0: a hole), how many

# i_flags: what stands where the block pointers would be, or that the data are not what the file holds.
FOREIGN = {0x4: "compressed data", 0x800: "encrypted data", 0x80000: "extents", 0x10000000: "inline data"}


def block_runs(device: BlockDevice, fs: Ext2Superblock, inode: Inode, first: int, end: int) -> Iterator[Run | Hole]:
    """The blocks `first` to `end` - 1 of a file, which must lie within it.

    FileSystemError FS_INVALID_FS: a pointer outside the file system or into metadata, more blocks than there are, or
    an inode that has something else in the place of pointers, by name.
    """
    foreign = [name for bit, name in FOREIGN.items() if inode.details.flags & bit]
    if foreign:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"it has {', '.join(foreign)}, which ext2 has not", str(inode))
    size, data = fs.block_size, DataBlocks(device, fs)
    for at, place, blocks in _merged(_Walk(device, fs, inode, first, end, data).stretches()):
        if place == 0:
            yield Hole(at * size, blocks * size)
            continue
        data.check(place, blocks, f"{inode}, block {at}")
        yield Run(at * size, place * size, blocks * size)


def _merged(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Neighbours that follow each other on disk, or are holes, as one."""
    held: Stretch | None = None
    for stretch in stretches:
        if held is not None:
            at, place, blocks = held
            if stretch[1] == (place + blocks if place else 0):
                held = at, place, blocks + stretch[2]
                continue
            yield held
        held = stretch
    if held is not None:
        yield held


class _Walk:
    """One pass over the pointers of a file from block `first` to `end`."""

    def __init__(
        self, device: BlockDevice, fs: Ext2Superblock, inode: Inode, first: int, end: int, data: DataBlocks
    ) -> None:
        self.data = data
        self.device, self.fs, self.inode, self.first, self.end = device, fs, inode, first, end
        self.pointer = record(POINTER)
        # Invariant 2. s_blocks_count may claim any number of them, the device cannot.
        self.budget = min(fs.s_blocks_count, device.size // fs.block_size) + 1

    def spend(self, blocks: int) -> None:
        self.budget -= blocks
        if self.budget < 0:
            raise FileSystemError(FsCode.FS_INVALID_FS, "maps more blocks than the disk has", str(self.inode))

    def stretches(self) -> Iterator[Stretch]:
        yield from self.leaf(self.inode.pointers[:EXT2_NDIR_BLOCKS], 0)
        base, span = EXT2_NDIR_BLOCKS, self.fs.pointers_per_block
        for place in self.inode.pointers[EXT2_NDIR_BLOCKS:]:
            if base >= self.end:
                return
            yield from self.indirect(place, base, span)
            base, span = base + span, span * self.fs.pointers_per_block

    def indirect(self, place: int, base: int, span: int) -> Iterator[Stretch]:
        """The blocks under one indirect block, which maps `span` blocks from block `base`."""
        first, end = max(base, self.first), min(base + span, self.end)
        if first >= end:
            return
        if place == 0:
            yield first, 0, end - first
            return
        self.data.check(place, 1, f"{self.inode}, indirect block at block {base}")
        self.spend(1)
        below = span // self.fs.pointers_per_block
        low, high = (first - base) // below, (end - 1 - base) // below + 1  # only the pointers asked for are read
        size = self.pointer.size
        data = self.device.read(place * self.fs.block_size + low * size, (high - low) * size)
        pointers = self.pointer.array(high - low).unpack(data)
        if below == 1:
            yield from self.leaf(pointers, base + low)
            return
        for index, further in enumerate(pointers, low):
            yield from self.indirect(further, base + index * below, below)

    def leaf(self, pointers: tuple[int, ...], base: int) -> Iterator[Stretch]:
        """The stretches among `pointers`, the first of which is for block `base`."""
        at, end = max(base, self.first), min(base + len(pointers), self.end)
        while at < end:
            place, start = pointers[at - base], at
            step = 1 if place else 0
            at += 1
            while at < end and pointers[at - base] == place + (at - start) * step:
                at += 1
            if place:
                self.spend(at - start)
            yield start, place, at - start
