"""A paging file inside an existing file system: nothing else changes, and a crash at any write hurts nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_disk import check_whole, manifest_of, reachable

from bootfs.device import Bytes, MemoryDevice
from bootfs.errors import FileSystemError
from bootfs.filesystem import FileSystem
from bootfs.geometry import cgtod, dtog, dtogd, fsbtobyte, ino_to_fsba
from bootfs.superblock import Format, find_superblock
from disktools.allocator import Allocator
from disktools.check_file_system import Checked, check_file_system
from disktools.errors import NoRoom, Refusal
from disktools.geometry_plan import DiskGeometry
from disktools.group_tables import Rotation, read_group
from disktools.newfs import NewFileSystem
from disktools.paging_file import PagingFile, Plan, parse_path, plan_in_existing, plan_new_disk

TIME = 1_200_000_000
PATH = "/mach_servers/paging_file"


def add(data: bytearray, size: int, path: str = PATH) -> Plan:
    device = MemoryDevice(data)
    plan = plan_in_existing(device, PagingFile(parse_path(path), size), TIME)
    plan.write(device, lambda _: None)
    return plan


def disk_with(source: Path | None, new: NewFileSystem) -> bytearray:
    device = MemoryDevice(bytearray(new.size))
    plan_new_disk(new, None, None if source is None else os.fsencode(source), 1_000_000_000).write(
        device, lambda _: None
    )
    return device.data


def directory_of(tmp_path: Path, names: int, length: int) -> Path:
    """A directory with `names` names of `length` bytes, and small files right behind its last fragment."""
    (tmp_path / "d").mkdir(parents=True)
    for number in range(names):
        (tmp_path / "d" / f"{number:04d}".ljust(length, "x")).touch()
    for number in range(24):
        (tmp_path / f"small{number}").write_bytes(b"%d" % number)
    return tmp_path


def test_the_genuine_disk_keeps_every_byte_but_the_new_ones(miniroot: bytes) -> None:
    data = bytearray(miniroot)
    plan = add(data, 256 << 10)
    check_whole(MemoryDevice(data))
    device = MemoryDevice(data)
    system = FileSystem.open(device)
    fs = system.superblock
    file, parent, root = (system.lookup(path) for path in (PATH, "/mach_servers", "/"))
    allowed: set[int] = set()  # fragments that may differ

    def allow(offset: int, length: int) -> None:
        allowed.update(range(offset // fs.fs_fsize, -(-(offset + length) // fs.fs_fsize)))

    for inode in (file, parent):
        for run in system.runs(inode):
            allow(getattr(run, "device_offset", 0), run.length)
    for inode in (file, parent, root):
        allow(fsbtobyte(fs, ino_to_fsba(fs, inode.ino)) + inode.ino % fs.fs_inopb * 128, 128)
    allow(fsbtobyte(fs, file.pointers[12]), fs.fs_bsize)
    allow(next(iter(system.runs(root))).device_offset, 512)  # type: ignore[union-attr]
    allow(fsbtobyte(fs, cgtod(fs, 0)), fs.fs_cgsize)
    allow(fsbtobyte(fs, fs.fs_csaddr), 16)
    allow(8192, 1380)
    changed = {f for f in range(len(data) // 512) if data[f * 512 : f * 512 + 512] != miniroot[f * 512 : f * 512 + 512]}
    assert changed <= allowed
    assert plan.facts()["runs"] == [{"file_offset": 0, "device_offset": 3032 * 512, "length": 256 << 10}]

    before, after = manifest_of(bytearray(miniroot)), manifest_of(data)
    assert set(after) - set(before) == {"/mach_servers", PATH}
    for path, facts in before.items():
        assert path == "/" or after[path] == facts


def test_old_contents_of_the_blocks_do_not_show(tmp_path: Path) -> None:
    data = disk_with(None, NewFileSystem(2 << 20))
    device = MemoryDevice(data)
    fs = find_superblock(device)
    for group in Allocator.open(device, fs).groups:
        for block, count in group.free_runs():
            device.write(fsbtobyte(fs, group.cgx * fs.fs_fpg + block * fs.fs_frag), b"\xee" * count * fs.fs_bsize)
    add(data, 512 << 10)
    system = FileSystem.open(device)
    assert all(not any(piece) for piece in system.contents(system.lookup(PATH)))
    for path in ("/mach_servers", "/"):
        run = next(iter(system.runs(system.lookup(path))))
        fragment = device.read(run.device_offset, fs.fs_fsize)  # type: ignore[union-attr]
        assert b"\xee" not in fragment


GROWTH = [
    (1, 20, "there is slack behind an entry"),
    (2, 250, "a second chunk, in the fragment that is there or the next one"),
    (16, 250, "a new block"),
    (28, 250, "a tail that cannot grow in place"),
]


KINDS: list[tuple[int, int, Format]] = [
    (4096, 512, "4.3bsd"),
    (4096, 1024, "4.3bsd"),
    (8192, 1024, "4.3bsd"),
    (8192, 8192, "4.3bsd"),
    (4096, 512, "ufs1"),
    (4096, 512, "ufs2"),
    (32768, 4096, "ufs2"),
]


@pytest.mark.parametrize(("block", "fragment", "kind"), KINDS)
@pytest.mark.parametrize(("names", "length", "why"), GROWTH)
def test_a_directory_grows_by_a_chunk_when_it_must(
    tmp_path: Path, block: int, fragment: int, kind: Format, names: int, length: int, why: str
) -> None:
    new = NewFileSystem(4 << 20, block, fragment, format=kind)
    data = disk_with(directory_of(tmp_path, names, length), new)
    before = manifest_of(data)
    for letter in "pqrs":
        add(data, block, f"/d/{letter * 250}")
        check_whole(MemoryDevice(data))
    after = manifest_of(data)
    assert {path: facts for path, facts in after.items() if path in before and path != "/d"} == {
        path: facts for path, facts in before.items() if path != "/d"
    }
    assert len(after) == len(before) + 4


@pytest.mark.parametrize("kind", ["4.3bsd", "ufs2"])
@pytest.mark.parametrize("names", [191, 192, 193])
def test_a_directory_grows_past_its_twelve_direct_blocks(tmp_path: Path, names: int, kind: Format) -> None:
    """Two names of 240 bytes fill a chunk: 192 are 96 chunks, twelve blocks of 4096 to the byte."""
    data = disk_with(directory_of(tmp_path, names, 240), NewFileSystem(4 << 20, 4096, 512, format=kind))
    for letter in "pqrs":
        add(data, 4096, f"/d/{letter * 240}")
        check_whole(MemoryDevice(data))
    assert len([path for path in manifest_of(data) if path.startswith("/d/")]) == names + 4


def test_a_tail_that_cannot_grow_where_it_is_moves_and_its_old_place_is_free_last(tmp_path: Path) -> None:
    data = disk_with(directory_of(tmp_path, 28, 250), NewFileSystem(4 << 20, 4096, 512))
    device = MemoryDevice(data)
    old = FileSystem.open(device).lookup("/d")
    plan = add(data, 4096, "/d/" + "p" * 250)
    new = FileSystem.open(device).lookup("/d")
    assert plan.writes.returned == [(old.pointers[3], 4)]
    assert (new.size, new.pointers[:3]) == (old.size + 512, old.pointers[:3])
    assert new.pointers[3] != old.pointers[3]
    check_whole(device)


def test_a_path_that_is_there_or_leads_through_a_file_is_refused(tree: Path) -> None:
    data = disk_with(tree, NewFileSystem(4 << 20))
    untouched = bytes(data)
    for path, why in (
        ("/etc/motd", "exists already"),
        ("/etc", "exists already"),
        ("/etc/motd/x", "not a directory"),
        ("/etc/pager-doc/x", "not a directory"),
    ):
        with pytest.raises(Refusal, match=why):
            add(data, 8192, path)
    assert data == untouched


def test_no_room_leaves_the_disk_as_it_was_and_says_what_fits(miniroot: bytes) -> None:
    data = bytearray(miniroot)
    with pytest.raises(NoRoom) as refusal:
        add(data, 1 << 20)
    assert data == miniroot
    most = int(str(refusal.value).split("--paging-size ")[1].split(";")[0])
    add(data, most)
    check_whole(MemoryDevice(data))
    assert find_superblock(MemoryDevice(data)).cs_nbfree == 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 900_000), max_size=6), st.sampled_from(["little", "big"]))
def test_several_files_one_after_the_other_never_meet(sizes: list[int], order: str) -> None:
    new = NewFileSystem(2 << 20, 4096, 1024, "little" if order == "little" else "big", DiskGeometry(16, 4, 16))
    data = disk_with(None, new)
    for number, size in enumerate(sizes):
        before = bytes(data)
        try:
            add(data, size, f"/one/{number}/deep")
        except NoRoom:
            assert data == before
    check_whole(MemoryDevice(data))


def test_a_broken_map_is_refused_before_anything_is_written(miniroot: bytes) -> None:
    data = bytearray(miniroot)
    fs = find_superblock(MemoryDevice(data))
    data[fsbtobyte(fs, cgtod(fs, 0)) + 984 + 500] ^= 0xFF
    broken = bytes(data)
    with pytest.raises(FileSystemError, match="repair the file system with fsck"):
        add(data, 64 << 10)
    assert data == broken


def test_an_inode_that_is_in_use_but_free_in_its_map_is_refused(miniroot: bytes) -> None:
    data = bytearray(miniroot)
    device = MemoryDevice(data)
    fs = find_superblock(device)
    free = Allocator.open(device, fs).take_inode(0, False)
    device.write(fsbtobyte(fs, ino_to_fsba(fs, free)) + free % fs.fs_inopb * 128, b"\xa4\x81")
    with pytest.raises(FileSystemError, match="free in its map and in use"):
        add(data, 64 << 10)


class Crash(Exception):
    pass


class DyingDevice(MemoryDevice):
    """A device that stops before its `lives`-th write."""

    def __init__(self, data: bytearray, lives: int) -> None:
        super().__init__(data)
        self.lives = lives

    def write(self, offset: int, data: Bytes) -> None:
        if self.lives == 0:
            raise Crash
        self.lives -= 1
        super().write(offset, data)


def crashes(before: bytes, path: str, size: int) -> Iterator[tuple[int, bytearray]]:
    """The disk after 0, 1, 2 ... writes, until all are done."""
    for lives in range(1000):
        data = bytearray(before)
        device = DyingDevice(data, lives)
        plan = plan_in_existing(device, PagingFile(parse_path(path), size), TIME)
        try:
            plan.write(device, lambda _: None)
        except Crash:
            yield lives, data
            continue
        yield lives, data
        return


def check_crashed(data: bytearray, old: dict[str, dict[str, object]]) -> None:
    """Every old name is there with its contents, no fragment has two owners, and none that is used is free."""
    device = MemoryDevice(data)
    changing = ("mtime", "nlink", "size")  # of a directory that gets one more name
    for path, facts in manifest_of(data).items():
        if path in old:
            ours, theirs = (
                {key: value for key, value in one.items() if one["kind"] != "dir" or key not in changing}
                for one in (facts, old[path])
            )
            assert ours == theirs
    assert set(manifest_of(data)) >= set(old)
    fragments, _, _ = reachable(device)
    assert max(fragments.values()) == 1
    fs = find_superblock(device)
    for cgx in range(fs.fs_ncg):
        raw = device.read(fsbtobyte(fs, cgtod(fs, cgx)), fs.fs_bsize)
        free = read_group(fs, Rotation(1, 1, 1, cylinders=0), cgx, raw).free
        for fragment in fragments:
            if dtog(fs, fragment) == cgx:
                at = dtogd(fs, fragment)
                assert not free[at // 8] >> at % 8 & 1, f"fragment {fragment} is used and free"


SMALL_GROUPS = [
    NewFileSystem(2 << 20, 4096, 512, geometry=DiskGeometry(16, 4, 16)),
    NewFileSystem(2 << 20, 4096, 512, "big", format="ufs1", group_blocks=150),
    NewFileSystem(2 << 20, 4096, 512, "little", format="ufs2", group_blocks=150),
]


def checked(data: bytearray) -> Checked:
    found = check_file_system(MemoryDevice(data))
    assert found is not None
    return found


@pytest.mark.parametrize("new", SMALL_GROUPS, ids=lambda new: str(new.format))
@pytest.mark.parametrize(
    ("names", "path"),
    [(1, "/new/deep/file"), (1, "/d/file"), (28, "/d/" + "m" * 250), (16, "/d/" + "m" * 250)],
    ids=["new directories", "slack", "a tail that moves", "a new block"],
)
def test_killed_at_any_write_the_old_tree_reads_as_before(
    tmp_path: Path, new: NewFileSystem, names: int, path: str
) -> None:
    before = bytes(disk_with(directory_of(tmp_path, names, 250), new))
    old = manifest_of(bytearray(before))
    states = [data for _, data in crashes(before, path, 300_000)]
    for data in states:
        check_crashed(data, old)
    assert len(states) > 7
    problems = [[str(one) for one in found.report.problems] for found in map(checked, states)]
    assert not problems[0] + problems[-1]
    assert any(problems)  # what is left over in the middle has a name,
    assert not any("in use, but free" in line for one in problems for line in one)  # and is never a danger
    if new.format != "4.3bsd":
        assert [find_superblock(MemoryDevice(data)).fs_clean for data in states] == [1, *[0] * (len(states) - 2), 1]
    check_whole(MemoryDevice(states[-1]))
    assert path in manifest_of(states[-1])


def test_killed_at_any_write_the_genuine_disk_reads_as_before(miniroot: bytes) -> None:
    old = manifest_of(bytearray(miniroot))
    for _, data in crashes(miniroot, PATH, 256 << 10):
        check_crashed(data, old)
    assert PATH in manifest_of(data)
