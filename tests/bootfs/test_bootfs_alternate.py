"""A lost superblock is replaced by one of its copies, and only by one that is where its own geometry has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ffs_builder import Builder
from label_builder import write_mbr

from bootfs.command import cli
from bootfs.device import MemoryDevice
from bootfs.disk import open_file_system
from bootfs.errors import FileSystemError, UnknownFormat
from bootfs.filesystem import FileSystem

CASES = [(order, variant) for order in ("little", "big") for variant in ("4.3", "4.4", "ufs2")]


def with_copies(
    order: str, variant: str, bsize: int = 4096, fsize: int = 512, ncg: int = 4
) -> tuple[Builder, bytearray]:
    builder = Builder(order, variant, bsize=bsize, fsize=fsize, size=8192, ncg=ncg)
    builder.file("file", b"contents")
    image = builder.build()
    builder.write_copies()
    return builder, image


@pytest.mark.parametrize(("order", "variant"), CASES)
@pytest.mark.parametrize(("bsize", "fsize"), [(4096, 512), (8192, 1024), (16384, 2048), (32768, 4096), (65536, 8192)])
def test_the_copy_of_the_first_group_serves(order: str, variant: str, bsize: int, fsize: int) -> None:
    builder, image = with_copies(order, variant, bsize, fsize)
    image[builder.location : builder.location + 1380] = bytes(1380)
    with pytest.raises(UnknownFormat):
        FileSystem.open(MemoryDevice(image))
    fs = open_file_system(MemoryDevice(image))
    assert isinstance(fs, FileSystem)
    assert fs.superblock.is_alternate
    assert fs.superblock.location == builder.sound["fs_sblkno"] * fsize
    assert fs.read(fs.lookup("/file"), 0, 8) == b"contents"


@pytest.mark.parametrize(("order", "variant"), CASES)
@pytest.mark.parametrize("damage", [{"fs_bsize": 12345}, {"fs_ncg": 0x7FFFFFFF}, {"fs_magic": 0}])
def test_if_that_is_lost_too_a_later_one_serves(order: str, variant: str, damage: dict[str, int]) -> None:
    builder, image = with_copies(order, variant)
    first = builder.sound["fs_sblkno"] * 512
    image[first : first + 1380] = bytes(1380)
    builder.fields |= damage
    builder.image[builder.location + 1372 : builder.location + 1376] = bytes(4)
    fs = open_file_system(MemoryDevice(image))
    assert isinstance(fs, FileSystem)
    assert fs.superblock.location == (builder.group_start(1) + builder.sound["fs_sblkno"]) * 512


def test_a_damaged_superblock_leads_to_copies_far_away() -> None:
    builder = Builder("big", "4.3", size=65536, ncg=2)
    image = builder.build()
    builder.write_copies()
    first = builder.sound["fs_sblkno"] * 512
    image[first : first + 1380] = bytes(1380)
    image[8192 + 48 : 8192 + 52] = b"\0\0\0\7"  # fs_bsize
    fs = open_file_system(MemoryDevice(image))
    assert isinstance(fs, FileSystem)
    assert fs.superblock.location > 8 << 20


def test_a_copy_that_is_out_of_place_is_not_taken() -> None:
    """As in the image of a disk that is a file on another: its superblock is not where this disk would have one."""
    _, image = with_copies("little", "4.4")
    copy = bytes(image[8192 : 8192 + 1380])
    empty = bytearray(1 << 20)
    empty[100 * 512 : 100 * 512 + 1380] = copy
    with pytest.raises(UnknownFormat, match="no FFS superblock"):
        open_file_system(MemoryDevice(empty))


def test_what_is_broken_is_named_when_no_copy_is_left() -> None:
    builder = Builder()
    builder.fields["fs_nindir"] = 3
    with pytest.raises(FileSystemError, match="broken relation: fs_nindir"):
        open_file_system(builder.device())


def test_info_says_so_and_so_it_is_in_a_partition(tmp_path: Path) -> None:
    builder, image = with_copies("little", "ufs2")
    image[65536 : 65536 + 1380] = bytes(1380)
    path = tmp_path / "disk.img"
    path.write_bytes(image)
    copy = builder.sound["fs_sblkno"] * 512
    found = json.loads(CliRunner().invoke(cli, ["info", "--json", str(path)]).stdout)
    assert found["superblock"] == f"alternate at {copy}"
    assert found["clean"] is None
    whole = bytearray(1 << 20) + image
    write_mbr(whole, [(0xA5, 2048, len(image) // 512)])
    path.write_bytes(whole)
    assert f"alternate at {(1 << 20) + copy}" in CliRunner().invoke(cli, ["info", str(path)]).stdout
