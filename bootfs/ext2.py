"""An ext2: a second format behind the interface of the bootstrap file system, as the paper's 6.1 says there can be.

Interface:
    Ext2FileSystem.open(device, offset=0)    UnknownFormat: no ext2; FileSystemError FS_INVALID_FS: not a sound one
    all the rest is MountedFileSystem's
    read_inode(device, fs, ino)              FileSystemError FS_INVALID_FS: a number or a size that cannot be
    entries(data, fs, place)                 FileSystemError FS_INVALID_FS: the first bad entry
Not here: what is the same for every format (mounted), extents, journals: a disk that needs them is refused by name.

Sources: the format as Linux's and e2fsprogs' headers declare it; Mach4 bootstrap/ext2_file_io.c.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

from bootfs import lookup
from bootfs.blocklist import Hole, Run
from bootfs.device import BlockDevice, SliceDevice
from bootfs.directory import Entries
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.ext2_blockmap import block_runs
from bootfs.ext2_superblock import (
    FILETYPE,
    HUGE_FILE,
    Ext2Superblock,
    find_superblock,
    read_group,
    refuse_writing,
)
from bootfs.inode import Details, Given, Inode
from bootfs.layout_ext2 import (
    EXT2_ERROR_FS,
    EXT2_NAME_LEN,
    EXT2_ROOT_INO,
    EXT2_VALID_FS,
    directory_header,
    inode,
)
from bootfs.layout_format import record
from bootfs.mounted import MountedFileSystem

SECTOR = 512  # bytes; the unit of i_blocks
HUGE_FILE_FL = 0x40000  # i_flags: i_blocks counts blocks


class Ext2FileSystem(MountedFileSystem):
    """A mounted ext2 (or an ext3 whose journal is empty), revision 0 or 1, with blocks of 1 to 4 KiB."""

    root_ino = EXT2_ROOT_INO

    def __init__(self, device: BlockDevice, offset: int, superblock: Ext2Superblock) -> None:
        super().__init__(device, offset)
        self.superblock = superblock
        self.chunk_bytes = superblock.block_size

    @classmethod
    def open(cls, device: BlockDevice, offset: int = 0) -> Ext2FileSystem:
        """The file system at byte `offset` of `device`. The device stays the caller's to close."""
        if not 0 <= offset < max(device.size, 1):
            raise UnknownFormat(f"offset {offset} is not within the {device.size} bytes of the device")
        return cls(device, offset, find_superblock(SliceDevice(device, offset, device.size - offset)))

    @property
    def block_size(self) -> int:
        return self.superblock.block_size

    @property
    def capacity(self) -> int:
        return self.superblock.s_blocks_count * self.superblock.block_size

    def inode(self, ino: int) -> Inode:
        return read_inode(self._part, self.superblock, ino)

    def directory_entries(self, data: bytes, place: str) -> Entries:
        return entries(data, self.superblock, place)

    def block_runs(self, inode: Inode, first: int, end: int) -> Iterator[Run | Hole]:
        return block_runs(self._part, self.superblock, inode, first, end)

    def refuse_writing(self, place: str) -> None:
        refuse_writing(self.superblock, place)

    def info(self) -> dict[str, Any]:
        fs = self.superblock
        return {
            "format": "ext2",
            "byte_order": "little",
            "offset": self.offset,
            "block_size": fs.block_size,
            "fragment_size": fs.block_size,
            "fragments": fs.s_blocks_count,
            "cylinder_groups": fs.groups,
            "inodes": fs.s_inodes_count,
            "free_blocks": fs.s_free_blocks_count,
            "free_fragments": 0,
            "free_inodes": fs.s_free_inodes_count,
            "clean": bool(fs.s_state & EXT2_VALID_FS) and not fs.s_state & EXT2_ERROR_FS,
            "last_mounted": lookup.shown(fs.s_last_mounted),
        }


class Ext2Inode(Inode):
    """An Inode whose device numbers are kept as Linux does: 8 + 8 bits in i_block[0], or 12 + 20 in i_block[1]."""

    __slots__ = ()

    @property
    def rdev(self) -> tuple[int, int] | None:
        if not (stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)):
            return None
        old, new = self.pointers[:2]
        if old:
            return old >> 8 & 0xFF, old & 0xFF
        return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


