"""What is not ext2, or not sound, is refused by the name of what is wrong; however an image is damaged (P8)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ext2_disks import FILE, Tiny, debugfs, directory_block, mke2fs, mount, needs_e2fsprogs, whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.ext2 import Ext2FileSystem
from bootfs.layout_ext2 import directory_header, group_descriptor, inode, superblock
from bootfs.layout_format import record
from bootfs.lookup import open_file
from bootfs.probe import open_any

BROKEN_SUPERBLOCKS: list[tuple[str, dict[str, Any]]] = [
    ("s_rev_level is 0 or 1", {"s_rev_level": 2}),
    ("s_log_block_size is 0 to 2", {"s_log_block_size": 6}),
    ("s_log_frag_size = s_log_block_size", {"s_log_frag_size": 1}),
    ("s_first_data_block is 1 with blocks of 1 KiB", {"s_first_data_block": 0}),
    ("s_first_data_block is 1 with blocks of 1 KiB, else 0", {"s_log_block_size": 2, "s_log_frag_size": 2}),
    ("s_inode_size is a power of two", {"s_inode_size": 192}),
    ("s_inode_size is a power of two", {"s_inode_size": 64}),
    ("s_inode_size is a power of two", {"s_inode_size": 2048}),
    ("s_blocks_per_group fits the bits of a block", {"s_blocks_per_group": 0}),
    ("s_blocks_per_group fits the bits of a block", {"s_blocks_per_group": 8193}),
    ("s_inodes_per_group fits the bits of a block", {"s_inodes_per_group": 0}),
    ("s_blocks_count > s_first_data_block", {"s_blocks_count": 1}),
    ("s_inodes_count = s_inodes_per_group x groups", {"s_inodes_count": 33}),
    ("s_first_ino is 11 to s_inodes_count", {"s_first_ino": 3}),
    ("s_reserved_gdt_blocks fits the pointers of a block", {"s_reserved_gdt_blocks": 257}),
    ("the group descriptors are inside s_blocks_count", {"s_blocks_count": 2}),
]
INCOMPAT = {0x1: "compression", 0x4: "needs_recovery", 0x10: "meta_bg", 0x80: "64bit", 0x8000: "inline_data"}
RO_COMPAT = {0x200: "bigalloc", 0x4000: "shared_blocks", 0x8000: "verity", 1 << 30: "0x40000000"}


def refusal(act: Callable[[], object], code: FsCode = FsCode.FS_INVALID_FS) -> str:
    with pytest.raises(FileSystemError) as fault:
        act()
    assert fault.value.code == code
    return str(fault.value)


@pytest.mark.parametrize(("words", "wrong"), BROKEN_SUPERBLOCKS)
def test_a_broken_superblock_is_refused_by_the_relation_that_does_not_hold(words: str, wrong: dict[str, Any]) -> None:
    tiny = Tiny()
    tiny.super |= wrong
    assert words in refusal(tiny.mount)


@pytest.mark.parametrize("bit", [*INCOMPAT, 1 << 31])
def test_a_feature_that_is_not_ext2s_is_refused_by_name(bit: int) -> None:
    tiny = Tiny()
    tiny.super["s_feature_incompat"] |= bit
    assert f"INCOMPAT feature {INCOMPAT.get(bit, '0x80000000')} is not ext2's" in refusal(tiny.mount)


def test_a_journal_that_must_be_replayed_tells_how() -> None:
    tiny = Tiny()
    tiny.super["s_feature_incompat"] |= 4
    assert "e2fsck" in refusal(tiny.mount)


@pytest.mark.parametrize("bit", RO_COMPAT)
def test_a_feature_that_forbids_writing_leaves_the_disk_readable(bit: int) -> None:
    tiny = Tiny()
    tiny.file("file", b"f" * 2048)
    tiny.super["s_feature_ro_compat"] = bit
    fs = tiny.mount()
    file = fs.lookup("/file")
    assert fs.read(file, 0, 4) == b"ffff"
    for act in (lambda: fs.write(file, 0, b"x"), lambda: fs.block_list(file)):
        assert f"RO_COMPAT feature {RO_COMPAT[bit]}" in refusal(act, FsCode.D_READ_ONLY)
    assert fs.read(file, 0, 4) == b"ffff"


def test_unknown_compatible_features_do_not_matter() -> None:
    tiny = Tiny()
    tiny.super["s_feature_compat"] = 0xFFFFFFFF & ~0x200
    tiny.file("file", b"here")
    assert tiny.mount().lookup("/file").size == 4


def test_in_revision_0_the_later_fields_mean_nothing() -> None:
    """Its entries have a 16-bit name_len; those of Tiny read so too, for they have no file_type."""
    tiny = Tiny()
    tiny.super |= {"s_rev_level": 0, "s_inode_size": 7, "s_first_ino": 0, "s_feature_incompat": 0xFFFFFFFF}
    tiny.file("file", b"here")
    assert tiny.mount().lookup("/file").size == 4


@pytest.mark.parametrize("flag", [(0x80000, "extents"), (0x10000000, "inline data"), (0x800, "encrypted data")])
def test_an_inode_of_another_kind_is_refused_by_name_and_the_others_are_read(flag: tuple[int, str]) -> None:
    tiny = Tiny()
    tiny.node("foreign", FILE, 100, (0xF30A, 4), i_flags=flag[0])
    tiny.file("file", b"here")
    fs = tiny.mount()
    foreign = fs.lookup("/foreign")
    for act in (
        lambda: fs.read(foreign, 0, 1),
        lambda: fs.write(foreign, 0, b"x"),
        lambda: fs.block_list(foreign),
        lambda: whole(fs, foreign),
    ):
        assert f"it has {flag[1]}, which ext2 has not" in refusal(act)
    assert fs.read(fs.lookup("/file"), 0, 4) == b"here"


@needs_e2fsprogs
def test_an_ext4_is_refused_by_its_features(tmp_path: Path) -> None:
    image = mke2fs(tmp_path / "image", "8M", "-t", "ext4")
    words = refusal(lambda: mount(image))
    assert "64bit" in words
    assert "flex_bg" in words


@needs_e2fsprogs
def test_a_real_file_with_extents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"in an extent")
    image = mke2fs(tmp_path / "image", "4M", "-t", "ext2", "-b", "1024", tree=tmp_path / "tree")
    debugfs(image, "feature extents", f"write {tmp_path / 'tree' / 'file'} later", write=True)
    fs = mount(image)
    assert whole(fs, fs.lookup("/file")) == b"in an extent"
    assert "extents" in refusal(lambda: fs.block_list(fs.lookup("/later")))


METADATA = {
    1: "metadata of group 0",
    2: "metadata of group 0",
    3: "metadata of group 0",
    4: "metadata of group 0",
    8: "metadata of group 0",
    512: "not within the 512",
    0xFFFFFFFF: "not within the 512",
}


@pytest.mark.parametrize("place", METADATA)
@pytest.mark.parametrize("level", range(4))
def test_a_pointer_to_where_no_data_may_be_is_refused(place: int, level: int) -> None:
    """P1: nothing of ours is ever written over the maps and inodes, whatever the pointers say."""
    tiny = Tiny()
    pointers = [0] * 15
    pointers[[0, 12, 13, 14][level]] = place
    tiny.node("bad", FILE, (12 + 256 + 256**2 + 300) * 1024, tuple(pointers))
    tiny.node("deep", FILE, (12 + 256 + 256**2 + 256) * 1024, (0,) * 14 + (tiny.pointers(tiny.pointers(place)),))
    fs = tiny.mount()
    for name in ("/bad", "/deep"):
        words = refusal(lambda name=name: list(fs.runs(fs.lookup(name))))  # type: ignore[misc]
        assert METADATA[place] in words
        assert "inode" in words


def test_the_copies_of_the_superblock_are_metadata_too() -> None:
    tiny = Tiny()
    tiny.super |= {"s_blocks_per_group": 256, "s_inodes_per_group": 32, "s_inodes_count": 64}
    tiny.node("in-copy", FILE, 1024, (257,))
    image = tiny.build()
    image[2080:2112] = record(group_descriptor()).pack(
        {"bg_block_bitmap": 300, "bg_inode_bitmap": 301, "bg_inode_table": 302}
    )

    def runs(compat: int, ro_compat: int) -> object:
        image[1024 + 92 : 1024 + 96] = compat.to_bytes(4, "little")
        image[1024 + 100 : 1024 + 104] = ro_compat.to_bytes(4, "little")
        fs = Ext2FileSystem.open(MemoryDevice(image))
        return list(fs.runs(fs.lookup("/in-copy")))

    for compat, ro_compat in ((0, 0), (0, 1)):
        assert "block 257 is in the metadata of group 1" in refusal(lambda c=compat, r=ro_compat: runs(c, r))
    assert runs(0x200, 1), "with sparse_super2 there are only the copies that it names"
    image[1024 + 588] = 1
    assert "block 257 is in the metadata of group 1" in refusal(lambda: runs(0x200, 1))


@pytest.mark.parametrize("field", ["bg_block_bitmap", "bg_inode_bitmap", "bg_inode_table"])
@pytest.mark.parametrize("place", [0, 512, 0xFFFFFFFF])
def test_a_group_whose_metadata_lie_outside_it_is_refused(field: str, place: int) -> None:
    tiny = Tiny()
    tiny.group[field] = place
    assert f"{field} is inside its group, blocks 1 to 511" in refusal(lambda: tiny.mount().root())


@pytest.mark.parametrize("ino", [0, 1, 3, 10, 33, 0xFFFFFFFF])
def test_an_inode_number_that_no_name_may_have_is_refused(ino: int) -> None:
    assert "no such inode" in refusal(lambda: Tiny().mount().inode(ino))


def test_sizes_that_cannot_be_are_refused() -> None:
    tiny = Tiny()
    tiny.node("long", FILE, 20 << 30)
    tiny.node("link", 0o120777, 60, (1,), i_blocks=0)
    fs = tiny.mount()
    assert "beyond the triple indirect block" in refusal(lambda: fs.lookup("/long"))
    assert "a link of 60 bytes does not fit in it" in refusal(lambda: fs.lookup("/link", follow=False))


ENTRIES = [
    ("rec_len 0", 0, {"rec_len": 0}),
    ("rec_len 14", 0, {"rec_len": 14}),
    ("rec_len 2048 leaves its block", 0, {"rec_len": 2048}),
    ("name_len 0", 0, {"name_len": 0}),
    ("name_len 200 does not fit in rec_len 12", 0, {"name_len": 200}),
    ("a name with '/' or NUL", 8, b"/"),
    ("a name with '/' or NUL", 8, b"\0"),
]


@pytest.mark.parametrize(("words", "at", "wrong"), ENTRIES)
def test_a_broken_directory_entry_is_refused(words: str, at: int, wrong: Any) -> None:
    tiny = Tiny()
    ino = tiny.file("file", b"x")
    block = bytearray(directory_block([(b"a", ino), (b"b", ino)]))
    if isinstance(wrong, dict):
        header = record(directory_header(True))
        wrong = header.pack({"inode": ino, "rec_len": 12, "name_len": 1} | wrong)
    block[at : at + len(wrong)] = wrong
    tiny.node("dir", 0o040755, 1024, (tiny.put(block),))
    fs = tiny.mount()
    assert f"broken entry at byte 0: {words}" in refusal(lambda: list(fs.entries(fs.lookup("/dir"))))


def test_directories_with_holes_or_odd_sizes_or_loops_are_refused() -> None:
    tiny = Tiny()
    tiny.node("holed", 0o040755, 2048, (tiny.put(directory_block([(b".", 11)])), 0))
    tiny.node("odd", 0o040755, 1000, (tiny.data_block,))
    tiny.node("twice", 0o040755, 2048, (tiny.data_block, tiny.data_block))
    fs = tiny.mount()
    assert "directory with a hole at byte 1024" in refusal(lambda: list(fs.entries(fs.lookup("/holed"))))
    assert "no multiple of 1024" in refusal(lambda: list(fs.entries(fs.lookup("/odd"))))
    assert "in a directory twice" in refusal(lambda: list(fs.entries(fs.lookup("/twice"))))


def test_a_map_that_points_at_itself_ends() -> None:
    tiny = Tiny()
    block = tiny.pointers(*[tiny.next_block] * 256)
    tiny.node("loop", FILE, 16 << 30, (0,) * 14 + (block,))
    fs = tiny.mount()
    assert "maps more blocks than the disk has" in refusal(lambda: list(fs.runs(fs.lookup("/loop"))))


def test_a_block_used_twice_is_no_block_list() -> None:
    tiny = Tiny()
    block = tiny.put(b"x")
    tiny.node("twice", FILE, 2048, (block, block))
    fs = tiny.mount()
    assert "share the block" in refusal(lambda: fs.block_list(fs.lookup("/twice")))


def test_what_is_no_ext2_is_an_unknown_format() -> None:
    for image in (bytearray(), bytearray(100), bytearray(2047), bytearray(1 << 16)):
        with pytest.raises(UnknownFormat, match="no ext2 superblock"):
            Ext2FileSystem.open(MemoryDevice(image))
    with pytest.raises(UnknownFormat):
        Ext2FileSystem.open(MemoryDevice(Tiny().build()), 1 << 30)


# Damage


def sample() -> bytes:
    tiny = Tiny()
    tiny.file("file", b"f" * (20 * 1024))
    tiny.link("slow", b"dir/inner", fast=False)
    tiny.link("fast", b"dir/inner", fast=True)
    inner = tiny.file("inner", b"hello")
    tiny.directory("dir", [(b"inner", inner), (b"self", tiny.next_ino)])
    tiny.node("sparse", FILE, 1 << 31)
    tiny.node("deep", FILE, 1 << 26, (0,) * 13 + (tiny.pointers(tiny.pointers(tiny.put(b"deep"))),))
    return bytes(tiny.build())


SAMPLE = sample()
WORDS = (0, 1, 2, 3, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PLACES = st.one_of(st.integers(1024, 1148), st.integers(2048, 2079), st.integers(5 * 1024, 9 * 1024 + 30 * 1024))


def attempt(act: Callable[[], Any]) -> Any:
    """What comes of it, or None and the one documented exception."""
    try:
        return act()
    except FileSystemError as error:
        fault = error
    assert isinstance(fault.code, FsCode)
    assert "\n" not in str(fault)
    return None


def use_everything(image: bytearray) -> None:
    fs = attempt(lambda: open_any(MemoryDevice(image)))
    if fs is None:
        return
    attempt(lambda: [fs.readlink(found) for _, found in fs.walk() if found.kind == "link"])
    attempt(lambda: open_file({"hd0a": fs.device}, "/dev/hd0a/slow"))
    for _, found in attempt(lambda: list(fs.listdir(fs.root()))) or []:
        attempt(lambda found=found: fs.block_list(found))
        attempt(lambda found=found: fs.blocks(found))
        attempt(lambda found=found: fs.read(found, max(0, found.size - 9000), 9000))
        attempt(lambda found=found: fs.write(found, 0, b"x" * 5000))
    attempt(fs.info)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    edits=st.lists(st.tuples(PLACES, st.sampled_from(WORDS) | st.integers(0, 0xFFFFFFFF)), min_size=1, max_size=4),
    length=st.none() | st.integers(0, len(SAMPLE)),
)
def test_a_damaged_image_gives_a_result_or_the_one_exception(edits: list[tuple[int, int]], length: int | None) -> None:
    image = bytearray(SAMPLE)
    for place, word in edits:
        image[place : place + 4] = word.to_bytes(4, "little")
    use_everything(image[:length])


@needs_e2fsprogs
@pytest.mark.parametrize("block_size", ["1024", "4096"])
def test_a_real_disk_damaged_at_random_is_survived(tmp_path: Path, block_size: str) -> None:
    (tmp_path / "tree" / "dir").mkdir(parents=True)
    (tmp_path / "tree" / "dir" / "file").write_bytes(b"f" * 300000)
    (tmp_path / "tree" / "link").symlink_to("dir/file")
    image = mke2fs(tmp_path / "image", "1M", "-t", "ext2", "-b", block_size, "-N", "32", tree=tmp_path / "tree")
    clean = image.read_bytes()
    used = [at for at in range(0, len(clean), 4) if any(clean[at : at + 4]) and clean[at] != ord("f")]
    for seed in range(150):
        choose = random.Random(seed)
        damaged = bytearray(clean)
        for _ in range(choose.randrange(1, 5)):
            at = choose.choice(used)
            damaged[at : at + 4] = choose.choice(WORDS).to_bytes(4, "little")
        use_everything(damaged)


@given(data=st.binary(min_size=1024, max_size=1024))
def test_both_readings_of_a_structure_agree(data: bytes) -> None:
    for layout in (superblock(), group_descriptor(), inode(), directory_header(True), directory_header(False)):
        parsed = layout.parse(data)
        for name, value in record(layout).unpack(data).items():
            assert value == (tuple(parsed[name]) if isinstance(value, tuple) else parsed[name])
