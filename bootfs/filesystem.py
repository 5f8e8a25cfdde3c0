"""An FFS: the tree on a device, its contents, and its block lists.

Interface:
    FileSystem.open(device, offset=0)     FileSystemError FS_INVALID_FS when no sound FFS begins there
    the methods of interface.BootFileSystem, and
    FileSystem.lookup(path)               by path from the root, as people write it (lookup.resolve)
    FileSystem.listdir(directory)         names and inodes, without "." and ".."
    FileSystem.walk()                     every path with its inode, depth first
    FileSystem.contents(inode)            the bytes of a file, a piece at a time
Invariants:
    1. Nothing is ever allocated or freed: only bytes that already belong to a regular file are written (P1).
    2. Nothing is remembered between calls but the superblock, so what another writer changes is seen.
Not here: path rules (lookup), layouts, what a pager does with a block list.
"""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator
from typing import Any

from bootfs import geometry, lookup
from bootfs.blocklist import BlockList, Hole, Run, make_block_list
from bootfs.blockmap import extents
from bootfs.device import BlockDevice, Bytes, SliceDevice
from bootfs.directory import Entry, entries
from bootfs.errors import FileSystemError, FsCode
from bootfs.extattr import Attribute, attributes
from bootfs.inode import Inode, read_inode, read_inodes
from bootfs.layout import DIRBLKSIZ, ROOTINO
from bootfs.superblock import Superblock, find_superblock

MAX_READ = 256 << 20  # bytes in one read; contents() is for more
MAX_PATH = 4096  # bytes of a path in a walk; bounds the memory that a malicious tree can ask for
BATCH = 128  # inodes read ahead in a listing
PIECE = 1 << 20  # bytes that contents() gives at a time


