"""The shape of a new UFS1 or UFS2 file system: from a size to every field of its superblock but the free counts.

Interface:
    default_sizes(format, size) -> (block size, fragment size)
    ufs_superblock_fields(kind, size, block_size, fragment_size, time, group_blocks) -> dict
        under the names that UFS2 gives the fields, which UFS1 has in the same places. Refusal
Not here: writing (newfs), what is free (cylinder_group, allocator), byte order; 4.3BSD (geometry_plan).

These formats know no cylinders: a group is as large as its maps allow in one block, all groups of a disk are alike, and
their metadata begins at the same place in each. UFS1 has the numbers of an imagined disk, one cylinder a group, as
FreeBSD's newfs gives it, and the wide fields beside the narrow ones.

Sources: FreeBSD sbin/newfs/mkfs.c, sys/ufs/ffs/fs.h.
"""

from __future__ import annotations

from typing import Any, Literal

from bootfs.layout import (
    DEV_BSIZE,
    FS_44INODEFMT,
    FS_DYNAMICPOSTBLFMT,
    FS_FLAGS_UPDATED,
    FS_MAGIC,
    FS_UFS2_MAGIC,
    MAXSYMLINKLEN,
    MAXSYMLINKLEN_UFS2,
    NDADDR,
    SBSIZE,
    csum,
    dinode,
    pointer,
    superblock,
)
from bootfs.layout_format import record
from bootfs.superblock import Format
from disktools.errors import Refusal
from disktools.geometry_plan import MINIMUM_BYTES, howmany, log2, roundup
from disktools.group_tables import group_bytes
from disktools.sizes import format_size

UfsFormat = Literal["ufs1", "ufs2"]
SUPERBLOCK_LOCATION: dict[UfsFormat, int] = {"ufs1": 8192, "ufs2": 65536}
FS_BYTES = record(superblock("little", "ufs2")).size - 4  # struct fs itself
CSUM_BYTES = record(csum("little")).size
MINBSIZE, MAXBSIZE, MAXFRAG = 4096, 65536, 8
MINFREE_PERCENT = 8
FRAGMENTS_PER_INODE = 4
MINIMUM_BYTES_PER_INODE = 2048
MAXCONTIG_BYTES = 1 << 20  # as much as later kernels write at once
FS_MAXCONTIG = 16  # the longest stretches of free blocks that are counted
MOST_INODES_UFS1 = 32767  # a group; cg_niblk is a signed 16-bit number
MOST_FRAGMENTS_UFS1 = (1 << 31) - 1
LARGE_DISK_BYTES = 8 << 30


def default_sizes(kind: Format, size: int) -> tuple[int, int]:
    """Blocks of 8192 in fragments of 1024; large disks of the newer formats, as in FreeBSD, 32768 in 4096."""
    return (32768, 4096) if kind != "4.3bsd" and size > LARGE_DISK_BYTES else (8192, 1024)


