"""What partition tables look like on disk, each defined once.

Interface: cached factories, as in layout; turn them into fast formats with layout_format.record.
    mbr_entry()              one of the 4 in the last bytes of sector 0, or in an extended partition
    gpt_header(), gpt_entry()
    disklabel(order), disklabel_partition(order)    struct disklabel of the BSDs up to its partitions; one of these
    sun_label(), sun_partition()                    struct dk_label, 512 bytes; one of its 8 partitions
    disklabel64(), disklabel64_partition()          DragonFly's struct disklabel64 from d_magic on; its partitions
    vtoc(), vtoc_partition()                        Solaris on x86: struct dk_label; one of its 16 partitions
    apple_partition()                               an entry of Apple's partition map
    next_label(), next_partition()                  struct disk_label up to its partitions; one of the 8
Not here: where they are, what they mean (labels).

Sources: 4.3BSD-Tahoe sys/h/disklabel.h, FreeBSD sys/sys/disklabel.h and diskmbr.h, UEFI 2.10 chapter 5, SunOS
sun/dklabel.h, illumos usr/src/uts/common/sys/dklabel.h, DragonFly sys/sys/disklabel64.h, Linux block/partitions/mac.h,
NetBSD sys/sys/bootblock.h (struct next68k_disklabel).
"""

from __future__ import annotations

from functools import cache

from construct import Array, Bytes, Int16ub, Int16ul, Int32ub, Int32ul, Int64ul, Struct

from bootfs.layout import ByteOrder, Construct, _names, _Words

MBR_SIGNATURE = b"\x55\xaa"
MBR_SIGNATURE_AT = 510
MBR_ENTRIES_AT = 446
GPT_SIGNATURE = b"EFI PART"
DISKMAGIC = 0x82564557
MAXPARTITIONS = 22  # the most that any BSD has in a label (NetBSD)
SUN_MAGIC = 0xDABE
SUN_PARTITIONS_AT = 444
DISKLABEL64_AT = 512  # on the disk or in its slice, whatever the size of a sector
DISKMAGIC64 = 0xC4464C59
MAXPARTITIONS64 = 32
VTOC_AT = 512  # in its slice
VTOC_SANITY = 0x600DDEEE
VTOC_PARTITIONS_AT = 72
VTOC_PARTITIONS = 16
APPLE_DRIVER, APPLE_PARTITION = b"ER", b"PM"  # of the first block of a disk, and of an entry
NEXT_VERSIONS = (0x4E655854, 0x646C5632, 0x646C5633)  # "NeXT", "dlV2", "dlV3"
NEXT_PARTITIONS = 8


@cache
def mbr_entry() -> Construct:
    """One partition: 16 bytes, little endian; starts and sizes in sectors."""
    word = _Words("little")
    return Struct(
        "status" / word.u8,
        "first_chs" / Bytes(3),
        "type" / word.u8,
        "last_chs" / Bytes(3),
        "start" / word.u32,
        "sectors" / word.u32,
    )


@cache
def gpt_header() -> Construct:
    """The header, 92 bytes; in sector 1, and a copy in the last sector."""
    word = _Words("little")
    fields = ["signature" / Bytes(8)]
    fields += [name / word.u32 for name in ("revision", "header_size", "header_crc", "reserved")]
    fields += [name / word.u64 for name in ("my_lba", "alternate_lba", "first_usable", "last_usable")]
    fields += ["disk_guid" / Bytes(16), "entries_lba" / word.u64]
    return Struct(*fields, *(name / word.u32 for name in ("entry_count", "entry_size", "entries_crc")))


@cache
def gpt_entry() -> Construct:
    """One partition, 128 bytes; `last` is its last sector, the name UTF-16."""
    fields = ["type" / Bytes(16), "guid" / Bytes(16)]
    fields += [name / Int64ul for name in ("first", "last", "attributes")]
    return Struct(*fields, "name" / Bytes(72))


@cache
def disklabel(order: ByteOrder) -> Construct:
    """struct disklabel before d_partitions: 148 bytes. d_checksum makes the 16-bit words, partitions too, xor to 0."""
    word = _Words(order)
    fields = ["d_magic" / word.u32, "d_type" / word.u16, "d_subtype" / word.u16]
    fields += ["d_typename" / Bytes(16), "d_packname" / Bytes(16)]
    geometry = _names("d_secsize d_nsectors d_ntracks d_ncylinders d_secpercyl d_secperunit")
    fields += [name / word.u32 for name in geometry]
    fields += ["d_sparespertrack" / word.u16, "d_sparespercyl" / word.u16, "d_acylinders" / word.u32]
    fields += [name / word.u16 for name in ("d_rpm", "d_interleave", "d_trackskew", "d_cylskew")]
    fields += [name / word.u32 for name in ("d_headswitch", "d_trkseek", "d_flags")]
    fields += ["d_drivedata" / Array(5, word.u32), "d_spare" / Array(5, word.u32), "d_magic2" / word.u32]
    fields += ["d_checksum" / word.u16, "d_npartitions" / word.u16]
    return Struct(*fields, "d_bbsize" / word.u32, "d_sbsize" / word.u32)


