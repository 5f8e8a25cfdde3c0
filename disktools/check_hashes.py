"""The check hashes of UFS2: CRC-32C over superblock, cylinder groups and inodes, many rows of bytes at once.

Interface:
    check_hashes(disk, inodes)          does nothing on a disk that has none
    crc32c_rows(data, width) -> list of int      the CRC of each row of `width` bytes
Not here: any other check.

FreeBSD (sys/ufs/ffs/ffs_subr.c, ffs_calc_sbhash and its kin): register preset to ones, not inverted at the end,
computed with the hash's own field as zero.
"""

from __future__ import annotations

from functools import cache

from bootfs.geometry import cgimin, cgtod, fsbtobyte
from bootfs.layout import CK_CYLGRP, CK_INODE, CK_SUPERBLOCK, FS_METACKHASH, cylinder_group, dinode, superblock
from bootfs.layout_format import record
from disktools.check_disk import Disk
from disktools.check_inodes import Inodes

POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
GROUPS_AT_ONCE = 64


@cache
def _tables() -> tuple[bytes, bytes, bytes, bytes]:
    """The four bytes of the CRC table, lowest first, each as a table for bytes.translate."""
    words = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        words.append(byte)
    low, second, third, high = (bytes(word >> shift & 255 for word in words) for shift in (0, 8, 16, 24))
    return low, second, third, high


def _xor(one: bytes | bytearray, two: bytes | bytearray) -> bytes:
    return (int.from_bytes(one, "little") ^ int.from_bytes(two, "little")).to_bytes(len(one), "little")


def crc32c_rows(data: bytes | bytearray, width: int) -> list[int]:
    """The CRC register after each row. It goes byte by byte through all rows together: a column is one big integer."""
    tables = _tables()
    rows = len(data) // width
    planes = [b"\xff" * rows] * 4  # the registers of all rows, lowest byte first
    for column in range(width):
        index = _xor(planes[0], data[column::width])
        low, second, third, high = (index.translate(table) for table in tables)
        planes = [_xor(planes[1], low), _xor(planes[2], second), _xor(planes[3], third), high]
    return [int.from_bytes(bytes(plane[row] for plane in planes), "little") for row in range(rows)]


def check_hashes(disk: Disk, inodes: Inodes) -> None:
    """Every hash that the superblock says is kept."""
    if disk.fs.tables != "ufs2" or not disk.fields["fs_flags"] & FS_METACKHASH:
        return
    kept = disk.fs.fs_metackhash
    if kept & CK_SUPERBLOCK:
        _superblock(disk)
    if kept & CK_CYLGRP:
        for first in range(0, disk.groups, GROUPS_AT_ONCE):
            _groups(disk, range(first, min(first + GROUPS_AT_ONCE, disk.groups)))
    if kept & CK_INODE:
        for cg, used in inodes.used.items():
            _inodes(disk, cg, used)


def _superblock(disk: Disk) -> None:
    data = bytearray(disk.data[: disk.fs.fs_sbsize])
    at = record(superblock(disk.fs.byte_order, "ufs2")).offset_of("fs_ckhash")
    data[at : at + 4] = bytes(4)
    disk.report.expect("superblock", "fs_ckhash", disk.fields["fs_ckhash"], crc32c_rows(data, len(data))[0])


def _groups(disk: Disk, groups: range) -> None:
    fs = disk.fs
    layout = record(cylinder_group(fs.byte_order, "ufs2"))
    at = layout.offset_of("cg_ckhash")
    rows = []
    for cg in groups:
        data = disk.read_fragments(cgtod(fs, cg), fs.fs_cgsize, f"cylinder group {cg}")
        if data is not None and len(data) >= layout.size:
            rows.append((cg, layout.unpack(data)["cg_ckhash"], data[:at] + bytes(4) + data[at + 4 :]))
    hashes = crc32c_rows(b"".join(data for _, _, data in rows), fs.fs_cgsize)
    for (cg, found, _), wanted in zip(rows, hashes, strict=True):
        disk.report.expect(f"cylinder group {cg}", "cg_ckhash", found, wanted)


def _inodes(disk: Disk, cg: int, used: set[int]) -> None:
    """The inodes in use of one group."""
    if not used:
        return
    fs = disk.fs
    layout = record(dinode(fs.byte_order, "ufs2"))
    size, at, where = layout.size, layout.offset_of("di_ckhash"), layout.index_of("di_ckhash")
    count = max(used) + 1
    data = disk.read(fsbtobyte(fs, cgimin(fs, cg)), count * size, f"inodes of cylinder group {cg}")
    if data is None:
        return
    found = [values[where] for values in layout.struct.iter_unpack(data)]
    cleared = bytearray(data)
    for byte in range(4):
        cleared[at + byte :: size] = bytes(count)
    hashes = crc32c_rows(cleared, size)
    for number in sorted(used):
        if found[number] != hashes[number]:
            ino = cg * fs.fs_ipg + number
            disk.report.inode(ino, f"di_ckhash is {found[number]:#x}, should be {hashes[number]:#x}")