class FileSystem:
    """A mounted FFS. `device` is the whole device, `offset` the byte where the file system begins on it."""

    def __init__(self, device: BlockDevice, offset: int, superblock: Superblock) -> None:
        self.device = device
        self.offset = offset
        self.superblock = superblock
        self._part = SliceDevice(device, offset, device.size - offset)

    @classmethod
    def open(cls, device: BlockDevice, offset: int = 0) -> FileSystem:
        """The file system at byte `offset` of `device`. The device stays the caller's to close."""
        if not 0 <= offset < max(device.size, 1):
            raise FileSystemError(
                FsCode.FS_INVALID_FS, f"offset {offset} is not within the {device.size} bytes of the device"
            )
        return cls(device, offset, find_superblock(SliceDevice(device, offset, device.size - offset)))

    # Inodes and names

    def root(self) -> Inode:
        return self.inode(ROOTINO)

    def inode(self, ino: int) -> Inode:
        return read_inode(self._part, self.superblock, ino)

    def entries(self, directory: Inode) -> Iterator[Entry]:
        seen: set[int] = set()
        return self._entries(directory, seen)

    def _entries(self, directory: Inode, seen: set[int]) -> Iterator[Entry]:
        """As entries; `seen` gathers the places of the blocks read, and none is read twice: that bounds the work."""
        if directory.kind != "dir":
            raise FileSystemError(FsCode.FS_NOT_DIRECTORY, "not a directory", str(directory))
        if directory.size % DIRBLKSIZ:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, f"directory of {directory.size} bytes, no multiple of {DIRBLKSIZ}", str(directory)
            )
        fs = self.superblock
        for run in self.runs(directory):
            if isinstance(run, Hole):
                raise FileSystemError(
                    FsCode.FS_INVALID_FS, f"directory with a hole at byte {run.file_offset}", str(directory)
                )
            for at in range(0, run.length, fs.fs_bsize):
                place = run.device_offset + at
                if place in seen:
                    raise FileSystemError(
                        FsCode.FS_INVALID_FS, f"block at {place} is in a directory twice", str(directory)
                    )
                seen.add(place)
                data = self.device.read(place, min(fs.fs_bsize, run.length - at))
                yield from entries(data, fs, f"{directory}, directory block at {run.file_offset + at}")

    def find(self, directory: Inode, name: bytes) -> Inode:
        for entry in self.entries(directory):
            if entry.name == name:
                return self.inode(entry.ino)
        raise FileSystemError(FsCode.FS_NO_ENTRY, "no such name", lookup.shown(name))

    def listdir(self, directory: Inode) -> Iterator[tuple[bytes, Inode]]:
        """The names in a directory with their inodes, in disk order, "." and ".." left out."""
        names = [entry for entry in self.entries(directory) if entry.name not in (b".", b"..")]
        for at in range(0, len(names), BATCH):
            batch = names[at : at + BATCH]
            yield from zip((name for name, _ in batch), self._inodes(batch), strict=True)

    def _inodes(self, batch: list[Entry]) -> list[Inode]:
        return read_inodes(self._part, self.superblock, [ino for _, ino in batch])

    def lookup(self, path: bytes | str, follow: bool = True) -> Inode:
        """The inode of a path from the root; of the link itself if `follow` is false and the last name is one."""
        return lookup.resolve(self, path, follow)

    def walk(self, top: bytes = b"/") -> Iterator[tuple[bytes, Inode]]:
        """Every path from `top`, which is first; each directory's names in order of their bytes; each entered once."""
        seen: set[int] = set()
        entered: set[int] = set()
        path, inode = b"/" + top.strip(b"/"), self.lookup(top, follow=False)
        yield path, inode
        below = [self._below(path, inode, seen, entered)]
        while below:
            for found in below[-1]:
                yield found
                if found[1].mode & 0o170000 == stat.S_IFDIR:
                    below.append(self._below(*found, seen, entered))
                    break
            else:
                below.pop()

    def _below(self, path: bytes, inode: Inode, seen: set[int], entered: set[int]) -> Iterator[tuple[bytes, Inode]]:
        """The paths of the names in one directory, with few inodes read ahead of their use."""
        if inode.kind != "dir" or inode.ino in entered:
            return
        entered.add(inode.ino)
        if len(path) > MAX_PATH:
            raise FileSystemError(FsCode.FS_NAME_TOO_LONG, f"a path of {len(path)} bytes", str(inode))
        names = [entry for entry in self._entries(inode, seen) if entry[0] not in (b".", b"..")]
        names.sort()
        prefix = b"/" if path == b"/" else path + b"/"
        for at in range(0, len(names), BATCH):
            batch = names[at : at + BATCH]
            yield from zip([prefix + name for name, _ in batch], self._inodes(batch), strict=True)

    def readlink(self, link: Inode) -> bytes:
        if link.kind != "link":
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a symbolic link", str(link))
        if link.text is not None:
            return link.text
        if link.size > self.superblock.fs_bsize:
            raise FileSystemError(FsCode.FS_INVALID_FS, f"a link of {link.size} bytes", str(link))
        return self.read(link, 0, link.size)

    def attributes(self, inode: Inode) -> list[Attribute]:
        """The extended attributes of a file; none in the formats that have none."""
        return attributes(self._part, self.superblock, inode)

    # Contents

    def runs(self, inode: Inode) -> Iterator[Run | Hole]:
        return self._runs(inode, 0, inode.size)

    def _runs(self, inode: Inode, offset: int, length: int) -> Iterator[Run | Hole]:
        """The runs of a stretch of a file that lies within it, cut at both ends."""
        fs = self.superblock
        if length == 0 or inode.kind == "other" or inode.text is not None:
            return
        stop = offset + length
        for extent in extents(self._part, fs, inode, geometry.lblkno(fs, offset), geometry.lblkno(fs, stop - 1) + 1):
            at = geometry.lblktosize(fs, extent.block)
            begin, end = max(at, offset), min(at + geometry.lblktosize(fs, extent.blocks), stop)
            if extent.is_hole:
                yield Hole(begin, end - begin)
            else:
                where = self.offset + geometry.fsbtobyte(fs, extent.fragment) + begin - at
                yield Run(begin, where, end - begin)

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        self._check_range(inode, offset, length)
        if length > MAX_READ:
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, f"{length} bytes in one read", str(inode))
        if inode.text is not None:
            return inode.text[offset : offset + length]
        pieces = [
            bytes(run.length) if isinstance(run, Hole) else self.device.read(run.device_offset, run.length)
            for run in self._runs(inode, offset, length)
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def contents(self, inode: Inode) -> Iterator[bytes]:
        """The whole of a file in pieces of at most 1 MiB."""
        zeros = bytes(PIECE)
        for run in self.runs(inode):
            for at in range(0, run.length, PIECE):
                part = min(PIECE, run.length - at)
                yield zeros[:part] if isinstance(run, Hole) else self.device.read(run.device_offset + at, part)

    def write(self, inode: Inode, offset: int, data: Bytes) -> None:
        if inode.kind != "file":
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a regular file", str(inode))
        view = memoryview(data).cast("B")
        self._check_range(inode, offset, len(view), "; files do not grow here")
        runs = []
        for run in self._runs(inode, offset, len(view)):
            if isinstance(run, Hole):
                raise FileSystemError(
                    FsCode.FS_NOT_IN_FILE, f"a hole at file offset {run.file_offset} cannot be written", str(inode)
                )
            runs.append(run)
        for run in runs:
            begin = run.file_offset - offset
            self.device.write(run.device_offset, view[begin : begin + run.length])

    def _check_range(self, inode: Inode, offset: int, length: int, hint: str = "") -> None:
        if inode.kind == "other":
            raise FileSystemError(
                FsCode.FS_INVALID_PARAMETER, "has no contents here: a device, socket or FIFO", str(inode)
            )
        if offset < 0 or length < 0 or offset + length > inode.size:
            raise FileSystemError(
                FsCode.FS_NOT_IN_FILE,
                f"{length} bytes at {offset} are not within its {inode.size} bytes{hint}",
                str(inode),
            )

    def blocks(self, inode: Inode) -> dict[str, Any]:
        """What the command `bootfs blocks` shows: size, runs of whole blocks, holes, and the bytes of the tail."""
        if inode.kind == "other":
            raise FileSystemError(
                FsCode.FS_INVALID_PARAMETER, "has no contents here: a device, socket or FIFO", str(inode)
            )
        whole = geometry.lblktosize(self.superblock, geometry.lblkno(self.superblock, inode.size))
        runs: list[dict[str, int]] = []
        holes: list[dict[str, int]] = []
        for run in self.runs(inode):
            if isinstance(run, Hole):
                holes.append(dataclasses.asdict(run))
            elif run.file_offset < whole:
                runs.append(dataclasses.asdict(run) | {"length": min(run.length, whole - run.file_offset)})
        return {"size": inode.size, "runs": runs, "holes": holes, "tail": inode.size - whole}

    def info(self) -> dict[str, Any]:
        """What the command `bootfs info` shows: the keys are a contract."""
        fs = self.superblock
        return {
            "format": fs.format,
            "byte_order": fs.byte_order,
            "offset": self.offset,
            "block_size": fs.fs_bsize,
            "fragment_size": fs.fs_fsize,
            "fragments": fs.fs_size,
            "cylinder_groups": fs.fs_ncg,
            "inodes": fs.fs_ncg * fs.fs_ipg,
            "free_blocks": fs.cs_nbfree,
            "free_fragments": fs.cs_nffree,
            "free_inodes": fs.cs_nifree,
            # 4.2 and 4.3BSD have the byte but never set it; fsck decides by looking.
            "clean": bool(fs.fs_clean & 1) if fs.format != "4.3bsd" else None,
            "last_mounted": lookup.shown(fs.fs_fsmnt),
        }

    def block_list(self, inode: Inode) -> BlockList:
        if inode.kind != "file":
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a regular file", str(inode))
        return make_block_list(self.runs(inode), inode.size, self.superblock.fs_bsize, str(inode))
