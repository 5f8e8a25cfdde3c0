"""A new file system on a device: the superblock and its copies, empty groups, root and lost+found, and a tree.

Interface:
    NewFileSystem                   what is wanted, in the terms of geometry_plan
    plan_file_system(new, root, time, zeroed) -> PlannedFileSystem    NoRoom, Refusal; nothing is written yet
    PlannedFileSystem.write(device, time, progress)
    empty_root(block_size, time) -> Node      the least tree: / and /lost+found
Not here: where the tree comes from (tree), what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootfs.device import BlockDevice
from bootfs.geometry import blkstofrags, cgdmin, cgimin, cgsblock, fsbtobyte
from bootfs.layout import SBSIZE, ByteOrder, superblock
from bootfs.layout_format import record
from bootfs.superblock import SUPERBLOCK_LOCATIONS, Superblock, parse_superblock
from disktools.allocator import Allocator
from disktools.geometry_plan import DiskGeometry, choose_geometry, superblock_fields
from disktools.tree import DIRECTORY_MODE, Node, plant
from disktools.write_plan import Extent, Progress, WritePlan

SBOFF = 8192  # bytes; the one place where 4.3BSD looks


@dataclass(frozen=True, slots=True)
class NewFileSystem:
    """A disk of `size` bytes. Without a `geometry` one is chosen."""

    size: int
    block_size: int = 8192
    fragment_size: int = 1024
    byte_order: ByteOrder = "little"
    geometry: DiskGeometry | None = None


@dataclass(frozen=True, slots=True)
class PlannedFileSystem:
    """Everything decided. `fields` are the whole of struct fs, `rotbl` its table of blocks by rotation."""

    fs: Superblock
    fields: dict[str, Any]
    rotbl: bytes
    allocator: Allocator
    plan: WritePlan

    def write(self, device: BlockDevice, time: int, progress: Progress) -> None:
        """Make it. The superblock copies are written last, so that they have the same counts."""
        fs = self.fs
        if not self.plan.zeroed:
            self._erase(device)
        device.write(SBOFF, _pack(self.fields, self.rotbl, fs.byte_order))
        self.plan.write(device, self.allocator, time, progress)
        final = device.read(SBOFF, SBSIZE)
        for cg in range(fs.fs_ncg):
            device.write(fsbtobyte(fs, cgsblock(fs, cg)), final)
        device.sync()

    def _erase(self, device: BlockDevice) -> None:
        """On a device that was used before: no other superblock may be found first, and free inodes must be zeros."""
        fs = self.fs
        end = min(max(SUPERBLOCK_LOCATIONS) + SBSIZE, device.size)
        erased = [Extent(0, end), Extent(fsbtobyte(fs, fs.fs_csaddr), fs.fs_cssize)]
        inode_bytes = fsbtobyte(fs, blkstofrags(fs, fs.fs_ipg // fs.fs_inopb))
        erased += [Extent(fsbtobyte(fs, cgimin(fs, cg)), inode_bytes) for cg in range(fs.fs_ncg)]
        for extent in erased:
            device.write(extent.offset, bytes(extent.length))


def _pack(fields: dict[str, Any], rotbl: bytes, order: ByteOrder) -> bytes:
    """SBSIZE bytes: struct fs, with all of fs_rotbl where it has only the beginning."""
    layout = record(superblock(order, "4.3"))
    at = layout.offset_of("fs_rotbl")
    known = {field.name for field in layout.fields}
    data = layout.pack({name: value for name, value in fields.items() if name in known})
    return (data[:at] + rotbl).ljust(SBSIZE, b"\0")


def empty_root(block_size: int, time: int) -> Node:
    """The root directory, with lost+found: a whole block of empty chunks, so that fsck need not allocate there."""
    return Node(
        DIRECTORY_MODE,
        mtime=time,
        children={b"lost+found": Node(DIRECTORY_MODE, mtime=time, at_least=block_size)},
    )


def plan_file_system(new: NewFileSystem, root: Node, time: int, zeroed: bool) -> PlannedFileSystem:
    """The file system with the tree `root`, planned whole. `zeroed`: the device is new and reads as zeros."""
    geometry = new.geometry or choose_geometry(new.size, new.block_size, new.fragment_size)
    fields = superblock_fields(new.size, new.block_size, new.fragment_size, geometry, time)
    rotbl = fields.pop("rotbl")
    fields["fs_dsize"] = _data_fragments(_parse(fields, rotbl, new.byte_order))
    fs = _parse(fields, rotbl, new.byte_order)
    allocator = Allocator.new(fs, fields)
    plan = WritePlan(zeroed)
    plant(allocator, plan, root, 0, time)
    return PlannedFileSystem(fs, fields, rotbl, allocator, plan)


def _parse(fields: dict[str, Any], rotbl: bytes, order: ByteOrder) -> Superblock:
    """The superblock as its readers will see it: what we make passes the same relations as what we read."""
    return parse_superblock(_pack(fields, rotbl, order), order, "4.3", SBOFF)


def _data_fragments(fs: Superblock) -> int:
    """fs_dsize: every fragment but the groups' metadata, the boot area and the summary."""
    metadata = sum(cgdmin(fs, cg) - cgsblock(fs, cg) for cg in range(fs.fs_ncg))
    return fs.fs_size - cgsblock(fs, 0) - metadata - fs.fs_cssize // fs.fs_fsize
