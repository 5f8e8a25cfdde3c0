"""Copies of a superblock: each cylinder group keeps one, for the day when the superblock itself is lost.

Interface:
    find_alternate(device) -> Superblock    UnknownFormat when no sound copy is where one may be
Invariants:
    1. A copy is taken only if it lies where its own geometry has one, and its group is there as it says.
    2. The search is bounded: likely places, and the first SEARCHED bytes.
Not here: the superblock itself (superblock).
"""

from __future__ import annotations

from collections.abc import Iterator

from bootfs import geometry
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, UnknownFormat
from bootfs.layout import CG_MAGIC, DEV_BSIZE, FS_MAGIC, SBSIZE, ByteOrder, cylinder_group, superblock
from bootfs.layout_format import record
from bootfs.superblock import (
    MAXBSIZE,
    MINBSIZE,
    SUPERBLOCK_BYTES,
    SUPERBLOCK_LOCATIONS,
    UFS2_MAGICS,
    Superblock,
    parse_superblock,
    recognise,
)

SEARCHED = 8 << 20  # bytes
PIECE = 1 << 20
MAX_HINTED = 64  # groups whose copies a damaged superblock leads to
MAGIC_AT = record(superblock("little", "4.3")).offset_of("fs_magic")


def find_alternate(device: BlockDevice) -> Superblock:
    """The first sound copy of the superblock of the file system at byte 0 of `device`."""
    tried: set[int] = set()
    for location in _places(device):
        if location in tried or not 0 < location <= device.size - SUPERBLOCK_BYTES:
            continue
        tried.add(location)
        fs = _copy_at(device, location)
        if fs is not None:
            return fs
    raise UnknownFormat("no FFS superblock, and no copy of one")


def _places(device: BlockDevice) -> Iterator[int]:
    """Where a copy may be, in bytes: that of the first group, those a damaged superblock points to, any magic number.

    newfs puts the first copy into the first block after the superblock itself.
    """
    for location in SUPERBLOCK_LOCATIONS:
        size = MINBSIZE
        while size <= MAXBSIZE:
            yield -(-(location + SBSIZE) // size) * size
            size *= 2
    for location in SUPERBLOCK_LOCATIONS:
        if location + SUPERBLOCK_BYTES <= device.size:
            yield from _hinted(device.read(location, SUPERBLOCK_BYTES))
    for start in range(0, min(SEARCHED, device.size), PIECE):
        piece = device.read(start, min(PIECE + MAGIC_AT, device.size - start))
        yield from (start + at for at in sorted(_magic_numbers(piece)))


def _hinted(data: bytes) -> Iterator[int]:
    """The copies of the further groups, if the fields that tell their places have survived in a damaged superblock."""
    kind = recognise(data)
    if kind is None:
        return
    values = record(superblock(*kind)).unpack(data)
    fpg, size, sblkno = values["fs_fpg"], values["fs_fsize"], values["fs_sblkno"]
    offset, mask = values.get("fs_cgoffset", 0), values.get("fs_cgmask", -1)
    for cg in range(MAX_HINTED):
        yield (fpg * cg + offset * (cg & ~mask) + sblkno) * size


def _magic_numbers(piece: bytes) -> Iterator[int]:
    """Where, at a sector's start, a structure with a magic number of a superblock begins in `piece`."""
    orders: tuple[ByteOrder, ...] = ("little", "big")
    for word in (magic.to_bytes(4, order) for magic in (FS_MAGIC, *UFS2_MAGICS) for order in orders):
        at = piece.find(word)
        while at >= 0:
            if at >= MAGIC_AT and (at - MAGIC_AT) % DEV_BSIZE == 0:
                yield at - MAGIC_AT
            at = piece.find(word, at + 1)


def _copy_at(device: BlockDevice, location: int) -> Superblock | None:
    """The copy at a byte of the device, if it is one (invariant 1)."""
    data = device.read(location, SUPERBLOCK_BYTES)
    kind = recognise(data)
    if kind is None:
        return None
    try:
        fs = parse_superblock(data, *kind, location)
    except FileSystemError:
        return None
    cg = geometry.dtog(fs, location >> fs.fs_fshift)
    if cg >= fs.fs_ncg or geometry.fsbtobyte(fs, geometry.cgsblock(fs, cg)) != location:
        return None
    layout = record(cylinder_group(fs.byte_order, fs.tables))
    place = geometry.fsbtobyte(fs, geometry.cgtod(fs, cg))
    if place + layout.size > device.size:
        return None
    group = layout.unpack(device.read(place, layout.size))
    if (group["cg_magic"], group["cg_cgx"]) != (CG_MAGIC, cg):
        return None
    return fs._replace(is_alternate=True)
