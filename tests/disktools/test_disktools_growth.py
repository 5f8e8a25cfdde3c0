"""A paging file made longer: what it has stays where it is, and a crash at any write leaves it old or new."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import pagerd, refused, run
from test_disktools_existing import Crash, DyingDevice, add, check_crashed, disk_with
from whole_disk import check_whole, manifest_of

from bootfs.device import Claim, FileDevice, MemoryDevice
from bootfs.errors import FileSystemError
from bootfs.filesystem import FileSystem
from bootfs.geometry import cgbase, fsbtobyte
from bootfs.lookup import resolve
from bootfs.superblock import find_superblock
from disktools.allocator import Allocator
from disktools.errors import NoRoom, Refusal
from disktools.geometry_plan import DiskGeometry
from disktools.growth import plan_growth
from disktools.newfs import NewFileSystem
from disktools.paging_file import PagingFile, Plan, parse_path

TIME = 1_300_000_000
PATH = "/mach_servers/paging_file"
BLOCK = 4096
DISKS = [
    NewFileSystem(6 << 20, BLOCK, 512, geometry=DiskGeometry(16, 4, 16)),
    NewFileSystem(6 << 20, BLOCK, 512, "big", format="ufs1", group_blocks=150),
    NewFileSystem(6 << 20, BLOCK, 512, "little", format="ufs2", group_blocks=150),
]


def grow(data: bytearray, size: int, path: str = PATH) -> Plan:
    device = MemoryDevice(data)
    plan = plan_growth(device, PagingFile(parse_path(path), size), TIME)
    plan.write(device, lambda _: None)
    return plan


def runs_of(data: bytearray, path: str = PATH) -> list[tuple[int, int, int]]:
    file_system = FileSystem.open(MemoryDevice(data))
    blocks = file_system.block_list(resolve(file_system, path))
    return [(run.file_offset, run.device_offset, run.length) for run in blocks.runs]


def content(data: bytearray, path: str = PATH) -> bytes:
    return b"".join(bytes(data[at : at + length]) for _, at, length in runs_of(data, path))


def write_all(data: bytearray, mark: bytes) -> None:
    for _, at, length in runs_of(data):
        data[at : at + length] = mark * length


def soil(data: bytearray) -> None:
    """All free blocks have been used before."""
    fs = find_superblock(MemoryDevice(data))
    for group in Allocator.open(MemoryDevice(data), fs).groups:
        for block, count in group.free_runs():
            at = fsbtobyte(fs, cgbase(fs, group.cgx) + block * fs.fs_frag)
            data[at : at + count * BLOCK] = b"\xbb" * (count * BLOCK)


@pytest.mark.parametrize("new", DISKS, ids=lambda new: str(new.format))
@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 9), (9, 12), (10, 40), (12, 13), (100, 101)],
    ids=["direct", "to the last direct", "an indirect block", "the first indirect", "one block more"],
)
def test_it_grows_behind_what_it_has(new: NewFileSystem, before: int, after: int) -> None:
    data = disk_with(None, new)
    add(data, before * BLOCK)
    write_all(data, b"\xaa")
    soil(data)
    plan = grow(data, after * BLOCK)
    assert content(data) == b"\xaa" * (before * BLOCK) + bytes((after - before) * BLOCK), "nothing old shows (P7)"
    assert runs_of(data) == [tuple(run.values()) for run in plan.facts()["runs"]] or len(runs_of(data)) < len(
        plan.facts()["runs"]
    ), "runs that adjoin are read as one"
    check_whole(MemoryDevice(data))


def test_it_grows_into_a_second_level_of_indirect_blocks() -> None:
    """512-byte pointers' worth: 12 + 1024 blocks, then two levels; and again, giving the old ones back."""
    new = NewFileSystem(24 << 20, BLOCK, 512, format="ufs2", group_blocks=400)
    data = disk_with(None, new)
    add(data, 500 * BLOCK)
    grow(data, 530 * BLOCK)
    grow(data, 2000 * BLOCK)
    grow(data, 2001 * BLOCK)
    assert len(content(data)) == 2001 * BLOCK
    check_whole(MemoryDevice(data))


def test_everything_else_stays_as_it_was(tree: Path) -> None:
    data = disk_with(tree, NewFileSystem(8 << 20, BLOCK, 512, format="ufs1"))
    add(data, 10 * BLOCK)
    old = manifest_of(data)
    grow(data, 40 * BLOCK)
    new = manifest_of(data)
    del old[PATH], new[PATH]
    assert new == old


@pytest.mark.parametrize("new", DISKS, ids=lambda new: str(new.format))
def test_killed_at_any_write_it_is_as_it_was_or_as_it_shall_be(new: NewFileSystem) -> None:
    before = disk_with(None, new)
    add(before, 14 * BLOCK)
    write_all(before, b"\xaa")
    old = manifest_of(before)
    del old[PATH]
    sizes = []
    for lives in range(1000):
        data = bytearray(before)
        device = DyingDevice(data, lives)
        plan = plan_growth(device, PagingFile(parse_path(PATH), 60 * BLOCK), TIME)
        try:
            plan.write(device, lambda _: None)
        except Crash:
            dead = True
        else:
            dead = False
        check_crashed(data, old)
        sizes.append(len(content(data)) // BLOCK)
        assert content(data)[: 14 * BLOCK] == b"\xaa" * (14 * BLOCK)
        if not dead:
            break
    assert sizes == sorted(sizes)
    assert set(sizes) == {14, 60}
    assert sizes.count(60) > 1, "the old indirect block is given back after the inode has turned"
    check_whole(MemoryDevice(data))


def test_what_cannot_be_is_refused_and_nothing_is_written() -> None:
    data = disk_with(None, DISKS[0])
    add(data, 20 * BLOCK)
    before = bytes(data)
    with pytest.raises(Refusal, match="has 80 KiB already; give a larger"):
        grow(data, 20 * BLOCK)
    with pytest.raises(NoRoom, match="give at most --paging-size") as caught:
        grow(data, 100 << 20)
    with pytest.raises(Refusal, match="not a regular file"):
        grow(data, 100 * BLOCK, "/mach_servers")
    with pytest.raises(FileSystemError, match="no such file"):
        grow(data, 100 * BLOCK, "/nothing")
    assert bytes(data) == before
    grow(data, int(str(caught.value).rsplit(" ", 1)[1]))
    check_whole(MemoryDevice(data))


def test_a_disk_that_is_paged_on_can_grow_and_nothing_else_of_it_can_change(tmp_path: Path) -> None:
    image, socket = tmp_path / "disk.img", tmp_path / "s"
    run("mkpagingfile", image, "--size", "16M", "--paging-size", "1M")
    refused("mkpagingfile", tmp_path / "none.img", "--grow", words="is not there")
    with pagerd(image, socket):
        refused("mkpagingfile", image, "--path", "/second", "--paging-size", "1M", words="another process pages on it")
        run("mkpagingfile", image, "--grow", "--paging-size", "2M")
        with FileDevice(image, writable=True, exclusive=True, claim=Claim.ALLOCATION):
            refused("mkpagingfile", image, "--grow", "--paging-size", "3M", words="or changes it")
    run("ffscheck", image)
