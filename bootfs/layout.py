"""What the structures of a BSD Fast File System look like on disk, each defined once.

Interface: a cached factory a structure, by byte order ("little", "big") and variant ("4.3", "4.4", "ufs2"); the field
names are those of the BSD headers.
    superblock(order, variant)        struct fs, 1380 bytes. 4.3: static rotational tables; 4.4: dynamic, its own tail;
                                      ufs2: 64-bit totals and addresses, the narrow ones before them named fs_old_*
    cylinder_group(order, variant)    struct cg before its maps. 4.3: 984 bytes, then cg_free; 4.4 and ufs2: 168 bytes,
                                      offsets of maps
    sun_masks(order)                  where Solaris has masks of the sizes, by which its struct fs is known
    netbsd_inodes(order)              where NetBSD's struct fs names inodes that have no name in any directory
    csum(order), csum_total(order)    struct csum, 16 bytes; struct csum_total of ufs2, 64 bytes
    dinode(order, variant)            struct dinode, 128 bytes; 4.3 keeps ids in di_ouid/di_ogid, 4.4 in di_uid/di_gid;
                                      ufs2: 256 bytes
    directory_header(order, variant)  the 8 bytes before a name. 4.3: 16-bit d_namlen; else d_type and 8-bit d_namlen
    pointer(order, variant)           one entry of an indirect block: 4 bytes, in ufs2 8
    extattr_header(order)             the head of an extended attribute of ufs2; its name and contents follow
The speed comes from layout_format, which turns any of these into a `struct` format.
Not here: what the values mean (superblock, geometry) and whether they make sense.

Sources: 4.3BSD sys/h/{fs,inode,dir}.h (June 1986), 4.4BSD sys/ufs/ffs/fs.h and sys/ufs/ufs/{dinode,dir}.h; for ufs2
the same headers of FreeBSD 13, and sys/ufs/ufs/extattr.h.
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
Variant = Literal["4.3", "4.4", "ufs2"]
Construct = Any  # construct has no types of its own

FS_MAGIC = 0x011954
FS_UFS2_MAGIC = 0x19540119
FS_UFS2EA_MAGIC = 0x19012038  # NetBSD 10: ufs2 whose extended attributes are in use; FreeBSD has just the one
CG_MAGIC = 0x090255
SBSIZE = 8192  # bytes set aside for a superblock
DEV_BSIZE = 512
DIRBLKSIZ = 512  # but see Superblock.dirblksiz
NDADDR = 12
NIADDR = 3
NXADDR = 2  # blocks of extended attributes of an inode of ufs2
ROOTINO = 2
MAXNAMLEN = 255
MAXCPG = 32  # cylinders a group that the static tables can hold
NRPOS = 8  # rotational positions of the static tables
MAXIPG = 2048  # inodes a group that the static map can hold
FS_42POSTBLFMT = -1
FS_DYNAMICPOSTBLFMT = 1
FS_44INODEFMT = 2
SUN_MASKS_AT = 1340  # bytes from the start of struct fs
NETBSD_INODES_AT = 864
FLAGS_AT = 1312  # fs_flags of ufs2; where FS_FLAGS_UPDATED is set, also of NetBSD's ufs1
FS_DOWAPBL = 0x100  # NetBSD's: FreeBSD has another meaning for this bit, and for
FS_DOQUOTA2 = 0x200
UFS_WAPBL_JOURNALLOC_IN_FILESYSTEM = 2
Q2_HEAD_MAGIC = 0xB746915E
APPLE_LABEL_AT = 7168  # bytes from the start of the file system, where Mac OS X has a label of its own
APPLE_LABEL = b"LABL"
WINO, DT_WHT = 1, 14  # d_ino and d_type of a whiteout: a name that a union mount is to hide
MAXSYMLINKLEN = 60  # bytes of the block pointers of a dinode, where 4.4 keeps a short link
MAXSYMLINKLEN_UFS2 = 120
FSMAXSNAP = 20  # snapshots whose inode numbers a superblock of ufs2 can hold
FS_UNCLEAN = 0x01  # fs_flags of ufs2
FS_DOSOFTDEP = 0x02
FS_NEEDSFSCK = 0x04
FS_SUJ = 0x08
FS_FLAGS_UPDATED = 0x80
FS_METACKHASH = 0x200  # fs_metackhash says which structures carry a check hash
CK_SUPERBLOCK, CK_CYLGRP, CK_INODE = 1, 2, 4  # fs_metackhash
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
def csum_total(order: ByteOrder) -> Construct:
    """struct csum_total: what is free in all groups, in ufs2."""
    i64 = _Words(order).i64
    names = ("cs_ndir", "cs_nbfree", "cs_nifree", "cs_nffree", "cs_numclusters")
    return Struct(*(name / i64 for name in names), "cs_spare" / Array(3, i64))


@cache
def superblock(order: ByteOrder, variant: Variant) -> Construct:
    """struct fs up to and with fs_magic and the first bytes of the table that follows: 1380 bytes in all variants."""
    if variant == "ufs2":
        return _superblock_ufs2(order)
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
def sun_masks(order: ByteOrder) -> Construct:
    """The end of Solaris's struct fs before fs_postblformat, at byte SUN_MASKS_AT: ~fs_bmask and ~fs_fmask."""
    word = _Words(order)
    return Struct("fs_qbmask" / word.i64, "fs_qfmask" / word.i64)


