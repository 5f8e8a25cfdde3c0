"""What every disk format has in common once its few particulars are known: names, contents, writing, block lists.

Interface:
    MountedFileSystem    the base of each format's class; it has the methods of interface.BootFileSystem, and
        .lookup(path)            by path from the root, as people write it (lookup.resolve)
        .listdir(directory)      names and inodes, without "." and ".."
        .walk()                  every path with its inode, depth first
        .contents(inode)         the bytes of a file, a piece at a time
        .blocks(inode), .info()  what the commands of these names show
    A format supplies root_ino, chunk_bytes, block_size, capacity, inode, directory_entries, block_runs, info; it may
    supply inodes (if many can be read at once), attributes, and refuse_writing (if some disks may only be read).
Invariants:
    1. Nothing is ever allocated or freed: only bytes that already belong to a regular file are written (P1).
    2. Nothing is remembered between calls but the superblock, so what another writer changes is seen.
Not here: path rules (lookup), any format, what a pager does with a block list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from bootfs import lookup
from bootfs.blocklist import BlockList, Hole, Run, make_block_list
from bootfs.device import BlockDevice, Bytes, SliceDevice
from bootfs.directory import Entries, Entry
from bootfs.errors import FileSystemError, FsCode
from bootfs.extattr import Attribute
from bootfs.inode import Inode

MAX_READ = 256 << 20  # bytes in one read; contents() is for more
MAX_PATH = 4096  # bytes of a path in a walk; bounds the memory that a malicious tree can ask for
BATCH = 256  # inodes read ahead in a listing
PIECE = 256 << 10  # bytes that contents() gives at a time: a larger piece has left the cache before it is used


class MountedFileSystem(ABC):
    """A file system on a device. `device` is the whole of it, `offset` the byte where the file system begins on it."""

    root_ino = 2
    chunk_bytes: int  # a directory is whole chunks of so many bytes, which no entry crosses

    def __init__(self, device: BlockDevice, offset: int) -> None:
        self.device = device
        self.offset = offset
        self._part = SliceDevice(device, offset, device.size - offset)

    # What a format supplies

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Bytes of a whole block."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Bytes that the file system says it has; the device may be shorter."""

    @abstractmethod
    def inode(self, ino: int) -> Inode:
        """The inode of that number, read anew."""

    def inodes(self, inos: Sequence[int]) -> list[Inode]:
        """Those of these numbers, in the order given; a format may have a quicker way."""
        return [self.inode(ino) for ino in inos]

    @abstractmethod
    def directory_entries(self, data: bytes, place: str) -> Entries:
        """The entries in use in `data`, whole chunks of a directory.

        FS_INVALID_FS at the first bad one.
        """

    @abstractmethod
    def block_runs(self, inode: Inode, first: int, end: int) -> Iterator[Run | Hole]:
        """Where the blocks `first` to `end` - 1 of a file are, whole and in order, in bytes of the file system."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """What the command `bootfs info` shows: the keys are a contract."""

    def attributes(self, inode: Inode) -> list[Attribute]:
        """The extended attributes of a file; none in the formats that have none, or whose are not read."""
        return []

    def refuse_writing(self, place: str) -> None:  # noqa: B027 - most disks have no reason to
        """FileSystemError D_READ_ONLY when blocks of this disk must not be overwritten."""

    # Names

    def root(self) -> Inode:
        return self.inode(self.root_ino)

    def entries(self, directory: Inode) -> Iterator[Entry]:
        for block in self._entries(directory, set()):
            yield from map(Entry, *block)

    def _entries(self, directory: Inode, seen: set[int]) -> Iterator[Entries]:
        """Those of each block; `seen` gathers the places of the blocks. None is read twice: that bounds the work."""
        if directory.kind != "dir":
            raise FileSystemError(FsCode.FS_NOT_DIRECTORY, "not a directory", str(directory))
        if directory.size % self.chunk_bytes:
            raise FileSystemError(
                FsCode.FS_INVALID_FS,
                f"directory of {directory.size} bytes, no multiple of {self.chunk_bytes}",
                str(directory),
            )
        for run in self.runs(directory):
            if isinstance(run, Hole):
                raise FileSystemError(
                    FsCode.FS_INVALID_FS, f"directory with a hole at byte {run.file_offset}", str(directory)
                )
            for at in range(0, run.length, self.block_size):
                place = run.device_offset + at
                if place in seen:
                    raise FileSystemError(
                        FsCode.FS_INVALID_FS, f"block at {place} is in a directory twice", str(directory)
                    )
                seen.add(place)
                data = self.device.read(place, min(self.block_size, run.length - at))
                yield self.directory_entries(data, f"{directory}, directory block at {run.file_offset + at}")

    def find(self, directory: Inode, name: bytes) -> Inode:
        for names, inos in self._entries(directory, set()):
            if name in names:
                return self.inode(inos[names.index(name)])
        raise FileSystemError(FsCode.FS_NO_ENTRY, "no such name", lookup.shown(name))

    def listdir(self, directory: Inode) -> Iterator[tuple[bytes, Inode]]:
        """The names in a directory with their inodes, in order of their bytes, "." and ".." left out."""
        return chain.from_iterable(self._batches(b"", self._names(directory, set())))

    def _names(self, directory: Inode, seen: set[int]) -> Entries:
        """All entries in order of their names, "." and ".." left out."""
        names: list[bytes] = []
        inos: list[int] = []
        for block in self._entries(directory, seen):
            names += block.names
            inos += block.inos
        name_of = names.__getitem__
        order = sorted(range(len(names)), key=name_of)
        for dot in (b".", b".."):
            del order[bisect_left(order, dot, key=name_of) : bisect_right(order, dot, key=name_of)]
        return Entries(list(map(name_of, order)), list(map(inos.__getitem__, order)))

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
                if found[1][0] & 0o170000 == 0o040000:  # its mode; .kind takes five times as long
                    below.append(self._below(*found, seen, entered))
                    break
            else:
                below.pop()

    def _below(self, path: bytes, inode: Inode, seen: set[int], entered: set[int]) -> Iterator[tuple[bytes, Inode]]:
        """The paths of the names in one directory, with few inodes read ahead of their use."""
        if inode.kind != "dir" or inode.ino in entered:
            return iter(())
        entered.add(inode.ino)
        if len(path) > MAX_PATH:
            raise FileSystemError(FsCode.FS_NAME_TOO_LONG, f"a path of {len(path)} bytes", str(inode))
        return chain.from_iterable(self._batches(b"/" if path == b"/" else path + b"/", self._names(inode, seen)))

    def _batches(self, prefix: bytes, entries: Entries) -> Iterator[Iterable[tuple[bytes, Inode]]]:
        """Their paths and inodes, few at a time: a directory may have a million of them."""
        for at in range(0, len(entries.names), BATCH):
            names, inos = entries.names[at : at + BATCH], entries.inos[at : at + BATCH]
            yield zip(map(prefix.__add__, names), self.inodes(inos), strict=True)

    def readlink(self, link: Inode) -> bytes:
        if link.kind != "link":
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a symbolic link", str(link))
        if link.text is not None:
            return link.text
        if link.size > self.block_size:
            raise FileSystemError(FsCode.FS_INVALID_FS, f"a link of {link.size} bytes", str(link))
        return self.read(link, 0, link.size)

    # Contents

    def runs(self, inode: Inode) -> Iterator[Run | Hole]:
        return self._runs(inode, 0, inode.size)

    def _runs(self, inode: Inode, offset: int, length: int) -> Iterator[Run | Hole]:
        """The runs of a stretch of a file that lies within it, cut at both ends."""
        if length == 0 or inode.kind == "other" or inode.text is not None:
            return
        stop = offset + length
        for run in self.block_runs(inode, offset // self.block_size, (stop - 1) // self.block_size + 1):
            begin, end = max(run.file_offset, offset), min(run.file_offset + run.length, stop)
            if isinstance(run, Hole):
                yield Hole(begin, end - begin)
            else:
                yield Run(begin, self.offset + run.device_offset + begin - run.file_offset, end - begin)

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
        """The whole of a file in pieces of at most PIECE bytes."""
        zeros = bytes(PIECE)
        for run in self.runs(inode):
            for at in range(0, run.length, PIECE):
                part = min(PIECE, run.length - at)
                yield zeros[:part] if isinstance(run, Hole) else self.device.read(run.device_offset + at, part)

    def write(self, inode: Inode, offset: int, data: Bytes) -> None:
        if inode.kind != "file":
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a regular file", str(inode))
        self.refuse_writing(str(inode))
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
        self._check_has_contents(inode)
        if offset < 0 or length < 0 or offset + length > inode.size:
            raise FileSystemError(
                FsCode.FS_NOT_IN_FILE,
                f"{length} bytes at {offset} are not within its {inode.size} bytes{hint}",
                str(inode),
            )

    def _check_has_contents(self, inode: Inode) -> None:
        if inode.kind == "other":
            raise FileSystemError(
                FsCode.FS_INVALID_PARAMETER, "has no contents here: a device, socket or FIFO", str(inode)
            )

    # Where the contents are

    def blocks(self, inode: Inode) -> dict[str, Any]:
        """What the command `bootfs blocks` shows: size, runs of whole blocks, holes, and the bytes of the tail."""
        self._check_has_contents(inode)
        whole = inode.size // self.block_size * self.block_size
        runs: list[dict[str, int]] = []
        holes: list[dict[str, int]] = []
        for run in self.runs(inode):
            if isinstance(run, Hole):
                holes.append(run._asdict())
            elif run.file_offset < whole:
                runs.append(run._asdict() | {"length": min(run.length, whole - run.file_offset)})
        return {"size": inode.size, "runs": runs, "holes": holes, "tail": inode.size - whole}

    def block_list(self, inode: Inode) -> BlockList:
        if inode.kind != "file":
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a regular file", str(inode))
        self.refuse_writing(str(inode))
        return make_block_list(self.runs(inode), inode.size, self.block_size, str(inode))
