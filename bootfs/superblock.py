"""The superblock: read once, every relation in it checked once, by name.

Interface:
    Superblock              the checked facts, under their historical names; frozen
    find_superblock(device) -> Superblock    UnknownFormat: none there; FileSystemError FS_INVALID_FS: one not sound
    parse_superblock(data, order, variant, location) -> Superblock    the same for bytes at hand
    recognise(data)         byte order and variant of what looks like a superblock
    SUPERBLOCK_LOCATIONS    where one is looked for, in bytes, in this order
Invariants:
    1. A Superblock that exists satisfies every relation of RELATIONS; nobody checks them again.
Not here: arithmetic on it (geometry), inodes, cylinder groups.

Sources: 4.3BSD sys/h/fs.h; 4.4BSD sys/ufs/ffs/fs.h and sbin/newfs/mkfs.c, which computes each field from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from struct import Struct
from typing import Any, Literal, NamedTuple

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.layout import (
    APPLE_LABEL,
    APPLE_LABEL_AT,
    DEV_BSIZE,
    DIRBLKSIZ,
    FS_44INODEFMT,
    FS_DYNAMICPOSTBLFMT,
    FS_MAGIC,
    FS_UFS2_MAGIC,
    FS_UFS2EA_MAGIC,
    NDADDR,
    NIADDR,
    SBSIZE,
    SUN_MASKS_AT,
    ByteOrder,
    Variant,
    csum,
    dinode,
    pointer,
    sun_masks,
    superblock,
)
from bootfs.layout_format import record

Format = Literal["4.3bsd", "ufs1", "ufs2"]

SUPERBLOCK_LOCATIONS = (65536, 8192, 0, 262144)  # the order of FreeBSD's SBLOCKSEARCH
SBLOCK_UFS2 = 65536
UFS2_MAGICS = (FS_UFS2_MAGIC, FS_UFS2EA_MAGIC)
MINBSIZE = 4096
MAXBSIZE = 65536
MAXFRAG = 8
SUPERBLOCK_BYTES = record(superblock("little", "4.3")).size  # the same in all variants


class Superblock(NamedTuple):
    """The facts of one file system. Addresses (no, addr, fpg, fs_size, dsize) count fragments; sizes are bytes.

    `location` is the byte offset of this superblock on its device; `tables` tells which struct fs and struct cg the
    disk has, `entries` which directory entry.
    """

    format: Format
    byte_order: ByteOrder
    tables: Variant
    entries: Variant
    location: int
    pointer_bytes: int
    inode_bytes: int
    maxfilesize: int  # bytes that the pointers of one inode can reach
    fs_maxsymlinklen: int
    fs_sblkno: int
    fs_cblkno: int
    fs_iblkno: int
    fs_dblkno: int
    fs_cgoffset: int
    fs_cgmask: int
    fs_time: int
    fs_size: int
    fs_dsize: int
    fs_ncg: int
    fs_bsize: int
    fs_fsize: int
    fs_frag: int
    fs_minfree: int
    fs_bmask: int
    fs_fmask: int
    fs_bshift: int
    fs_fshift: int
    fs_fragshift: int
    fs_fsbtodb: int
    fs_sbsize: int
    fs_nindir: int
    fs_inopb: int
    fs_csaddr: int
    fs_cssize: int
    fs_cgsize: int
    fs_ipg: int
    fs_fpg: int
    fs_clean: int
    cs_ndir: int
    cs_nbfree: int
    cs_nifree: int
    cs_nffree: int
    fs_fsmnt: bytes
    fs_magic: int
    fs_flags: int
    dirblksiz: int  # bytes of a directory that are written at once, and that no entry crosses
    fs_volname: bytes = b""  # from here on: ufs2 only, but fs_contigsumsize, which 4.4 has too
    fs_contigsumsize: int = 0
    fs_metackhash: int = 0
    fs_metaspace: int = 0
    fs_sblockloc: int = 0
    is_sun: bool = False  # Solaris: its own fields among the spare ones of 4.4
    is_alternate: bool = False  # a copy, because the superblock itself is bad: totals and fs_clean may be old


_FACTS = frozenset(Superblock._fields)


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _roundup(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _last_start(fs: Superblock) -> int:
    """The farthest that any group's metadata is shifted from its base, in fragments (the macro cgstart)."""
    return fs.fs_cgoffset * min(fs.fs_ncg - 1, ~fs.fs_cgmask) if fs.fs_cgoffset else 0