@cache
def netbsd_inodes(order: ByteOrder) -> Construct:
    """What NetBSD keeps at byte NETBSD_INODES_AT: where its log (WAPBL) is, and its quotas (sys/ufs/ffs/fs.h)."""
    word = _Words(order)
    return Struct(
        *(name / word.u8 for name in ("fs_journal_version", "fs_journal_location")),
        "fs_journal_reserved" / Bytes(2),
        "fs_journal_flags" / word.u32,
        "fs_journallocs" / Array(4, word.u64),
        "fs_quota_magic" / word.u32,
        "fs_quota_flags" / word.u8,
        "fs_quota_reserved" / Bytes(3),
        "fs_quotafile" / Array(2, word.u64),
    )


def _superblock_ufs2(order: ByteOrder) -> Construct:
    """struct fs of ufs2. In the last 4 bytes is nothing: struct fs ends with fs_magic."""
    word = _Words(order)
    fields = [_ufs2_name(name) / word.i32 for name in _SUPERBLOCK_HEAD]
    fields += [name / word.i32 for name in ("fs_old_npsect", "fs_old_interleave", "fs_old_trackskew")]
    fields += ["fs_id" / Array(2, word.i32)]
    fields += [_ufs2_name(name) / word.i32 for name in _SUPERBLOCK_GROUPS]
    fields += ["fs_old_cstotal" / csum(order)]
    fields += [name / word.u8 for name in ("fs_fmod", "fs_clean", "fs_ronly", "fs_old_flags")]
    fields += ["fs_fsmnt" / Bytes(468), "fs_volname" / Bytes(32), "fs_swuid" / word.u64, "fs_pad" / word.i32]
    fields += ["fs_cgrotor" / word.i32, "fs_ocsp" / Bytes(128), "fs_old_cpc" / word.i32, "fs_maxbsize" / word.i32]
    fields += [name / word.i64 for name in ("fs_unrefs", "fs_providersize", "fs_metaspace")]
    fields += ["fs_sparecon64" / Array(13, word.i64)]
    fields += [name / word.i64 for name in ("fs_sblockactualloc", "fs_sblockloc")]
    fields += ["fs_cstotal" / csum_total(order)]
    fields += [name / word.i64 for name in ("fs_time", "fs_size", "fs_dsize", "fs_csaddr", "fs_pendingblocks")]
    fields += ["fs_pendinginodes" / word.u32, "fs_snapinum" / Array(FSMAXSNAP, word.u32)]
    fields += ["fs_avgfilesize" / word.u32, "fs_avgfpdir" / word.u32, "fs_save_cgsize" / word.i32]
    fields += ["fs_mtime" / word.i64, "fs_sujfree" / word.i32, "fs_sparecon32" / Array(21, word.i32)]
    fields += ["fs_ckhash" / word.u32, "fs_metackhash" / word.u32, "fs_flags" / word.i32]
    fields += [name / word.i32 for name in ("fs_contigsumsize", "fs_maxsymlinklen", "fs_old_inodefmt")]
    fields += ["fs_maxfilesize" / word.u64, "fs_qbmask" / word.i64, "fs_qfmask" / word.i64, "fs_state" / word.i32]
    fields += ["fs_old_postblformat" / word.i32, "fs_old_nrpos" / word.i32, "fs_spare5" / Array(2, word.i32)]
    return Struct(*fields, "fs_magic" / word.i32, "fs_space" / Bytes(4))


