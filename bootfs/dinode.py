"""The inodes of an FFS, many in one read of the disk.

Interface:
    read_inode(device, fs, ino)      one inode, checked. FileSystemError FS_INVALID_FS
    read_inodes(device, fs, inos)    those of many, in few reads of the disk
    SF_SNAPSHOT                      a bit of Details.flags
Not here: following the pointers (blockmap), names (directory), extended attributes (extattr).

Sources: 4.3BSD sys/h/inode.h, 4.4BSD and FreeBSD sys/ufs/ufs/dinode.h; Mach bootstrap/disk_inode.h.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from struct import Struct as Compiled

from bootfs import geometry
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Details, Inode
from bootfs.layout import IC_FASTLINK, NDADDR, NIADDR, ROOTINO, ByteOrder, Variant, dinode
from bootfs.layout_format import Record, record
from bootfs.superblock import Format, Superblock

SF_SNAPSHOT = 0x00200000  # di_flags: a snapshot of the whole file system
MAX_GAP = 16  # inodes that are read and thrown away rather than begin another read of the disk
MAX_SPAN = 512  # inodes in one read
GROUP = 16  # inodes that are decoded at once


def read_inode(device: BlockDevice, fs: Superblock, ino: int) -> Inode:
    """Inode number `ino` of the file system at byte 0 of `device`; ROOTINO is the least that a name may refer to."""
    return _decode(fs, [ino], device.read(_place(fs, ino), fs.inode_bytes))[0]


def read_inodes(device: BlockDevice, fs: Superblock, inos: Sequence[int]) -> list[Inode]:
    """The inodes of these numbers, in the order given. FileSystemError as read_inode's."""
    if not inos:
        return []
    first, last = min(inos), max(inos)
    if last - first < MAX_SPAN and last // fs.fs_ipg == first // fs.fs_ipg:  # as in most directories
        return _decode(fs, inos, _raw(fs, inos, _span(device, fs, first, last), first))
    found: dict[int, Inode] = {}
    for span in _spans(fs, sorted(set(inos))):
        raw = _raw(fs, span, _span(device, fs, span[0], span[-1]), span[0])
        found |= zip(span, _decode(fs, span, raw), strict=True)
    return [found[ino] for ino in inos]


def _raw(fs: Superblock, inos: Sequence[int], span: bytes, first: int) -> bytes:
    """The bytes of the inodes `inos`, in this order, of which `span` has all from number `first` on."""
    if list(inos) == list(range(first, first + len(inos))):  # made one after another, in the order of their names
        return span
    size = fs.inode_bytes
    return b"".join([span[(at := (ino - first) * size) : at + size] for ino in inos])


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


def _decode(fs: Superblock, inos: Sequence[int], raw: bytes) -> list[Inode]:
    """The inodes `inos`, whose bytes are `raw`, checked.  Column by column, each in C: for this a listing waits."""
    form = _form(fs.byte_order, fs.tables, fs.format, fs.fs_maxsymlinklen)
    columns, pieces = form.columns(raw)
    limit = min(fs.maxfilesize, 0xFFFFFFFF) if fs.tables == "4.3" else fs.maxfilesize
    if max(columns[SIZE]) > limit:
        columns[SIZE] = [_size(fs, ino, size) for ino, size in zip(inos, columns[SIZE], strict=False)]
    rows = zip(*columns, inos, pieces, repeat(form), strict=False)
    return list(map(tuple.__new__, repeat(Inode), rows))


def _size(fs: Superblock, ino: int, size: int) -> int:
    """A size that is too large, or of which only the low word counts.

    The 4.2/4.3BSD kernels use only that (i_size, ic_size.val[0] on a VAX); so does Mach.
    """
    if fs.tables == "4.3":
        size &= 0xFFFFFFFF
    if size > fs.maxfilesize:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"size {size} is beyond the triple indirect block", f"inode {ino}")
    return size


@dataclass(frozen=True, slots=True, eq=False)
class DinodeForm:
    """How the dinodes of one kind of disk are read: the first fields of Inode all at once, the details later.

    `numbers` reads these fields of a group of dinodes in disk order, `places` says where each of Inode's is among them;
    `cut` reads the bytes of each.
    """

    layout: Record
    format: Format
    maxsymlinklen: int
    numbers: Compiled
    places: tuple[int, ...]
    cut: Compiled

    def columns(self, raw: bytes) -> tuple[list[list[int]], list[bytes]]:
        """The first fields of Inode, each of all dinodes in `raw`; and the bytes of each.  Zeros may follow."""
        raw += bytes(-len(raw) % self.cut.size)
        numbers: list[int] = []
        pieces: list[bytes] = []
        for at in range(0, len(raw), self.cut.size):
            numbers += self.numbers.unpack_from(raw, at)
            pieces += self.cut.unpack_from(raw, at)
        return [numbers[place :: len(FIRST_FIELDS)] for place in self.places], pieces

    def details(self, inode: Inode) -> Details:
        """All that Inode does not have itself."""
        values = self.layout.unpack(inode.raw)
        names = ("atime", "ctime", "flags", "blocks", "atimensec", "mtimensec", "birthtime")
        return Details(
            **{name: values[f"di_{name}"] for name in names if f"di_{name}" in values},
            generation=values["di_gen"],
            pointers=values["di_db"] + values["di_ib"],
            text=self.text(inode, values["di_flags"], values["di_blocks"]) if stat.S_ISLNK(inode.mode) else None,
            ext_size=values.get("di_extsize", 0),
            ext_pointers=values.get("di_extb", ()),
        )

    def text(self, link: Inode, flags: int, blocks: int) -> bytes | None:
        """Its target if the format keeps it in the inode: 4.4 and ufs2 by size, the older ones by a flag.

        In 4.3BSD of June 1986 no link is kept so. The flag came after it and is also SunOS's; in 4.4 the same bit of
        di_flags means "do not dump" (Mach: disk_inode.h; Mach4: ffs_file_io.c). Where neither tells (NeXT), a short
        link that has no blocks can be nowhere else (the BSDs' ufs_readlink, Linux's ufs).
        """
        inside = flags & IC_FASTLINK if self.format == "4.3bsd" else link.size < self.maxsymlinklen
        begin = self.layout.offset_of("di_db")
        direct = self.layout.offset_of("di_ib") - begin
        room = direct // NDADDR * (NDADDR + NIADDR)
        if not inside and (blocks or link.size > room):
            return None
        if link.size > room:
            raise FileSystemError(FsCode.FS_INVALID_FS, f"a link of {link.size} bytes does not fit in it", str(link))
        return link.raw[begin : begin + link.size]


FIRST_FIELDS = ("mode", "nlink", "uid", "gid", "size", "mtime")
SIZE = FIRST_FIELDS.index("size")


@cache
def _form(order: ByteOrder, tables: Variant, kind: Format, maxsymlinklen: int) -> DinodeForm:
    layout = record(dinode(order, tables))
    names = [f"di_{name}" for name in FIRST_FIELDS]
    if kind == "4.3bsd":
        names[2:4] = ("di_ouid", "di_ogid")
    there = sorted(names, key=layout.offset_of)
    places = tuple(map(there.index, names))
    cut = Compiled(f"{layout.size}s" * GROUP)
    return DinodeForm(layout, kind, maxsymlinklen, layout.selection(there, GROUP), places, cut)
