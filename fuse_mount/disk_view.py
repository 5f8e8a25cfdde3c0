"""/disk: the tree of a disk's file system, by bootfs, as it stands on the disk and read-only.

Interface:
    disk_tree(filesystem)    the root directory; `filesystem` is what bootfs.filesystem.FileSystem.open gives

Modes, owners, times, link counts, sizes and inode numbers are the disk's own; names are its bytes; a device is shown
as a device.  Nothing is remembered: what the pager writes to its paging file is seen at the next open.

A broken file system costs what is broken and no more: a directory with one bad inode lists its other names, and the
bad one answers EIO.

Not here: how an FFS is read (bootfs/).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Inode
from bootfs.interface import BootFileSystem
from fuse_mount.tree import BLOCK_BYTES, Attributes, DataFile, Dir, Extent, Link, Node, Special, error

SECOND = 10**9  # nanoseconds
T = TypeVar("T")

ERRNO_OF = {
    FsCode.FS_NO_ENTRY: errno.ENOENT,
    FsCode.FS_NOT_DIRECTORY: errno.ENOTDIR,
    FsCode.FS_NAME_TOO_LONG: errno.ENAMETOOLONG,
    FsCode.FS_SYMLINK_LOOP: errno.ELOOP,
}


def disk_tree(filesystem: BootFileSystem) -> Dir:
    """The root of a file system.  FileSystemError if there is none to be read."""
    return DiskDir(filesystem, filesystem.root())


def _told(question: Callable[[], T]) -> T:
    """The answer; what bootfs raises as an OSError."""
    try:
        return question()
    except FileSystemError as broken:
        raise error(ERRNO_OF.get(broken.code, errno.EIO)) from broken


def _attributes(inode: Inode) -> Attributes:
    major_minor, details = inode.rdev, inode.details
    return Attributes(
        mode=inode.mode,
        size=inode.size if inode.kind != "other" else 0,
        blocks=details.blocks * 512 // BLOCK_BYTES if inode.kind != "other" else 0,
        mtime=inode.mtime * SECOND,
        atime=details.atime * SECOND,
        ctime=details.ctime * SECOND,
        uid=inode.uid,
        gid=inode.gid,
        nlink=inode.nlink,
        rdev=os.makedev(*major_minor) if major_minor else 0,
    )


class _OnDisk(Node):
    """What every node of a disk has: an inode."""

    inode: Inode

    def attributes(self) -> Attributes:
        return _attributes(self.inode)


class DiskDir(_OnDisk, Dir):
    """A directory, read at each question."""

    def __init__(self, filesystem: BootFileSystem, inode: Inode) -> None:
        super().__init__(lambda: _children(filesystem, inode), lambda name: _child(filesystem, inode, name))
        self.inode, self.mode, self.ino = inode, inode.mode, inode.ino


class DiskFile(_OnDisk, DataFile):
    """A regular file."""

    def __init__(self, filesystem: BootFileSystem, inode: Inode) -> None:
        extent = Extent(inode.size, inode.details.blocks * 512)
        super().__init__(lambda: extent, lambda at, length: _told(lambda: filesystem.read(inode, at, length)))
        self.inode, self.mode, self.ino = inode, inode.mode, inode.ino


class DiskLink(_OnDisk, Link):
    """A symbolic link.  An absolute one points into the reader's own system, as any mounted disk's would."""

    def __init__(self, filesystem: BootFileSystem, inode: Inode) -> None:
        super().__init__(lambda: _told(lambda: filesystem.readlink(inode)))
        self.inode, self.mode, self.ino = inode, inode.mode, inode.ino


class DiskSpecial(_OnDisk, Special):
    """A device, socket or FIFO."""

    def __init__(self, inode: Inode) -> None:
        super().__init__(inode.mode)
        self.inode, self.ino = inode, inode.ino


class Broken(Node):
    """A name whose inode cannot be read, or is not in use: it is listed, and can be asked for nothing."""

    mode = 0  # of no kind: listings show "unknown"

    def attributes(self) -> Attributes:
        raise error(errno.EIO)


def _node(filesystem: BootFileSystem, inode: Inode) -> Node:
    match inode.kind:
        case "dir":
            return DiskDir(filesystem, inode)
        case "file":
            return DiskFile(filesystem, inode)
        case "link":
            return DiskLink(filesystem, inode)
        case _:
            known = stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISSOCK
            return DiskSpecial(inode) if any(test(inode.mode) for test in known) else Broken()


def _children(filesystem: BootFileSystem, directory: Inode) -> dict[bytes, Node]:
    found: dict[bytes, Node] = {}
    for entry in _told(lambda: list(filesystem.entries(directory))):
        if entry.name not in (b".", b".."):
            try:
                found[entry.name] = _node(filesystem, filesystem.inode(entry.ino))
            except FileSystemError:
                found[entry.name] = Broken()
    return found


def _child(filesystem: BootFileSystem, directory: Inode, name: bytes) -> Node:
    return _node(filesystem, _told(lambda: filesystem.find(directory, name)))
