"""The disk under a check: its superblock, read with every way out closed but a problem in the report.

Interface:
    Disk              device, superblock, all fields of struct fs, report; read() never raises
    open_disk(device, report) -> Disk | None    None: no FFS is there. Interruption: one is, but no usable superblock
Not here: what follows from the superblock (check_superblock compares its copies).

A broken superblock is replaced by a copy of it, which is found by its magic number and by lying where it says that a
copy belongs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError
from bootfs.geometry import cgsblock, fsbtobyte
from bootfs.layout import (
    DEV_BSIZE,
    FS_DYNAMICPOSTBLFMT,
    FS_MAGIC,
    FS_UFS2_MAGIC,
    SBSIZE,
    ByteOrder,
    Variant,
    superblock,
)
from bootfs.layout_format import record
from bootfs.superblock import SUPERBLOCK_LOCATIONS, Superblock, parse_superblock
from disktools.check_report import Interruption, Report

SUPERBLOCK_BYTES = record(superblock("little", "4.3")).size
MAGIC_AT = record(superblock("little", "4.3")).offset_of("fs_magic")
SBLOCK_UFS1 = 8192
SBLOCK_UFS2 = 65536
SEARCHED_BYTES = 64 << 20  # where a copy is looked for: the first is in group 0 or 1
PIECE = 1 << 20
ORDERS: tuple[ByteOrder, ByteOrder] = ("little", "big")


@dataclass(slots=True)
class Disk:
    """`data` is the superblock as it lies on the disk (up to SBSIZE bytes), `fields` the same by name.

    `groups` counts the cylinder groups whose tables the device reaches to.
    """

    device: BlockDevice
    fs: Superblock
    data: bytes
    fields: dict[str, Any]
    report: Report
    groups: int = 0

    def read(self, offset: int, length: int, where: str, ino: int = 0) -> bytes | None:
        """Bytes of the device, or None with a problem at `where`."""
        try:
            return self.device.read(offset, length)
        except FileSystemError as error:
            self.report.add(where, f"cannot be read: {error.message}", ino)
            return None

    def read_fragments(self, fragment: int, length: int, where: str, ino: int = 0) -> bytes | None:
        """`length` bytes from a fragment on, or None with a problem at `where`."""
        return self.read(fsbtobyte(self.fs, fragment), length, where, ino)


def open_disk(device: BlockDevice, report: Report) -> Disk | None:
    """The disk with its own superblock, or with a copy of it, which is then the first problem of the report."""
    broken: str | None = None
    for location in SUPERBLOCK_LOCATIONS:
        data = _peek(device, location)
        for order, variant in _kinds(data):
            try:
                fs = parse_superblock(data, order, variant, location)
            except FileSystemError as error:
                broken = broken or str(error)
                continue
            if _belongs(fs, data):
                if broken:
                    report.add("superblock", broken)
                return _disk(device, fs, data, report)
    for fs, data in _copies(device):
        place = "at the start of the disk" if fs.tables == "ufs2" else f"at byte {SBLOCK_UFS1}"
        why = broken or f"superblock: none {place}"
        report.add("superblock", f"{why.partition(': ')[2]} (its copy at byte {fs.location} is used instead)")
        return _disk(device, fs, data, report)
    if broken is None:
        return None
    report.add("superblock", f"{broken.partition(': ')[2]}, and no copy of it is usable")
    raise Interruption


def _disk(device: BlockDevice, fs: Superblock, data: bytes, report: Report) -> Disk:
    return Disk(device, fs, data, record(superblock(fs.byte_order, fs.tables)).unpack(data), report)


def _peek(device: BlockDevice, location: int) -> bytes:
    """The bytes of a superblock, or none where none can be."""
    if location + SUPERBLOCK_BYTES > device.size:
        return b""
    try:
        return device.read(location, min(SBSIZE, device.size - location))
    except FileSystemError:
        return b""


def _kinds(data: bytes) -> Iterator[tuple[ByteOrder, Variant]]:
    """What a superblock with this magic number is."""
    if len(data) < SUPERBLOCK_BYTES:
        return
    for order in ORDERS:
        values = record(superblock(order, "4.4")).unpack(data)
        if values["fs_magic"] == FS_UFS2_MAGIC:
            yield order, "ufs2"
        elif values["fs_magic"] == FS_MAGIC:
            yield order, "4.4" if values["fs_postblformat"] == FS_DYNAMICPOSTBLFMT else "4.3"


def _belongs(fs: Superblock, data: bytes) -> bool:
    """Whether this is the superblock itself: a copy of one may lie where another block size has the original.

    UFS2 says where it belongs; the older ones are never at 64 KiB (FreeBSD sys/ufs/ffs/ffs_subr.c).
    """
    if fs.tables == "ufs2":
        sblockloc = record(superblock(fs.byte_order, "ufs2")).unpack(data)["fs_sblockloc"]
        return bool(sblockloc == fs.location)
    return fs.location != SBLOCK_UFS2


def _copies(device: BlockDevice) -> Iterator[tuple[Superblock, bytes]]:
    """The sound copies, from the start of the device on."""
    magics = [(magic & 0xFFFFFFFF).to_bytes(4, order) for magic in (FS_MAGIC, FS_UFS2_MAGIC) for order in ORDERS]
    for start in range(0, min(device.size, SEARCHED_BYTES), PIECE):
        try:
            piece = device.read(start, min(PIECE, device.size - start))
        except FileSystemError:
            continue
        for place in sorted({at for magic in magics for at in _all(piece, magic)}):
            location = start + place - MAGIC_AT
            if location >= 0 and location % DEV_BSIZE == 0:
                yield from _copy_at(device, location)


def _all(data: bytes, wanted: bytes) -> Iterator[int]:
    """Every place of `wanted` where the magic number of a superblock can be."""
    at = data.find(wanted)
    while at >= 0:
        if (at - MAGIC_AT) % DEV_BSIZE == 0:
            yield at
        at = data.find(wanted, at + 1)


def _copy_at(device: BlockDevice, location: int) -> Iterator[tuple[Superblock, bytes]]:
    data = _peek(device, location)
    for order, variant in _kinds(data):
        try:
            fs = parse_superblock(data, order, variant, location)
        except FileSystemError:
            continue
        group = location // fs.fs_fsize // fs.fs_fpg
        if group < fs.fs_ncg and fsbtobyte(fs, cgsblock(fs, group)) == location:
            yield fs, data
