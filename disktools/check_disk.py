"""The disk under a check: its superblock, read with every way out closed but a problem in the report.

Interface:
    Disk              device, superblock, all fields of struct fs, report; read() never raises
    open_disk(device, report) -> Disk | None    None: no FFS is there. Interruption: one is, but no usable superblock
    superblocks(device)             the bytes of each place where a superblock may be
Not here: what follows from the superblock (check_superblock compares its copies), finding a copy (bootfs.alternate).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bootfs.alternate import find_alternate
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError
from bootfs.geometry import fsbtobyte
from bootfs.layout import SBSIZE, superblock
from bootfs.layout_format import record
from bootfs.superblock import (
    SBLOCK_UFS2,
    SUPERBLOCK_BYTES,
    SUPERBLOCK_LOCATIONS,
    Superblock,
    parse_superblock,
    recognise,
)
from disktools.check_report import Interruption, Report

SBLOCK_UFS1 = 8192


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
    for location, data in superblocks(device):
        kind = recognise(data)
        if kind is None:
            continue
        try:
            fs = parse_superblock(data, *kind, location)
        except FileSystemError as error:
            broken = broken or error.message
            continue
        if _belongs(fs, data):
            if broken:
                report.add("superblock", broken)
            return _disk(device, fs, data, report)
    copy = _alternate(device)
    if copy is not None:
        why = broken or f"none {'at the start of the disk' if copy.tables == 'ufs2' else f'at byte {SBLOCK_UFS1}'}"
        report.add("superblock", f"{why} (its copy at byte {copy.location} is used instead)")
        return _disk(device, copy, _peek(device, copy.location), report)
    if broken is None:
        return None
    report.add("superblock", f"{broken}, and no copy of it is usable")
    raise Interruption


def superblocks(device: BlockDevice) -> Iterator[tuple[int, bytes]]:
    """The bytes at each place where a superblock may be."""
    for location in SUPERBLOCK_LOCATIONS:
        data = _peek(device, location)
        if data:
            yield location, data


def _alternate(device: BlockDevice) -> Superblock | None:
    try:
        return find_alternate(device)
    except FileSystemError:
        return None


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


def _belongs(fs: Superblock, data: bytes) -> bool:
    """Whether this is the superblock itself: a copy of one may lie where another block size has the original.

    UFS2 says where it belongs; the older ones are never at 64 KiB (FreeBSD sys/ufs/ffs/ffs_subr.c).
    """
    if fs.tables == "ufs2":
        sblockloc = record(superblock(fs.byte_order, "ufs2")).unpack(data)["fs_sblockloc"]
        return bool(sblockloc == fs.location)
    return fs.location != SBLOCK_UFS2
