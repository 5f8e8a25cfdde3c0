"""UFS1 and UFS2, in both byte orders: new disks, and the paging file in disks that others made."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED
from test_disktools_new_disk import of_the_disk, of_the_host
from whole_disk import check_file, check_whole, disk_of, manifest_of

from bootfs.device import FileDevice, MemoryDevice
from bootfs.errors import FileSystemError
from bootfs.filesystem import FileSystem
from bootfs.geometry import cgimin, cgsblock, cgtod, fsbtobyte
from bootfs.layout import FS_FLAGS_UPDATED, ByteOrder, cylinder_group, superblock
from bootfs.layout_format import record
from bootfs.superblock import Format, find_superblock
from disktools.allocator import Allocator
from disktools.errors import NoRoom, Refusal
from disktools.geometry_ufs import UfsFormat, default_sizes, ufs_superblock_fields
from disktools.limits import LIMITS
from disktools.newfs import NewFileSystem
from disktools.paging_file import PagingFile, Plan, parse_path, plan_in_existing
from disktools.tree import scan

TIME = 1_200_000_000
PATH = "/mach_servers/paging_file"
SIZES = [(4096, 512), (8192, 1024), (16384, 8192), (32768, 4096), (65536, 65536)]
FORMATS: list[Format] = ["ufs1", "ufs2"]
both_formats = pytest.mark.parametrize("kind", FORMATS)
both_orders = pytest.mark.parametrize("order", ["little", "big"])


def add(data: bytearray, size: int, path: str = PATH) -> Plan:
    device = MemoryDevice(data)
    plan = plan_in_existing(device, PagingFile(parse_path(path), size), TIME)
    plan.write(device, lambda _: None)
    return plan


def same_but_for(after: bytearray, before: dict[str, dict[str, object]], *new: str) -> None:
    """Nothing else changed, except the root, which has one more directory."""
    found = manifest_of(after)
    assert set(found) - set(before) == set(new)
    assert {path: facts for path, facts in found.items() if path in before and path != "/"} == {
        path: facts for path, facts in before.items() if path != "/"
    }


@pytest.mark.parametrize(("block", "fragment"), SIZES)
@both_orders
@both_formats
def test_a_tree_comes_out_as_it_went_in_and_a_second_file_goes_beside_it(
    tmp_path: Path, tree: Path, kind: Format, order: ByteOrder, block: int, fragment: int
) -> None:
    new = NewFileSystem(12 << 20, block, fragment, order, format=kind)
    data = disk_of(new, 2 << 20, os.fsencode(tree))
    check_whole(MemoryDevice(data))
    (tmp_path / "disk.img").write_bytes(data)
    found = of_the_disk(tmp_path / "disk.img")
    for path in ("/", "/lost+found", PATH):
        found.pop(path)
    assert found == of_the_host(tree)
    before = manifest_of(data)
    add(data, 300_000, "/other/file")
    check_whole(MemoryDevice(data))
    same_but_for(data, before, "/other", "/other/file")


@pytest.mark.parametrize("blocks", [0, 60, 100, 257])
@both_orders
@both_formats
def test_groups_of_any_size_are_sound(kind: Format, order: ByteOrder, blocks: int) -> None:
    new = NewFileSystem((9 << 20) + 3584, 8192, 2048, order, format=kind, group_blocks=blocks)
    data = disk_of(new, 1 << 20)
    check_whole(MemoryDevice(data))
    fs = find_superblock(MemoryDevice(data))
    assert fs.fs_ncg == (1 if blocks == 0 else -(-1152 // blocks)) or fs.fs_size < new.size // 2048
    for cg in range(fs.fs_ncg):
        at = fsbtobyte(fs, cgsblock(fs, cg))
        assert data[at : at + fs.fs_sbsize] == data[fs.location : fs.location + fs.fs_sbsize]


@given(
    st.sampled_from(["ufs1", "ufs2"]),
    st.integers(1 << 20, 1 << 40),
    st.sampled_from([12, 13, 14, 15, 16]),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_any_size_from_1_mib_to_1_tib_gets_a_geometry_and_loses_little(
    kind: UfsFormat, size: int, shift: int, parts: int
) -> None:
    block, fragment = 1 << shift, 1 << shift - parts
    if (kind == "ufs1" and size >= fragment << 31) or (size < 3 << 20 and block > 16384) or size > block << 24:
        return  # too many fragments, no room beside the tables, or too many groups to count
    fields = ufs_superblock_fields(kind, size, block, fragment, 0)
    lost = size - fields["fs_size"] * fragment
    assert 0 <= lost < max(fragment, size // 16)
    assert fields["fs_cgsize"] <= block


@pytest.mark.parametrize(
    ("kind", "size", "block", "fragment", "why"),
    [
        ("ufs2", 0, 8192, 1024, "too small"),
        ("ufs1", 1 << 40, 4096, 512, "--format ufs2"),
        ("ufs2", 8 << 20, 2048, 512, "4096 to 65536"),
        ("ufs2", 8 << 20, 131072, 16384, "4096 to 65536"),
        ("ufs1", 8 << 20, 16384, 1024, "fragment size must be 2048 to 16384"),
        ("ufs1", 8 << 20, 12288, 1024, "power of two"),
    ],
)
def test_what_the_format_cannot_have_is_refused(
    kind: UfsFormat, size: int, block: int, fragment: int, why: str
) -> None:
    with pytest.raises(Refusal, match=why):
        ufs_superblock_fields(kind, size, block, fragment, 0)


def test_a_disk_of_a_tebibyte_is_sparse_and_sound(tmp_path: Path) -> None:
    from fixtures.disks import make_disk

    path = tmp_path / "disk.img"
    new = NewFileSystem(1 << 40, *default_sizes("ufs2", 1 << 40), format="ufs2")
    make_disk(path, new, 64 << 20)
    assert path.stat().st_size == 1 << 40
    assert path.stat().st_blocks * 512 < 80 << 20
    with FileDevice(path) as device:
        fs = find_superblock(device)
        assert Allocator.open(device, fs).free_blocks() == fs.cs_nbfree
        assert fs.fs_size * fs.fs_fsize > (1 << 40) - (1 << 30)
        system = FileSystem.open(device)
        assert len(system.block_list(system.lookup(PATH)).runs) == 1


def test_a_small_disk_is_filled_to_its_last_block(tmp_path: Path) -> None:
    new = NewFileSystem(8 << 20, 4096, 512, "big", format="ufs2", group_blocks=700)
    with pytest.raises(NoRoom) as refusal:
        disk_of(new, 64 << 20)
    most = int(str(refusal.value).split("--paging-size ")[1].split(";")[0])
    data = disk_of(new, most)
    check_whole(MemoryDevice(data))
    assert find_superblock(MemoryDevice(data)).cs_nbfree == 0


@both_formats
def test_short_links_are_in_the_inode_and_long_ones_have_blocks(tmp_path: Path, kind: Format) -> None:
    for length in (1, 59, 60, 119, 120, 1000):
        os.symlink("l" * length, tmp_path / str(length))
    os.utime(tmp_path / "1", (-5.5, -5.5), follow_symlinks=False)
    data = disk_of(NewFileSystem(1 << 20, 4096, 512, format=kind), 0, os.fsencode(tmp_path))
    check_whole(MemoryDevice(data))
    system = FileSystem.open(MemoryDevice(data))
    for length in (1, 59, 60, 119, 120, 1000):
        link = system.lookup(f"/{length}", follow=False)
        assert system.readlink(link) == b"l" * length
        assert (link.details.blocks == 0) == (length < (60 if kind == "ufs1" else 120))
    link = system.lookup("/1", follow=False)
    assert (link.mtime, link.details.mtimensec) == (-6, 500_000_000)


def test_later_formats_hold_what_the_old_one_cannot(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 31)
    assert len(scan(os.fsencode(tmp_path), LIMITS["4.3bsd"])[1]) == 2
    root, skipped = scan(os.fsencode(tmp_path), LIMITS["ufs1"])
    assert skipped == []
    assert root.children[b"huge"].size == 1 << 31
    assert stat.S_ISFIFO(root.children[b"pipe"].mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes and gives files away")
def test_devices_and_owners_are_as_wide_as_the_format(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    try:
        for name, major, minor in (("sda1", 8, 17), ("wide", 8, 0x10011), ("wider", 300, 4)):
            os.mknod(source / name, stat.S_IFBLK | 0o600, os.makedev(major, minor))
        os.chown(source / "sda1", 70_000, 80_000)
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    for kind, names in (("ufs1", {"sda1", "wide"}), ("ufs2", {"sda1", "wide", "wider"})):
        new = NewFileSystem(1 << 20, format="ufs1" if kind == "ufs1" else "ufs2")
        found = manifest_of(disk_of(new, 0, os.fsencode(source)))
        assert {path[1:] for path in found} - {"", "lost+found"} == names
        assert (found["/sda1"]["uid"], found["/sda1"]["gid"]) == (70_000, 80_000)
        assert found["/sda1"]["rdev"] == [8, 17]


@both_orders
def test_inodes_that_were_never_written_are_zeros_before_they_are_counted(tmp_path: Path, order: ByteOrder) -> None:
    for number in range(20):
        (tmp_path / f"file{number}").write_bytes(b"x")
    new = NewFileSystem(2 << 20, 4096, 512, order, format="ufs2")
    data = disk_of(new, 0, os.fsencode(tmp_path))
    fs = find_superblock(MemoryDevice(data))
    before = manifest_of(data)
    start, end = fsbtobyte(fs, cgimin(fs, 0)) + 32 * 256, fsbtobyte(fs, cgimin(fs, 0)) + fs.fs_ipg * 256
    data[start:end] = b"\xee" * (end - start)
    add(data, 8192, "/" + "/".join("abcdefghijklmnopqrstuvwxyz"))
    check_whole(MemoryDevice(data))
    now = find_superblock(MemoryDevice(data))
    assert Allocator.open(MemoryDevice(data), now).groups[0].initialised == 64
    assert data[start + 32 * 256 : end] == b"\xee" * (end - start - 32 * 256)
    assert set(manifest_of(data)) > set(before)


@pytest.fixture(scope="module")
def freebsd() -> bytes:
    """A disk that FreeBSD's own newfs and kernel made: check hashes, soft updates, extended attributes, holes."""
    packed = SHARED / "disks" / "freebsd-ufs2-little.img.zst"
    if not packed.exists() or not shutil.which("zstd"):
        pytest.skip("FreeBSD's disk is not beside this tree (../shared/disks), or there is no zstd to unpack it")
    return subprocess.run(["zstd", "-dqc", packed], check=True, capture_output=True).stdout


