"""New disks: a tree goes in and comes out the same, the disk is sound, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from whole_disk import check_file, check_whole, manifest_of

from bootfs.device import FileDevice, MemoryDevice
from bootfs.filesystem import FileSystem
from bootfs.geometry import cgsblock, fsbtobyte
from bootfs.layout import ByteOrder
from disktools.errors import NoRoom, Refusal
from disktools.geometry_plan import DiskGeometry
from disktools.newfs import NewFileSystem
from disktools.paging_file import PagingFile, parse_path, plan_new_disk

TIME = 1_000_000_000
PATH = parse_path("/mach_servers/paging_file")
SIZES = [(4096, 512), (4096, 1024), (4096, 4096), (8192, 1024), (8192, 2048), (8192, 8192)]


def make(path: Path, new: NewFileSystem, paging: int | None = None, source: Path | None = None) -> None:
    wanted = None if paging is None else PagingFile(PATH, paging)
    plan = plan_new_disk(new, wanted, None if source is None else os.fsencode(source), TIME)
    with path.open("wb") as image:
        image.truncate(new.size)
    with FileDevice(path, writable=True) as device:
        plan.write(device, lambda _: None)


def of_the_host(top: Path) -> dict[str, tuple[object, ...]]:
    """What a manifest should say of each name."""
    found: dict[str, tuple[object, ...]] = {}
    for where, directories, files in os.walk(top):
        for name in directories + files:
            path = Path(where) / name
            status = path.lstat()
            kind = {stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFREG: "file"}[stat.S_IFMT(status.st_mode)]
            content = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else None
            target = os.readlink(path) if kind == "link" else None
            links = status.st_nlink if kind == "file" else None
            mtime = min(int(status.st_mtime), TIME)
            mode = stat.S_IMODE(status.st_mode)
            key = "/" + str(path.relative_to(top))
            found[key] = (kind, mode, status.st_uid, status.st_gid, mtime, content, target, links)
    return found


def of_the_disk(disk: Path) -> dict[str, tuple[object, ...]]:
    keys = ("kind", "mode", "uid", "gid", "mtime")
    return {
        path: (
            *(one[key] for key in keys),
            one.get("sha256"),
            one.get("target"),
            one["nlink"] if one["kind"] == "file" else None,
        )
        for path, one in manifest_of(disk).items()
    }


@pytest.mark.parametrize(("block", "fragment"), SIZES)
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_tree_comes_out_as_it_went_in(
    tmp_path: Path, tree: Path, block: int, fragment: int, order: ByteOrder
) -> None:
    disk = tmp_path / "disk.img"
    make(disk, NewFileSystem(12 << 20, block, fragment, order), 2 << 20, tree)
    check_file(disk)
    wanted = of_the_host(tree)
    found = of_the_disk(disk)
    for path in ("/", "/lost+found", "/mach_servers/paging_file"):
        found.pop(path)
    assert found == wanted


@pytest.mark.parametrize(
    "new",
    [
        NewFileSystem(1 << 20),
        NewFileSystem(1 << 20, 4096, 512),
        NewFileSystem((19 << 20) + 5632, 4096, 512),
        NewFileSystem(8_500_000, 8192, 8192),
        NewFileSystem(24 << 20, 4096, 1024, geometry=DiskGeometry(16, 4, 16)),
        NewFileSystem(8 << 20, 8192, 1024, geometry=DiskGeometry(64, 1, 32)),
        NewFileSystem(60001 * 512, 8192, 8192, geometry=DiskGeometry(17, 7, 16)),
    ],
)
def test_an_empty_disk_of_any_shape_is_sound(tmp_path: Path, new: NewFileSystem) -> None:
    make(tmp_path / "disk.img", new, 64 << 10)
    check_file(tmp_path / "disk.img")


def test_the_paging_file_is_whole_blocks_of_zeros_in_order(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    make(disk, NewFileSystem(16 << 20, 4096, 512), 9 << 20)  # into the doubly indirect blocks
    with FileDevice(disk) as device:
        system = FileSystem.open(device)
        inode = system.lookup("/mach_servers/paging_file")
        blocks = system.block_list(inode)
        assert (blocks.size, blocks.tail, inode.mode) == (9 << 20, 0, stat.S_IFREG | 0o600)
        assert len(blocks.runs) <= 5
        assert all(not any(piece) for piece in system.contents(inode))


def test_every_group_has_a_copy_of_the_superblock(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    make(disk, NewFileSystem(64 << 20), 1 << 20)
    with FileDevice(disk) as device:
        fs = FileSystem.open(device).superblock
        assert fs.fs_ncg == 8
        for cg in range(fs.fs_ncg):
            assert device.read(fsbtobyte(fs, cgsblock(fs, cg)), 8192) == device.read(8192, 8192)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, tree: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / name, NewFileSystem(8 << 20), 1 << 20, tree)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_used_device_shows_nothing_of_what_was_on_it(tree: Path) -> None:
    size = 3 << 20
    used = MemoryDevice(bytearray(b"\xa5" * size))
    fresh = MemoryDevice(bytearray(size))
    for device, zeroed in ((used, False), (fresh, True)):
        plan = plan_new_disk(NewFileSystem(size), PagingFile(PATH, 1 << 20), os.fsencode(tree), TIME, zeroed)
        plan.write(device, lambda _: None)
    check_whole(used)
    assert manifest_of(used.data) == manifest_of(fresh.data)


def test_large_directories_and_long_names_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = {f"{number:05d}" + "n" * (number % 251) for number in range(900)}
    for name in names:
        (source / name).touch()
    make(tmp_path / "disk.img", NewFileSystem(8 << 20, 4096, 512), None, source)
    check_file(tmp_path / "disk.img")
    found = manifest_of(tmp_path / "disk.img")
    assert {path[1:] for path in found} == names | {"", "lost+found"}
    assert found["/"]["size"] > 12 * 4096


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    make(tmp_path / "disk.img", NewFileSystem(1 << 20), None, source)
    with FileDevice(tmp_path / "disk.img") as device:
        assert b"/caf\xe9" in {path for path, _ in FileSystem.open(device).walk()}


def test_what_the_format_cannot_hold_is_left_out_by_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    (source / "huge").touch()
    os.truncate(source / "huge", 1 << 31)
    (source / "kept").touch()
    plan = plan_new_disk(NewFileSystem(1 << 20), None, os.fsencode(source), TIME)
    assert [line.rsplit("/", 1)[1] for line in plan.skipped] == [
        "huge: left out: larger than 2 GiB, the format's limit",
        "pipe: left out: a FIFO",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_device_nodes_are_carried_over(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    try:
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(3, 2))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    make(tmp_path / "disk.img", NewFileSystem(1 << 20), None, source)
    assert manifest_of(tmp_path / "disk.img")["/null"]["rdev"] == [3, 2]
    check_file(tmp_path / "disk.img")


def test_a_disk_can_be_filled_to_its_last_block_and_no_further(tmp_path: Path) -> None:
    new = NewFileSystem(8 << 20)
    with pytest.raises(NoRoom, match="give at most --paging-size ") as refusal:
        plan_new_disk(new, PagingFile(PATH, 64 << 20), None, TIME)
    most = int(str(refusal.value).split("--paging-size ")[1].split(";")[0])
    make(tmp_path / "disk.img", new, most)
    check_file(tmp_path / "disk.img")
    with FileDevice(tmp_path / "disk.img") as device:
        assert FileSystem.open(device).superblock.cs_nbfree == 0
    with pytest.raises(NoRoom):
        plan_new_disk(new, PagingFile(PATH, most + 1), None, TIME)


def test_a_tree_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(bytes(2 << 20))
    with pytest.raises(NoRoom, match="make the disk larger than 1 MiB with --size"):
        plan_new_disk(NewFileSystem(1 << 20), None, os.fsencode(source), TIME)


@pytest.mark.parametrize(
    ("path", "why"),
    [("relative", "not the path"), ("/", "not the path"), ("/a/", "not the path"), ("/a/../b", "cannot be the name")],
)
def test_a_path_that_cannot_be_is_refused(path: str, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        parse_path(path)


def test_a_paging_file_that_is_in_the_tree_already_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mach_servers").mkdir()
    (tmp_path / "mach_servers" / "paging_file").touch()
    with pytest.raises(Refusal, match="is in the tree to copy"):
        plan_new_disk(NewFileSystem(1 << 20), PagingFile(PATH, 8192), os.fsencode(tmp_path), TIME)


def test_a_file_in_the_way_of_the_paging_files_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mach_servers").touch()
    with pytest.raises(Refusal, match="/mach_servers is not a directory"):
        plan_new_disk(NewFileSystem(1 << 20), PagingFile(PATH, 8192), os.fsencode(tmp_path), TIME)


def test_a_file_that_changes_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    (tmp_path / "growing").write_bytes(b"short")
    plan = plan_new_disk(NewFileSystem(1 << 20), None, os.fsencode(tmp_path), TIME)
    (tmp_path / "growing").write_bytes(b"much longer than it was")
    with pytest.raises(Refusal, match="became longer"):
        plan.write(MemoryDevice(bytearray(1 << 20)), lambda _: None)
    (tmp_path / "growing").write_bytes(b"")
    with pytest.raises(Refusal, match="became shorter"):
        plan.write(MemoryDevice(bytearray(1 << 20)), lambda _: None)
