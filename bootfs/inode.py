"""Inodes: one file each, whatever the format.

Interface:
    Inode                         the facts that a listing shows, and the rest when it is asked for
    Details                       the rest
    InodeForm, Given              how a format reads the rest; for one that has read it already
Invariants:
    1. An Inode is a fact of the moment it was read: what another writer changes later does not show in it.
Not here: reading inodes (dinode, ext2), following the pointers (blockmap), names (directory).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Kind = Literal["file", "dir", "link", "other"]

_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}


class Details(NamedTuple):
    """What is rarely asked. `blocks` is in 512-byte sectors as the disk says, times in seconds since 1970.

    `pointers` are the block pointers, 12 direct and then single, double, triple indirect; `text` is the target of a
    link that is kept in the inode itself, else None. Only ufs2 has a birthtime and extended attributes: `ext_size`
    bytes in the blocks at `ext_pointers`.
    """

    atime: int = 0
    ctime: int = 0
    flags: int = 0
    blocks: int = 0
    generation: int = 0
    pointers: tuple[int, ...] = ()
    text: bytes | None = None
    atimensec: int = 0
    mtimensec: int = 0
    birthtime: int | None = None
    ext_size: int = 0
    ext_pointers: tuple[int, ...] = ()


class InodeForm(Protocol):
    """How the details of an inode are read out of its bytes; equal for equal disks."""

    def details(self, inode: Inode) -> Details:
        """Those of `inode`. FileSystemError FS_INVALID_FS when it contradicts itself."""
        ...


class Inode(NamedTuple):
    """One file. `size` is in bytes; `raw` are the inode's bytes on disk, and `form` reads the details out of them.

    (A tuple and not a dataclass, the fields in the order of most dinodes, and details on demand: a listing makes one
    of these for every file.)
    """

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime: int
    ino: int
    raw: bytes
    form: InodeForm

    @property
    def details(self) -> Details:
        """All the rest; ask once for several."""
        return self.form.details(self)

    @property
    def kind(self) -> Kind:
        """What the mode says: file, dir, link, or other (devices, sockets, FIFOs, and inodes not in use)."""
        return _KINDS.get(self.mode & 0o170000, "other")

    @property
    def text(self) -> bytes | None:
        """The target of a link that is kept in the inode itself; None for anything else."""
        return self.details.text if stat.S_ISLNK(self.mode) else None

    @property
    def pointers(self) -> tuple[int, ...]:
        """The block pointers."""
        return self.details.pointers

    @property
    def rdev(self) -> tuple[int, int] | None:
        """Major and minor number of a device; None for anything else.

        BSD of the time had 16 bits for both; FreeBSD's dev_t of 64 bits, which ufs2 keeps, begins with the same.
        """
        if not (stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)):
            return None
        dev = self.pointers[0]
        return dev >> 32 & 0xFFFFFF00 | dev >> 8 & 0xFF, dev >> 24 & 0xFF00 | dev & 0xFFFF00FF

    def __str__(self) -> str:
        return f"inode {self.ino}"


@dataclass(frozen=True, slots=True)
class Given:
    """The form of an inode whose details are known."""

    known: Details

    def details(self, inode: Inode) -> Details:
        """Those given."""
        return self.known
