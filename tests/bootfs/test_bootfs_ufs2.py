"""What only UFS2 has: its place on the disk, 64-bit sizes, extended attributes, birth times; and a real disk of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ffs_builder import CHAR, FILE, SHARED, Builder

from bootfs.command import cli
from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.layout import extattr_header, superblock
from bootfs.layout_format import record
from bootfs.manifest import manifest
from bootfs.superblock import find_superblock

ORDERS = ("little", "big")


@pytest.mark.parametrize("order", ORDERS)
def test_the_superblock_of_debians_makefs_is_at_8_kib(order: str) -> None:
    builder = Builder(order, "ufs2")
    builder.location = builder.fields["fs_sblockloc"] = 8192
    assert builder.mount().superblock.location == 8192


@pytest.mark.parametrize("order", ORDERS)
def test_a_copy_that_lies_where_another_format_has_its_superblock_is_not_taken_for_it(order: str) -> None:
    """UFS1 with blocks of 64 KiB has its first copy at 64 KiB, where UFS2 has the superblock itself."""
    builder = Builder(order, "4.4", bsize=65536, fsize=8192, size=512)
    image = builder.build()
    builder.write_copies()
    stale = record(superblock(order, "4.4")).pack(builder.fields | {"fs_fsmnt": b"/of-the-copy"})  # type: ignore[arg-type]
    image[65536 : 65536 + len(stale)] = stale
    fs = find_superblock(MemoryDevice(image))
    assert (fs.location, fs.fs_fsmnt) == (8192, b"/test")


@pytest.mark.parametrize("order", ORDERS)
def test_a_file_of_512_gib_costs_what_is_in_it(order: str) -> None:
    builder = Builder(order, "ufs2")
    size = 512 << 30
    ino = builder.node(FILE | 0o644, size, "huge")
    builder.set_pointer(ino, size // 4096 - 1, builder.allocate(b"e" * 4096))
    builder.set_pointer(ino, 5, builder.allocate(b"b" * 4096))
    fs = builder.mount()
    huge = fs.lookup("/huge")
    assert fs.read(huge, size - 4096, 4096) == b"e" * 4096
    assert fs.read(huge, 5 * 4096 - 1, 2) == b"\0b"
    assert len(list(fs.runs(huge))) == 4


@pytest.mark.parametrize("order", ORDERS)
def test_links_up_to_119_bytes_are_in_the_inode(order: str) -> None:
    builder = Builder(order, "ufs2")
    for length in (1, 119, 120, 121, 1000):
        builder.link(f"l{length}", "x" * length)
    fs = builder.mount()
    for length in (1, 119, 120, 121, 1000):
        link = fs.lookup(f"/l{length}", follow=False)
        assert fs.readlink(link) == b"x" * length
        assert (link.text is not None) == (length < 120)


@pytest.mark.parametrize("order", ORDERS)
def test_times_before_1970_and_after_2106_and_wide_device_numbers(order: str) -> None:
    builder = Builder(order, "ufs2")
    times = {"di_mtime": -5, "di_atime": 1 << 40, "di_birthtime": 77, "di_mtimensec": 999, "di_uid": 1 << 31}
    ino = builder.node(CHAR | 0o600, 0, "dev", more=times)
    builder.nodes[ino]["pointers"][0] = (0x12 << 40) | 0x0304
    inode = builder.mount().lookup("/dev")
    details = inode.details
    assert (inode.mtime, details.atime, details.birthtime, details.mtimensec) == (-5, 1 << 40, 77, 999)
    assert inode.rdev == (0x1203, 0x04)


@pytest.mark.parametrize("variant", ["4.4", "ufs2"])
def test_a_snapshot_has_holes_where_it_keeps_no_block(variant: str) -> None:
    builder = Builder(variant=variant)
    ino = builder.node(FILE | 0o400, 20 * 4096, "snapshot", flags=0x00200000)
    builder.set_pointer(ino, 4, builder.allocate(b"kept" * 1024))
    for block, number in ((0, 1), (1, 2), (13, 1)):
        builder.set_pointer(ino, block, number)
    fs = builder.mount()
    runs = list(fs.runs(fs.lookup("/snapshot")))
    assert [(run.file_offset, run.length) for run in runs] == [(0, 4 * 4096), (4 * 4096, 4096), (5 * 4096, 15 * 4096)]
    builder.nodes[ino]["flags"] = 0
    fs = builder.mount()
    with pytest.raises(FileSystemError, match="metadata"):
        list(fs.runs(fs.lookup("/snapshot")))


def attribute(order: str, name: bytes, contents: bytes, namespace: int = 1) -> bytes:
    begin = -(-(7 + len(name)) // 8) * 8
    padding = -len(contents) % 8
    head = record(extattr_header(order)).pack(  # type: ignore[arg-type]
        {
            "ea_length": begin + len(contents) + padding,
            "ea_namespace": namespace,
            "ea_contentpadlen": padding,
            "ea_namelength": len(name),
        }
    )
    return (head + name).ljust(begin, b"\0") + contents + bytes(padding)


def with_attributes(order: str, area: bytes, **fields: object) -> FileSystem:
    builder = Builder(order, "ufs2")
    at = builder.allocate(area)
    builder.node(FILE | 0o644, 0, "f", more={"di_extsize": len(area), "di_extb": (at, at + builder.frag), **fields})
    builder.next_fragment += builder.frag
    return builder.mount()


@pytest.mark.parametrize("order", ORDERS)
def test_extended_attributes_are_listed_with_their_sizes(order: str) -> None:
    area = attribute(order, b"one", b"12345") + attribute(order, b"acl", b"x" * 5000, 2) + attribute(order, b"", b"", 0)
    fs = with_attributes(order, area)
    found = fs.attributes(fs.lookup("/f"))
    assert [(one.namespace, one.name, one.size) for one in found] == [("user", b"one", 5), ("system", b"acl", 5000)]
    assert fs.attributes(fs.root()) == []


@pytest.mark.parametrize(
    ("area", "fields"),
    [
        (b"\0" * 64, {}),  # ea_length 0
        (b"\xff" * 64, {}),
        (b"\x40\0\0\0\x01\x40\xff" + bytes(57), {}),  # a name longer than all
        (b"\x08\0\0\0\1\0\0\0" * 2 + b"\x08\0\0", {}),
        (b"", {"di_extsize": 1 << 31}),
        (b"", {"di_extsize": 64, "di_extb": (0, 0)}),
        (b"", {"di_extsize": 64, "di_extb": (1 << 60, 0)}),
        (b"", {"di_extsize": 64, "di_extb": (1, 0)}),
    ],
)
def test_damaged_extended_attributes_are_the_disks_fault(area: bytes, fields: dict[str, object]) -> None:
    fs = with_attributes("little", area, **fields)
    with pytest.raises(FileSystemError) as error:
        fs.attributes(fs.lookup("/f"))
    assert error.value.code == FsCode.FS_INVALID_FS


@pytest.fixture(scope="session")
def freebsd_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk made by FreeBSD's newfs and kernel."""
    packed = SHARED / "disks" / "freebsd-ufs2-little.img.zst"
    zstd = shutil.which("zstd")
    if not packed.exists() or zstd is None:
        pytest.skip("needs ../shared/disks and the program zstd")
    path = tmp_path_factory.mktemp("freebsd") / "disk.img"
    subprocess.run([zstd, "-q", "-d", packed, "-o", path], check=True)
    return path