def test_freebsds_own_disk_gets_a_file_and_its_hashes_stay_right(freebsd: bytes) -> None:
    data = bytearray(freebsd)
    check_whole(MemoryDevice(data))
    before = manifest_of(data)
    add(data, 1 << 20)
    check_whole(MemoryDevice(data))
    same_but_for(data, before, "/mach_servers", PATH)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("fs_clean", 0, "not unmounted cleanly"),
        ("fs_flags", 0x206, "asks to be checked"),
        ("fs_snapinum", (7, *[0] * 19), "has snapshots"),
    ],
)
def test_a_disk_that_must_not_be_changed_from_outside_is_refused(
    freebsd: bytes, name: str, value: object, why: str
) -> None:
    data, layout = bytearray(freebsd), record(superblock("little", "ufs2"))
    data[65536 : 65536 + layout.size] = layout.pack(layout.unpack(data, 65536) | {name: value})
    untouched = bytes(data)
    with pytest.raises(FileSystemError, match=why):
        add(data, 8192)
    assert data == untouched


def test_a_group_whose_hash_or_clusters_are_wrong_is_refused(freebsd: bytes) -> None:
    fs = find_superblock(MemoryDevice(bytearray(freebsd)))
    at = fsbtobyte(fs, cgtod(fs, 1))
    values = record(cylinder_group("little", "ufs2")).unpack(freebsd, at)
    for offset, why in ((132, "check hash"), (values["cg_clustersumoff"] + 4, "check hash")):
        data = bytearray(freebsd)
        data[at + offset] ^= 1
        with pytest.raises(FileSystemError, match=why):
            add(data, 8192)
    plain = disk_of(NewFileSystem(2 << 20, format="ufs1"))
    fs = find_superblock(MemoryDevice(plain))
    at = fsbtobyte(fs, cgtod(fs, 0))
    values = record(cylinder_group("little", "4.4")).unpack(plain, at)
    for name, why in (("cg_clustersumoff", "clusters"), ("cg_clusteroff", "map of clusters")):
        data = bytearray(plain)
        data[at + values[name] + 4] ^= 1
        with pytest.raises(FileSystemError, match=why):
            add(data, 8192)


