"""A superblock is taken only if every relation in it holds, and the one that fails is named."""

from typing import Any

import pytest
from ffs_builder import Builder

from bootfs import geometry
from bootfs.device import MemoryDevice, SliceDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.superblock import RELATIONS, find_superblock

# For each relation, fields that break it and no relation before it.
BREAKS: dict[str, list[dict[str, Any]]] = {
    "fs_magic is": [{"fs_magic": 0x011955}, {"fs_magic": 0}],
    "fs_bsize is a power": [{"fs_bsize": b} for b in (0, 512, 2048, 4097, -4096, 131072, 0x7FFFFFFF)],
    "fs_fsize is a power": [{"fs_fsize": f} for f in (0, 256, 511, 8192, 0x7FFFFFFF, -512)],
    "fs_frag = fs_bsize": [{"fs_frag": 0}, {"fs_frag": 4}, {"fs_frag": -8}],
    "fs_frag <= 8": [{"fs_bsize": 8192, "fs_frag": 16}],
    "fs_bshift": [{"fs_bshift": 13}, {"fs_bshift": -1}],
    "fs_fshift": [{"fs_fshift": 0}],
    "fs_fragshift": [{"fs_fragshift": 99}],
    "fs_bmask": [{"fs_bmask": 0}],
    "fs_fmask": [{"fs_fmask": -1}],
    "fs_fsize >> fs_fsbtodb": [{"fs_fsbtodb": v} for v in (0x7FFFFFFF, -1, 1)],
    "fs_nindir": [{"fs_nindir": 0}, {"fs_nindir": 512}, {"fs_nindir": -1024}],
    "fs_inopb": [{"fs_inopb": 0}, {"fs_inopb": 64}],
    "fs_size > 0": [{"fs_size": 0}, {"fs_size": -1}],
    "fs_ncg > 0": [{"fs_ncg": 0}, {"fs_ncg": -5}],
    "fs_fpg is a multiple": [{"fs_fpg": 0}, {"fs_fpg": 4097}, {"fs_fpg": -8}],
    "fs_ncg = fs_size": [{"fs_ncg": 2}, {"fs_ncg": 0x7FFFFFFF}, {"fs_fpg": 8}],
    "fs_ipg is a multiple": [{"fs_ipg": 0}, {"fs_ipg": 33}, {"fs_ipg": -32}],
    "fs_ipg x fs_ncg": [{"fs_ncg": 512, "fs_fpg": 8, "fs_ipg": 1 << 24}],
    "0 <= fs_sblkno": [{"fs_sblkno": -1}, {"fs_cblkno": 0}, {"fs_iblkno": 8}, {"fs_dblkno": 0}],
    "fs_dblkno leaves room": [{"fs_ipg": 1 << 20}],
    "fs_cgoffset >= 0": [{"fs_cgoffset": -8}],
    "-fs_cgmask": [{"fs_cgoffset": 8, "fs_cgmask": mask} for mask in (5, 0, -6)],
    "fs_cgoffset keeps": [{"fs_dblkno": 5000}],
    "fs_dblkno <= fs_size": [{"fs_fpg": 8192, "fs_dblkno": 5000}],
    "fs_sbsize": [{"fs_sbsize": 0}, {"fs_sbsize": 8193}],
    "fs_cgsize": [{"fs_cgsize": 0}, {"fs_cgsize": 8192}],
    "fs_cssize": [{"fs_cssize": 0}, {"fs_cssize": 1024}],
    "fs_csaddr": [{"fs_csaddr": 0}, {"fs_csaddr": 4096}, {"fs_csaddr": -1}],
    "-1 <= fs_maxsymlinklen": [{"fs_maxsymlinklen": 0x7FFFFFFF}, {"fs_maxsymlinklen": -2}],
}  # fmt: skip


def test_each_relation_has_a_test() -> None:
    for name, _ in RELATIONS:
        assert [key for key in BREAKS if name.startswith(key)], name
    assert len(BREAKS) == len(RELATIONS)


@pytest.mark.parametrize(
    ("relation", "fields"), [(name, fields) for name, several in BREAKS.items() for fields in several]
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_broken_relation_is_named(order: str, relation: str, fields: dict[str, Any]) -> None:
    """mach.md 8.32: bad magic, a block of 512 bytes and all else that cannot be: 5004; the broken relation is said."""
    builder = Builder(order, "4.4")
    builder.fields |= fields
    with pytest.raises(FileSystemError) as error:
        find_superblock(builder.device())
    assert error.value.code == FsCode.FS_INVALID_FS
    if relation != "fs_magic is":
        assert f"broken relation: {relation}" in str(error.value)
        assert error.value.place == "superblock at byte 8192"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 1, 511, 8192, 8192 + 1379])
