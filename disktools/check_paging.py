"""Is a file fit to be paged on? By our own pager, and by Mach itself.

Interface:
    check_paging(device, disk, path) -> Fitness
    Fitness.unfit      why our pager would refuse it, a line each; empty when it is fit
    Fitness.beyond_mach   what Mach 3.0 itself would not take or would trip over, a line each
Not here: the rest of the file system.

Mach's rules: bootstrap/file_io.c:503-508 (superblock), :1110 (whole blocks only), :1030-1185 (holes accepted, and every
page in one fails later); 32-bit sizes; no byte order but the machine's own, which was little on all that it ran on but
the Sun, and no names but the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError
from bootfs.filesystem import FileSystem
from disktools.check_disk import Disk

MACH_SUPERBLOCK = 8192
MACH_BLOCK_BYTES = 8192
MACH_FILE_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class Fitness:
    """What there is to say about a paging file. Sizes in bytes, `runs` as `bootfs blocks` shows them."""

    path: str
    size: int
    usable: int
    tail: int
    runs: list[dict[str, int]]
    holes: list[dict[str, int]]
    unfit: list[str]
    beyond_mach: list[str]

    @property
    def fit_for_mach(self) -> bool:
        """Whether Mach would page on it, all that it can use of it."""
        return not (self.unfit or self.beyond_mach)

    def facts(self) -> dict[str, Any]:
        """For --json."""
        return {
            "path": self.path,
            "size": self.size,
            "usable": self.usable,
            "tail": self.tail,
            "runs": self.runs,
            "holes": self.holes,
            "unfit": self.unfit,
            "beyond_mach": self.beyond_mach,
        }


def check_paging(device: BlockDevice, disk: Disk, path: str) -> Fitness:
    """Looks at the file at `path` of the file system on `device`."""
    fs = disk.fs
    unfit: list[str] = []
    try:
        files = FileSystem(device, 0, fs)
        inode = files.lookup(path)
        if inode.kind != "file":
            return Fitness(path, inode.size, 0, 0, [], [], ["it is not a regular file"], [])
        found = files.blocks(inode)
    except FileSystemError as error:
        return Fitness(path, 0, 0, 0, [], [], [error.message], [])
    runs, holes, tail = found["runs"], found["holes"], found["tail"]
    for hole in holes:
        unfit.append(f"a hole of {hole['length']} bytes at {hole['file_offset']}: no page can be kept there")
    if inode.size < fs.fs_bsize:
        unfit.append(f"its {inode.size} bytes are less than a block of {fs.fs_bsize}: no room for a page")
    return Fitness(path, inode.size, inode.size - tail, tail, runs, holes, unfit, _beyond_mach(disk, inode.size, tail))


def _beyond_mach(disk: Disk, size: int, tail: int) -> list[str]:
    fs = disk.fs
    no: list[str] = []
    if fs.tables == "ufs2":
        no.append("Mach knows no UFS2")
    if fs.location != MACH_SUPERBLOCK:
        no.append(f"the superblock is at byte {fs.location}; Mach looks at {MACH_SUPERBLOCK} only")
    if fs.fs_bsize > MACH_BLOCK_BYTES:
        no.append(f"blocks of {fs.fs_bsize} bytes; Mach takes at most {MACH_BLOCK_BYTES}")
    if fs.byte_order == "big":
        no.append("big-endian; Mach reads only the byte order of its own machine")
    if fs.tables != "ufs2" and fs.entries == "4.4" and fs.byte_order == "little":
        no.append("directory entries of 4.4BSD, whose names Mach cannot find on a little-endian machine")
    if size >= MACH_FILE_BYTES:
        no.append(f"{size} bytes; Mach keeps sizes in 32 bits with a sign")
    if tail:
        no.append(f"the last {tail} bytes are less than a block, which Mach leaves unused")
    return no