@pytest.mark.parametrize("words", ["-B le", "-B be", "-B le -b 16384 -f 2048", "-B be -b 4096 -f 512"])
@pytest.mark.parametrize("version", [1, 2])
def test_disks_of_makefs_get_a_file(tmp_path: Path, tree: Path, version: int, words: str) -> None:
    if not shutil.which("makefs"):
        pytest.skip("makefs is not installed")
    image = tmp_path / "disk.img"
    options = words.replace("-b ", "-o bsize=").replace("-f ", "-o fsize=").split()
    command = ["makefs", "-t", "ffs", *options, "-o", f"version={version}", "-s", "4m", image, tree]
    subprocess.run(command, check=True, capture_output=True)
    data = bytearray(image.read_bytes())
    check_whole(MemoryDevice(data))
    before = manifest_of(data)
    add(data, 1 << 20, "/new/file")
    check_whole(MemoryDevice(data))
    same_but_for(data, before, "/new", "/new/file")


@both_orders
@pytest.mark.parametrize("stale", [False, True])
def test_tables_by_rotation_are_kept_where_they_are_right_and_else_left_alone(order: ByteOrder, stale: bool) -> None:
    """As 4.4BSD has them: one counter a cylinder and one a rotational position."""
    data = disk_of(NewFileSystem(4 << 20, 8192, 1024, order, None, "ufs1"))
    fs = find_superblock(MemoryDevice(data))
    at = fsbtobyte(fs, cgtod(fs, 0))
    data[fs.location + 211] &= ~FS_FLAGS_UPDATED & 0xFF
    mark = "<" if order == "little" else ">"
    counts = (fs.cs_nbfree - stale, fs.cs_nbfree)
    struct.pack_into(f"{mark}ih", data, at + 168, *counts)
    add(data, 1 << 20)
    free = find_superblock(MemoryDevice(data)).cs_nbfree
    assert fs.cs_nbfree > free
    assert struct.unpack_from(f"{mark}ih", data, at + 168) == (counts if stale else (free, free))
    if not stale:
        check_whole(MemoryDevice(data))


