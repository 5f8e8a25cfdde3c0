"""/disk: an FFS as files, told by a fake file system and by bootfs on a real image; no FUSE."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuse_fakes import failure
from serving import run

from bootfs.device import FileDevice
from bootfs.directory import Entry
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.inode import Details, Given, Inode
from fuse_mount.disk_view import disk_tree
from fuse_mount.tree import Dir, File, Link, Node, lookup

EMPTY = Inode(stat.S_IFDIR | 0o755, 2, 0, 0, 512, 22, 2, b"", Given(Details(atime=11, ctime=33, blocks=2)))
FILE = Inode(stat.S_IFREG | 0o4640, 3, 10, 20, 9000, 22, 3, b"", Given(Details(atime=11, ctime=33, blocks=18)))
DEVICE = EMPTY._replace(ino=4, mode=stat.S_IFCHR | 0o600, size=77, form=Given(Details(pointers=(0x0305,))))
LINK = EMPTY._replace(ino=5, mode=stat.S_IFLNK | 0o777, size=4)
UNUSED = EMPTY._replace(ino=6, mode=0)
NAMES = {b".": 2, b"..": 2, b"caf\xe9": 3, b"tty": 4, b"link": 5, b"unused": 6, b"beyond": 99, b"again": 2}


class FakeDisk:
    """One directory with one of each; inode 99 cannot be read, nor can byte 5000 of the file."""

    def __init__(self) -> None:
        self.inodes = {inode.ino: inode for inode in (EMPTY, FILE, DEVICE, LINK, UNUSED)}

    def root(self) -> Inode:
        return EMPTY

    def inode(self, ino: int) -> Inode:
        if ino not in self.inodes:
            raise FileSystemError(FsCode.FS_INVALID_FS, "no such inode", f"inode {ino}")
        return self.inodes[ino]

    def entries(self, directory: Inode) -> Iterator[Entry]:
        for name, ino in NAMES.items():
            yield Entry(name, ino)

    def find(self, directory: Inode, name: bytes) -> Inode:
        if name not in NAMES:
            raise FileSystemError(FsCode.FS_NO_ENTRY, "no such name", str(name))
        return self.inode(NAMES[name])

    def readlink(self, link: Inode) -> bytes:
        return b"caf\xe9"

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        assert offset + length <= inode.size
        if offset <= 5000 < offset + length:
            raise FileSystemError(FsCode.D_IO_ERROR, "bad block", "byte 5000")
        return b"f" * length


@pytest.fixture
def root() -> Dir:
    return disk_tree(FakeDisk())  # type: ignore[arg-type]


def test_a_directory_lists_what_it_can_and_the_broken_answer_for_themselves(root: Dir) -> None:
    kinds = {name: stat.S_IFMT(node.mode) for name, node in root.children().items()}
    assert kinds == {
        b"caf\xe9": stat.S_IFREG,
        b"tty": stat.S_IFCHR,
        b"link": stat.S_IFLNK,
        b"unused": 0,
        b"beyond": 0,
        b"again": stat.S_IFDIR,
    }
    for name in (b"unused", b"beyond"):
        assert failure(root.children()[name].attributes) == errno.EIO
    assert failure(lookup, root, b"beyond") == errno.EIO
    assert failure(lookup, root, b"nowhere") == errno.ENOENT


def test_attributes_are_the_disks_own(root: Dir) -> None:
    file = lookup(root, b"caf\xe9")
    seen = file.attributes()
    assert (seen.mode, seen.uid, seen.gid, seen.nlink, file.ino) == (FILE.mode, 10, 20, 3, 3)
    assert (seen.size, seen.blocks) == (9000, 18)
    assert (seen.atime, seen.mtime, seen.ctime) == (11_000_000_000, 22_000_000_000, 33_000_000_000)


def test_a_device_is_shown_as_one_and_has_no_size(root: Dir) -> None:
    seen = lookup(root, b"tty").attributes()
    assert (seen.mode, seen.rdev, seen.size) == (stat.S_IFCHR | 0o600, os.makedev(3, 5), 0)


def test_a_link_gives_its_bytes(root: Dir) -> None:
    node = lookup(root, b"link")
    assert isinstance(node, Link)
    assert (node.target(), node.attributes().size) == (b"caf\xe9", 4)


def test_a_file_reads_to_its_end_and_a_bad_block_is_an_error_where_it_is(root: Dir) -> None:
    node = lookup(root, b"caf\xe9")
    assert isinstance(node, File)
    opened = node.open()
    assert (opened.read(0, 100), opened.read(8990, 100), opened.read(9000, 1)) == (b"f" * 100, b"f" * 10, b"")
    assert failure(opened.read, 4096, 4096) == errno.EIO
    assert opened.cached


def test_an_image_of_our_own_is_seen_whole(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "etc").mkdir(parents=True)
    (source / "etc" / "motd").write_bytes(b"4.3 BSD\n" * 5000)
    os.symlink("etc/motd", source / "link")
    image = tmp_path / "disk.img"
    made = run("-m", "disktools.mkpagingfile", str(image), "--size", "8M", "--paging-size", "1M", "--from", str(source))
    assert made.returncode == 0, made.stderr
    with FileDevice(image) as device:
        root = disk_tree(FileSystem.open(device))
        motd = lookup(root, b"etc/motd")
        assert isinstance(motd, File)
        assert motd.open().read(0, 1 << 20) == b"4.3 BSD\n" * 5000
        link: Node = lookup(root, b"link")
        assert isinstance(link, Link)
        assert link.target() == b"etc/motd"
        assert lookup(root, b"mach_servers/paging_file").attributes().size == 1 << 20
