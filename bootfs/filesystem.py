"""An FFS of any kind and byte order: 4.2/4.3BSD, UFS1, UFS2.

Interface:
    FileSystem.open(device, offset=0)    UnknownFormat: no FFS begins there; FileSystemError FS_INVALID_FS: not sound
    FileSystem.attributes(inode)         extended attributes (ufs2)
    all the rest is MountedFileSystem's
Not here: what is the same for every format (mounted), layouts, path rules (lookup).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bootfs import geometry, lookup
from bootfs.alternate import find_alternate
from bootfs.blocklist import Hole, Run
from bootfs.blockmap import extents
from bootfs.device import BlockDevice, SliceDevice
from bootfs.dinode import read_inode, read_inodes
from bootfs.directory import Entries, entries
from bootfs.errors import UnknownFormat
from bootfs.extattr import Attribute, attributes
from bootfs.inode import Inode
from bootfs.layout import DIRBLKSIZ, ROOTINO
from bootfs.mounted import MountedFileSystem
from bootfs.superblock import Superblock, find_superblock


class FileSystem(MountedFileSystem):
    """A mounted FFS. `device` is the whole device, `offset` the byte where the file system begins on it."""

    root_ino = ROOTINO
    chunk_bytes = DIRBLKSIZ  # the least there is

    def __init__(self, device: BlockDevice, offset: int, superblock: Superblock) -> None:
        super().__init__(device, offset)
        self.superblock = superblock

    @classmethod
    def open(cls, device: BlockDevice, offset: int = 0) -> FileSystem:
        """The file system at byte `offset` of `device`. The device stays the caller's to close."""
        if not 0 <= offset < max(device.size, 1):
            raise UnknownFormat(f"offset {offset} is not within the {device.size} bytes of the device")
        return cls(device, offset, find_superblock(SliceDevice(device, offset, device.size - offset)))

    @classmethod
    def open_alternate(cls, device: BlockDevice, offset: int = 0) -> FileSystem:
        """As open, by a copy of the superblock where the superblock itself is lost; UnknownFormat when none is left."""
        part = SliceDevice(device, offset, device.size - offset)
        return cls(device, offset, find_alternate(part))

    @property
    def block_size(self) -> int:
        return self.superblock.fs_bsize

    @property
    def capacity(self) -> int:
        return self.superblock.fs_size * self.superblock.fs_fsize

    def inode(self, ino: int) -> Inode:
        return read_inode(self._part, self.superblock, ino)

    def inodes(self, inos: Sequence[int]) -> list[Inode]:
        return read_inodes(self._part, self.superblock, inos)

    def directory_entries(self, data: bytes, place: str) -> Entries:
        return entries(data, self.superblock, place)

    def block_runs(self, inode: Inode, first: int, end: int) -> Iterator[Run | Hole]:
        fs = self.superblock
        for extent in extents(self._part, fs, inode, first, end):
            at, length = geometry.lblktosize(fs, extent.block), geometry.lblktosize(fs, extent.blocks)
            if extent.is_hole:
                yield Hole(at, length)
            else:
                yield Run(at, geometry.fsbtobyte(fs, extent.fragment), length)

    def attributes(self, inode: Inode) -> list[Attribute]:
        """The extended attributes of a file; none in the formats that have none."""
        return attributes(self._part, self.superblock, inode)

    def info(self) -> dict[str, Any]:
        """What the command `bootfs info` shows: the keys are a contract."""
        fs = self.superblock
        found = {
            "format": fs.format,
            "byte_order": fs.byte_order,
            "offset": self.offset,
            "block_size": fs.fs_bsize,
            "fragment_size": fs.fs_fsize,
            "fragments": fs.fs_size,
            "cylinder_groups": fs.fs_ncg,
            "inodes": fs.fs_ncg * fs.fs_ipg,
            "free_blocks": fs.cs_nbfree,
            "free_fragments": fs.cs_nffree,
            "free_inodes": fs.cs_nifree,
            # 4.2 and 4.3BSD have the byte but never set it; fsck decides by looking.
            "clean": bool(fs.fs_clean & 1) if fs.format != "4.3bsd" else None,
            "last_mounted": lookup.shown(fs.fs_fsmnt),
        }
        if fs.is_alternate:
            found |= {"clean": None, "superblock": f"alternate at {self.offset + fs.location}"}
        return found
