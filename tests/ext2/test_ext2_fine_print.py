"""The fine print of the format: where metadata are, what counts in which revision, what a field means when."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ext2_disks import FILE, Tiny, directory_block, mke2fs, mount, needs_e2fsprogs, tool

from bootfs import probe
from bootfs.blocklist import Hole, Run
from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.ext2_superblock import DataBlocks


@needs_e2fsprogs
@pytest.mark.parametrize(
    ("group", "features"),
    [
        ("256", "^resize_inode"),
        ("256", "^sparse_super,^resize_inode"),
        ("256", "sparse_super2,^resize_inode"),
        ("2048", "resize_inode"),
    ],
)
def test_metadata_are_where_dumpe2fs_says_block_by_block(tmp_path: Path, group: str, features: str) -> None:
    image = mke2fs(tmp_path / "image", "14M", "-t", "ext2", "-b", "1024", "-g", group, "-N", "1024", "-O", features)
    fs = mount(image)
    taken: set[int] = set()
    for first, last in re.findall(
        r"(?:superblock|descriptors?|GDT blocks|bitmap|table) at (\d+)(?:-(\d+))?", tool("dumpe2fs", image)
    ):
        taken |= set(range(int(first), int(last or first) + 1))
    data = DataBlocks(fs.device, fs.superblock)
    for block in range(1, fs.superblock.s_blocks_count):
        try:
            data.check(block, 1, "")
            free = True
        except FileSystemError:
            free = False
        assert free == (block not in taken), block


def test_an_extent_that_runs_into_metadata_is_refused_wherever_it_begins() -> None:
    tiny = Tiny()
    tiny.group["bg_inode_bitmap"] = 100
    fs = tiny.mount()
    data = DataBlocks(fs.device, fs.superblock)
    data.check(90, 10, "")
    data.check(101, 10, "")
    for block, blocks in ((90, 11), (100, 1), (99, 3), (100, 5)):
        with pytest.raises(FileSystemError, match="block 100 is in the metadata of group 0"):
            data.check(block, blocks, "")


def test_neighbours_are_one_run_across_the_levels_of_pointers() -> None:
    tiny = Tiny()
    indirect = tiny.pointers(*range(112, 130))
    tiny.node("file", FILE, 30 * 1024, (*range(100, 112), indirect))
    tiny.node("holed", FILE, 400 * 1024, (100,))
    fs = tiny.mount()
    assert fs.block_list(fs.lookup("/file")).runs == (Run(0, 100 * 1024, 30 * 1024),)
    assert list(fs.runs(fs.lookup("/holed"))) == [Run(0, 100 * 1024, 1024), Hole(1024, 399 * 1024)]


def test_indirect_blocks_count_as_blocks_of_the_map() -> None:
    """A tree of the same few blocks over and over, that leads to holes only, ends all the same."""
    tiny = Tiny()
    empty = tiny.pointers(*[0] * 256)
    double = tiny.pointers(*[empty] * 256)
    tiny.node("endless", FILE, 16 << 30, (0,) * 14 + (tiny.pointers(*[double] * 256),))
    fs = tiny.mount()
    with pytest.raises(FileSystemError, match="maps more blocks than the disk has"):
        list(fs.runs(fs.lookup("/endless")))


def test_reserved_descriptor_blocks_belong_to_revision_1() -> None:
    tiny = Tiny()
    tiny.file("file", b"here")
    tiny.super |= {"s_rev_level": 0, "s_reserved_gdt_blocks": 200}
    fs = tiny.mount()
    assert fs.read(fs.lookup("/file"), 0, 4) == b"here"
    tiny.super["s_rev_level"] = 1
    with pytest.raises(FileSystemError, match="metadata of group 0"):
        tiny.mount().block_list(tiny.mount().inode(11))


def test_only_files_have_a_high_word_of_their_size() -> None:
    tiny = Tiny()
    block = tiny.put(directory_block([(b"name", 11)]))
    tiny.node("dir", 0o040755, 1024, (block,), i_size_high=7)
    assert tiny.mount().lookup("/dir").size == 1024


def test_sectors_of_a_huge_file_are_counted_as_its_flag_says() -> None:
    tiny = Tiny()
    plain = tiny.node("plain", FILE, 0, i_blocks=6, i_blocks_high=1)
    huge = tiny.node("huge", FILE, 0, i_blocks=6, i_blocks_high=1, i_flags=0x40000)
    assert tiny.mount().inode(huge).details.blocks == 6
    tiny.super["s_feature_ro_compat"] = 8
    fs = tiny.mount()
    assert fs.inode(plain).details.blocks == 6 + (1 << 32)
    assert fs.inode(huge).details.blocks == 2 * (6 + (1 << 32))


@pytest.mark.parametrize(("state", "clean"), [(0, False), (1, True), (2, False), (3, False)])
def test_clean_means_unmounted_and_without_errors(state: int, clean: bool) -> None:
    tiny = Tiny()
    tiny.super["s_state"] = state
    assert tiny.mount().info()["clean"] is clean


def test_without_file_types_the_length_of_a_name_has_16_bits() -> None:
    tiny = Tiny()
    block = bytearray(directory_block([(b"name", 11)]))
    block[7] = 1  # file_type, or the high byte of name_len
    tiny.node("dir", 0o040755, 1024, (tiny.put(block),))
    fs = tiny.mount()
    assert [entry.name for entry in fs.entries(fs.lookup("/dir"))] == [b"name"]
    tiny.super["s_feature_incompat"] = 0
    fs = tiny.mount()
    with pytest.raises(FileSystemError, match="name_len 260"):
        list(fs.entries(fs.lookup("/dir")))


def test_of_several_broken_formats_the_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: str) -> object:
        def open_it(device: object, offset: int) -> object:
            raise FileSystemError(FsCode.FS_INVALID_FS, words)

        return open_it

    monkeypatch.setattr(probe, "FORMATS", (broken("one"), broken("two")))
    with pytest.raises(FileSystemError, match="one"):
        probe.open_any(MemoryDevice(bytearray(4096)))
