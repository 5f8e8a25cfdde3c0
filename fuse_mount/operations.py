"""The tree as a file system: a protocol adapter and nothing more.

Interface:
    ViewOperations(root, since, paging_space)    what binding.serve drives: paths and names are bytes, errors OSError

How long the kernel may believe what it was told is TIMEOUTS, mount options: a quarter of a second, so that one command
does not make a text twice, and nobody sees an old figure.  A name that was not there may appear at once.

Text files bypass the page cache (direct_io, set at open), since their size is not known before they are written: a
reader gets all of the snapshot taken when it opened the file.  Data files go through the page cache, which mmap
needs; every open empties it (no keep_cache), so a mapping made before shows what was there when it was made.

Invariants:
    1. A handle is in `_open` from open to release, and no handle is given twice.
    2. Nothing can be written: whoever opens for writing gets EROFS.

Not here: what the tree holds; ctypes, libfuse and their faults (binding.py).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator

from fuse_mount.tree import BLOCK_BYTES, Attributes, Dir, File, Link, Node, OpenFile, error, lookup

TIMEOUTS = {"attr_timeout": 0.25, "entry_timeout": 0.25, "negative_timeout": 0}
NAME_MAX = 255


class ViewOperations:
    """One mounted view.  `since`: the time (ns) that files without one of their own show."""

    def __init__(self, root: Dir, since: int, paging_space: Callable[[], tuple[int, int, int]]) -> None:
        self._root = root
        self._since = since
        self._paging_space = paging_space
        self._open: dict[int, tuple[Node, OpenFile]] = {}
        self._handles = 0
        self._uid, self._gid = os.getuid(), os.getgid()

    def getattr(self, path: bytes, handle: int | None) -> dict[str, int]:
        """stat(2).  Of an open text: as long as its snapshot, while the object it tells of may have gone."""
        node, opened = self._open[handle] if handle in self._open else (lookup(self._root, path), None)
        if opened is not None and not opened.cached:
            return self._stat(path, node, Attributes(node.mode, opened.size()))
        return self._stat(path, node, node.attributes())

    def readdir(self, path: bytes) -> Iterator[tuple[bytes, dict[str, int]]]:
        """Names, with what listings show of each: its kind and number."""
        node = lookup(self._root, path)
        if not isinstance(node, Dir):
            raise error(errno.ENOTDIR)
        for name, child in node.children().items():
            yield name, {"st_mode": child.mode, "st_ino": _number(path.rstrip(b"/") + b"/" + name, child)}

    def readlink(self, path: bytes) -> bytes:
        node = lookup(self._root, path)
        if not isinstance(node, Link):
            raise error(errno.EINVAL)
        return node.target()

    def open(self, path: bytes, flags: int) -> tuple[int, bool]:
        """(handle, may the page cache hold it)."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise error(errno.EROFS)
        node = lookup(self._root, path)
        if isinstance(node, Dir):
            raise error(errno.EISDIR)
        if not isinstance(node, File):
            raise error(errno.ENXIO)
        opened = node.open()
        self._handles += 1
        self._open[self._handles] = node, opened
        return self._handles, opened.cached

    def read(self, handle: int, offset: int, size: int) -> bytes:
        if handle not in self._open:
            raise error(errno.EBADF)
        return self._open[handle][1].read(offset, size)

    def release(self, handle: int) -> None:
        self._open.pop(handle, None)

    def statfs(self) -> dict[str, int]:
        """The paging space, so that df(1) shows it; nothing at all while nobody can be asked."""
        try:
            page_size, total, free = self._paging_space()
        except OSError:
            page_size, total, free = 4096, 0, 0
        return {
            "f_bsize": page_size,
            "f_frsize": page_size,
            "f_blocks": total,
            "f_bfree": free,
            "f_bavail": free,
            "f_namemax": NAME_MAX,
        }

    def _stat(self, path: bytes, node: Node, seen: Attributes) -> dict[str, int]:
        mtime = self._since if seen.mtime is None else seen.mtime
        return {
            "st_mode": seen.mode,
            "st_ino": _number(path, node),
            "st_nlink": seen.nlink,
            "st_uid": self._uid if seen.uid is None else seen.uid,
            "st_gid": self._gid if seen.gid is None else seen.gid,
            "st_rdev": seen.rdev,
            "st_size": seen.size,
            "st_blocks": -(-seen.size // BLOCK_BYTES) if seen.blocks is None else seen.blocks,
            "st_blksize": 4096,
            "st_mtime": mtime,
            "st_atime": mtime if seen.atime is None else seen.atime,
            "st_ctime": mtime if seen.ctime is None else seen.ctime,
        }


def _number(path: bytes, node: Node) -> int:
    """st_ino: the node's own, as on a disk; else one made of the path, above all that a disk has."""
    if node.ino:
        return node.ino
    return 1 << 62 | int.from_bytes(hashlib.blake2b(path, digest_size=7).digest())