def test_a_device_too_small_for_a_superblock_holds_no_file_system(size: int) -> None:
    with pytest.raises(FileSystemError, match="no FFS superblock") as error:
        find_superblock(MemoryDevice(bytearray(size)))
    assert error.value.code == FsCode.FS_INVALID_FS


def test_format_and_byte_order_are_told_apart(builder: Builder) -> None:
    fs = find_superblock(builder.device())
    assert (fs.byte_order, fs.tables, fs.entries) == (
        builder.order,
        builder.variant,
        "4.3" if builder.variant == "4.3" else "4.4",
    )
    assert fs.format == {"4.3": "4.3bsd", "4.4": "ufs1", "ufs2": "ufs2"}[builder.variant]
    assert fs.fs_fsmnt == b"/test"


@pytest.mark.parametrize("order", ["little", "big"])
def test_dynamic_tables_with_the_old_entries_are_4_3bsd(order: str) -> None:
    """4.3BSD-Reno and SunOS: fs_postblformat is 1, and the 4.4 fields are spare."""
    builder = Builder(order, "4.4")
    builder.fields |= {"fs_maxsymlinklen": 0, "fs_inodefmt": 0}
    fs = find_superblock(builder.device())
    assert (fs.format, fs.tables, fs.entries) == ("4.3bsd", "4.4", "4.3")


@pytest.mark.parametrize("location", [65536, 0, 262144])
def test_a_superblock_elsewhere_is_found(location: int) -> None:
    image = Builder().build()
    image[location : location + 1380] = image[8192 : 8192 + 1380]
    if location:
        image[8192 : 8192 + 1380] = bytes(1380)
    assert find_superblock(MemoryDevice(image)).location in (location, 8192)
    part = SliceDevice(MemoryDevice(bytearray(1000) + image), 1000, len(image))
    assert find_superblock(part).fs_size == 4096


@pytest.mark.parametrize(
    ("bsize", "fsize"), [(4096, 512), (4096, 4096), (8192, 1024), (8192, 8192), (16384, 2048), (65536, 8192)]
)
def test_geometry_agrees_with_its_definition(bsize: int, fsize: int) -> None:
    fs = find_superblock(Builder(bsize=bsize, fsize=fsize, size=4 << 20 >> fsize.bit_length() - 1).device())
    for position in (0, 1, fsize - 1, fsize, bsize - 1, bsize, bsize + 1, 13 * bsize + 5, 1 << 33):
        assert geometry.lblkno(fs, position) == position // bsize
        assert geometry.blkoff(fs, position) == position % bsize
        assert geometry.fragoff(fs, position) == position % fsize
        assert geometry.numfrags(fs, position) == position // fsize
        assert geometry.blkroundup(fs, position) == -(-position // bsize) * bsize
        assert geometry.fragroundup(fs, position) == -(-position // fsize) * fsize
    assert geometry.fsbtodb(fs, 3) * 512 == geometry.fsbtobyte(fs, 3) == 3 * fsize
    assert geometry.dbtofsb(fs, geometry.fsbtodb(fs, 3)) == 3
    assert geometry.fragstoblks(fs, geometry.blkstofrags(fs, 5)) == 5
    assert geometry.blknum(fs, fs.fs_frag + 1 if fs.fs_frag > 1 else 1) % fs.fs_frag == 0
    assert geometry.fragnum(fs, fs.fs_frag) == 0
    assert geometry.freespace(fs) == -(fs.fs_dsize * 10 // 100)


def test_a_block_is_smaller_than_a_block_only_at_the_end_of_a_small_file() -> None:
    fs = find_superblock(Builder().device())
    assert geometry.blksize(fs, 4096, 0) == 4096
    assert geometry.blksize(fs, 4097, 1) == 512
    assert geometry.blksize(fs, 513, 0) == 1024
    assert geometry.blksize(fs, 12 * 4096 + 1, 12) == 4096


def test_groups_are_shifted_from_their_base_by_turns() -> None:
    fs = find_superblock(Builder(size=16384, ncg=6).device())
    fs = fs._replace(fs_cgoffset=16, fs_cgmask=-4)
    for cg in range(6):
        assert geometry.cgstart(fs, cg) == cg * fs.fs_fpg + 16 * (cg % 4)
        assert geometry.cgsblock(fs, cg) == geometry.cgstart(fs, cg) + fs.fs_sblkno
        assert geometry.cgtod(fs, cg) < geometry.cgimin(fs, cg) < geometry.cgdmin(fs, cg)
        ino = cg * fs.fs_ipg + fs.fs_inopb + 3
        assert geometry.ino_to_cg(fs, ino) == cg
        assert geometry.ino_to_fsba(fs, ino) == geometry.cgimin(fs, cg) + fs.fs_frag
        assert geometry.ino_to_fsbo(fs, ino) == 3
        assert geometry.dtog(fs, geometry.cgdmin(fs, cg)) == cg
        assert geometry.dtogd(fs, geometry.cgbase(fs, cg) + 5) == 5
