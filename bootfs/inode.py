"""Inodes: what a file is and where its pointers begin.

Interface:
    Inode                          the facts of one file; immutable
    read_inode(device, fs, ino)    FileSystemError FS_INVALID_FS: a number or a size that this file system cannot have
    read_inodes(device, fs, inos)  those of many, in few reads of the disk
Not here: following the pointers (blockmap), names (directory), extended attributes (extattr).

Sources: 4.3BSD sys/h/inode.h, 4.4BSD and FreeBSD sys/ufs/ufs/dinode.h; Mach bootstrap/disk_inode.h.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from bootfs import geometry
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.layout import IC_FASTLINK, NDADDR, NIADDR, NXADDR, ROOTINO, ByteOrder, Variant, dinode
from bootfs.layout_format import record
from bootfs.superblock import Superblock

Kind = Literal["file", "dir", "link", "other"]

_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
SF_SNAPSHOT = 0x00200000  # di_flags: a snapshot of the whole file system
MAX_GAP = 16  # inodes that are read and thrown away rather than begin another read of the disk
MAX_SPAN = 512  # inodes in one read


class Inode(NamedTuple):
    """One file. `size` is in bytes, `blocks` in 512-byte sectors as the disk says, times in seconds since 1970.

    `pointers` are the block pointers, 12 direct and then single, double, triple indirect; `text` is the target of a
    link that is kept in the inode itself, else None. Only ufs2 has a birthtime and extended attributes: `ext_size`
    bytes in the blocks at `ext_pointers`. (A tuple and not a dataclass: a listing makes one for every file.)
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
    atimensec: int = 0
    mtimensec: int = 0
    birthtime: int | None = None
    ext_size: int = 0
    ext_pointers: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        """What the mode says: file, dir, link, or other (devices, sockets, FIFOs, and inodes not in use)."""
        return _KINDS.get(self.mode & 0o170000, "other")

    @property
    def rdev(self) -> tuple[int, int] | None:
        """Major and minor number of a device; None for anything else.

        BSD of the time had 16 bits for both; FreeBSD's dev_t of 64 bits, which ufs2 keeps, begins with the same.
        """
        if not (stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)):
            return None
        dev = self.pointers[0]
        return dev >> 32 & 0xFFFFFF00 | dev >> 8 & 0xFF, dev >> 24 & 0xFF00 | dev & 0xFFFF00FF

    def __str__(self) -> str:
        return f"inode {self.ino}"


def read_inode(device: BlockDevice, fs: Superblock, ino: int) -> Inode:
    """Inode number `ino` of the file system at byte 0 of `device`; ROOTINO is the least that a name may refer to."""
    return _decode(fs, [ino], device.read(_place(fs, ino), fs.inode_bytes), ino)[0]


def read_inodes(device: BlockDevice, fs: Superblock, inos: Sequence[int]) -> list[Inode]:
    """The inodes of these numbers, in the order given. FileSystemError as read_inode's."""
    if not inos:
        return []
    first, last = min(inos), max(inos)
    if last - first < MAX_SPAN and last // fs.fs_ipg == first // fs.fs_ipg:  # as in most directories
        return _decode(fs, inos, _span(device, fs, first, last), first)
    found: dict[int, Inode] = {}
    for span in _spans(fs, sorted(set(inos))):
        raw = _span(device, fs, span[0], span[-1])
        found |= zip(span, _decode(fs, span, raw, span[0]), strict=True)
    return [found[ino] for ino in inos]


def _span(device: BlockDevice, fs: Superblock, first: int, last: int) -> bytes:
    """The bytes of the inodes from `first` to `last`, which are in one cylinder group: they follow each other there."""
    begin, end = _place(fs, first), _place(fs, last) + fs.inode_bytes
    return device.read(begin, end - begin)