def test_a_used_device_shows_nothing_of_what_was_on_it(tmp_path: Path, tree: Path) -> None:
    from disktools.paging_file import plan_new_disk

    new = NewFileSystem(3 << 20, 4096, 512, format="ufs2")
    used = MemoryDevice(bytearray(b"\xa5" * new.size))
    plan = plan_new_disk(new, PagingFile(parse_path(PATH), 1 << 20), os.fsencode(tree), 1_000_000_000, zeroed=False)
    plan.write(used, lambda _: None)
    check_whole(used)
    (tmp_path / "disk.img").write_bytes(disk_of(new, 1 << 20, os.fsencode(tree)))
    check_file(tmp_path / "disk.img")
    assert manifest_of(used.data) == manifest_of(tmp_path / "disk.img")


OTHERS = [
    "4.3bsd-big-boundaries",
    "ufs1-little-tree",
    "ufs1-big-16384-2048-2-boundaries",
    "ufs2-big-tree",
    "ufs2-little-holes",
]


@pytest.mark.parametrize("name", OTHERS)
def test_disks_of_the_corpus_get_a_file(name: str) -> None:
    """Made by a builder of its own, with several groups, holes, and tables by rotation of many cylinders."""
    from fixtures.disks.corpus import CORPUS

    data = bytearray(CORPUS[name].make().data)
    before = manifest_of(data)
    add(data, 70_000, "/new/file")
    check_whole(MemoryDevice(data))
    same_but_for(data, before, "/new", "/new/file")
