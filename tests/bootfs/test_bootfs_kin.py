"""Disks of the kin: NeXT, Mac OS X, Solaris, NetBSD 10, union mounts; each differs from the BSDs in a detail."""

from __future__ import annotations

import struct

import pytest
from ffs_builder import DIR, FILE, LINK, Builder
from test_bootfs_tree import failing

from bootfs.device import MemoryDevice
from bootfs.errors import FsCode
from bootfs.filesystem import FileSystem
from bootfs.layout import FS_UFS2EA_MAGIC, IC_FASTLINK, SUN_MASKS_AT

ORDERS = pytest.mark.parametrize("order", ["little", "big"])


def long_chunk(order: str, names: list[tuple[bytes, int]]) -> bytes:
    """A chunk of 1024 bytes in which an entry crosses byte 512."""
    word = "<IHH" if order == "little" else ">IHH"
    data = b"".join(struct.pack(word, ino, 260, len(name)) + name.ljust(252, b"\0") for name, ino in names[:-1])
    name, ino = names[-1]
    return data + (struct.pack(word, ino, 1024 - len(data), len(name)) + name).ljust(1024 - len(data), b"\0")


def with_long_chunk(builder: Builder) -> list[bytes]:
    """Names in disk order of a root that is one chunk of 1024 bytes."""
    names = [(b".", 2), (b"..", 2), (b"a" * 200, 3), (b"b" * 200, 3)]
    builder.node(FILE | 0o644, 0)
    builder.build(long_chunk(builder.order, names))
    return [name for name, _ in names]


@ORDERS
def test_next_writes_directories_in_chunks_of_1024_bytes(order: str) -> None:
    """Its sectors are of 1024 bytes, which fs_fsbtodb tells."""
    builder = Builder(order, "4.3", 8192, 1024)
    builder.fields["fs_fsbtodb"] = 0
    names = with_long_chunk(builder)
    fs = FileSystem.open(MemoryDevice(builder.image))
    assert fs.superblock.dirblksiz == 1024
    assert [entry.name for entry in fs.entries(fs.root())] == names


def test_mac_os_x_does_too_and_has_a_label_to_know_it_by() -> None:
    builder = Builder("big", "4.4", 8192, 1024)
    names = with_long_chunk(builder)
    fs = FileSystem.open(MemoryDevice(builder.image))
    with failing(FsCode.FS_INVALID_FS, "leaves its chunk"):
        list(fs.entries(fs.root()))
    builder.image[7168 : 7168 + 4] = struct.pack(">I", 0x4C41424C)
    fs = FileSystem.open(MemoryDevice(builder.image))
    assert [entry.name for entry in fs.entries(fs.root())] == names


@ORDERS
def test_netbsd_marks_ufs2_that_uses_extended_attributes(order: str) -> None:
    builder = Builder(order, "ufs2")
    builder.fields["fs_magic"] = FS_UFS2EA_MAGIC
    builder.file("file", b"contents")
    fs = builder.mount()
    assert fs.info()["format"] == "ufs2"
    assert fs.read(fs.lookup("/file"), 0, 8) == b"contents"


@ORDERS
@pytest.mark.parametrize("version", [0, 2])
def test_solaris_has_its_version_where_4_4_has_the_length_of_short_links(order: str, version: int) -> None:
    """Taken for 4.4's, it would make of the 16-bit d_namlen a type and a length."""
    builder = Builder(order, "4.4", 8192, 1024)
    builder.fields |= {"fs_maxsymlinklen": version, "fs_inodefmt": 0}
    builder.file("file", b"contents")
    builder.node(LINK | 0o777, 5, "fast", text=b"short", flags=IC_FASTLINK)
    image = builder.build(old_entries(builder, builder.root_entries))
    masks = struct.pack("<qq" if order == "little" else ">qq", 8191, 1023)
    image[8192 + SUN_MASKS_AT : 8192 + SUN_MASKS_AT + 16] = masks
    fs = FileSystem.open(MemoryDevice(image))
    assert (fs.superblock.format, fs.superblock.tables, fs.superblock.entries) == ("4.3bsd", "4.4", "4.3")
    assert fs.read(fs.lookup("/file"), 0, 8) == b"contents"
    assert fs.readlink(fs.lookup("/fast", follow=False)) == b"short"


def old_entries(builder: Builder, names: list[tuple[bytes, int]]) -> bytes:
    return Builder(builder.order, "4.3").entries(names)


@pytest.mark.parametrize("length", [0, -1])
@pytest.mark.parametrize("variant", ["4.3", "4.4"])
def test_a_short_link_without_blocks_is_in_its_inode_whatever_the_superblock_says(variant: str, length: int) -> None:
    """NeXT: fs_maxsymlinklen is -1, no flag is set, and links of up to 60 bytes are in the inode."""
    builder = Builder("big", variant)
    if variant == "4.4":
        builder.fields |= {"fs_maxsymlinklen": length, "fs_inodefmt": 0}
    builder.node(LINK | 0o777, 5, "inside", text=b"there")
    builder.link("outside", "elsewhere", fast=False)
    fs = builder.mount()
    assert fs.readlink(fs.lookup("/inside", follow=False)) == b"there"
    assert fs.readlink(fs.lookup("/outside", follow=False)) == b"elsewhere"


@ORDERS
@pytest.mark.parametrize("variant", ["4.4", "ufs2"])
def test_a_whiteout_of_a_union_mount_is_no_name(order: str, variant: str) -> None:
    """4.4BSD: d_ino 1, d_type 14. Any other entry with that number is broken."""
    builder = Builder(order, variant)
    builder.root_entries += [(b"hidden", 1)]
    builder.directory("dir", [])
    image = builder.build()
    fs = FileSystem.open(MemoryDevice(image))
    with failing(FsCode.FS_INVALID_FS, "no such inode"):
        list(fs.listdir(fs.root()))
    at = image.index(b"hidden\0")
    image[at - 2] = 14
    fs = FileSystem.open(MemoryDevice(image))
    assert [(name, inode.mode & DIR) for name, inode in fs.listdir(fs.root())] == [(b"dir", DIR)]
