"""The manifest: every name of a file system, what it is, and a hash of what it holds; to compare readers of a disk.

Interface:
    manifest(file_system, hash_name, top)    {path: facts}, the keys those that the `bootfs manifest` contract has
    manifest_lines(...)                      the same, one path after another
    facts(file_system, inode)                the facts without a hash
Not here: output.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any, Literal, Protocol

from bootfs.blocklist import Hole
from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Inode
from bootfs.lookup import shown
from bootfs.mounted import MountedFileSystem

HashName = Literal["sha256", "blake3", "none"]

MAX_HOLES = 16 << 30  # bytes of holes hashed in one manifest; a damaged size can claim terabytes of them


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


def facts(file_system: MountedFileSystem, inode: Inode) -> dict[str, Any]:
    """kind, ino, size, mode (permission bits), nlink, uid, gid, mtime; also target (links), rdev (devices)."""
    found: dict[str, Any] = {
        "kind": inode.kind,
        "ino": inode.ino,
        "size": inode.size,
        "mode": stat.S_IMODE(inode.mode),
        "nlink": inode.nlink,
        "uid": inode.uid,
        "gid": inode.gid,
        "mtime": inode.mtime,
    }
    if inode.kind == "link":
        found["target"] = shown(file_system.readlink(inode))
    if inode.rdev is not None:
        found["rdev"] = list(inode.rdev)
    return found


def manifest(
    file_system: MountedFileSystem, hash_name: HashName = "sha256", top: bytes = b"/"
) -> dict[str, dict[str, Any]]:
    """All at once, as manifest_lines gives it; for disks that are small enough."""
    return dict(manifest_lines(file_system, hash_name, top))


def manifest_lines(
    file_system: MountedFileSystem, hash_name: HashName = "sha256", top: bytes = b"/"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The facts of `top` and all below it, by full path; files with their hash under the name of the hash.

    FileSystemError as from the reads, and FS_INVALID_FS when the files together map more than the disk holds (so many
    files that share their blocks would take for ever). The hash of a file is None once more than 16 GiB of holes would
    have been hashed.
    """
    hashes = _Hashes(file_system, hash_name)
    for path, inode in file_system.walk(top):
        entry = facts(file_system, inode)
        if inode.kind == "file" and hash_name != "none":
            entry[hash_name] = hashes.of(inode)
        yield shown(path), entry


class _Hashes:
    """Hashes of the files of one disk, each made once though it may have many names."""

    def __init__(self, file_system: MountedFileSystem, name: HashName) -> None:
        self.file_system = file_system
        self.name = name
        self.known: dict[int, str | None] = {}
        self.bytes_left = min(file_system.capacity, file_system.device.size)
        self.holes_left = MAX_HOLES

    def of(self, inode: Inode) -> str | None:
        if inode.nlink <= 1:
            return self.make(inode)
        if inode.ino not in self.known:
            self.known[inode.ino] = self.make(inode)
        return self.known[inode.ino]

    def make(self, inode: Inode) -> str | None:
        holes = mapped = 0
        for run in self.file_system.runs(inode):
            if isinstance(run, Hole):
                holes += run.length
            else:
                mapped += run.length
        self.bytes_left -= mapped
        if self.bytes_left < 0:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, "with this file the files map more than the disk holds", str(inode)
            )
        if holes > self.holes_left:
            return None
        self.holes_left -= holes
        digest = self.new()
        for piece in self.file_system.contents(inode):
            digest.update(piece)
        return digest.hexdigest()

    def new(self) -> _Hash:
        if self.name == "blake3":
            from blake3 import blake3

            return blake3()
        from hashlib import sha256

        return sha256()
