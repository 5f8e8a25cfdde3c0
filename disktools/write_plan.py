"""What is to be written, kept until all of it is known to fit, then written so that a crash hurts nobody.

Interface:
    WritePlan.add_file, add_zeros, add_block, add_inode, add_link, give_back    planning
    WritePlan.write(device, allocator, time, progress)      FileSystemError of the device; Refusal: a source changed
    bytes_to_write()                                        for a progress bar
Invariants:
    1. The order on disk: contents and indirect blocks, maps and counts, inodes, links, last what was given back.
       So whatever is cut short, every name that was there reads as before, and no two files share a block.
    2. A disk that can say so says from before the first of these until after the last that it is to be checked.
Not here: deciding what to write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bootfs.device import BlockDevice
from disktools.allocator import Allocator
from disktools.errors import Refusal
from disktools.source import open_source

CHUNK_BYTES = 1 << 20
Progress = Callable[[int], object]  # called with the number of bytes just dealt with


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes of the device from `offset`."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileExtent:
    """`length` bytes of a file from `at`, and of the device from `offset`."""

    at: int
    offset: int
    length: int


def extents_of(
    blocks: Iterable[int], addresses: Iterable[int], fragment_bytes: int, block_bytes: int, last_bytes: int
) -> list[FileExtent]:
    """The `blocks` of a file, which are at fragment numbers `addresses`, as few extents; the last has `last_bytes`."""
    joined: list[FileExtent] = []
    for block, address in zip(blocks, addresses, strict=True):
        at, offset = block * block_bytes, address * fragment_bytes
        last = joined[-1] if joined else FileExtent(-1, -1, 0)
        if (last.at + last.length, last.offset + last.length) == (at, offset):
            joined[-1] = FileExtent(last.at, last.offset, last.length + block_bytes)
        else:
            joined.append(FileExtent(at, offset, block_bytes))
    if joined:
        last = joined[-1]
        joined[-1] = FileExtent(last.at, last.offset, last.length - block_bytes + last_bytes)
    return joined


@dataclass(slots=True)
class WritePlan:
    """`zeroed`: the device is known to hold zeros wherever nothing was written, so zeros need not be."""

    zeroed: bool
    zeros: list[Extent] = field(default_factory=list)
    files: list[tuple[bytes, int, list[FileExtent]]] = field(default_factory=list)
    blocks: list[tuple[int, bytes]] = field(default_factory=list)
    inodes: dict[int, bytes] = field(default_factory=dict)
    links: list[tuple[int, bytes]] = field(default_factory=list)
    returned: list[tuple[int, int]] = field(default_factory=list)

    def add_file(self, source: bytes, size: int, extents: Sequence[FileExtent]) -> None:
        """What `extents` name of the `size` bytes of the host's file `source`, and zeros to the end of the last."""
        self.files.append((source, size, list(extents)))

    def add_zeros(self, extents: Iterable[Extent]) -> None:
        """Space that must show nothing of an earlier owner."""
        self.zeros.extend(extents)

    def add_block(self, offset: int, data: bytes) -> None:
        """Contents or an indirect block, not reachable from the disk as it is."""
        self.blocks.append((offset, data))

    def add_inode(self, offset: int, data: bytes) -> None:
        """An inode that no name reaches yet."""
        self.inodes[offset] = data

    def add_link(self, offset: int, data: bytes) -> None:
        """A change to what is reachable already; written in the order of adding, each one step from sound to sound."""
        self.links.append((offset, data))

    def give_back(self, fragment: int, count: int) -> None:
        """Fragments that the last link leaves unused."""
        self.returned.append((fragment, count))

    def bytes_to_write(self) -> int:
        """Bytes of contents, which take the time."""
        zeros = 0 if self.zeroed else sum(extent.length for extent in self.zeros)
        return zeros + sum(extent.length for _, _, extents in self.files for extent in extents)

    def write(self, device: BlockDevice, allocator: Allocator, time: int, progress: Progress) -> None:
        """Do it, in the order of invariant 1; what `allocator` took is marked on the way."""
        self._step(device, allocator.clean_writes(device, clean=False))
        if not self.zeroed:
            for extent in self.zeros:
                _write_zeros(device, extent, progress)
        for source, size, extents in self.files:
            self._copy(device, source, size, extents, progress)
        self._step(device, self.blocks)
        if not self.zeroed:
            self._step(device, ((offset, bytes(length)) for offset, length in allocator.fresh_inodes))
        self._step(device, allocator.map_writes(device, time))
        self._step(device, sorted(self.inodes.items()))
        for link in self.links:
            self._step(device, [link])
        if self.returned:
            for fragment, count in self.returned:
                allocator.give_fragments(fragment, count)
            self._step(device, allocator.map_writes(device, time))
        self._step(device, allocator.clean_writes(device, clean=True))

    def _step(self, device: BlockDevice, writes: Iterable[tuple[int, bytes]]) -> None:
        """A step of invariant 1: the next one begins when this one is on the medium. A new disk is nobody's yet."""
        for offset, data in writes:
            device.write(offset, data)
        if not self.zeroed:
            device.sync()

    def _copy(
        self, device: BlockDevice, source: bytes, size: int, extents: Sequence[FileExtent], progress: Progress
    ) -> None:
        name = os.fsdecode(source)
        try:
            with open_source(source) as stream:
                for extent in _chunks(extents):
                    wanted = min(size - extent.at, extent.length)
                    stream.seek(extent.at)
                    data = stream.read(wanted)
                    if len(data) < wanted:
                        raise Refusal(f"{name} became shorter while it was copied; copy again when nobody writes it")
                    data = data.ljust(extent.length, b"\0")
                    if not self.zeroed or data.count(0) != len(data):
                        device.write(extent.offset, data)
                    progress(extent.length)
                stream.seek(size)
                if stream.read(1):
                    raise Refusal(f"{name} became longer while it was copied; copy again when nobody writes it")
        except OSError as error:
            raise Refusal(f"{name} cannot be read: {error.strerror}") from error


def _chunks(extents: Iterable[FileExtent]) -> Iterator[FileExtent]:
    for extent in extents:
        for done in range(0, extent.length, CHUNK_BYTES):
            yield FileExtent(extent.at + done, extent.offset + done, min(CHUNK_BYTES, extent.length - done))


def _write_zeros(device: BlockDevice, extent: Extent, progress: Progress) -> None:
    for chunk in _chunks([FileExtent(0, extent.offset, extent.length)]):
        device.write(chunk.offset, bytes(chunk.length))
        progress(chunk.length)
