"""A new file system on a device: the superblock and its copies, empty groups, root and lost+found, and a tree.

Interface:
    NewFileSystem                   what is wanted, in the terms of geometry_plan and geometry_ufs
    plan_file_system(new, root, time, zeroed) -> PlannedFileSystem    NoRoom, Refusal; nothing is written yet
    PlannedFileSystem.write(device, time, progress)
    empty_root(block_size, time) -> Node      the least tree: / and /lost+found
Not here: where the tree comes from (tree), what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootfs.device import BlockDevice
from bootfs.geometry import cgdmin, cgimin, cgsblock, fsbtobyte
from bootfs.layout import SBSIZE, ByteOrder, Variant, superblock
from bootfs.layout_format import record
from bootfs.superblock import SUPERBLOCK_LOCATIONS, Format, Superblock, parse_superblock
from disktools.allocator import Allocator
from disktools.geometry_plan import DiskGeometry, choose_geometry, superblock_fields
from disktools.geometry_ufs import SUPERBLOCK_LOCATION, ufs_superblock_fields
from disktools.tree import DIRECTORY_MODE, Node, plant
from disktools.write_plan import Extent, Progress, WritePlan

SBOFF = 8192  # bytes; the one place where 4.3BSD looks
LOST_FOUND_BYTES = 8192


@dataclass(frozen=True, slots=True)
class NewFileSystem:
    """A disk of `size` bytes. Without a `geometry` (4.3BSD) or `group_blocks` (UFS1, UFS2) the best are chosen."""

    size: int
    block_size: int = 8192
    fragment_size: int = 1024
    byte_order: ByteOrder = "little"
    geometry: DiskGeometry | None = None
    format: Format = "4.3bsd"
    group_blocks: int = 0

    def superblock_fields(self, time: int) -> dict[str, Any]:
        """Every field of struct fs, and in 4.3BSD `rotbl`. Refusal."""
        if self.format != "4.3bsd":
            sizes = (self.size, self.block_size, self.fragment_size)
            return ufs_superblock_fields(self.format, *sizes, time, self.group_blocks)
        geometry = self.geometry or choose_geometry(self.size, self.block_size, self.fragment_size)
        return superblock_fields(self.size, self.block_size, self.fragment_size, geometry, time)


@dataclass(frozen=True, slots=True)
class PlannedFileSystem:
    """Everything decided. `data` are the bytes of the superblock before its counts."""

    fs: Superblock
    data: bytes
    allocator: Allocator
    plan: WritePlan

    def write(self, device: BlockDevice, time: int, progress: Progress) -> None:
        """Make it. The superblock copies are written last, so that they have the same counts."""
        fs = self.fs
        if not self.plan.zeroed:
            self._erase(device)
        device.write(fs.location, self.data)
        self.plan.write(device, self.allocator, time, progress)
        final = device.read(fs.location, SBSIZE if fs.format == "4.3bsd" else fs.fs_sbsize)
        for cg in range(fs.fs_ncg):
            device.write(fsbtobyte(fs, cgsblock(fs, cg)), final)
        device.sync()

    def _erase(self, device: BlockDevice) -> None:
        """On a device that was used before: no other superblock may be found first, and free inodes must be zeros."""
        fs = self.fs
        end = min(max(SUPERBLOCK_LOCATIONS) + SBSIZE, device.size)
        erased = [Extent(0, end), Extent(fsbtobyte(fs, fs.fs_csaddr), fs.fs_cssize)]
        for cg, group in enumerate(self.allocator.groups):
            erased.append(Extent(fsbtobyte(fs, cgimin(fs, cg)), group.initialised * fs.inode_bytes))
        for extent in erased:
            device.write(extent.offset, bytes(extent.length))


def _pack(fields: dict[str, Any], new: NewFileSystem) -> bytes:
    """SBSIZE bytes: struct fs, in 4.3BSD with all of fs_rotbl where it has only the beginning."""
    layout = record(superblock(new.byte_order, "4.3" if new.format == "4.3bsd" else "ufs2"))
    data = layout.pack({name: value for name, value in fields.items() if name != "rotbl"})
    if "rotbl" in fields:
        data = data[: layout.offset_of("fs_rotbl")] + fields["rotbl"]
    return data.ljust(SBSIZE, b"\0")


def empty_root(block_size: int, time: int) -> Node:
    """The root directory, with lost+found: a block of empty chunks, so that fsck need not allocate there."""
    return Node(
        DIRECTORY_MODE,
        mtime=time,
        children={b"lost+found": Node(DIRECTORY_MODE, mtime=time, at_least=min(block_size, LOST_FOUND_BYTES))},
    )


def plan_file_system(new: NewFileSystem, root: Node, time: int, zeroed: bool) -> PlannedFileSystem:
    """The file system with the tree `root`, planned whole. `zeroed`: the device is new and reads as zeros."""
    fields = new.superblock_fields(time)
    dsize = _data_fragments(_parse(_pack(fields, new), new))
    fields |= {"fs_dsize": dsize} | ({"fs_old_dsize": dsize} if new.format == "ufs1" else {})
    data = _pack(fields, new)
    fs = _parse(data, new)
    allocator = Allocator.new(fs, record(superblock(fs.byte_order, fs.tables)).unpack(data))
    plan = WritePlan(zeroed)
    plant(allocator, plan, root, 0, time)
    return PlannedFileSystem(fs, data, allocator, plan)


VARIANTS: dict[Format, Variant] = {"4.3bsd": "4.3", "ufs1": "4.4", "ufs2": "ufs2"}


def _parse(data: bytes, new: NewFileSystem) -> Superblock:
    """The superblock as its readers will see it: what we make passes the same relations as what we read."""
    location = SBOFF if new.format == "4.3bsd" else SUPERBLOCK_LOCATION[new.format]
    return parse_superblock(data, new.byte_order, VARIANTS[new.format], location)


def _data_fragments(fs: Superblock) -> int:
    """fs_dsize: every fragment but the groups' metadata, the boot area and the summary."""
    metadata = sum(cgdmin(fs, cg) - cgsblock(fs, cg) for cg in range(fs.fs_ncg))
    return fs.fs_size - cgsblock(fs, 0) - metadata - fs.fs_cssize // fs.fs_fsize
