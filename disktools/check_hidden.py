"""Inodes that no directory names, and that are sound so: what some systems keep in files that nobody is to see.

Interface:
    netbsd_inodes_of(disk) -> frozenset    NetBSD: the log (WAPBL) and the quotas, which the superblock names
    is_shadow(fs, mode)                    Solaris: an access control list, named by the inodes that it is for
Not here: their contents.

Sources: NetBSD sys/ufs/ffs/fs.h, sys/ufs/ufs/ufs_wapbl.h and quota2.h, sbin/fsck_ffs/pass4.c; illumos
usr/src/uts/common/sys/fs/ufs_inode.h.
"""

from __future__ import annotations

from bootfs.layout import (
    FLAGS_AT,
    FS_DOQUOTA2,
    FS_DOWAPBL,
    FS_FLAGS_UPDATED,
    NETBSD_INODES_AT,
    Q2_HEAD_MAGIC,
    UFS_WAPBL_JOURNALLOC_IN_FILESYSTEM,
    netbsd_inodes,
)
from bootfs.layout_format import record
from bootfs.superblock import Superblock
from disktools.check_disk import Disk

INODE = 3  # in fs_journallocs, of a log inside the file system
IFMT, IFSHAD = 0o170000, 0o130000


def netbsd_inodes_of(disk: Disk) -> frozenset[int]:
    """Their numbers. FreeBSD gives the same two flags another meaning, but has nothing but zeros where the rest is."""
    fs = disk.fs
    old_flags = disk.fields.get("fs_old_flags", disk.fields["fs_flags"])
    if fs.tables == "4.3" or (fs.tables == "4.4" and not old_flags & FS_FLAGS_UPDATED):
        return frozenset()
    flags = int.from_bytes(disk.data[FLAGS_AT : FLAGS_AT + 4], fs.byte_order)
    values = record(netbsd_inodes(fs.byte_order)).unpack(disk.data, NETBSD_INODES_AT)
    found: set[int] = set()
    if flags & FS_DOWAPBL and values["fs_journal_location"] == UFS_WAPBL_JOURNALLOC_IN_FILESYSTEM:
        found.add(values["fs_journallocs"][INODE])
    if flags & FS_DOQUOTA2 and values["fs_quota_magic"] == Q2_HEAD_MAGIC:
        found.update(values["fs_quotafile"])
    return frozenset(found)


def is_shadow(fs: Superblock, mode: int) -> bool:
    """Whether an inode of that mode is one of Solaris's access control lists."""
    return fs.is_sun and mode & IFMT == IFSHAD
