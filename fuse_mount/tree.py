"""What the view is made of, and how a path finds its way in it: one truth, told to no file system interface.

Interface:
    Dir, File (TextFile, DataFile), Link, Special    the nodes; each has mode, ino, attributes()
    Attributes                                       what stat(2) wants to know of a node
    OpenFile                                         an open file: size(), read(offset, size), cached
    fixed, numbered                                  directories of known names, and of numbers that come and go
    lookup(root, path)                               the node at a path; paths and names are bytes

Every error is an OSError with an errno: a caller that shows the tree has nothing to translate.

Invariants:
    1. A node holds no content.  What it shows is asked for when it is asked: two asks may differ.
    2. An open text file is a snapshot: its reads agree with each other, however the system moves on.
    3. An open data file gives exactly the bytes asked for up to the file's end, or an OSError; never fewer, which a
       page cache would take for zeros.

Not here: FUSE (binding.py, operations.py); what is in the files (pager_view.py, kernel_view.py, disk_view.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = 512  # what st_blocks counts in


def error(number: int) -> OSError:
    """The OSError of `number`, in the words of this system."""
    return OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class Attributes:
    """stat(2) of a node.  None: whoever shows the tree knows better."""

    mode: int  # kind and permissions
    size: int = 0  # bytes
    blocks: int | None = None  # of 512 bytes; None: all of `size` is there
    mtime: int | None = None  # nanoseconds since 1970, as the two below
    atime: int | None = None  # None: as mtime
    ctime: int | None = None
    uid: int | None = None
    gid: int | None = None
    nlink: int = 1  # of a directory too, where 1 says: subdirectories are not counted
    rdev: int = 0


class OpenFile(Protocol):
    """A file between open and close."""

    cached: bool  # may the page cache hold it?  Needed for mmap; wrong where the size is not known before

    def size(self) -> int:
        """Bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer only at the end.  OSError."""
        ...


class Node:
    """Anything with a name.  `mode` and `ino` cost nothing: listings use them."""

    mode: int
    ino: int = 0  # 0: it has no number of its own

    def attributes(self) -> Attributes:
        """What it is like just now.  OSError if it has gone or cannot be asked."""
        return Attributes(self.mode)


class Dir(Node):
    """A directory.

    `children` lists it.  `child`, if given, finds one name without the list (None: no such name); it may promise a
    node that has gone, which then says so itself.  `check` raises OSError if the directory itself has gone.
    """

    def __init__(
        self,
        children: Callable[[], Mapping[bytes, Node]],
        child: Callable[[bytes], Node | None] | None = None,
        check: Callable[[], object] | None = None,
        permissions: int = 0o555,
    ) -> None:
        self.mode = stat.S_IFDIR | permissions
        self.children = children
        self._child = child
        self._check = check

    def attributes(self) -> Attributes:
        if self._check is not None:
            self._check()
        return Attributes(self.mode)

    def child(self, name: bytes) -> Node:
        """OSError ENOENT: no such name."""
        found = self._child(name) if self._child is not None else self.children().get(name)
        if found is None:
            raise error(errno.ENOENT)
        return found


class File(Node):
    """A regular file."""

    def open(self) -> OpenFile:
        """OSError."""
        raise NotImplementedError


class Snapshot:
    """An open text file: what it said when it was opened (INV-2)."""

    cached = False

    def __init__(self, content: bytes) -> None:
        self._content = content

    def size(self) -> int:
        return len(self._content)

    def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


class TextFile(File):
    """Text, written anew whenever it is asked for.  Its size is that of the text of this moment."""

    def __init__(self, render: Callable[[], str], permissions: int = 0o444) -> None:
        self.mode = stat.S_IFREG | permissions
        self._render = render

    def open(self) -> Snapshot:
        return Snapshot(self._render().encode())

    def attributes(self) -> Attributes:
        return Attributes(self.mode, self.open().size())


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a data file is, and how much of it is really there; bytes."""

    size: int
    stored: int


class DataFile(File):
    """Raw bytes at fixed offsets.  `fetch(offset, length)` is asked for ranges within `extent().size` only."""

    def __init__(
        self, extent: Callable[[], Extent], fetch: Callable[[int, int], bytes], permissions: int = 0o400
    ) -> None:
        self.mode = stat.S_IFREG | permissions
        self.extent = extent
        self.fetch = fetch

    def open(self) -> OpenData:
        return OpenData(self)

    def attributes(self) -> Attributes:
        extent = self.extent()
        return Attributes(self.mode, extent.size, -(-extent.stored // BLOCK_BYTES))


class OpenData:
    """An open data file.  It remembers the size, and asks again only where a read would pass the end."""

    cached = True

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._size = file.extent().size

    def size(self) -> int:
        self._size = self._file.extent().size
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            size = max(0, min(size, self.size() - offset))
        if size == 0:
            return b""
        data = self._file.fetch(offset, size)
        if len(data) != size:  # INV-3
            raise error(errno.EIO)
        return data


class Link(Node):
    """A symbolic link."""

    def __init__(self, target: Callable[[], bytes], permissions: int = 0o777) -> None:
        self.mode = stat.S_IFLNK | permissions
        self.target = target

    def attributes(self) -> Attributes:
        return Attributes(self.mode, len(self.target()))


class Special(Node):
    """A device, a socket or a FIFO: shown, never opened through the view."""

    def __init__(self, mode: int) -> None:
        self.mode = mode


def fixed(entries: Mapping[bytes, Node], check: Callable[[], object] | None = None) -> Dir:
    """A directory whose names never change."""
    return Dir(lambda: entries, entries.get, check)


def numbered(numbers: Callable[[], Iterable[int]], node: Callable[[int], Node]) -> Dir:
    """A directory named by the numbers that there are just now; `node(number)` checks its number itself."""

    def child(name: bytes) -> Node | None:
        # Only the number's own spelling: 007 is no name of 7.  No number here has more than 64 bits.
        if not name.isdigit() or len(name) > 20 or str(int(name)).encode() != name:
            return None
        return node(int(name))

    return Dir(lambda: {str(number).encode(): node(number) for number in numbers()}, child)


def lookup(root: Node, path: bytes) -> Node:
    """The node at `path`.  OSError: ENOENT, ENOTDIR, or what the nodes on the way raise.  Links are not followed."""
    node = root
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        if not isinstance(node, Dir):
            raise error(errno.ENOTDIR)
        node = node.child(name)
    return node