def check_ufs_sizes(kind: UfsFormat, size: int, block_size: int, fragment_size: int) -> None:
    """Refusal unless the sizes (bytes) are ones that the format can have."""
    for name, value in (("block", block_size), ("fragment", fragment_size)):
        if value <= 0 or value & (value - 1):
            raise Refusal(f"the {name} size must be a power of two, not {value}")
    if not MINBSIZE <= block_size <= MAXBSIZE:
        raise Refusal(f"the block size must be {MINBSIZE} to {MAXBSIZE} in this format, not {block_size}")
    least = max(DEV_BSIZE, block_size // MAXFRAG)
    if not least <= fragment_size <= block_size:
        raise Refusal(f"the fragment size must be {least} to {block_size} with such blocks, not {fragment_size}")
    if size < MINIMUM_BYTES:
        raise Refusal(f"a disk of {format_size(size)} is too small; give --size at least {format_size(MINIMUM_BYTES)}")
    if kind == "ufs1" and size // fragment_size > MOST_FRAGMENTS_UFS1:
        raise Refusal(
            f"a disk of {format_size(size)} has too many fragments for this format; "
            "give a larger --fragment-size, or --format ufs2"
        )


def ufs_superblock_fields(
    kind: UfsFormat, size: int, block_size: int, fragment_size: int, time: int, group_blocks: int = 0
) -> dict[str, Any]:
    """Every field of struct fs for a new disk of `size` bytes; fs_dsize and fs_cstotal are left for newfs to count.

    `time` is in seconds since 1970; `group_blocks` makes groups of so many blocks rather than the largest. Refusal.
    """
    check_ufs_sizes(kind, size, block_size, fragment_size)
    fields = _sizes(kind, block_size, fragment_size) | _places(kind, block_size, fragment_size)
    _groups(kind, fields, size, group_blocks)
    fields |= {
        "fs_clean": 1,
        "fs_old_flags": FS_FLAGS_UPDATED,
        "fs_time": time,
        "fs_id": (time & 0x7FFFFFFF, size // fragment_size & 0x7FFFFFFF),
        "fs_minfree": MINFREE_PERCENT,
        "fs_maxbsize": block_size,
        "fs_avgfilesize": 16384,
        "fs_avgfpdir": 64,
        "fs_old_inodefmt": FS_44INODEFMT,
        "fs_dsize": 0,
    }
    if kind == "ufs1":
        fields |= _imagined_disk(fields)
    return fields


def _sizes(kind: UfsFormat, block_size: int, fragment_size: int) -> dict[str, Any]:
    variant: Literal["4.4", "ufs2"] = "4.4" if kind == "ufs1" else "ufs2"
    nindir = block_size // record(pointer("little", variant)).size
    reach = NDADDR + nindir + nindir**2 + nindir**3
    maxcontig = MAXCONTIG_BYTES // block_size
    return {
        "fs_magic": FS_MAGIC if kind == "ufs1" else FS_UFS2_MAGIC,
        "fs_bsize": block_size,
        "fs_fsize": fragment_size,
        "fs_frag": block_size // fragment_size,
        "fs_bmask": -block_size,
        "fs_fmask": -fragment_size,
        "fs_qbmask": block_size - 1,
        "fs_qfmask": fragment_size - 1,
        "fs_bshift": log2(block_size),
        "fs_fshift": log2(fragment_size),
        "fs_fragshift": log2(block_size // fragment_size),
        "fs_fsbtodb": log2(fragment_size // DEV_BSIZE),
        "fs_sbsize": min(roundup(FS_BYTES, fragment_size), SBSIZE),
        "fs_nindir": nindir,
        "fs_inopb": block_size // record(dinode("little", variant)).size,
        "fs_maxbpg": nindir,
        "fs_maxcontig": maxcontig,
        "fs_contigsumsize": min(maxcontig, FS_MAXCONTIG),
        "fs_maxsymlinklen": MAXSYMLINKLEN if kind == "ufs1" else MAXSYMLINKLEN_UFS2,
        "fs_maxfilesize": min(reach * block_size, 1 << 63) - 1,
    }


def _places(kind: UfsFormat, block_size: int, fragment_size: int) -> dict[str, int]:
    """Where a group keeps what, in fragments."""
    frag, location = block_size // fragment_size, SUPERBLOCK_LOCATION[kind]
    sblkno = roundup(howmany(location + SBSIZE, fragment_size), frag)
    cblkno = sblkno + roundup(howmany(SBSIZE, fragment_size), frag)
    return {
        "fs_sblockloc": location,
        "fs_sblockactualloc": location,
        "fs_sblkno": sblkno,
        "fs_cblkno": cblkno,
        "fs_iblkno": cblkno + frag,
    }


def _groups(kind: UfsFormat, fields: dict[str, Any], size: int, group_blocks: int) -> None:
    """Adds the numbers of groups and inodes, dropping a last group that cannot hold its own metadata."""
    frag = fields["fs_frag"]
    fields["fs_size"] = size // fields["fs_fsize"]
    largest = _largest_group(kind, fields)
    groups = howmany(fields["fs_size"], largest)
    fields["fs_fpg"] = group_blocks * frag or roundup(howmany(fields["fs_size"], groups), frag)
    if fields["fs_fpg"] > largest:
        raise Refusal(f"groups of {group_blocks} blocks do not fit their maps into one block; take fewer")
    fields["fs_ipg"] = _inodes_per_group(kind, fields, fields["fs_fpg"])
    fields["fs_dblkno"] = fields["fs_iblkno"] + fields["fs_ipg"] // fields["fs_inopb"] * frag
    fields["fs_ncg"] = howmany(fields["fs_size"], fields["fs_fpg"])
    if fields["fs_dblkno"] + frag > fields["fs_fpg"]:
        raise Refusal(f"groups of {group_blocks} blocks are smaller than their own metadata; take more")
    last = fields["fs_ncg"] - 1
    if last and fields["fs_size"] - last * fields["fs_fpg"] < fields["fs_dblkno"] + frag:
        fields |= {"fs_ncg": last, "fs_size": last * fields["fs_fpg"]}
    fields["fs_csaddr"] = fields["fs_dblkno"]
    fields["fs_cssize"] = roundup(fields["fs_ncg"] * CSUM_BYTES, fields["fs_fsize"])
    fields["fs_cgsize"] = roundup(_group_bytes(kind, fields, fields["fs_fpg"]), fields["fs_fsize"])
    end = min(fields["fs_size"], fields["fs_fpg"])  # of the first group, which has the summaries of all
    if fields["fs_dblkno"] + fields["fs_cssize"] // fields["fs_fsize"] + 2 * frag > end:
        raise Refusal("the disk has no room after its own tables; give a larger --size or a smaller --block-size")
    if fields["fs_ipg"] * fields["fs_ncg"] >= 1 << 32:
        raise Refusal("the format cannot number so many inodes; give a larger --fragment-size")


def _inodes_per_group(kind: UfsFormat, fields: dict[str, Any], fpg: int) -> int:
    """One for every four fragments, in whole blocks of inodes."""
    inopb = fields["fs_inopb"]
    each = max(FRAGMENTS_PER_INODE * fields["fs_fsize"], MINIMUM_BYTES_PER_INODE)
    inodes = roundup(max(fpg * fields["fs_fsize"] // each, 1), inopb)
    return int(min(inodes, MOST_INODES_UFS1 // inopb * inopb) if kind == "ufs1" else inodes)


def _group_bytes(kind: UfsFormat, fields: dict[str, Any], fpg: int) -> int:
    variant: Literal["4.4", "ufs2"] = "4.4" if kind == "ufs1" else "ufs2"
    ipg = _inodes_per_group(kind, fields, fpg)
    return group_bytes(variant, fpg, ipg, fields["fs_frag"], fields["fs_contigsumsize"])


def _largest_group(kind: UfsFormat, fields: dict[str, Any]) -> int:
    """Fragments of the largest group whose maps fit into one block, in whole blocks."""
    frag, low, high = fields["fs_frag"], 1, fields["fs_bsize"] * 8
    while low < high:  # blocks; the maps grow with them
        middle = (low + high + 1) // 2
        if _group_bytes(kind, fields, middle * frag) <= fields["fs_bsize"]:
            low = middle
        else:
            high = middle - 1
    return int(low * frag)


def _imagined_disk(fields: dict[str, Any]) -> dict[str, Any]:
    """What UFS1 has besides: a disk of one track a cylinder and one cylinder a group, and the narrow totals."""
    nspf = fields["fs_fsize"] // DEV_BSIZE
    sectors = fields["fs_fpg"] * nspf
    return {
        "fs_old_cgmask": -1,
        "fs_old_time": fields["fs_time"],
        "fs_old_size": fields["fs_size"],
        "fs_old_csaddr": fields["fs_csaddr"],
        "fs_old_rps": 60,
        "fs_old_nspf": nspf,
        "fs_old_npsect": sectors,
        "fs_old_interleave": 1,
        "fs_old_ntrak": 1,
        "fs_old_nsect": sectors,
        "fs_old_spc": sectors,
        "fs_old_ncyl": fields["fs_ncg"],
        "fs_old_cpg": 1,
        "fs_old_postblformat": FS_DYNAMICPOSTBLFMT,
        "fs_old_nrpos": 1,
    }