_REPLACED = frozenset(_names("""
    cgoffset cgmask time size dsize rotdelay rps nspf csaddr nsect spc ncyl cpg csmask csshift ntrak
"""))  # fmt: skip


def _ufs2_name(name: str) -> str:
    """What ufs2 calls a field of the older struct fs: those that it replaces have "old" in their names."""
    bare = name.removeprefix("fs_")
    return f"fs_old_{bare}" if bare in _REPLACED else name


@cache
def cylinder_group(order: ByteOrder, variant: Variant) -> Construct:
    """struct cg. 4.3: all fixed, then cg_free (fs_fpg bits) at byte 984. Else the maps lie at the offsets it gives."""
    if variant == "ufs2":
        return _cylinder_group_ufs2(order)
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


def _cylinder_group_ufs2(order: ByteOrder) -> Construct:
    """struct cg of ufs2. cg_niblk, cg_initediblk and cg_ndblk count inodes and fragments, as all BSDs do."""
    word = _Words(order)
    fields = ["cg_firstfield" / word.i32, "cg_magic" / word.i32, "cg_old_time" / word.i32, "cg_cgx" / word.u32]
    fields += ["cg_old_ncyl" / word.i16, "cg_old_niblk" / word.i16, "cg_ndblk" / word.u32, "cg_cs" / csum(order)]
    fields += [name / word.u32 for name in ("cg_rotor", "cg_frotor", "cg_irotor")]
    fields += ["cg_frsum" / Array(8, word.u32), "cg_old_btotoff" / word.i32, "cg_old_boff" / word.i32]
    fields += [name / word.u32 for name in _GROUP_OFFSETS[2:]]
    fields += [name / word.u32 for name in ("cg_niblk", "cg_initediblk", "cg_unrefs")]
    fields += ["cg_sparecon32" / word.i32, "cg_ckhash" / word.u32, "cg_time" / word.i64]
    return Struct(*fields, "cg_sparecon64" / Array(3, word.i64))


@cache
def dinode(order: ByteOrder, variant: Variant = "4.4") -> Construct:
    """struct dinode. Addresses are fragment numbers; 4.3 declares di_size as two words."""
    if variant == "ufs2":
        return _dinode_ufs2(order)
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


def _dinode_ufs2(order: ByteOrder) -> Construct:
    """struct ufs2_dinode: 64-bit times and pointers, and two blocks of extended attributes."""
    word = _Words(order)
    fields = ["di_mode" / word.u16, "di_nlink" / word.i16]
    fields += [name / word.u32 for name in ("di_uid", "di_gid", "di_blksize")]
    fields += ["di_size" / word.u64, "di_blocks" / word.u64]
    fields += [name / word.i64 for name in ("di_atime", "di_mtime", "di_ctime", "di_birthtime")]
    fields += [name / word.i32 for name in ("di_mtimensec", "di_atimensec", "di_ctimensec", "di_birthnsec", "di_gen")]
    fields += [name / word.u32 for name in ("di_kernflags", "di_flags", "di_extsize")]
    fields += [
        "di_extb" / Array(NXADDR, word.u64),
        "di_db" / Array(NDADDR, word.u64),
        "di_ib" / Array(NIADDR, word.u64),
    ]
    return Struct(
        *fields, "di_modrev" / word.u64, "di_freelink" / word.u32, "di_ckhash" / word.u32, "di_spare" / word.u64
    )


@cache
def directory_header(order: ByteOrder, variant: Variant) -> Construct:
    """The head of struct direct; the name follows, NUL padded, so that the whole is a multiple of 4 bytes."""
    word = _Words(order)
    length = ["d_namlen" / word.u16] if variant == "4.3" else ["d_type" / word.u8, "d_namlen" / word.u8]
    return Struct("d_ino" / word.u32, "d_reclen" / word.u16, *length)


@cache
def pointer(order: ByteOrder, variant: Variant = "4.4") -> Construct:
    """One block pointer: a fragment number, 0 for a hole."""
    word = _Words(order)
    return word.u64 if variant == "ufs2" else word.u32


@cache
def extattr_header(order: ByteOrder) -> Construct:
    """The head of struct extattr: the whole is ea_length bytes, the name follows, then contents from the next 8."""
    word = _Words(order)
    names = ("ea_namespace", "ea_contentpadlen", "ea_namelength")
    return Struct("ea_length" / word.u32, *(name / word.u8 for name in names))