def read_inode(device: BlockDevice, fs: Ext2Superblock, ino: int) -> Inode:
    """Inode number `ino` of the file system at byte 0 of `device`: the root, or one that is not reserved."""
    layout = record(inode())
    raw = device.read(_place(device, fs, ino), layout.size)
    values = layout.unpack(raw)
    size, sectors = values["i_size"], values["i_blocks"]
    if stat.S_ISREG(values["i_mode"]):
        size |= values["i_size_high"] << 32
    if size > fs.max_file_size:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"size {size} is beyond the triple indirect block", f"inode {ino}")
    if fs.s_feature_ro_compat & HUGE_FILE:
        sectors |= values["i_blocks_high"] << 32
        sectors *= fs.block_size // SECTOR if values["i_flags"] & HUGE_FILE_FL else 1
    room = raw[layout.offset_of("i_block") : layout.offset_of("i_generation")]
    # A link is kept in its inode if it has no blocks but that of its extended attributes.
    own_sectors = sectors - (fs.block_size // SECTOR if values["i_file_acl"] else 0)
    details = Details(
        atime=values["i_atime"],
        ctime=values["i_ctime"],
        flags=values["i_flags"],
        blocks=sectors,
        generation=values["i_generation"],
        pointers=values["i_block"],
        text=_text(ino, size, room) if stat.S_ISLNK(values["i_mode"]) and own_sectors == 0 else None,
    )
    return Ext2Inode(
        mode=values["i_mode"],
        nlink=values["i_links_count"],
        uid=values["i_uid"] | values["i_uid_high"] << 16,
        gid=values["i_gid"] | values["i_gid_high"] << 16,
        size=size,
        mtime=values["i_mtime"],
        ino=ino,
        raw=raw,
        form=Given(details),
    )


def _place(device: BlockDevice, fs: Ext2Superblock, ino: int) -> int:
    """The byte of an inode; FileSystemError where there cannot be one."""
    if ino != EXT2_ROOT_INO and not fs.s_first_ino <= ino <= fs.s_inodes_count:
        raise FileSystemError(
            FsCode.FS_INVALID_FS,
            f"no such inode: they are 2, and from {fs.s_first_ino} to {fs.s_inodes_count}",
            f"inode {ino}",
        )
    group, index = divmod(ino - 1, fs.s_inodes_per_group)
    return read_group(device, fs, group).bg_inode_table * fs.block_size + index * fs.s_inode_size


def _text(ino: int, size: int, room: bytes) -> bytes:
    if size >= len(room):
        raise FileSystemError(FsCode.FS_INVALID_FS, f"a link of {size} bytes does not fit in it", f"inode {ino}")
    return room[:size]


def entries(data: bytes, fs: Ext2Superblock, place: str) -> Entries:
    """The entries in use in `data`, whole blocks of a directory; those of an index (dir_index) look free here."""
    found = Entries([], [])
    header = record(directory_header(bool(fs.s_feature_incompat & FILETYPE)))
    unpack = header.struct.unpack_from
    for block in range(0, len(data), fs.block_size):
        at, end = block, block + fs.block_size
        while at < end:
            ino, length, name_length = unpack(data, at)[:3] if at + header.size <= end else (0, 0, 0)
            name = bytes(data[at + header.size : at + header.size + name_length])
            fault = _fault(ino, length, name_length, end - at)
            if fault is None and ino and (b"/" in name or b"\0" in name):
                fault = "a name with '/' or NUL in it"
            if fault is not None:
                raise FileSystemError(FsCode.FS_INVALID_FS, f"broken entry at byte {at}: {fault}", place)
            if ino:
                found.names.append(name)
                found.inos.append(ino)
            at += length
    return found


def _fault(ino: int, length: int, name_length: int, room: int) -> str | None:
    """What is wrong with an entry's numbers. Of a free one (inode 0) only rec_len means anything."""
    if length < 8 or length % 4:
        return f"rec_len {length}"
    if length > room:
        return f"rec_len {length} leaves its block"
    if ino and not 1 <= name_length <= EXT2_NAME_LEN:
        return f"name_len {name_length}"
    if ino and 8 + (name_length + 3) // 4 * 4 > length:
        return f"name_len {name_length} does not fit in rec_len {length}"
    return None
