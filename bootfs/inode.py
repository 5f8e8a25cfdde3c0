"""Inodes: what a file is and where its pointers begin.

Interface:
    Inode                          the facts of one file; frozen
    read_inode(device, fs, ino)    FileSystemError FS_INVALID_FS: a number or a size that this file system cannot have
Not here: following the pointers (blockmap), names (directory).

Sources: 4.3BSD sys/h/inode.h, 4.4BSD sys/ufs/ufs/dinode.h; Mach bootstrap/disk_inode.h.
"""

from __future__ import annotations

import dataclasses
import stat
from dataclasses import dataclass
from functools import cache
from typing import Literal

from bootfs import geometry
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.layout import IC_FASTLINK, MAXSYMLINKLEN, NDADDR, NIADDR, ROOTINO, ByteOrder, dinode
from bootfs.layout_format import Record, record
from bootfs.superblock import Superblock

Kind = Literal["file", "dir", "link", "other"]

_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}


@dataclass(frozen=True, slots=True)
class Inode:
    """One file. `size` is in bytes, `blocks` in 512-byte sectors as the disk says, times in seconds since 1970.

    `pointers` are the block pointers, 12 direct and then single, double, triple indirect; `text` is the target of a
    link that is kept in the inode itself, else None.
    """

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int
    ctime: int
    flags: int
    blocks: int
    generation: int
    pointers: tuple[int, ...]
    text: bytes | None

    @property
    def kind(self) -> Kind:
        """What the mode says: file, dir, link, or other (devices, sockets, FIFOs, and inodes not in use)."""
        return _KINDS.get(stat.S_IFMT(self.mode), "other")

    @property
    def rdev(self) -> tuple[int, int] | None:
        """Major and minor number of a device, in the 16 bits that BSD of the time used; None for anything else."""
        if not (stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)):
            return None
        return self.pointers[0] >> 8 & 0xFF, self.pointers[0] & 0xFF

    def __str__(self) -> str:
        return f"inode {self.ino}"


def read_inode(device: BlockDevice, fs: Superblock, ino: int) -> Inode:
    """Inode number `ino` of the file system at byte 0 of `device`; ROOTINO is the least that a name may refer to."""
    place = f"inode {ino}"
    if not ROOTINO <= ino < fs.fs_ipg * fs.fs_ncg:
        raise FileSystemError(
            FsCode.FS_INVALID_FS, f"no such inode: they go from 2 to {fs.fs_ipg * fs.fs_ncg - 1}", place
        )
    fragment = geometry.ino_to_fsba(fs, ino)
    if fragment + fs.fs_frag > fs.fs_size:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"its block {fragment} is beyond fs_size = {fs.fs_size}", place)
    layout, at = _dinode(fs.byte_order)
    raw = device.read(geometry.fsbtobyte(fs, fragment) + geometry.ino_to_fsbo(fs, ino) * layout.size, layout.size)
    values = layout.struct.unpack(raw)
    # The 4.2/4.3BSD kernels use only the low word of the size (i_size, ic_size.val[0] on a VAX); so does Mach.
    size = values[at["di_size"]] & 0xFFFFFFFF if fs.tables == "4.3" else values[at["di_size"]]
    if size > fs.maxfilesize:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"size {size} is beyond the triple indirect block", place)
    wide_ids = fs.format == "ufs1"
    inode = Inode(
        ino=ino,
        mode=values[at["di_mode"]],
        nlink=values[at["di_nlink"]],
        uid=values[at["di_uid" if wide_ids else "di_ouid"]],
        gid=values[at["di_gid" if wide_ids else "di_ogid"]],
        size=size,
        atime=values[at["di_atime"]],
        mtime=values[at["di_mtime"]],
        ctime=values[at["di_ctime"]],
        flags=values[at["di_flags"]],
        blocks=values[at["di_blocks"]],
        generation=values[at["di_gen"]],
        pointers=values[at["di_db"] : at["di_db"] + NDADDR + NIADDR],
        text=None,
    )
    return inode if inode.kind != "link" else _with_text(fs, inode, raw)


@cache
def _dinode(order: ByteOrder) -> tuple[Record, dict[str, int]]:
    """The dinode as a flat tuple, and where each field is in it: inodes are read by the thousand."""
    layout = record(dinode(order))
    return layout, {field.name: layout.index_of(field.name) for field in layout.fields}


def _with_text(fs: Superblock, inode: Inode, raw: bytes) -> Inode:
    """The link with its text, if its format keeps it there: 4.4 by size, the older ones by a flag.

    In 4.3BSD of June 1986 no link is kept so. The flag came after it and is also SunOS's; in 4.4 the same bit of
    di_flags means "do not dump" (Mach: disk_inode.h; Mach4: ffs_file_io.c).
    """
    if fs.format == "ufs1":
        inside = inode.size < fs.fs_maxsymlinklen
    else:
        inside = bool(inode.flags & IC_FASTLINK)
    if not inside:
        return inode
    if inode.size > MAXSYMLINKLEN:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"a link of {inode.size} bytes does not fit in it", str(inode))
    begin = record(dinode(fs.byte_order)).offset_of("di_db")
    return dataclasses.replace(inode, text=raw[begin : begin + inode.size])
