"""The shape of a new 4.3BSD file system: from a size to every field of its superblock but the free counts.

Interface:
    choose_geometry(size, block_size, fragment_size) -> DiskGeometry
        few, large groups; no last group lost if that can be helped
    superblock_fields(size, block_size, fragment_size, geometry, time) -> dict
        Refusal where 4.3BSD could not have such a disk
Not here: writing (newfs), what is free (cylinder_group, allocator), byte order.

The formulas are those of 4.3BSD's mkfs of June 1986, so that a disk of the same geometry gets the same superblock; the
limits are those of its fs.h: 32 cylinders and 2048 inodes a group, its maps in one block, tables in one superblock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootfs.layout import (
    DEV_BSIZE,
    FS_MAGIC,
    MAXCPG,
    MAXIPG,
    NRPOS,
    SBSIZE,
    csum,
    cylinder_group,
    dinode,
    pointer,
    superblock,
)
from bootfs.layout_format import record
from disktools.errors import Refusal
from disktools.sizes import format_size

MINIMUM_BYTES = 1 << 20
BBSIZE = 8192  # bytes set aside for the boot program
MINBSIZE, MAXBSIZE, MAXFRAG = 4096, 8192, 8
MAXCSBUFS = 32  # blocks of summaries that a kernel keeps
BYTES_PER_INODE = 2048
MINFREE_PERCENT = 10
ROTDELAY_MS = 4
REVOLUTIONS_PER_SECOND = 60
ENOUGH_GROUPS = 8  # more than these, and the groups are made larger: each one breaks a large file into one more run
MAXIMUM_SECTORS = (1 << 31) - 1

FS_BYTES = record(superblock("little", "4.3")).size
CG_BYTES = record(cylinder_group("little", "4.3")).size
CSUM_BYTES = record(csum("little")).size
DINODE_BYTES = record(dinode("little")).size
POINTER_BYTES = record(pointer("little")).size


@dataclass(frozen=True, slots=True)
class DiskGeometry:
    """The disk behind the tables: `nsect` sectors a track, `ntrak` tracks a cylinder, `cpg` cylinders a group."""

    nsect: int = 32
    ntrak: int = 16
    cpg: int = 16

    @property
    def spc(self) -> int:
        """Sectors a cylinder."""
        return self.nsect * self.ntrak


def roundup(value: int, unit: int) -> int:
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def howmany(value: int, unit: int) -> int:
    """How many units hold `value`."""
    return -(-value // unit)


def log2(value: int) -> int:
    """Of a power of two."""
    return value.bit_length() - 1


def check_sizes(size: int, block_size: int, fragment_size: int) -> None:
    """Refusal unless the sizes (bytes) are ones that the format can have."""
    for name, value in (("block", block_size), ("fragment", fragment_size)):
        if value <= 0 or value & (value - 1):
            raise Refusal(f"the {name} size must be a power of two, not {value}")
    if not MINBSIZE <= block_size <= MAXBSIZE:
        raise Refusal(f"the block size must be {MINBSIZE} or {MAXBSIZE} in this format, not {block_size}")
    if not max(DEV_BSIZE, block_size // MAXFRAG) <= fragment_size <= block_size:
        least = max(DEV_BSIZE, block_size // MAXFRAG)
        raise Refusal(f"the fragment size must be {least} to {block_size} with such blocks, not {fragment_size}")
    if size < MINIMUM_BYTES:
        raise Refusal(f"a disk of {format_size(size)} is too small; give --size at least {format_size(MINIMUM_BYTES)}")
    if size // DEV_BSIZE > MAXIMUM_SECTORS:
        raise Refusal(f"a disk of {format_size(size)} is too large for this format; give --size under 1 TiB")


def choose_geometry(size: int, block_size: int, fragment_size: int) -> DiskGeometry:
    """The classic 32 x 16 disk, its groups grown until they are few and shrunk to fit a small disk. `size` is in bytes.

    A last group too short for its own metadata is lost; groups of a few cylinders less may leave it whole.
    """
    check_sizes(size, block_size, fragment_size)
    largest_group = _maximum_group_sectors(block_size, fragment_size)
    sectors = size // DEV_BSIZE
    nsect, cpg = 32, 16
    geometry = DiskGeometry(nsect, cpg=cpg)
    while sectors > ENOUGH_GROUPS * geometry.spc * geometry.cpg and geometry.spc * geometry.cpg * 2 <= largest_group:
        nsect, cpg = (nsect, cpg * 2) if cpg < MAXCPG else (nsect * 2, cpg)
        geometry = DiskGeometry(nsect, cpg=cpg)
    cylinders = howmany(sectors, geometry.spc)
    if cylinders <= MAXCPG and cylinders * geometry.spc <= largest_group:
        return DiskGeometry(nsect, cpg=cylinders)
    candidates = [DiskGeometry(nsect, cpg=fewer) for fewer in range(cpg, cpg // 2, -1)]
    return min(candidates, key=lambda one: _lost_sectors(sectors, block_size, fragment_size, one))


def _maximum_group_sectors(block_size: int, fragment_size: int) -> int:
    """Sectors of the largest group whose map of free fragments fits beside struct cg in one block."""
    blocks = 8 * (block_size - CG_BYTES - POINTER_BYTES) // (block_size // fragment_size)
    return blocks * block_size // DEV_BSIZE


def _lost_sectors(sectors: int, block_size: int, fragment_size: int, geometry: DiskGeometry) -> int:
    fields = superblock_fields(sectors * DEV_BSIZE, block_size, fragment_size, geometry, 0)
    return sectors - (int(fields["fs_size"]) << int(fields["fs_fsbtodb"]))


def superblock_fields(
    size: int, block_size: int, fragment_size: int, geometry: DiskGeometry, time: int
) -> dict[str, Any]:
    """Every field of struct fs for a new disk of `size` bytes; fs_dsize and fs_cstotal are left for newfs to count.

    `time` is in seconds since 1970. Refusal: the geometry cannot carry a file system.
    """
    check_sizes(size, block_size, fragment_size)
    fields = _sizes(block_size, fragment_size) | _places(block_size, fragment_size, geometry)
    fields |= {
        "fs_magic": FS_MAGIC,
        "fs_time": time,
        "fs_minfree": MINFREE_PERCENT,
        "fs_rotdelay": ROTDELAY_MS,
        "fs_rps": REVOLUTIONS_PER_SECOND,
        "fs_maxcontig": 1,
        "fs_maxbpg": block_size // POINTER_BYTES,
        "fs_optim": 0,
        "fs_dsize": 0,
    }
    _groups(fields, size)
    fields |= _rotation(fields)
    return fields


def _sizes(block_size: int, fragment_size: int) -> dict[str, int]:
    summaries = block_size // CSUM_BYTES
    return {
        "fs_bsize": block_size,
        "fs_fsize": fragment_size,
        "fs_frag": block_size // fragment_size,
        "fs_bmask": -block_size,
        "fs_fmask": -fragment_size,
        "fs_bshift": log2(block_size),
        "fs_fshift": log2(fragment_size),
        "fs_fragshift": log2(block_size // fragment_size),
        "fs_fsbtodb": log2(fragment_size // DEV_BSIZE),
        "fs_nspf": fragment_size // DEV_BSIZE,
        "fs_nindir": block_size // POINTER_BYTES,
        "fs_inopb": block_size // DINODE_BYTES,
        "fs_csmask": -summaries,
        "fs_csshift": log2(summaries),
    }


def _places(block_size: int, fragment_size: int, geometry: DiskGeometry) -> dict[str, int]:
    """Where a group keeps what, in fragments; its metadata shifts by a track from group to group."""
    frag, nspf = block_size // fragment_size, fragment_size // DEV_BSIZE
    if min(geometry.nsect, geometry.ntrak) < 1 or not 1 <= geometry.cpg <= MAXCPG:
        raise Refusal(f"{geometry} is no disk: at least 1 sector and track, 1 to {MAXCPG} cylinders a group")
    sblkno = roundup(howmany(BBSIZE + SBSIZE, fragment_size), frag)
    cblkno = sblkno + roundup(howmany(SBSIZE, fragment_size), frag)
    return {
        "fs_sblkno": sblkno,
        "fs_cblkno": cblkno,
        "fs_iblkno": cblkno + frag,
        "fs_cgoffset": roundup(howmany(geometry.nsect, nspf), frag),
        "fs_cgmask": -(1 << (geometry.ntrak - 1).bit_length()),
        "fs_nsect": geometry.nsect,
        "fs_ntrak": geometry.ntrak,
        "fs_spc": geometry.spc,
        "fs_cpg": geometry.cpg,
    }


def _groups(fields: dict[str, Any], size: int) -> None:
    """Adds the counts of cylinders, groups and inodes, dropping a last group that cannot hold its own metadata."""
    frag, spc, cpg, nspf = fields["fs_frag"], fields["fs_spc"], fields["fs_cpg"], fields["fs_nspf"]
    fields["fs_size"] = size // fields["fs_fsize"]
    fields["fs_ncyl"] = howmany(fields["fs_size"] * nspf, spc)
    fields["fs_ncg"] = howmany(fields["fs_ncyl"], cpg)
    if cpg * spc % (frag * nspf):
        raise Refusal(f"groups of {cpg} cylinders of {spc} sectors are not whole blocks of {fields['fs_bsize']} bytes")
    fields["fs_fpg"] = cpg * spc // nspf
    fields["fs_ipg"] = _inodes_per_group(fields)
    fields["fs_dblkno"] = fields["fs_iblkno"] + fields["fs_ipg"] // fields["fs_inopb"] * frag
    fields["fs_cgsize"] = roundup(CG_BYTES + POINTER_BYTES + howmany(fields["fs_fpg"], 8), fields["fs_fsize"])
    if fields["fs_cgsize"] > fields["fs_bsize"]:
        raise Refusal(f"groups of {cpg} cylinders of {spc} sectors do not fit their maps into one block; take fewer")
    if _metadata_end(fields, fields["fs_ncg"] - 1) >= fields["fs_fpg"]:
        raise Refusal(f"groups of {cpg} cylinders of {spc} sectors are smaller than their own metadata; take more")
    last = fields["fs_ncg"] - 1
    if last and fields["fs_size"] - last * fields["fs_fpg"] < _metadata_end(fields, last, exactly=True):
        fields |= {"fs_ncg": last, "fs_ncyl": last * cpg, "fs_size": last * fields["fs_fpg"]}
    fields["fs_csaddr"] = fields["fs_dblkno"]
    fields["fs_cssize"] = roundup(fields["fs_ncg"] * CSUM_BYTES, fields["fs_fsize"])
    if fields["fs_cssize"] > MAXCSBUFS * fields["fs_bsize"]:
        raise Refusal("the format cannot count so many cylinder groups; take larger fragments or a smaller --size")
    if fields["fs_size"] <= fields["fs_dblkno"] + fields["fs_cssize"] // fields["fs_fsize"] + 2 * frag:
        raise Refusal("the disk has no room after its own tables; give a larger --size")


def _metadata_end(fields: dict[str, Any], cg: int, exactly: bool = False) -> int:
    """cgdmin - cgbase of group `cg`, or the largest of the groups up to it."""
    shift = cg & ~fields["fs_cgmask"] if exactly else min(cg, ~fields["fs_cgmask"])
    return int(fields["fs_cgoffset"] * shift + fields["fs_dblkno"])


def _inodes_per_group(fields: dict[str, Any]) -> int:
    """One inode for each 2048 bytes (or fragment) that remain if every group had the most inodes it can have."""
    inodes_per_fragment = fields["fs_inopb"] // fields["fs_frag"]
    overhead = fields["fs_iblkno"] + MAXIPG // inodes_per_fragment
    data = fields["fs_size"] - fields["fs_ncg"] * overhead
    inodes = data * fields["fs_fsize"] // max(BYTES_PER_INODE, fields["fs_fsize"])
    blocks = max(inodes // fields["fs_inopb"], 1) // fields["fs_ncg"] + 1
    return int(min(blocks * fields["fs_inopb"], MAXIPG))


def _rotation(fields: dict[str, Any]) -> dict[str, Any]:
    """fs_cpc, fs_postbl, fs_rotbl, fs_sbsize: for each cylinder and rotational position the chain of blocks there.

    fs_rotbl goes on past the 4 bytes that struct fs declares, so it comes whole as `rotbl`. With one track, or tables
    too large, there are none (fs_cpc 0) and the kernel does without.
    """
    spc, nsect, nspf, frag = fields["fs_spc"], fields["fs_nsect"], fields["fs_nspf"], fields["fs_frag"]
    nspb = nspf * frag
    cpc = nspb
    sectors = spc
    while cpc > 1 and sectors % 2 == 0:
        cpc, sectors = cpc // 2, sectors // 2
    blocks = spc * cpc // nspb
    postbl = [-1] * (MAXCPG * NRPOS)
    if fields["fs_ntrak"] == 1 or cpc > MAXCPG or blocks > SBSIZE - FS_BYTES or nsect > 256 * nspb:
        cpc, blocks = 0, 0
    rotbl = bytearray(blocks)
    for block in reversed(range(blocks)):
        sector = block * nspb
        place = sector // spc * NRPOS + sector % nsect * NRPOS // nsect
        rotbl[block] = 0 if postbl[place] == -1 else postbl[place] - block
        postbl[place] = block
    sbsize = roundup(FS_BYTES + howmany(spc * cpc, nspb), fields["fs_fsize"])
    return {"fs_cpc": cpc, "fs_postbl": tuple(postbl), "rotbl": bytes(rotbl), "fs_sbsize": sbsize}
