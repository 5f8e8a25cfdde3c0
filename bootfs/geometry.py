"""Where things are on an FFS: pure functions of the superblock, under the names of the BSD macros.

Interface: the macros of sys/h/fs.h as functions. Units: `fragment` is a fragment number from the start of the file
system, `block` (lbn) a block number in a file, `size` and `position` bytes in a file, `cg` a cylinder group.
Not here: reading anything. The superblock was checked; these functions trust it.
"""

from __future__ import annotations

from bootfs.layout import NDADDR
from bootfs.superblock import Superblock

# Fragments and the disk


def fsbtodb(fs: Superblock, fragment: int) -> int:
    """The device sector of a fragment."""
    return fragment << fs.fs_fsbtodb


def dbtofsb(fs: Superblock, sector: int) -> int:
    """The fragment that a device sector is in."""
    return sector >> fs.fs_fsbtodb


def fsbtobyte(fs: Superblock, fragment: int) -> int:
    """The byte offset of a fragment from the start of the file system. (Not a BSD macro: our devices count bytes.)"""
    return fragment << fs.fs_fshift


# Cylinder groups


def cgbase(fs: Superblock, cg: int) -> int:
    """The first fragment of a group."""
    return fs.fs_fpg * cg


def cgstart(fs: Superblock, cg: int) -> int:
    """Where the group's metadata is counted from: shifted group by group, so that it is not all on one platter."""
    return cgbase(fs, cg) + fs.fs_cgoffset * (cg & ~fs.fs_cgmask)


def cgsblock(fs: Superblock, cg: int) -> int:
    """The group's copy of the superblock."""
    return cgstart(fs, cg) + fs.fs_sblkno


def cgtod(fs: Superblock, cg: int) -> int:
    """The group's struct cg."""
    return cgstart(fs, cg) + fs.fs_cblkno


def cgimin(fs: Superblock, cg: int) -> int:
    """The group's first inode block."""
    return cgstart(fs, cg) + fs.fs_iblkno


def cgdmin(fs: Superblock, cg: int) -> int:
    """The group's first data fragment after its metadata."""
    return cgstart(fs, cg) + fs.fs_dblkno


def dtog(fs: Superblock, fragment: int) -> int:
    """The group of a fragment."""
    return fragment // fs.fs_fpg


def dtogd(fs: Superblock, fragment: int) -> int:
    """The number of a fragment in its group."""
    return fragment % fs.fs_fpg


# Inodes


def ino_to_cg(fs: Superblock, ino: int) -> int:
    """The group of an inode."""
    return ino // fs.fs_ipg


def ino_to_fsba(fs: Superblock, ino: int) -> int:
    """The first fragment of the block that an inode is in."""
    return cgimin(fs, ino_to_cg(fs, ino)) + blkstofrags(fs, ino % fs.fs_ipg // fs.fs_inopb)


def ino_to_fsbo(fs: Superblock, ino: int) -> int:
    """The number of an inode in its block."""
    return ino % fs.fs_inopb


# Positions in a file


def blkoff(fs: Superblock, position: int) -> int:
    """Bytes from the start of the block."""
    return position & ~fs.fs_bmask


def fragoff(fs: Superblock, position: int) -> int:
    """Bytes from the start of the fragment."""
    return position & ~fs.fs_fmask


def lblkno(fs: Superblock, position: int) -> int:
    """The block of a file that a position is in."""
    return position >> fs.fs_bshift


def lblktosize(fs: Superblock, block: int) -> int:
    """The position where a block of a file begins."""
    return block << fs.fs_bshift


def numfrags(fs: Superblock, position: int) -> int:
    """Whole fragments up to a position."""
    return position >> fs.fs_fshift


def blkroundup(fs: Superblock, size: int) -> int:
    """A size rounded up to whole blocks, in bytes."""
    return (size + fs.fs_bsize - 1) & fs.fs_bmask


def fragroundup(fs: Superblock, size: int) -> int:
    """A size rounded up to whole fragments, in bytes."""
    return (size + fs.fs_fsize - 1) & fs.fs_fmask


def fragstoblks(fs: Superblock, fragments: int) -> int:
    """Whole blocks in a number of fragments."""
    return fragments >> fs.fs_fragshift


def blkstofrags(fs: Superblock, blocks: int) -> int:
    """Fragments in a number of blocks."""
    return blocks << fs.fs_fragshift


def fragnum(fs: Superblock, fragment: int) -> int:
    """The number of a fragment in its block of the disk."""
    return fragment & (fs.fs_frag - 1)


def blknum(fs: Superblock, fragment: int) -> int:
    """The first fragment of the block of the disk that a fragment is in."""
    return fragment & ~(fs.fs_frag - 1)


def blksize(fs: Superblock, size: int, block: int) -> int:
    """Bytes that a block of a file of `size` bytes takes on disk: less than fs_bsize only in a small file's tail."""
    if block >= NDADDR or size >= lblktosize(fs, block + 1):
        return fs.fs_bsize
    return fragroundup(fs, blkoff(fs, size))


def freespace(fs: Superblock) -> int:
    """Free fragments, those held in reserve (fs_minfree percent) not counted."""
    return blkstofrags(fs, fs.cs_nbfree) + fs.cs_nffree - fs.fs_dsize * fs.fs_minfree // 100