# Ordered: a later relation relies on the earlier ones (a division by fs_frag comes after fs_frag is known to be right).
RELATIONS: tuple[tuple[str, Callable[[Superblock], bool]], ...] = (
    ("fs_magic is that of its format", lambda f: f.fs_magic in (UFS2_MAGICS if f.tables == "ufs2" else (FS_MAGIC,))),
    (
        f"fs_bsize is a power of two, {MINBSIZE} to {MAXBSIZE}",
        lambda f: _power_of_two(f.fs_bsize) and MINBSIZE <= f.fs_bsize <= MAXBSIZE,
    ),
    (
        f"fs_fsize is a power of two, {DEV_BSIZE} to fs_bsize",
        lambda f: _power_of_two(f.fs_fsize) and DEV_BSIZE <= f.fs_fsize <= f.fs_bsize,
    ),
    ("fs_frag = fs_bsize / fs_fsize", lambda f: f.fs_frag == f.fs_bsize // f.fs_fsize),
    (f"fs_frag <= {MAXFRAG}", lambda f: f.fs_frag <= MAXFRAG),
    ("fs_bshift = log2(fs_bsize)", lambda f: f.fs_bshift == f.fs_bsize.bit_length() - 1),
    ("fs_fshift = log2(fs_fsize)", lambda f: f.fs_fshift == f.fs_fsize.bit_length() - 1),
    ("fs_fragshift = log2(fs_frag)", lambda f: f.fs_fragshift == f.fs_frag.bit_length() - 1),
    ("fs_bmask = -fs_bsize", lambda f: f.fs_bmask == -f.fs_bsize),
    ("fs_fmask = -fs_fsize", lambda f: f.fs_fmask == -f.fs_fsize),
    (
        "fs_fsize >> fs_fsbtodb is a sector size",
        lambda f: 0 <= f.fs_fsbtodb <= 7 and f.fs_fsize >> f.fs_fsbtodb >= DEV_BSIZE,
    ),
    ("fs_nindir = fs_bsize / pointer size", lambda f: f.fs_nindir == f.fs_bsize // f.pointer_bytes),
    ("fs_inopb = fs_bsize / inode size", lambda f: f.fs_inopb == f.fs_bsize // f.inode_bytes),
    ("fs_size > 0", lambda f: f.fs_size > 0),
    ("fs_ncg > 0", lambda f: f.fs_ncg > 0),
    ("fs_fpg is a multiple of fs_frag", lambda f: f.fs_fpg > 0 and f.fs_fpg % f.fs_frag == 0),
    ("fs_ncg = fs_size / fs_fpg, rounded up", lambda f: f.fs_ncg == -(-f.fs_size // f.fs_fpg)),
    ("fs_ipg is a multiple of fs_inopb", lambda f: f.fs_ipg > 0 and f.fs_ipg % f.fs_inopb == 0),
    ("fs_ipg x fs_ncg < 2^32", lambda f: f.fs_ipg * f.fs_ncg < 1 << 32),
    (
        "0 <= fs_sblkno < fs_cblkno < fs_iblkno < fs_dblkno",
        lambda f: 0 <= f.fs_sblkno < f.fs_cblkno < f.fs_iblkno < f.fs_dblkno,
    ),
    (
        "fs_dblkno leaves room for fs_ipg inodes",
        lambda f: f.fs_iblkno + f.fs_ipg // f.fs_inopb * f.fs_frag <= f.fs_dblkno,
    ),
    ("fs_cgoffset >= 0", lambda f: f.fs_cgoffset >= 0),
    ("-fs_cgmask is a power of two", lambda f: f.fs_cgoffset == 0 or _power_of_two(-f.fs_cgmask)),
    ("fs_cgoffset keeps a group's metadata inside fs_fpg", lambda f: _last_start(f) + f.fs_dblkno <= f.fs_fpg),
    ("fs_dblkno <= fs_size", lambda f: f.fs_dblkno <= f.fs_size),
    (f"fs_sbsize <= {SBSIZE}", lambda f: 0 < f.fs_sbsize <= SBSIZE),
    ("fs_cgsize <= fs_bsize", lambda f: 0 < f.fs_cgsize <= f.fs_bsize),
    (
        "fs_cssize holds fs_ncg summaries",
        lambda f: f.fs_cssize == _roundup(f.fs_ncg * record(csum("little")).size, f.fs_fsize),
    ),
    ("fs_csaddr is inside fs_size", lambda f: f.fs_csaddr > 0 and f.fs_csaddr + f.fs_cssize // f.fs_fsize <= f.fs_size),
    (
        "-1 <= fs_maxsymlinklen <= size of an inode's pointers",  # -1 is NeXT's
        lambda f: -1 <= f.fs_maxsymlinklen <= f.pointer_bytes * (NDADDR + NIADDR),
    ),
)


def find_superblock(device: BlockDevice) -> Superblock:
    """The superblock of the file system that begins at byte 0 of `device`.

    UnknownFormat when none is there; FileSystemError FS_INVALID_FS naming the relation that the first one found
    breaks; the device's own errors as they come.
    """
    broken: FileSystemError | None = None
    for location, data, order, variant in sorted(_candidates(device), key=_out_of_place):
        try:
            fs = parse_superblock(data, order, variant, location)
        except FileSystemError as error:
            broken = broken or error
            continue
        if location == SBLOCK_UFS2 == fs.fs_sblkno << fs.fs_fshift:
            continue  # the copy in the first group of a disk with large blocks (alternate)
        return fs._replace(dirblksiz=2 * DIRBLKSIZ) if _has_apple_label(device) else fs
    raise broken or UnknownFormat(
        "no FFS superblock at byte 65536, 8192, 0 or 262144; is it 4.2BSD to UFS2, and does it begin here?"
    )


def _has_apple_label(device: BlockDevice) -> bool:
    """Mac OS X: directories as NeXT had them, on disks that say nothing else of it (NetBSD ufs/ffs/fs.h)."""
    end = APPLE_LABEL_AT + len(APPLE_LABEL)
    return device.size >= end and device.read(APPLE_LABEL_AT, len(APPLE_LABEL)) == APPLE_LABEL


Candidate = tuple[int, bytes, ByteOrder, Variant]


def _candidates(device: BlockDevice) -> Iterator[Candidate]:
    for location in SUPERBLOCK_LOCATIONS:
        if location + SUPERBLOCK_BYTES > device.size:
            continue
        data = device.read(location, SUPERBLOCK_BYTES)
        kind = recognise(data)
        if kind is not None:
            yield location, data, *kind


def _out_of_place(candidate: Candidate) -> bool:
    """Whether this may be the copy of a cylinder group: the place of one is where another block size has the original.

    As FreeBSD's ffs_sbget: UFS2 says itself where it belongs (Debian's makefs: at 8 KiB), and UFS1 is not at 64 KiB.
    """
    location, data, order, variant = candidate
    if variant == "ufs2":
        return bool(record(superblock(order, variant)).unpack(data)["fs_sblockloc"] != location)
    return location == SBLOCK_UFS2


def recognise(data: bytes) -> tuple[ByteOrder, Variant] | None:
    """Byte order and variant from the magic number and fs_postblformat, or None where no magic number is.

    In the 4.3 variant the place of fs_postblformat is in fs_postbl, for cylinder 31. It cannot read as the number 1
    there: that would be block 0 at cylinder 31, and block 0 is on cylinder 0.
    """
    orders: tuple[ByteOrder, ...] = ("little", "big")
    for order in orders:
        postblformat, magic = _magic(order).unpack_from(data)
        if magic in UFS2_MAGICS:
            return order, "ufs2"
        if magic == FS_MAGIC:
            return order, "4.4" if postblformat == FS_DYNAMICPOSTBLFMT else "4.3"
    return None


@cache
def _magic(order: ByteOrder) -> Struct:
    """What tells the variants apart is in the same place in all of them."""
    return record(superblock(order, "4.4")).selection(("fs_postblformat", "fs_magic"))


def parse_superblock(data: bytes, order: ByteOrder, variant: Variant, location: int) -> Superblock:
    """The checked superblock in `data` (1380 bytes or more). FileSystemError FS_INVALID_FS names what is broken."""
    values = record(superblock(order, variant)).unpack(data)
    pointer_bytes = record(pointer(order, variant)).size
    nindir = values["fs_bsize"] // pointer_bytes
    is_sun = variant == "4.4" and _is_sun(data, order, values)
    facts: dict[str, Any] = {
        **_kind(values, variant, is_sun),
        "is_sun": is_sun,
        "byte_order": order,
        "tables": variant,
        "location": location,
        "pointer_bytes": pointer_bytes,
        "inode_bytes": record(dinode(order, variant)).size,
        "maxfilesize": (NDADDR + nindir + nindir**2 + nindir**3) * values["fs_bsize"],
        "fs_fsmnt": values["fs_fsmnt"].split(b"\0", 1)[0],
        "fs_volname": values.get("fs_volname", b"").split(b"\0", 1)[0],
        "fs_maxsymlinklen": values.get("fs_maxsymlinklen", 0),
        "dirblksiz": _dirblksiz(values, variant),
    }
    if variant == "ufs2":  # its macro cgstart has no shift
        facts |= {"fs_cgoffset": 0, "fs_cgmask": -1}
    values = {name.removeprefix("fs_cstotal."): value for name, value in values.items()}
    fs = Superblock(**({name: value for name, value in values.items() if name in _FACTS} | facts))
    for name, holds in RELATIONS:
        if not holds(fs):
            raise FileSystemError(FsCode.FS_INVALID_FS, f"broken relation: {name}", f"superblock at byte {location}")
    return fs


def _dirblksiz(values: Mapping[str, Any], variant: Variant) -> int:
    """NeXT's and HP's DEV_BSIZE, and so their chunks of directories, are 1024 bytes; the BSDs' 512 on any disk."""
    shift = values["fs_fsbtodb"]
    is_large = variant != "ufs2" and 0 <= shift < 32 and values["fs_fsize"] >> shift == 2 * DEV_BSIZE
    return 2 * DIRBLKSIZ if is_large else DIRBLKSIZ


def _is_sun(data: bytes, order: ByteOrder, values: Mapping[str, Any]) -> bool:
    """Whether struct fs is that of Solaris, who has fs_version where 4.4 has fs_maxsymlinklen."""
    masks = record(sun_masks(order)).unpack(data, SUN_MASKS_AT)
    return masks == {"fs_qbmask": ~values["fs_bmask"], "fs_qfmask": ~values["fs_fmask"]}


def _kind(values: Mapping[str, Any], variant: Variant, is_sun: bool) -> dict[str, Any]:
    """The format, and which directory entries it has.

    Among the older, fs_maxsymlinklen decides, as in the kernels: Reno, SunOS and NeXT have dynamic tables and still the
    old entries.
    """
    if variant == "ufs2":
        return {"format": "ufs2", "entries": "4.4"}
    if is_sun:
        return {"format": "4.3bsd", "entries": "4.3"}
    modern = variant == "4.4" and (values["fs_maxsymlinklen"] > 0 or values["fs_inodefmt"] == FS_44INODEFMT)
    entries = "4.4" if modern and values["fs_maxsymlinklen"] > 0 else "4.3"
    return {"format": "ufs1" if modern else "4.3bsd", "entries": entries}
