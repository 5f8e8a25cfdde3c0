"""Holes of a file of the host are holes on the disk that it is copied to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_disktools_judges import genuine, judged, same_by_name
from test_disktools_new_disk import make, of_the_disk, of_the_host
from whole_disk import check_file

from bootfs.blocklist import Hole
from bootfs.device import FileDevice
from bootfs.filesystem import FileSystem
from bootfs.layout import ByteOrder
from bootfs.superblock import Format
from disktools.errors import Refusal
from disktools.newfs import NewFileSystem
from disktools.source import data_blocks

__all__ = ["genuine"]  # a fixture

MIB = 1 << 20
# Size, and where something is: at the front, in the middle, at the end, behind each level of pointers; nothing at all.
FILES = {
    "front": (3 * 65536 + 5, (2 * 65536,)),
    "middle": (65536 * 4, (0, 65536 * 3)),
    "end": (10 * 65536 + 700, (65536,)),
    "nothing": (123_457, ()),
    "whole": (8, (0,)),
    "indirect": (6 * MIB, (0, 65536 * 12, 5 * MIB)),
    "far": (90 * MIB + 1, (65536 * 5, 60 * MIB)),
    "empty": (0, ()),
}


def sparse_tree(top: Path, most: int = 1 << 40) -> Path:
    top.mkdir()
    for name, (size, places) in FILES.items():
        if size > most:
            continue
        with (top / name).open("wb") as file:
            for at in places:
                file.seek(at)
                file.write(name.encode()[: size - at])
            file.truncate(size)
    (top / "beside").write_bytes(b"a file without holes\n" * 5000)
    return top


@pytest.mark.parametrize(
    ("kind", "order", "block", "fragment"),
    [
        ("4.3bsd", "little", 4096, 512),
        ("4.3bsd", "big", 8192, 1024),
        ("ufs1", "big", 4096, 4096),
        ("ufs1", "little", 65536, 8192),
        ("ufs2", "little", 4096, 512),
        ("ufs2", "big", 32768, 4096),
    ],
)
def test_a_file_with_holes_takes_the_blocks_of_what_is_in_it(
    tmp_path: Path, kind: Format, order: ByteOrder, block: int, fragment: int
) -> None:
    """The disk is smaller than its files are long."""
    source, disk = sparse_tree(tmp_path / "source"), tmp_path / "disk.img"
    make(disk, NewFileSystem(8 * MIB, block, fragment, order, format=kind), 65536, source)
    check_file(disk)
    found = of_the_disk(disk)
    assert {path: found[path] for path in of_the_host(source)} == of_the_host(source)
    with FileDevice(disk) as device:
        fs = FileSystem.open(device)
        for name, (size, places) in FILES.items():
            inode = fs.lookup(name)
            there = {at // block for at in places} | ({(size - 1) // block} if size else set())
            holes = sum(-(-run.length // block) for run in fs.runs(inode) if isinstance(run, Hole))
            assert holes == -(-size // block) - len(there), name


def test_a_file_of_the_host_is_seen_as_the_blocks_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        for at in (0, 3 * 65536, 4 * 65536, 1 << 39):
            file.seek(at)
            file.write(b"x")
    name = os.fsencode(path)
    half, last = (1 << 39) // 65536, (1 << 40) // 65536 - 1
    assert data_blocks(name, 1 << 40, 65536) == [range(1), range(3, 5), range(half, half + 1), range(last, last + 1)]
    assert data_blocks(name, 0, 65536) == []


def test_a_file_that_has_become_a_link_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(Refusal, match="cannot be read"):
        data_blocks(os.fsencode(tmp_path / "link"), 1000, 4096)


@pytest.mark.judge
@pytest.mark.skipif(os.environ.get("JUDGES") != "all", reason="ten seconds of the genuine kernel: for make judges")
@pytest.mark.parametrize("sizes", [(4096, 512), (8192, 1024)])
def test_the_genuine_fsck_and_kernel_accept_files_with_holes(
    genuine: None, tmp_path: Path, sizes: tuple[int, int]
) -> None:
    source, disk = sparse_tree(tmp_path / "source", 8 * MIB), tmp_path / "disk.img"
    make(disk, NewFileSystem(8 * MIB, *sizes), 65536, source)
    same_by_name(disk, judged(disk, "--write-test"))