def test_a_disk_made_by_freebsd_is_read(freebsd_disk: Path) -> None:
    done = CliRunner().invoke(cli, ["stat", "--json", str(freebsd_disk), "/xattrs3"])
    assert json.loads(done.stdout)["extended_attributes"] == [{"namespace": "user", "name": "big", "size": 63999}]
    assert json.loads(done.stdout)["birthtime"] == 1722785999
    done = CliRunner().invoke(cli, ["blocks", "--json", str(freebsd_disk), "/sparse3"])
    assert json.loads(done.stdout)["holes"] == [{"file_offset": 0, "length": 549890392064}]
    assert CliRunner().invoke(cli, ["cat", str(freebsd_disk), "/long-link"]).stdout == (
        CliRunner().invoke(cli, ["cat", str(freebsd_disk), "/file1"]).stdout
    )


@pytest.mark.judge
def test_linux_sees_the_same_on_the_disk_made_by_freebsd(
    linux_ufs: Callable[[str, Path], dict[str, Any]], freebsd_disk: Path
) -> None:
    theirs = linux_ufs("ufs2", freebsd_disk)
    ours = manifest(FileSystem.open(MemoryDevice(bytearray(freebsd_disk.read_bytes()))))
    assert set(ours) == set(theirs)
    for path, entry in theirs.items():
        assert {name: ours[path][name] for name in entry} == entry