def _spans(fs: Superblock, inos: Sequence[int]) -> Iterator[list[int]]:
    """Sorted inode numbers cut where they are far apart."""
    span: list[int] = []
    for ino in inos:
        if span and (ino - span[-1] > MAX_GAP or ino - span[0] >= MAX_SPAN or ino // fs.fs_ipg != span[0] // fs.fs_ipg):
            yield span
            span = []
        span.append(ino)
    if span:
        yield span


def _place(fs: Superblock, ino: int) -> int:
    """The byte of an inode; FileSystemError where there cannot be one."""
    if not ROOTINO <= ino < fs.fs_ipg * fs.fs_ncg:
        raise FileSystemError(
            FsCode.FS_INVALID_FS, f"no such inode: they go from 2 to {fs.fs_ipg * fs.fs_ncg - 1}", f"inode {ino}"
        )
    fragment = geometry.ino_to_fsba(fs, ino)
    if fragment + fs.fs_frag > fs.fs_size:
        raise FileSystemError(
            FsCode.FS_INVALID_FS, f"its block {fragment} is beyond fs_size = {fs.fs_size}", f"inode {ino}"
        )
    return geometry.fsbtobyte(fs, fragment) + geometry.ino_to_fsbo(fs, ino) * fs.inode_bytes


def _decode(fs: Superblock, inos: Sequence[int], raw: bytes, first: int) -> list[Inode]:
    """The inodes `inos`, of which `raw` has all from number `first`, checked."""
    unpack, pick = _picker(fs.byte_order, fs.tables, fs.format != "4.3bsd")
    size, new = fs.inode_bytes, tuple.__new__
    found: list[Inode] = [new(Inode, pick((ino, None, 0, (), *unpack(raw, (ino - first) * size)))) for ino in inos]
    limit = min(fs.maxfilesize, 0xFFFFFFFF) if fs.tables == "4.3" else fs.maxfilesize
    for at, inode in enumerate(found):
        if inode[5] > limit or inode[1] & 0o170000 == stat.S_IFLNK:
            found[at] = _with_text(fs, inode._replace(size=_size(fs, inode.ino, inode.size)), raw, first)
    return found


@cache
def _picker(order: ByteOrder, tables: Variant, wide_ids: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What unpacks a dinode, and what picks the fields of Inode out of (ino, None, 0, (), *its values), both in C."""
    layout = record(dinode(order, tables))
    none, zero, nothing, before = 1, 2, 3, 4

    def at(name: str) -> int:
        return before + layout.index_of(name)

    ids = ("di_uid", "di_gid") if wide_ids else ("di_ouid", "di_ogid")
    times = ("di_atime", "di_mtime", "di_ctime")
    names = ("di_mode", "di_nlink", *ids, "di_size", *times, "di_flags", "di_blocks", "di_gen")
    pointers = slice(at("di_db"), at("di_db") + NDADDR + NIADDR)
    extra: tuple[Any, ...] = (none, zero, nothing)
    if tables == "ufs2":
        extra = (at("di_birthtime"), at("di_extsize"), slice(at("di_extb"), at("di_extb") + NXADDR))
    picked: list[Any] = [0, *map(at, names), pointers, none, at("di_atimensec"), at("di_mtimensec"), *extra]
    return layout.struct.unpack_from, itemgetter(*picked)


def _size(fs: Superblock, ino: int, size: int) -> int:
    """A size that is too large, or of which only the low word counts.

    The 4.2/4.3BSD kernels use only that (i_size, ic_size.val[0] on a VAX); so does Mach.
    """
    if fs.tables == "4.3":
        size &= 0xFFFFFFFF
    if size > fs.maxfilesize:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"size {size} is beyond the triple indirect block", f"inode {ino}")
    return size


def _with_text(fs: Superblock, inode: Inode, raw: bytes, first: int) -> Inode:
    """A link with its text, if its format keeps it in the inode: 4.4 and ufs2 by size, the older ones by a flag.

    In 4.3BSD of June 1986 no link is kept so. The flag came after it and is also SunOS's; in 4.4 the same bit of
    di_flags means "do not dump" (Mach: disk_inode.h; Mach4: ffs_file_io.c).
    """
    inside = inode.flags & IC_FASTLINK if fs.format == "4.3bsd" else inode.size < fs.fs_maxsymlinklen
    if inode.kind != "link" or not inside:
        return inode
    if inode.size > fs.pointer_bytes * (NDADDR + NIADDR):
        raise FileSystemError(FsCode.FS_INVALID_FS, f"a link of {inode.size} bytes does not fit in it", str(inode))
    layout = record(dinode(fs.byte_order, fs.tables))
    begin = (inode.ino - first) * layout.size + layout.offset_of("di_db")
    return inode._replace(text=raw[begin : begin + inode.size])
