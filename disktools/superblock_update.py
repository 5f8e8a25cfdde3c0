"""A change to a superblock that is on the disk: counts, time, the mark of cleanness, and what follows from them.

Interface:
    updated_superblock(fs, data, changes) -> bytes      `data` with the changes, by the names of its own format
Invariants:
    1. Every other byte stays.
    2. UFS1 keeps counts and time in two places once a later kernel has said so; both get them.
    3. The check hash is right where the disk has one.
Not here: which counts; copies of the superblock.

Source: FreeBSD sys/ufs/ffs/ffs_vfsops.c (ffs_oldfscompat_write), ffs_subr.c (ffs_calc_sbhash).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bootfs.layout import CK_SUPERBLOCK, superblock
from bootfs.layout_format import record
from bootfs.superblock import Superblock
from disktools.crc32c import check_hash


def updated_superblock(fs: Superblock, data: bytes, changes: Mapping[str, Any]) -> bytes:
    """As many bytes as `data`, which begins with the superblock and holds all fs_sbsize bytes of it."""
    layout = record(superblock(fs.byte_order, fs.tables))
    data = layout.pack(layout.unpack(data) | dict(changes)) + data[layout.size :]
    wide = record(superblock(fs.byte_order, "ufs2"))
    if fs.format == "ufs1":
        values = wide.unpack(data)
        if values["fs_maxbsize"] == fs.fs_bsize:
            return wide.pack(values | dict(changes)) + data[wide.size :]
    if fs.tables == "ufs2" and fs.fs_metackhash & CK_SUPERBLOCK:
        hashed = check_hash(data[: fs.fs_sbsize], wide.offset_of("fs_ckhash"))
        return wide.pack(wide.unpack(data) | {"fs_ckhash": hashed}) + data[wide.size :]
    return data
