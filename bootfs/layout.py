"""What the structures of a BSD Fast File System look like on disk, each defined once.

Interface: a cached factory a structure, by byte order ("little", "big") and variant ("4.3", "4.4"); the field names are
those of the BSD headers.
    superblock(order, variant)        struct fs, 1380 bytes. 4.3: static rotational tables; 4.4: dynamic, its own tail
    cylinder_group(order, variant)    struct cg before its maps. 4.3: 984 bytes, then cg_free; 4.4: 168, offsets of maps
    csum(order)                       struct csum, 16 bytes
    dinode(order)                     struct dinode, 128 bytes; 4.3 keeps ids in di_ouid/di_ogid, 4.4 in di_uid/di_gid
    directory_header(order, variant)  the 8 bytes before a name. 4.3: 16-bit d_namlen; 4.4: d_type and 8-bit d_namlen
    pointer(order)                    one entry of an indirect block
The speed comes from layout_format, which turns any of these into a `struct` format.
Not here: what the values mean (superblock, geometry) and whether they make sense.

Sources: 4.3BSD sys/h/{fs,inode,dir}.h (June 1986), 4.4BSD sys/ufs/ffs/fs.h and sys/ufs/ufs/{dinode,dir}.h.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from construct import (
    Array,
    Bytes,
    Int8ub,
    Int16sb,
    Int16sl,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32sl,
    Int32ub,
    Int32ul,
    Int64sb,
    Int64sl,
    Int64ub,
    Int64ul,
    Struct,
)

ByteOrder = Literal["little", "big"]
Variant = Literal["4.3", "4.4"]
Construct = Any  # construct has no types of its own

FS_MAGIC = 0x011954
CG_MAGIC = 0x090255
SBSIZE = 8192  # bytes set aside for a superblock
DEV_BSIZE = 512
DIRBLKSIZ = 512
NDADDR = 12
NIADDR = 3
ROOTINO = 2
MAXNAMLEN = 255
MAXCPG = 32  # cylinders a group that the static tables can hold
NRPOS = 8  # rotational positions of the static tables
MAXIPG = 2048  # inodes a group that the static map can hold
FS_42POSTBLFMT = -1
FS_DYNAMICPOSTBLFMT = 1
FS_44INODEFMT = 2
MAXSYMLINKLEN = 60  # bytes of the block pointers of a dinode, where 4.4 keeps a short link
IC_FASTLINK = 1  # di_flags of the 4.3 variant: the link text is in the block pointers


class _Words:
    """The integer types of one byte order, under the names of the C headers."""

    def __init__(self, order: ByteOrder) -> None:
        little = order == "little"
        self.u8 = Int8ub
        self.i16 = Int16sl if little else Int16sb
        self.u16 = Int16ul if little else Int16ub
        self.i32 = Int32sl if little else Int32sb
        self.u32 = Int32ul if little else Int32ub
        self.i64 = Int64sl if little else Int64sb
        self.u64 = Int64ul if little else Int64ub


def _names(text: str) -> list[str]:
    return text.split()


_SUPERBLOCK_HEAD = _names("""
    fs_link fs_rlink fs_sblkno fs_cblkno fs_iblkno fs_dblkno fs_cgoffset fs_cgmask fs_time fs_size fs_dsize fs_ncg
    fs_bsize fs_fsize fs_frag fs_minfree fs_rotdelay fs_rps fs_bmask fs_fmask fs_bshift fs_fshift fs_maxcontig fs_maxbpg
    fs_fragshift fs_fsbtodb fs_sbsize fs_csmask fs_csshift fs_nindir fs_inopb fs_nspf fs_optim
""")
_SUPERBLOCK_GROUPS = _names("fs_csaddr fs_cssize fs_cgsize fs_ntrak fs_nsect fs_spc fs_ncyl fs_cpg fs_ipg fs_fpg")
_GROUP_OFFSETS = _names("""
    cg_btotoff cg_boff cg_iusedoff cg_freeoff cg_nextfreeoff cg_clustersumoff cg_clusteroff cg_nclusterblks