@cache
def disklabel_partition(order: ByteOrder) -> Construct:
    """struct partition: 16 bytes; sizes and offsets in sectors of d_secsize."""
    word = _Words(order)
    fields = [name / word.u32 for name in ("p_size", "p_offset", "p_fsize")]
    return Struct(*fields, "p_fstype" / word.u8, "p_frag" / word.u8, "p_cpg" / word.u16)


@cache
def sun_label() -> Construct:
    """struct dk_label: one sector, big endian. dkl_cksum makes its 16-bit words xor to 0."""
    fields = ["dkl_asciilabel" / Bytes(128), "dkl_vtoc" / Bytes(292)]
    names = _names("rpm pcyl apc gap1 gap2 intrlv ncyl acyl nhead nsect bhead ppart")
    fields += [f"dkl_{name}" / Int16ub for name in names]
    return Struct(*fields, "dkl_map" / Array(16, Int32ub), "dkl_magic" / Int16ub, "dkl_cksum" / Int16ub)


@cache
def sun_partition() -> Construct:
    """struct dk_map: the cylinder where it begins, and its sectors."""
    return Struct("dkl_cylno" / Int32ub, "dkl_nblk" / Int32ub)


@cache
def disklabel64() -> Construct:
    """struct disklabel64 from d_magic to its partitions: 200 bytes. d_crc is the CRC-32 with itself as 0."""
    fields = [name / Int32ul for name in ("d_magic", "d_crc", "d_align", "d_npartitions")]
    fields += ["d_stor_uuid" / Bytes(16)]
    fields += [f"d_{name}" / Int64ul for name in ("total_size", "bbase", "pbase", "pstop", "abase")]
    return Struct(*fields, "d_packname" / Bytes(64), "d_reserved" / Bytes(64))


@cache
def disklabel64_partition() -> Construct:
    """struct partition64: 64 bytes; size and offset in the slice are bytes."""
    fields = ["p_boffset" / Int64ul, "p_bsize" / Int64ul, "p_fstype" / Bytes(4), "p_unused" / Bytes(12)]
    return Struct(*fields, "p_type_uuid" / Bytes(16), "p_stor_uuid" / Bytes(16))


@cache
def vtoc() -> Construct:
    """struct dk_label of Solaris on x86: one sector, little endian. dkl_cksum makes its 16-bit words xor to 0."""
    fields = ["v_bootinfo" / Bytes(12), "v_sanity" / Int32ul, "v_version" / Int32ul, "v_volume" / Bytes(8)]
    fields += ["v_sectorsz" / Int16ul, "v_nparts" / Int16ul, "v_reserved" / Bytes(40), "v_part" / Bytes(192)]
    return Struct(*fields, "dkl_rest" / Bytes(244), "dkl_magic" / Int16ul, "dkl_cksum" / Int16ul)


@cache
def vtoc_partition() -> Construct:
    """struct dkl_partition: 12 bytes; start in the slice, and size, in sectors."""
    return Struct("p_tag" / Int16ul, "p_flag" / Int16ul, "p_start" / Int32ul, "p_size" / Int32ul)


@cache
def apple_partition() -> Construct:
    """The head of an entry of Apple's partition map, one a block from block 1 on: 80 bytes, big endian."""
    fields = ["pmSig" / Bytes(2), "pmSigPad" / Bytes(2)]
    fields += [name / Int32ub for name in ("pmMapBlkCnt", "pmPyPartStart", "pmPartBlkCnt")]
    return Struct(*fields, "pmPartName" / Bytes(32), "pmParType" / Bytes(32))


@cache
def next_label() -> Construct:
    """struct disk_label before its partitions: 190 bytes, big endian on every machine."""
    word = _Words("big")
    fields = [name / word.i32 for name in ("dl_version", "dl_label_blkno", "dl_size")]
    fields += ["dl_label" / Bytes(24), "dl_flags" / word.u32, "dl_tag" / word.u32]
    fields += ["dl_name" / Bytes(24), "dl_type" / Bytes(24)]
    fields += [name / word.i32 for name in ("dl_secsize", "dl_ntracks", "dl_nsectors", "dl_ncylinders", "dl_rpm")]
    fields += [name / word.i16 for name in ("dl_front", "dl_back", "dl_ngroups", "dl_ag_size", "dl_ag_alts")]
    fields += ["dl_ag_off" / word.i16, "dl_boot0_blkno" / Array(2, word.i32), "dl_bootfile" / Bytes(24)]
    return Struct(*fields, "dl_hostname" / Bytes(32), "dl_rootpartition" / word.u8, "dl_rwpartition" / word.u8)


@cache
def next_partition() -> Construct:
    """struct partition of NeXT: 46 bytes; base and size in sectors of dl_secsize, the base after dl_front."""
    word = _Words("big")
    fields = ["p_base" / word.i32, "p_size" / word.i32, "p_bsize" / word.i16, "p_fsize" / word.i16]
    fields += ["p_opt" / word.u8, "p_pad1" / word.u8, "p_cpg" / word.i16, "p_density" / word.i16]
    fields += ["p_minfree" / word.u8, "p_newfs" / word.u8, "p_mountpt" / Bytes(16), "p_automnt" / word.u8]
    return Struct(*fields, "p_type" / Bytes(8), "p_pad2" / word.u8)
