"""The superblock and group descriptors of an ext2 file system: every relation checked once, by name.

Interface:
    Ext2Superblock                   the checked facts, under their historical names; frozen
    find_superblock(device)          UnknownFormat; FileSystemError FS_INVALID_FS: the first relation that is broken
    Group, read_group(device, fs, number)    where a group's maps and inodes are; FileSystemError FS_INVALID_FS
    DataBlocks(device, fs).check(block, blocks, place)    FileSystemError FS_INVALID_FS: no data may be there
    refuse_writing(fs, place)        FileSystemError D_READ_ONLY: a feature for which writing is not safe
Invariants:
    1. An Ext2Superblock that exists satisfies RELATIONS and has no INCOMPAT feature but those of READ.
Not here: inodes, block maps, directories.

A feature is one of three kinds, and the kind says what to do when it is not known (ext2's own rule): COMPAT, nothing;
RO_COMPAT, read but do not write; INCOMPAT, keep away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.layout_ext2 import (
    EXT2_GOOD_OLD_FIRST_INO,
    EXT2_GOOD_OLD_INODE_SIZE,
    EXT2_MAGIC,
    EXT2_NDIR_BLOCKS,
    POINTER,
    SUPERBLOCK_OFFSET,
    group_descriptor,
    superblock,
)
from bootfs.layout_format import record

SPARSE_SUPER2 = 0x200  # COMPAT: copies of the superblock only in the groups of s_backup_bgs
SPARSE_SUPER = 0x1  # RO_COMPAT: only in groups 0, 1 and powers of 3, 5 and 7
HUGE_FILE = 0x8  # RO_COMPAT: i_blocks has 48 bits
FILETYPE = 0x2  # INCOMPAT: directory entries have a file_type
EXTENTS = 0x40  # INCOMPAT: inodes may have extents; each that does is refused by itself
READ = FILETYPE | EXTENTS
POINTER_BYTES: int = record(POINTER).size
INCOMPAT_NAMES = {
    0x1: "compression",
    0x2: "filetype",
    0x4: "needs_recovery",
    0x8: "journal_dev",
    0x10: "meta_bg",
    0x40: "extents",
    0x80: "64bit",
    0x100: "mmp",
    0x200: "flex_bg",
    0x400: "ea_inode",
    0x1000: "dirdata",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
# Those with which overwriting the data of a file breaks nothing: they concern sizes, copies and metadata.
WRITABLE_NAMES = {
    0x1: "sparse_super",
    0x2: "large_file",
    0x4: "btree_dir",
    0x8: "huge_file",
    0x10: "uninit_bg",
    0x20: "dir_nlink",
    0x40: "extra_isize",
    0x100: "quota",
    0x400: "metadata_csum",
    0x2000: "project",
}
READ_ONLY_NAMES = {0x80: "snapshot", 0x200: "bigalloc", 0x800: "replica", 0x1000: "read-only", 0x4000: "shared_blocks"}
READ_ONLY_NAMES |= {0x8000: "verity", 0x10000: "orphan_present"}


@dataclass(frozen=True, slots=True)
class Ext2Superblock:
    """The facts of one file system. Blocks and groups are numbers in it, from 0; sizes are bytes."""

    s_inodes_count: int
    s_blocks_count: int
    s_free_blocks_count: int
    s_free_inodes_count: int
    s_first_data_block: int
    s_log_block_size: int
    s_log_frag_size: int
    s_blocks_per_group: int
    s_inodes_per_group: int
    s_magic: int
    s_state: int
    s_rev_level: int
    s_first_ino: int
    s_inode_size: int
    s_feature_compat: int
    s_feature_incompat: int
    s_feature_ro_compat: int
    s_last_mounted: bytes
    s_reserved_gdt_blocks: int
    s_backup_bgs: tuple[int, int]

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return 1024 << self.s_log_block_size

    @property
    def pointers_per_block(self) -> int:
        return self.block_size // POINTER_BYTES

    @property
    def groups(self) -> int:
        return -(-(self.s_blocks_count - self.s_first_data_block) // self.s_blocks_per_group)

    @property
    def descriptor_blocks(self) -> int:
        """Blocks of the table of group descriptors; every copy has as many."""
        return -(-self.groups * record(group_descriptor()).size // self.block_size)

    @property
    def inode_blocks_per_group(self) -> int:
        return -(-self.s_inodes_per_group * self.s_inode_size // self.block_size)

    @property
    def max_file_size(self) -> int:
        """Bytes that the pointers of one inode can reach."""
        many = self.pointers_per_block
        return (EXT2_NDIR_BLOCKS + many + many * many + many * many * many) * self.block_size


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


# Ordered: a later relation relies on the earlier ones.
RELATIONS: tuple[tuple[str, Callable[[Ext2Superblock], bool]], ...] = (
    ("s_magic = 0xEF53", lambda f: f.s_magic == EXT2_MAGIC),
    ("s_rev_level is 0 or 1", lambda f: f.s_rev_level <= 1),
    ("s_log_block_size is 0 to 2 (blocks of 1, 2 or 4 KiB)", lambda f: f.s_log_block_size <= 2),
    ("s_log_frag_size = s_log_block_size", lambda f: f.s_log_frag_size == f.s_log_block_size),
    (
        "s_first_data_block is 1 with blocks of 1 KiB, else 0",
        lambda f: f.s_first_data_block == (1 if f.s_log_block_size == 0 else 0),
    ),
    (
        "s_inode_size is a power of two, 128 to the block size",
        lambda f: _power_of_two(f.s_inode_size) and EXT2_GOOD_OLD_INODE_SIZE <= f.s_inode_size <= f.block_size,
    ),
    # A group's maps are one block each.
    ("s_blocks_per_group fits the bits of a block", lambda f: 0 < f.s_blocks_per_group <= f.block_size * 8),
    ("s_inodes_per_group fits the bits of a block", lambda f: 0 < f.s_inodes_per_group <= f.block_size * 8),
    ("s_blocks_count > s_first_data_block", lambda f: f.s_blocks_count > f.s_first_data_block),
    ("s_inodes_count = s_inodes_per_group x groups", lambda f: f.s_inodes_count == f.s_inodes_per_group * f.groups),
    (
        f"s_first_ino is {EXT2_GOOD_OLD_FIRST_INO} to s_inodes_count",
        lambda f: EXT2_GOOD_OLD_FIRST_INO <= f.s_first_ino <= f.s_inodes_count,
    ),
    (
        "s_reserved_gdt_blocks fits the pointers of a block",
        lambda f: f.s_reserved_gdt_blocks <= f.pointers_per_block,
    ),
    (
        "the group descriptors are inside s_blocks_count",
        lambda f: f.s_first_data_block + 1 + f.descriptor_blocks <= f.s_blocks_count,
    ),
)


def find_superblock(device: BlockDevice) -> Ext2Superblock:
    """The superblock of the file system that begins at byte 0 of `device`."""
    layout = record(superblock())
    magic = SUPERBLOCK_OFFSET + layout.offset_of("s_magic")
    if device.size < SUPERBLOCK_OFFSET + layout.size or device.read(magic, 2) != EXT2_MAGIC.to_bytes(2, "little"):
        raise UnknownFormat(f"no ext2 superblock: no magic number 0xEF53 at byte {magic}")
    values = layout.unpack(device.read(SUPERBLOCK_OFFSET, layout.size))
    values["s_last_mounted"] = values["s_last_mounted"].split(b"\0", 1)[0]
    if values["s_rev_level"] == 0:  # the fields of revision 1 mean nothing
        values |= {"s_first_ino": EXT2_GOOD_OLD_FIRST_INO, "s_inode_size": EXT2_GOOD_OLD_INODE_SIZE}
        values |= dict.fromkeys(("s_feature_compat", "s_feature_incompat", "s_feature_ro_compat"), 0)
        values["s_reserved_gdt_blocks"] = 0
    fs = Ext2Superblock(**{field.name: values[field.name] for field in fields(Ext2Superblock)})
    for name, holds in RELATIONS:
        if not holds(fs):
            raise FileSystemError(FsCode.FS_INVALID_FS, f"broken relation: {name}", "ext2 superblock")
    refused = _feature_names(fs.s_feature_incompat & ~READ, INCOMPAT_NAMES)
    if refused:
        advice = "; its journal must be replayed first: e2fsck" if "needs_recovery" in refused else ""
        raise FileSystemError(
            FsCode.FS_INVALID_FS, f"INCOMPAT feature {', '.join(refused)} is not ext2's{advice}", "ext2 superblock"
        )
    return fs


def _feature_names(bits: int, names: dict[int, str]) -> list[str]:
    return [names.get(1 << n, f"{1 << n:#x}") for n in range(32) if bits & 1 << n]


def refuse_writing(fs: Ext2Superblock, place: str) -> None:
    """FileSystemError D_READ_ONLY if a RO_COMPAT feature forbids to overwrite the blocks of a file."""
    known = sum(WRITABLE_NAMES)
    names = _feature_names(fs.s_feature_ro_compat & ~known, READ_ONLY_NAMES)
    if names:
        raise FileSystemError(
            FsCode.D_READ_ONLY, f"may only be read: the file system has RO_COMPAT feature {', '.join(names)}", place
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Where the maps and the inodes of one group are: block numbers of the file system."""

    bg_block_bitmap: int
    bg_inode_bitmap: int
    bg_inode_table: int


