"""Putting a new branch into an existing file system, touching nothing else of it.

Interface:
    find_place(device, fs, path) -> Place       the directory that there is, and the names that are to be made; Refusal
    graft(device, allocator, plan, place, branch, time)     plants the branch there and plans the one new entry
Invariants:
    1. Of what exists, only the directory `place.parent` changes: its inode, and one chunk of 512 bytes.
Not here: making the branch (tree), reading files (bootfs).

Source: 4.3BSD sys/sys/ufs_namei.c (direnter): the first slack that is large enough, else the directory grows by a
chunk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from bootfs.blockmap import extents
from bootfs.device import BlockDevice
from bootfs.dinode import read_inode
from bootfs.directory import entries
from bootfs.errors import FileSystemError, FsCode
from bootfs.geometry import blksize, blkstofrags, fsbtobyte, lblkno, numfrags
from bootfs.inode import Inode
from bootfs.layout import DEV_BSIZE, NDADDR, ROOTINO, dinode, pointer
from bootfs.layout_format import record
from bootfs.superblock import Superblock
from disktools.allocator import Allocator
from disktools.directory import check_name, insert, new_chunk
from disktools.errors import NoRoom, Refusal
from disktools.inode import inode_offset, sealed
from disktools.tree import LARGEST_LINK_COUNT, Node, plant
from disktools.write_plan import WritePlan


@dataclass(frozen=True, slots=True)
class Place:
    """`parent` is there, with contents `data`, its blocks at fragments `addresses`; below it the `missing` names."""

    parent: Inode
    data: bytes
    addresses: tuple[int, ...]
    missing: tuple[bytes, ...]


def find_place(device: BlockDevice, fs: Superblock, path: tuple[bytes, ...]) -> Place:
    """Where the file with the components `path` would be. Refusal: it is there already, or its way is no directory."""
    ino = ROOTINO
    for depth, name in enumerate(path):
        check_name(name)
        inode = read_inode(device, fs, ino)
        if inode.kind != "dir":
            where = "/" + os.fsdecode(b"/".join(path[:depth]))
            raise Refusal(f"{where} is not a directory; choose another --path")
        addresses, data = _read_directory(device, fs, inode)
        names = dict(zip(*entries(data, fs, str(inode)), strict=True))
        if name not in names:
            return Place(inode, data, addresses, path[depth:])
        ino = names[name]
    where = os.fsdecode(b"/".join(path))
    raise Refusal(f"/{where} exists already; choose another --path, or make it longer with --grow")


def _read_directory(device: BlockDevice, fs: Superblock, inode: Inode) -> tuple[tuple[int, ...], bytes]:
    """The address of each block, and the contents. A directory has neither holes nor broken chunks."""
    if inode.size % fs.dirblksiz or not inode.size:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"a directory of {inode.size} bytes", str(inode))
    addresses: list[int] = []
    for extent in extents(device, fs, inode, 0, lblkno(fs, inode.size - 1) + 1):
        if extent.is_hole:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, "a directory with a hole; repair it with fsck first", str(inode)
            )
        addresses += range(extent.fragment, extent.fragment + blkstofrags(fs, extent.blocks), fs.fs_frag)
    data = b"".join(
        device.read(fsbtobyte(fs, address), min(fs.fs_bsize, inode.size - block * fs.fs_bsize))
        for block, address in enumerate(addresses)
    )
    return tuple(addresses), data


def graft(device: BlockDevice, allocator: Allocator, plan: WritePlan, place: Place, branch: Node, time: int) -> None:
    """Plan `branch` as `place.missing[0]` in `place.parent`. NoRoom; FileSystemError: the map of inodes is wrong."""
    fs, parent, name = allocator.fs, place.parent, place.missing[0]
    plant(allocator, plan, branch, parent.ino, time)
    layout = record(dinode(fs.byte_order, fs.tables))
    for offset in plan.inodes:
        fresh = any(start <= offset < start + length for start, length in allocator.fresh_inodes)
        if not fresh and layout.unpack(device.read(offset, layout.size))["di_mode"]:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, "is free in its map and in use; repair with fsck first", f"inode at byte {offset}"
            )
    offset = inode_offset(fs, parent.ino)
    values = layout.unpack(device.read(offset, layout.size))
    values |= {"di_mtime": time, "di_mtimensec": 0, "di_ctime": time, "di_ctimensec": 0}
    values |= {"di_nlink": parent.nlink + branch.is_directory}
    if values["di_nlink"] > LARGEST_LINK_COUNT:
        raise NoRoom(f"the directory above {os.fsdecode(name)} has no link to give; choose another --path")
    entry = (branch.ino, branch.mode, name)
    slack = insert(fs, place.data, entry)
    if slack is None:
        _grow(device, allocator, plan, place, new_chunk(fs, entry), values)
        plan.add_link(offset, sealed(fs, layout.pack(values)))
        return
    at, chunk = slack
    address = place.addresses[lblkno(fs, at)]
    plan.add_link(offset, sealed(fs, layout.pack(values)))
    plan.add_link(fsbtobyte(fs, address) + at % fs.fs_bsize, chunk)


def _grow(
    device: BlockDevice,
    allocator: Allocator,
    plan: WritePlan,
    place: Place,
    chunk: bytes,
    values: dict[str, object],
) -> None:
    """One more chunk at the end of the directory; it counts when the inode, with the new `values`, is written."""
    fs, size = allocator.fs, place.parent.size
    block, at = lblkno(fs, size), size % fs.fs_bsize
    values["di_size"] = size + fs.dirblksiz
    if at == 0:
        _new_block(device, allocator, plan, place, chunk, values)
        return
    address = place.addresses[block]
    had = numfrags(fs, blksize(fs, size, block))
    more = numfrags(fs, blksize(fs, size + fs.dirblksiz, block)) - had
    if more == 0 or allocator.extend_fragments(address, had, more):
        plan.add_block(fsbtobyte(fs, address) + at, _padded(fs, at, chunk, more))
    else:
        moved = allocator.take_fragments(had + more, place.parent.ino // fs.fs_ipg)
        plan.add_block(fsbtobyte(fs, moved), place.data[block * fs.fs_bsize :] + _padded(fs, at, chunk, more))
        plan.give_back(address, had)
        values["di_db"] = (*place.parent.pointers[:block], moved, *place.parent.pointers[block + 1 : NDADDR])
    values["di_blocks"] = place.parent.details.blocks + more * fs.fs_fsize // DEV_BSIZE


def _padded(fs: Superblock, at: int, chunk: bytes, new_fragments: int) -> bytes:
    """The chunk and, in fragments that are new, zeros: nothing of an earlier owner is left behind it."""
    return chunk.ljust(fs.fs_fsize - at % fs.fs_fsize, b"\0") if new_fragments else chunk


def _new_block(
    device: BlockDevice,
    allocator: Allocator,
    plan: WritePlan,
    place: Place,
    chunk: bytes,
    values: dict[str, object],
) -> None:
    """The chunk begins a new block: a fragment among the first twelve, later a full one behind an indirect block."""
    fs, parent, block = allocator.fs, place.parent, len(place.addresses)
    cg = parent.ino // fs.fs_ipg
    if block < NDADDR:
        address, fragments = allocator.take_fragments(1, cg), 1
        values["di_db"] = (*parent.pointers[:block], address, *parent.pointers[block + 1 : NDADDR])
    else:
        slot = block - NDADDR
        if slot >= fs.fs_nindir:
            raise NoRoom("the directory is as large as these tools make one; choose another --path")
        address, fragments = allocator.take_block(cg), fs.fs_frag
        entry = record(pointer(fs.byte_order, fs.tables)).struct.pack(address)
        indirect = parent.pointers[NDADDR]
        if indirect:
            plan.add_link(fsbtobyte(fs, indirect) + slot * len(entry), entry)
        else:
            indirect, fragments = allocator.take_block(cg), 2 * fs.fs_frag
            plan.add_block(fsbtobyte(fs, indirect), entry.ljust(fs.fs_bsize, b"\0"))
            values["di_ib"] = (indirect, *parent.pointers[NDADDR + 1 :])
    plan.add_block(fsbtobyte(fs, address), chunk.ljust(fs.fs_fsize if block < NDADDR else fs.fs_bsize, b"\0"))
    values["di_blocks"] = parent.details.blocks + fragments * fs.fs_fsize // DEV_BSIZE
