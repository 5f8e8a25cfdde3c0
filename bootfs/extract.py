"""A tree copied out of a file system into a directory: sparse files, modes, times, links, devices.

Interface:
    extract(file_system, top, destination, seen) -> Extracted    FileSystemError; OSError of the directory's own disk
    Extracted    how many of each kind, and what was left out and why
Invariants:
    1. Nothing outside `destination` is touched, whatever names and links say: it is empty at first, each name in it is
       made new in a directory that was made new, and no link is followed.
    2. What is written is bounded by what the disk holds: files that share their blocks are refused.
Not here: output.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from bootfs.blocklist import Hole
from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Inode
from bootfs.lookup import shown
from bootfs.mounted import PIECE, MountedFileSystem

Seen = Callable[[bytes], None]


@dataclass(slots=True)
class Extracted:
    """The counts, and the paths left out with the reason."""

    files: int = 0
    directories: int = 0
    links: int = 0
    others: int = 0
    hard_links: int = 0
    bytes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def extract(file_system: MountedFileSystem, top: bytes, destination: str, seen: Seen = lambda path: None) -> Extracted:
    """Copy what is below the directory `top`, or the one file that it is, into `destination`, made if it is not there.

    `seen` is called with each path. As root, owners and device nodes too. FileSystemError FS_INVALID_PARAMETER when
    `destination` is not an empty directory.
    """
    return _Extraction(file_system, destination).run(top, seen)


class _Extraction:
    """One tree under way. `made` has the directories, whose modes and times are set last."""

    def __init__(self, file_system: MountedFileSystem, destination: str) -> None:
        self.file_system = file_system
        self.destination = os.fsencode(destination)
        self.is_root = os.geteuid() == 0
        self.result = Extracted()
        self.first_names: dict[int, bytes] = {}
        self.made: list[tuple[bytes, Inode]] = []
        self.bytes_left = min(file_system.capacity, file_system.device.size)

    def run(self, top: bytes, seen: Seen) -> Extracted:
        self.prepare()
        walk = self.file_system.walk(top)
        path, inode = next(walk)
        if inode.kind == "dir":
            self.made.append((self.destination, inode))
            base = len(path.rstrip(b"/"))
        else:
            base = len(path) - len(os.path.basename(path)) - 1
            self.one(path, self.destination + path[base:], inode)
        for path, inode in walk:
            self.one(path, self.destination + path[base:], inode)
            seen(path)
        for place, directory in reversed(self.made):
            self.finish(place, directory)
        return self.result

    def prepare(self) -> None:
        """Invariant 1 begins here."""
        os.makedirs(self.destination, exist_ok=True)
        if os.listdir(self.destination):
            raise FileSystemError(
                FsCode.FS_INVALID_PARAMETER,
                "is not empty; give a directory that is, or a new one",
                shown(self.destination),
            )

    def one(self, path: bytes, place: bytes, inode: Inode) -> None:
        first = self.first_names.get(inode.ino)
        if first is not None:
            os.link(first, place, follow_symlinks=False)
            self.result.hard_links += 1
            return
        reason = self.make(place, inode)
        if reason is not None:
            self.result.skipped[shown(path)] = reason
        elif inode.kind == "dir":
            self.made.append((place, inode))
            self.result.directories += 1
        else:
            self.finish(place, inode)
            if inode.nlink > 1:
                self.first_names[inode.ino] = place

    def make(self, place: bytes, inode: Inode) -> str | None:
        """Make it, without mode and times; or the reason why it is left out. Nothing that is there is ever replaced."""
        if inode.kind == "dir":
            os.mkdir(place, 0o700)
        elif inode.kind == "file":
            self.copy(place, inode)
            self.result.files += 1
        elif inode.kind == "link":
            target = self.file_system.readlink(inode)
            if not target or b"\0" in target:
                return "a link to no name"
            os.symlink(target, place)
            self.result.links += 1
        else:
            return self.node(place, inode)
        return None

    def node(self, place: bytes, inode: Inode) -> str | None:
        """A device, FIFO or socket."""
        kind = stat.S_IFMT(inode.mode)
        if kind not in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
            return f"of no kind that is known (mode {inode.mode:o})"
        try:
            os.mknod(place, kind | 0o600, os.makedev(*inode.rdev) if inode.rdev else 0)
        except PermissionError:
            return "only root can make a device"
        except OverflowError:
            return f"no such device numbers here: {inode.rdev}"
        self.result.others += 1
        return None

    def copy(self, place: bytes, inode: Inode) -> None:
        """The contents; holes stay holes."""
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, inode.size)
            for run in self.file_system.runs(inode):
                if isinstance(run, Hole):
                    continue
                self.spend(run.length, inode)
                for at in range(0, run.length, PIECE):
                    part = min(PIECE, run.length - at)
                    _write(fd, self.file_system.device.read(run.device_offset + at, part), run.file_offset + at)
        finally:
            os.close(fd)

    def spend(self, length: int, inode: Inode) -> None:
        """Invariant 2."""
        self.bytes_left -= length
        self.result.bytes += length
        if self.bytes_left < 0:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, "with this file the files map more than the disk holds", str(inode)
            )

    def finish(self, place: bytes, inode: Inode) -> None:
        """Owner, mode, times. Who is not root gets no set-user-id files of someone else."""
        if self.is_root:
            os.chown(place, inode.uid, inode.gid, follow_symlinks=False)
        if inode.kind != "link":
            os.chmod(place, stat.S_IMODE(inode.mode) & (0o7777 if self.is_root else 0o777))
        details = inode.details
        times = [
            seconds * 10**9 + min(max(nanoseconds, 0), 10**9 - 1)
            for seconds, nanoseconds in ((details.atime, details.atimensec), (inode.mtime, details.mtimensec))
        ]
        os.utime(place, ns=(times[0], times[1]), follow_symlinks=False)


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done
