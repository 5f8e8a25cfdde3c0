"""Every disk of the corpus reads as its recipe says, name by name and byte by byte, holes too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootfs.blocklist import Hole
from bootfs.device import MemoryDevice
from bootfs.disk import open_file_system
from bootfs.filesystem import FileSystem
from bootfs.inode import Inode
from bootfs.lookup import as_bytes
from bootfs.manifest import manifest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for fixtures.disks, which is not installed

from fixtures.disks.corpus import CORPUS  # noqa: E402

LARGE = 1 << 20  # files beyond this are compared by their runs and not byte by byte


def holds(fs: FileSystem, inode: Inode, size: int, pieces: tuple[tuple[int, bytes], ...]) -> bool:
    """Whether a file reads as `pieces` with zeros around them."""
    if size <= LARGE:
        wanted = bytearray(size)
        for at, data in pieces:
            wanted[at : at + len(data)] = data
        return b"".join(fs.contents(inode)) == bytes(wanted)
    for at, data in pieces:
        if fs.read(inode, at, len(data)) != data:
            return False
    return all(
        only(fs, run.file_offset, run.length, inode, pieces) for run in fs.runs(inode) if not isinstance(run, Hole)
    )


def only(fs: FileSystem, at: int, length: int, inode: Inode, pieces: tuple[tuple[int, bytes], ...]) -> bool:
    """Whether a run that is on disk is zeros but for the pieces; a hole is nothing to read."""
    wanted = bytearray(length)
    for begin, data in pieces:
        for place, byte in enumerate(data, begin - at):
            if 0 <= place < length:
                wanted[place] = byte
    return fs.read(inode, at, length) == bytes(wanted)


@pytest.mark.parametrize("name", CORPUS)
def test_a_disk_of_the_corpus_reads_as_its_recipe_says(name: str) -> None:
    disk = CORPUS[name].make()
    fs = FileSystem.open(MemoryDevice(disk.data), disk.offset)
    shape = CORPUS[name].shape
    info = fs.info()
    assert (info["format"], info["byte_order"]) == (shape.format, shape.byte_order)
    assert (info["block_size"], info["fragment_size"], info["cylinder_groups"]) == (
        shape.block_size,
        shape.fragment_size,
        shape.groups,
    )
    found = manifest(fs, "none")
    assert set(found) == set(disk.image.expected)
    for path, facts in disk.image.expected.items():
        assert {key: found[path].get(key) for key in facts} == facts, path
    inodes = dict(fs.walk())
    for path, pieces in disk.image.pieces.items():
        assert holds(fs, inodes[as_bytes(path)], disk.image.expected[path]["size"], pieces), path


def _files(name: str) -> Iterator[tuple[FileSystem, str, int]]:
    disk = CORPUS[name].make()
    fs = FileSystem.open(MemoryDevice(disk.data), disk.offset)
    for path in disk.image.pieces:
        yield fs, path, disk.image.expected[path]["size"]


@pytest.mark.parametrize("name", [name for name in CORPUS if name.endswith(("-holes", "-boundaries", "-sparse"))])
def test_the_runs_of_a_file_cover_it_once_and_without_gaps(name: str) -> None:
    for fs, path, size in _files(name):
        at = 0
        for run in fs.runs(fs.lookup(path)):
            assert run.file_offset == at, path
            at += run.length
        assert at == size, path


@pytest.mark.parametrize("name", [name for name in CORPUS if CORPUS[name].label])
def test_the_partition_is_found_by_name_and_without_one(name: str) -> None:
    disk = CORPUS[name].make()
    device = MemoryDevice(disk.data)
    for fs in (open_file_system(device), open_file_system(device, disk.partition)):
        assert fs.offset == disk.offset
        assert set(fs.info().items()) >= {("format", CORPUS[name].shape.format), ("offset", disk.offset)}


def test_the_corpus_is_large_and_makes_the_same_bytes_every_time() -> None:
    assert len(CORPUS) >= 60
    one = CORPUS["ufs1-big-tree"]
    assert one.make().data == one.make().data