""")


@cache
def csum(order: ByteOrder) -> Construct:
    """struct csum: what is free in one cylinder group, or in all."""
    i32 = _Words(order).i32
    return Struct("cs_ndir" / i32, "cs_nbfree" / i32, "cs_nifree" / i32, "cs_nffree" / i32)


@cache
def superblock(order: ByteOrder, variant: Variant) -> Construct:
    """struct fs up to and with fs_magic and the first bytes of the table that follows: 1380 bytes in both variants."""
    word = _Words(order)
    fields = [name / word.i32 for name in _SUPERBLOCK_HEAD]
    if variant == "4.3":
        fields += ["fs_sparecon" / Array(5, word.i32)]
    else:
        fields += [name / word.i32 for name in ("fs_npsect", "fs_interleave", "fs_trackskew")]
        fields += ["fs_id" / Array(2, word.i32)]
    fields += [name / word.i32 for name in _SUPERBLOCK_GROUPS]
    fields += ["fs_cstotal" / csum(order)]
    fields += [name / word.u8 for name in ("fs_fmod", "fs_clean", "fs_ronly", "fs_flags")]
    fields += ["fs_fsmnt" / Bytes(512), "fs_cgrotor" / word.i32, "fs_csp" / Array(32, word.u32), "fs_cpc" / word.i32]
    if variant == "4.3":
        fields += ["fs_postbl" / Array(MAXCPG * NRPOS, word.i16), "fs_magic" / word.i32, "fs_rotbl" / Bytes(4)]
        return Struct(*fields)
    fields += ["fs_opostbl" / Array(16 * NRPOS, word.i16), "fs_sparecon" / Array(50, word.i32)]
    fields += [name / word.i32 for name in ("fs_contigsumsize", "fs_maxsymlinklen", "fs_inodefmt")]
    fields += ["fs_maxfilesize" / word.u64, "fs_qbmask" / word.i64, "fs_qfmask" / word.i64, "fs_state" / word.i32]
    fields += [name / word.i32 for name in ("fs_postblformat", "fs_nrpos", "fs_postbloff", "fs_rotbloff", "fs_magic")]
    fields += ["fs_space" / Bytes(4)]
    return Struct(*fields)


@cache
def cylinder_group(order: ByteOrder, variant: Variant) -> Construct:
    """struct cg. 4.3: all fixed, then cg_free (fs_fpg bits) at byte 984. 4.4: the maps lie at the offsets it gives."""
    word = _Words(order)
    head = [name / word.i32 for name in ("cg_time", "cg_cgx")]
    head += ["cg_ncyl" / word.i16, "cg_niblk" / word.i16, "cg_ndblk" / word.i32, "cg_cs" / csum(order)]
    head += [name / word.i32 for name in ("cg_rotor", "cg_frotor", "cg_irotor")]
    head += ["cg_frsum" / Array(8, word.i32)]
    if variant == "4.3":
        return Struct(
            "cg_link" / word.i32,
            "cg_rlink" / word.i32,
            *head,
            "cg_btot" / Array(MAXCPG, word.i32),
            "cg_b" / Array(MAXCPG * NRPOS, word.i16),
            "cg_iused" / Bytes(MAXIPG // 8),
            "cg_magic" / word.i32,
        )
    return Struct(
        "cg_firstfield" / word.i32,
        "cg_magic" / word.i32,
        *head,
        *(name / word.i32 for name in _GROUP_OFFSETS),
        "cg_sparecon" / Array(13, word.i32),
    )


@cache
def dinode(order: ByteOrder) -> Construct:
    """struct dinode of 4.2BSD to UFS1. Addresses are fragment numbers; 4.3 declares di_size as two words."""
    word = _Words(order)
    times = [name / word.i32 for time in ("atime", "mtime", "ctime") for name in (f"di_{time}", f"di_{time}nsec")]
    return Struct(
        "di_mode" / word.u16,
        "di_nlink" / word.i16,
        "di_ouid" / word.u16,
        "di_ogid" / word.u16,
        "di_size" / word.u64,
        *times,
        "di_db" / Array(NDADDR, word.u32),
        "di_ib" / Array(NIADDR, word.u32),
        "di_flags" / word.u32,
        "di_blocks" / word.i32,
        "di_gen" / word.i32,
        "di_uid" / word.u32,
        "di_gid" / word.u32,
        "di_spare" / Array(2, word.i32),
    )


@cache
def directory_header(order: ByteOrder, variant: Variant) -> Construct:
    """The head of struct direct; the name follows, NUL padded, so that the whole is a multiple of 4 bytes."""
    word = _Words(order)
    length = ["d_namlen" / word.u16] if variant == "4.3" else ["d_type" / word.u8, "d_namlen" / word.u8]
    return Struct("d_ino" / word.u32, "d_reclen" / word.u16, *length)


@cache
def pointer(order: ByteOrder) -> Construct:
    """One block pointer: a fragment number, 0 for a hole."""
    return _Words(order).u32
