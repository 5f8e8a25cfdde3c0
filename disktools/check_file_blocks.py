"""The blocks that one inode says are its own: direct, single, double and triple indirect.

Interface:
    FileBlocks(disk, claims)         claims: the list that grows
    claim(ino, size, pointers, runs) -> (fragments, last)
        fragments: how many it has, pointers' blocks too, or -1 when they cannot be counted; last: the fragment of the
        last block of the file, or 0; runs: takes (block, fragment, blocks), where the caller wants to read them
Invariants:
    1. No indirect block is read twice.
    2. Once all inodes together have claimed twice the disk, no more is claimed.
Not here: who else claims the same.
"""

from __future__ import annotations

from bootfs.errors import FileSystemError
from bootfs.geometry import fsbtobyte
from bootfs.layout import NDADDR, pointer
from bootfs.layout_format import record
from disktools.check_disk import Disk

Run = tuple[int, int, int]  # first block of the file, first fragment, blocks


class FileBlocks:
    """Claims for one inode after another."""

    def __init__(self, disk: Disk, claims: list[tuple[int, int, int]]) -> None:
        self.disk, self.fs, self.claims = disk, disk.fs, claims
        self.indirect_blocks: set[int] = set()
        self.unpack = record(pointer(self.fs.byte_order, self.fs.tables)).array(self.fs.fs_nindir).unpack
        self.zero = bytes(self.fs.fs_bsize)
        self.budget = 2 * min(self.fs.fs_size, disk.device.size // self.fs.fs_fsize) + self.fs.fs_frag
        self.ino = 0
        self.fragments = 0
        self.bad = 0  # pointers of this inode that lead nowhere
        self.crooked = 0  # those that do not begin where a block can
        self.first_bad = (0, 0)
        self.countable = True
        self.last_block = 0  # of the file
        self.last = 0

    def claim(self, ino: int, size: int, pointers: tuple[int, ...], runs: list[Run] | None) -> tuple[int, int]:
        """As the head of this module says. `size` is in bytes; 15 pointers, or 2 of extended attributes."""
        fs = self.fs
        self.ino, self.fragments, self.bad, self.crooked, self.countable, self.last = ino, 0, 0, 0, True, 0
        blocks = (size + fs.fs_bsize - 1) >> fs.fs_bshift
        self.last_block = blocks - 1
        direct = min(blocks, NDADDR, len(pointers))
        tail = size & (fs.fs_bsize - 1) if 0 < blocks <= NDADDR else 0
        self.row(pointers[: direct - 1] if tail else pointers[:direct], 0, runs)
        if tail and pointers[direct - 1]:
            self.one(blocks - 1, pointers[direct - 1], (tail + fs.fs_fsize - 1) >> fs.fs_fshift, runs)
        if blocks > NDADDR:
            self.levels(blocks, pointers, runs)
        elif any(pointers[direct:]):
            self.disk.report.inode(ino, "has block pointers beyond its size")
            self.countable = False
        self.tell()
        return self.fragments if self.countable else -1, self.last

    def tell(self) -> None:
        """The bad pointers of an inode, in a line."""
        if self.bad:
            block, fragment = self.first_bad
            more = f" (and {self.bad - 1} more such pointers)" if self.bad > 1 else ""
            self.disk.report.inode(
                self.ino, f"block {block} is at fragment {fragment}, beyond the {self.fs.fs_size} of the disk{more}"
            )
        if self.crooked:
            self.disk.report.inode(self.ino, f"{self.crooked} of its blocks do not begin where a block of the disk can")

    def levels(self, blocks: int, pointers: tuple[int, ...], runs: list[Run] | None) -> None:
        base, span = NDADDR, self.fs.fs_nindir
        for level, fragment in enumerate(pointers[NDADDR:]):
            if base >= blocks:
                if any(pointers[NDADDR + level :]):
                    self.disk.report.inode(self.ino, "has indirect blocks beyond its size")
                    self.countable = False
                return
            if fragment:
                self.indirect(fragment, base, span, blocks, runs)
            base, span = base + span, span * self.fs.fs_nindir

    def indirect(self, fragment: int, base: int, span: int, end: int, runs: list[Run] | None) -> None:
        """An indirect block for `span` blocks of the file from `base` on; the file ends before block `end`."""
        fs = self.fs
        if not self.one(-1, fragment, fs.fs_frag, None, base):
            self.countable = False
            return
        if fragment in self.indirect_blocks:
            self.countable = False  # the claim twice is told of by check_blocks
            return
        self.indirect_blocks.add(fragment)
        try:
            data = self.disk.device.read(fsbtobyte(fs, fragment), fs.fs_bsize)
        except FileSystemError:
            self.disk.report.inode(self.ino, f"the indirect block at fragment {fragment} cannot be read")
            self.countable = False
            return
        if data == self.zero:
            return
        row = self.unpack(data)
        below = span // fs.fs_nindir
        within = min(fs.fs_nindir, -(-(end - base) // below))
        if any(row[within:]):
            self.disk.report.inode(self.ino, f"the indirect block at fragment {fragment} points beyond the file's size")
            self.countable = False
        if below == 1:
            self.row(row[:within], base, runs)
            return
        for at, further in enumerate(row[:within]):
            if further:
                self.indirect(further, base + at * below, below, end, runs)

    def row(self, pointers: tuple[int, ...], base: int, runs: list[Run] | None) -> None:
        """Whole blocks of the file from block `base` on, neighbours on the disk taken together."""
        frag, at, end = self.fs.fs_frag, 0, len(pointers)
        while at < end:
            fragment = pointers[at]
            if not fragment:
                at += 1
                continue
            begin, following = at, fragment + frag
            at += 1
            while at < end and pointers[at] == following:
                at += 1
                following += frag
            if following > self.fs.fs_size and at - begin > 1:
                for block in range(begin, at):
                    self.one(base + block, pointers[block], frag, runs)
            else:
                self.one(base + begin, fragment, following - fragment, runs)

    def one(self, block: int, fragment: int, count: int, runs: list[Run] | None, place: int = 0) -> bool:
        """`count` fragments from `fragment` on, for the blocks from `block` on (-1: pointers). Whether they exist."""
        fs = self.fs
        if fragment + count > fs.fs_size:
            if not self.bad:
                self.first_bad = (max(block, place), fragment)
            self.bad += 1
            self.fragments += count
            return False
        offset = fragment & (fs.fs_frag - 1)
        if offset and offset + count > fs.fs_frag:
            self.crooked += 1
        self.fragments += count
        self.budget -= count
        if self.budget < 0:
            if self.budget + count >= 0:
                self.disk.report.inode(
                    self.ino, "with it, files have more than twice the blocks of the disk; no more are counted"
                )
            self.countable = False
            return False
        self.claims.append((fragment, fragment + count, self.ino))
        if block >= 0:
            blocks = -(-count // fs.fs_frag)
            if runs is not None:
                runs.append((block, fragment, blocks))
            if block + blocks - 1 == self.last_block:
                self.last = fragment + (blocks - 1) * fs.fs_frag
        return True
