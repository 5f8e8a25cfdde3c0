"""Every inode of every group: is it in use, is it sound, and which fragments does it say are its own?

Interface:
    scan_inodes(disk, step) -> Inodes
    Inodes                       modes, links, directories and claims, for the passes that follow
    Claim                        (first fragment, end, inode)
Invariants:
    1. No indirect block is read twice, and no more is claimed than twice the disk: the work is bounded by the disk.
Not here: whether two claim the same (check_blocks), names, maps.

Sources: 4.3BSD etc/fsck/pass1.c, 4.4BSD sys/ufs/ufs/dinode.h; FreeBSD sys/ufs/ufs/dinode.h for flags.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bootfs.geometry import cgimin, fsbtobyte
from bootfs.layout import IC_FASTLINK, NDADDR, NIADDR, ROOTINO, dinode
from bootfs.layout_format import record
from disktools.check_disk import Disk
from disktools.check_file_blocks import FileBlocks
from disktools.check_group_header import initialised_inodes
from disktools.check_hidden import is_shadow
from disktools.check_report import Step

Claim = tuple[int, int, int]
PIECE = 1 << 20
ZEROS = bytes(PIECE)

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "FIFO",
}
KNOWN_FLAGS = 0x00FF_FFFF & ~0x0000_6040  # UF_* and SF_* of the BSDs up to SF_SNAPINVAL
SF_SNAPSHOT = 0x0020_0000
NANOSECONDS = 1_000_000_000


@dataclass(slots=True)
class Directory:
    """Where the entries of a directory are: its blocks as (block number, fragment), in order."""

    size: int
    blocks: list[tuple[int, int]]


@dataclass(slots=True)
class Inodes:
    """What all inodes together say. `modes` has every inode in use; `used` and `directories_in` go by group."""

    modes: dict[int, int] = field(default_factory=dict)
    links: dict[int, int] = field(default_factory=dict)
    directories: dict[int, Directory] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    used: dict[int, set[int]] = field(default_factory=dict)
    directories_in: dict[int, int] = field(default_factory=dict)
    shadows: Counter[int] = field(
        default_factory=Counter
    )  # how many inodes have that one for their access control list
    unread: set[int] = field(default_factory=set)  # groups whose inodes could not be read
    tails: list[tuple[int, int, int]] = field(
        default_factory=list
    )  # (byte after the end, bytes to the block's end, inode)


def scan_inodes(disk: Disk, step: Step) -> Inodes:
    """Reads the inode tables of all groups, and the indirect blocks of all inodes."""
    scan = _Scan(disk)
    for cg in range(disk.groups):
        step(cg, disk.groups)
        scan.group(cg)
    return scan.found


class _Scan:
    """The pass under way."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.fs, self.report = disk, disk.fs, disk.report
        self.found = Inodes()
        layout = record(dinode(self.fs.byte_order, self.fs.tables))
        self.layout = layout.struct
        at = {one.name: layout.index_of(one.name) for one in layout.fields}
        self.at = at
        self.mode, self.nlink, self.size, self.blocks = at["di_mode"], at["di_nlink"], at["di_size"], at["di_blocks"]
        self.flags = at["di_flags"]
        self.shadow = at.get("di_uid", 0)  # Solaris: ic_shadow, which ufs2 and 4.3 do not have
        self.pointers = slice(at["di_db"], at["di_db"] + NDADDR + NIADDR)
        self.text_bytes = self.fs.pointer_bytes * (NDADDR + NIADDR)
        self.file_blocks = FileBlocks(disk, self.found.claims)
        self.zero = bytes(self.fs.fs_bsize)
        self.sectors = self.fs.fs_fsize // 512
        self.times: Callable[[int, tuple[Any, ...]], None] = (
            self.spare_times if self.fs.tables == "4.3" else self.nanoseconds
        )
        self.time_places = [at[name] for name in at if name.endswith("nsec")]

    def group(self, cg: int) -> None:
        """The inodes of one group."""
        used: set[int] = set()
        self.found.used[cg], self.found.directories_in[cg] = used, 0
        first = cg * self.fs.fs_ipg
        for number, block in self.inode_blocks(cg):
            for ino, values in enumerate(self.layout.iter_unpack(block), first + number):
                if values[self.mode] & 0o170000:
                    if ino >= ROOTINO:
                        used.add(ino - first)
                        self.inode(ino, values, cg)
                elif values[self.mode] or values[self.size] or any(values[self.pointers]):
                    self.report.inode(ino, "is free (no mode), but not empty: it still has a size or blocks")

    def inode_blocks(self, cg: int) -> Iterator[tuple[int, bytes]]:
        """The blocks of inodes of a group that are not all zeros, with the number of the first inode in each."""
        fs = self.fs
        count = -(-initialised_inodes(self.disk, cg) // fs.fs_inopb) * fs.fs_bsize
        base = fsbtobyte(fs, cgimin(fs, cg))
        for start in range(0, count, PIECE):
            piece = self.disk.read(base + start, min(PIECE, count - start), f"inodes of cylinder group {cg}")
            if piece is None:
                self.found.unread.add(cg)
                continue
            if piece == ZEROS or piece == ZEROS[: len(piece)]:  # most of a large new disk
                continue
            for at in range(0, len(piece), fs.fs_bsize):
                block = piece[at : at + fs.fs_bsize]
                if block != self.zero:
                    yield (start + at) // fs.inode_bytes, block

    def inode(self, ino: int, values: tuple[Any, ...], cg: int) -> None:
        """One inode in use."""
        mode, size = values[self.mode], values[self.size]
        kind = mode & 0o170000
        found = self.found
        found.modes[ino] = mode
        found.links[ino] = values[self.nlink]
        if (kind not in KINDS and not is_shadow(self.fs, mode)) or (kind == stat.S_IFIFO and self.no_fifos()):
            self.report.inode(ino, f"mode {mode:o} is of no known type")
            return
        if values[self.nlink] < 0:
            self.report.inode(ino, f"link count {values[self.nlink]}")
        if self.fs.is_sun and values[self.shadow]:
            found.shadows[values[self.shadow]] += 1
        self.times(ino, values)
        self.check_flags(ino, kind, values[self.flags])
        if self.fs.tables == "4.3" and size >> 32:
            self.report.inode(ino, f"the high word of its size is {size >> 32}, should be 0")
            size &= 0xFFFFFFFF
        if self.fs.tables == "4.3" and size >> 31:
            self.report.inode(ino, f"size {size} is negative in the 32 bits that the kernel has for it")
        extra = self.extended(ino, values) if self.fs.tables == "ufs2" else 0
        if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFIFO):
            fragments = self.special(ino, kind, values)
        elif kind == stat.S_IFLNK and self.is_fast(size, values[self.flags], values[self.blocks]):
            fragments = 0
            if size > self.text_bytes:
                self.report.inode(ino, f"a link of {size} bytes does not fit in the inode")
        else:
            fragments = self.contents(ino, kind, size, values)
            if kind == stat.S_IFDIR:
                found.directories_in[cg] += 1
        if fragments >= 0 and (fragments + extra) * self.sectors != values[self.blocks]:
            wanted = (fragments + extra) * self.sectors
            self.report.inode(ino, f"di_blocks is {values[self.blocks]}, should be {wanted} (sectors of 512 bytes)")

    def no_fifos(self) -> bool:
        """4.3BSD has none and its fsck takes one for damage; the big-endian kin of the format (SunOS) has them."""
        return self.fs.tables == "4.3" and self.fs.byte_order == "little"

    def is_fast(self, size: int, flags: int, blocks: int) -> bool:
        """Whether the link text is in the inode, by the rule of the format (as bootfs.dinode reads it)."""
        if self.fs.format == "4.3bsd":
            return bool(flags & IC_FASTLINK) or (self.fs.tables == "4.4" and blocks == 0)
        return 0 < size < self.fs.fs_maxsymlinklen

    def contents(self, ino: int, kind: int, size: int, values: tuple[Any, ...]) -> int:
        """Claims the blocks of a file, directory or slow link; its fragments, or -1 when they cannot be counted."""
        fs = self.fs
        if size > fs.maxfilesize:
            self.report.inode(ino, f"size {size} is beyond the triple indirect block")
            return -1
        pointers = values[self.pointers]
        runs: list[tuple[int, int, int]] | None = None
        if kind == stat.S_IFDIR:
            runs = []
            if size % fs.dirblksiz or size == 0:
                self.report.inode(ino, f"directory of {size} bytes, no multiple of {fs.dirblksiz}")
        if kind != stat.S_IFDIR and values[self.flags] & SF_SNAPSHOT and fs.tables != "4.3":
            pointers = tuple(0 if one <= 2 else one for one in pointers)  # BLK_NOCOPY and BLK_SNAP are no places
        fragments, last = self.file_blocks.claim(ino, size, pointers, runs)
        if runs is not None:
            blocks = [(lbn + at, fragment + at * fs.fs_frag) for lbn, fragment, count in runs for at in range(count)]
            self.found.directories[ino] = Directory(size, blocks)
        elif last and size & (fs.fs_bsize - 1):
            self.tail(ino, size, last)
        return fragments

    def tail(self, ino: int, size: int, last: int) -> None:
        """Notes the rest of the last block, at fragment `last`: what is allocated beyond the end of a file is zeros."""
        fs = self.fs
        in_block = size & (fs.fs_bsize - 1)
        taken = fs.fs_bsize if size > NDADDR << fs.fs_bshift else -(-in_block // fs.fs_fsize) * fs.fs_fsize
        if taken > in_block:
            self.found.tails.append((fsbtobyte(fs, last) + in_block, taken - in_block, ino))

    def special(self, ino: int, kind: int, values: tuple[Any, ...]) -> int:
        """A device keeps its number where the first pointer is (the first two, for a wide one); nothing else."""
        begin = 2 if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        if any(values[self.pointers][begin:]):
            self.report.inode(ino, f"a {KINDS[kind]} with blocks")
        return 0

    def extended(self, ino: int, values: tuple[Any, ...]) -> int:
        """Claims the blocks of the extended attributes of UFS2; their fragments."""
        fs, size = self.fs, values[self.at["di_extsize"]]
        first = self.at["di_extb"]
        if size > 2 * fs.fs_bsize:
            self.report.inode(ino, f"di_extsize {size} is more than two blocks")
            return 0
        fragments, _ = self.file_blocks.claim(ino, size, values[first : first + 2], None)
        return max(fragments, 0)

    def check_flags(self, ino: int, kind: int, flags: int) -> None:
        """4.3BSD of June 1986 uses none; kin of it mark a link that is kept in the inode. Later ones have a list."""
        if not flags:
            return
        if self.fs.tables == "4.3":
            if flags != IC_FASTLINK or kind != stat.S_IFLNK:
                self.report.inode(ino, f"di_flags is {flags:#x}, should be 0")
        elif flags & ~KNOWN_FLAGS:
            self.report.inode(ino, f"di_flags has unknown bits {flags & ~KNOWN_FLAGS:#x}")

    def spare_times(self, ino: int, values: tuple[Any, ...]) -> None:
        """In 4.3BSD the words beside the times are spare."""
        for place in self.time_places:
            if values[place]:
                self.report.inode(ino, f"the spare words beside its times are not 0 but {values[place]}")
                return

    def nanoseconds(self, ino: int, values: tuple[Any, ...]) -> None:
        for place in self.time_places:
            if not 0 <= values[place] < NANOSECONDS:
                self.report.inode(ino, f"a time with {values[place]} nanoseconds")
                return
