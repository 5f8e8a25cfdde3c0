"""A third format takes one class and one line: here a small one, from a disk to the block list of a pager."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

import pytest

from bootfs import probe
from bootfs.blocklist import BlockList, Hole, Run
from bootfs.device import BlockDevice, MemoryDevice
from bootfs.directory import Entries
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.inode import Details, Given, Inode
from bootfs.lookup import open_file
from bootfs.manifest import manifest
from bootfs.mounted import MountedFileSystem


class FlatFileSystem(MountedFileSystem):
    """Blocks of 512 bytes: "FLAT", how many files; then each file's first block and size; the names; the files.

    Inode 2 is the directory, in block 1, of 16 bytes a name; inode 3 + n is the n-th file, in consecutive blocks.
    """

    chunk_bytes = 16

    @classmethod
    def open(cls, device: BlockDevice, offset: int = 0) -> FlatFileSystem:
        if device.size < offset + 1024 or device.read(offset, 4) != b"FLAT":
            raise UnknownFormat("no FLAT at byte 0")
        found = cls(device, offset)
        if not 0 < found.files <= 32:
            raise FileSystemError(FsCode.FS_INVALID_FS, "broken relation: 1 to 32 files", "flat superblock")
        return found

    @property
    def files(self) -> int:
        return self._part.read(4, 1)[0]

    @property
    def block_size(self) -> int:
        return 512

    @property
    def capacity(self) -> int:
        return self._part.size

    def inode(self, ino: int) -> Inode:
        if not 2 <= ino < 3 + self.files:
            raise FileSystemError(FsCode.FS_INVALID_FS, "no such inode", f"inode {ino}")
        mode, first, size = stat.S_IFDIR | 0o755, 1, 16 * self.files
        if ino > 2:
            mode, first, size = stat.S_IFREG | 0o644, *self._part.read(8 + 2 * (ino - 3), 2)
            size *= 256
        return Inode(mode, 1, 0, 0, size, 0, ino, b"", Given(Details(pointers=(first,))))

    def directory_entries(self, data: bytes, place: str) -> Entries:
        names = [data[at + 1 : at + 16].rstrip(b"\0") for at in range(0, len(data), 16)]
        return Entries(names, list(data[::16]))

    def block_runs(self, inode: Inode, first: int, end: int) -> Iterator[Run | Hole]:
        yield Run(first * 512, (inode.pointers[0] + first) * 512, (end - first) * 512)

    def info(self) -> dict[str, Any]:
        return {"format": "flat", "block_size": 512}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> MemoryDevice:
    monkeypatch.setattr(probe, "FORMATS", (*probe.FORMATS, FlatFileSystem.open))
    image = bytearray(16 * 512)
    image[:12] = b"FLAT\x02\0\0\0" + bytes((2, 3, 6, 5))
    image[512:544] = b"\x03kernel".ljust(16, b"\0") + b"\x04paging_file".ljust(16, b"\0")
    image[2 * 512 : 2 * 512 + 768] = b"k" * 768
    return MemoryDevice(image)


def test_its_names_and_contents_are_there_for_everyone(disk: MemoryDevice) -> None:
    fs = probe.open_any(disk)
    assert fs.info()["format"] == "flat"
    assert [path for path, _ in fs.walk()] == [b"/", b"/kernel", b"/paging_file"]
    assert fs.read(fs.lookup("/kernel"), 760, 8) == b"k" * 8
    assert set(manifest(fs)) == {"/", "/kernel", "/paging_file"}
    assert open_file({"hd0a": disk}, "/dev/hd0a/kernel").inode == fs.lookup("/kernel")
    with pytest.raises(FileSystemError, match="no such file"):
        fs.lookup("/vmunix")


def test_its_blocks_can_be_written_and_paged_on(disk: MemoryDevice) -> None:
    fs = probe.open_any(disk)
    file = fs.lookup("/paging_file")
    assert fs.block_list(file) == BlockList((Run(0, 6 * 512, 1024),), 1024, 512, 256)
    before = bytes(disk.data)
    fs.write(file, 500, b"across")
    assert fs.read(file, 500, 6) == b"across"
    changed = [at for at, (old, new) in enumerate(zip(before, disk.data, strict=True)) if old != new]
    assert changed == list(range(6 * 512 + 500, 6 * 512 + 506))


def test_a_broken_one_is_told_as_such(disk: MemoryDevice) -> None:
    disk.data[4] = 99
    with pytest.raises(FileSystemError, match="1 to 32 files"):
        probe.open_any(disk)
