"""What the structures of an ext2 file system look like on disk, each defined once; always little endian.

Interface: cached factories, as in layout; the field names are those of the Linux headers.
    superblock()          struct ext2_super_block, 1024 bytes at byte 1024
    group_descriptor()    struct ext2_group_desc, 32 bytes; the table begins in the block after the superblock's
    inode()               struct ext2_inode, 128 bytes; s_inode_size may be more, and what comes then is not read
    directory_header(has_type)    the 8 bytes before a name; 16-bit name_len without the feature filetype
    POINTER               one block number, as in i_block and in indirect blocks
Not here: what the values mean (ext2_superblock) and whether they make sense.

Sources: the ext2/ext3/ext4 on-disk format as the kernel's and e2fsprogs' headers declare it; reference of Mach4:
bootstrap/ext2_file_io.c.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from construct import Array, Bytes, Int8ul, Int16sl, Int16ul, Int32sl, Int32ul, Struct

Construct = Any  # construct has no types of its own

EXT2_MAGIC = 0xEF53
SUPERBLOCK_OFFSET = 1024  # bytes from the start of the file system
EXT2_ROOT_INO = 2
EXT2_GOOD_OLD_FIRST_INO = 11  # the first inode that is not reserved, in revision 0
EXT2_GOOD_OLD_INODE_SIZE = 128
EXT2_NDIR_BLOCKS = 12
EXT2_N_BLOCKS = 15  # direct, single, double, triple indirect
EXT2_NAME_LEN = 255
EXT2_VALID_FS = 1  # s_state: was unmounted cleanly
EXT2_ERROR_FS = 2  # s_state: errors were seen

POINTER = Int32ul


def _names(text: str, kind: Construct) -> list[Construct]:
    return [name / kind for name in text.split()]


@cache
def superblock() -> Construct:
    """struct ext2_super_block with the fields of ext3 and ext4 that tell a reader what it must not touch."""
    return Struct(
        *_names("s_inodes_count s_blocks_count s_r_blocks_count s_free_blocks_count s_free_inodes_count", Int32ul),
        *_names("s_first_data_block s_log_block_size s_log_frag_size s_blocks_per_group s_frags_per_group", Int32ul),
        *_names("s_inodes_per_group s_mtime s_wtime", Int32ul),
        "s_mnt_count" / Int16ul,
        "s_max_mnt_count" / Int16sl,
        *_names("s_magic s_state s_errors s_minor_rev_level", Int16ul),
        *_names("s_lastcheck s_checkinterval s_creator_os s_rev_level", Int32ul),
        *_names("s_def_resuid s_def_resgid", Int16ul),
        "s_first_ino" / Int32ul,
        *_names("s_inode_size s_block_group_nr", Int16ul),
        *_names("s_feature_compat s_feature_incompat s_feature_ro_compat", Int32ul),
        "s_uuid" / Bytes(16),
        "s_volume_name" / Bytes(16),
        "s_last_mounted" / Bytes(64),
        "s_algorithm_usage_bitmap" / Int32ul,
        *_names("s_prealloc_blocks s_prealloc_dir_blocks", Int8ul),
        "s_reserved_gdt_blocks" / Int16ul,
        "s_journal" / Bytes(380),  # the journal's facts, and ext4's
        "s_backup_bgs" / Array(2, Int32ul),
        "s_rest" / Bytes(428),
    )


@cache
def group_descriptor() -> Construct:
    """struct ext2_group_desc: where the group's maps and inodes are, in block numbers of the file system."""
    return Struct(
        *_names("bg_block_bitmap bg_inode_bitmap bg_inode_table", Int32ul),
        *_names("bg_free_blocks_count bg_free_inodes_count bg_used_dirs_count bg_flags", Int16ul),
        "bg_reserved" / Array(3, Int32ul),
    )


@cache
def inode() -> Construct:
    """struct ext2_inode as Linux uses it. i_blocks counts 512-byte sectors; i_size_high is the old i_dir_acl."""
    return Struct(
        *_names("i_mode i_uid", Int16ul),
        "i_size" / Int32ul,
        *_names("i_atime i_ctime i_mtime i_dtime", Int32sl),
        *_names("i_gid i_links_count", Int16ul),
        *_names("i_blocks i_flags i_osd1", Int32ul),
        "i_block" / Array(EXT2_N_BLOCKS, POINTER),
        *_names("i_generation i_file_acl i_size_high i_faddr", Int32ul),
        *_names("i_blocks_high i_file_acl_high i_uid_high i_gid_high i_checksum_lo i_reserved", Int16ul),
    )


@cache
def directory_header(has_type: bool) -> Construct:
    """The head of struct ext2_dir_entry(_2); the name follows, and room up to rec_len, a multiple of 4 bytes."""
    length = ["file_type" / Int8ul] if has_type else []
    return Struct(
        "inode" / Int32ul,
        "rec_len" / Int16ul,
        "name_len" / (Int8ul if has_type else Int16ul),
        *length,
    )