def read_group(device: BlockDevice, fs: Ext2Superblock, number: int) -> Group:
    """The checked descriptor of one group. Without the feature flex_bg its metadata are within the group itself."""
    layout = record(group_descriptor())
    at = (fs.s_first_data_block + 1) * fs.block_size + number * layout.size
    values = layout.unpack(device.read(at, layout.size))
    group = Group(**{field.name: values[field.name] for field in fields(Group)})
    first = fs.s_first_data_block + number * fs.s_blocks_per_group
    end = min(first + fs.s_blocks_per_group, fs.s_blocks_count)
    for name, blocks in (("bg_block_bitmap", 1), ("bg_inode_bitmap", 1), ("bg_inode_table", fs.inode_blocks_per_group)):
        if not first <= values[name] <= end - blocks:
            raise FileSystemError(
                FsCode.FS_INVALID_FS,
                f"broken relation: {name} is inside its group, blocks {first} to {end - 1}",
                f"ext2 group {number}",
            )
    return group


def _has_superblock(fs: Ext2Superblock, group: int) -> bool:
    """Whether a group begins with a copy of the superblock and the group descriptors."""
    if group == 0:
        return True
    if fs.s_feature_compat & SPARSE_SUPER2:
        return group in fs.s_backup_bgs
    if not fs.s_feature_ro_compat & SPARSE_SUPER:
        return True
    for base in (3, 5, 7):
        power = 1
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def _metadata(device: BlockDevice, fs: Ext2Superblock, number: int) -> Iterator[tuple[int, int]]:
    """The ranges of blocks in a group that belong to no file."""
    first = fs.s_first_data_block + number * fs.s_blocks_per_group
    if _has_superblock(fs, number):
        yield first, first + 1 + fs.descriptor_blocks + fs.s_reserved_gdt_blocks
    group = read_group(device, fs, number)
    yield group.bg_block_bitmap, group.bg_block_bitmap + 1
    yield group.bg_inode_bitmap, group.bg_inode_bitmap + 1
    yield group.bg_inode_table, group.bg_inode_table + fs.inode_blocks_per_group


class DataBlocks:
    """Where data may be. Made for one operation: it remembers the metadata of the groups that it met last."""

    def __init__(self, device: BlockDevice, fs: Ext2Superblock) -> None:
        self.fs = fs
        self._metadata = lru_cache(maxsize=64)(lambda group: tuple(_metadata(device, fs, group)))

    def check(self, block: int, blocks: int, place: str) -> None:
        """Refuse blocks beyond the file system, or in metadata. FileSystemError FS_INVALID_FS names them."""
        fs, end = self.fs, block + blocks
        if block < fs.s_first_data_block or end > fs.s_blocks_count:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, f"block {block} is not within the {fs.s_blocks_count} of the file system", place
            )
        first, last = ((at - fs.s_first_data_block) // fs.s_blocks_per_group for at in (block, end - 1))
        for group in range(first, last + 1):
            for start, stop in self._metadata(group):
                if block < stop and start < end:
                    raise FileSystemError(
                        FsCode.FS_INVALID_FS, f"block {max(block, start)} is in the metadata of group {group}", place
                    )
