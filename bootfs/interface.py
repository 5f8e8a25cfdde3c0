"""What the rest asks of a file system: little, so that another format can stand behind it (the paper, 6.1).

Interface:
    BootFileSystem    the protocol: inodes by number and by name in a directory, contents, links, block lists
    Mount             how one is made of a device; FileSystemError FS_INVALID_FS when the device holds another format
Not here: paths (lookup), any format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from bootfs.blocklist import BlockList, Hole, Run
from bootfs.device import BlockDevice, Bytes
from bootfs.directory import Entry
from bootfs.inode import Inode


class BootFileSystem(Protocol):
    """A file system that is read, and written only where blocks already are. Every method may raise FileSystemError."""

    def root(self) -> Inode:
        """The root directory."""
        ...

    def inode(self, ino: int) -> Inode:
        """The inode of that number, read anew."""
        ...

    def entries(self, directory: Inode) -> Iterator[Entry]:
        """The entries of a directory, "." and ".." too, in disk order. FS_NOT_DIRECTORY for anything else."""
        ...

    def find(self, directory: Inode, name: bytes) -> Inode:
        """The inode of one name. FS_NO_ENTRY when it is not there, FS_NOT_DIRECTORY."""
        ...

    def readlink(self, link: Inode) -> bytes:
        """The target of a symbolic link. FS_INVALID_PARAMETER for anything else."""
        ...

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; holes are zeros. FS_NOT_IN_FILE beyond the end of the file."""
        ...

    def write(self, inode: Inode, offset: int, data: Bytes) -> None:
        """Overwrite bytes of a file. FS_NOT_IN_FILE where it would grow or fill a hole; then nothing is written."""
        ...

    def runs(self, inode: Inode) -> Iterator[Run | Hole]:
        """Where all the bytes of a file are, in order, in byte offsets of the whole device."""
        ...

    def block_list(self, inode: Inode) -> BlockList:
        """The whole blocks of a regular file. FS_NOT_IN_FILE names a hole; FS_INVALID_PARAMETER: not a regular file."""
        ...


Mount = Callable[[BlockDevice], BootFileSystem]
