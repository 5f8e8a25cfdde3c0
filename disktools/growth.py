"""Making the paging file of an existing file system longer: full blocks at its end, nothing of it moved.

Interface:
    plan_growth(device, wanted, time) -> Plan      `wanted.size` is the whole size that it shall have; Refusal, NoRoom
Invariants:
    1. The blocks that the file has stay where they are and keep what is in them: a pager may be writing to them.
    2. The file gets new indirect blocks; the inode turns to them in one write, and the old ones are given back after
       it.  So whatever is cut short, the file is as it was or as it shall be, and no block has two owners.
Not here: who locks the disk (mkpagingfile); what a pager does with the new blocks (pager/).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from bootfs.blockmap import extents
from bootfs.device import BlockDevice
from bootfs.filesystem import FileSystem
from bootfs.geometry import fsbtobyte
from bootfs.inode import Inode
from bootfs.layout import DEV_BSIZE, NDADDR, NIADDR, dinode, pointer
from bootfs.layout_format import record
from bootfs.lookup import resolve
from bootfs.superblock import Superblock
from disktools.allocator import Allocator, Run
from disktools.errors import NoRoom, Refusal
from disktools.inode import indirect_blocks, inode_offset, map_blocks, sealed
from disktools.paging_file import PagingFile, Plan, check_fit, reserved
from disktools.sizes import format_size
from disktools.write_plan import Extent, WritePlan


def plan_growth(device: BlockDevice, wanted: PagingFile, time: int) -> Plan:
    """The file at `wanted.path` of the file system at byte 0 of `device`, made `wanted.size` bytes long."""
    file_system = FileSystem.open(device)
    fs = file_system.superblock
    check_fit(device, fs)
    path = b"/" + b"/".join(wanted.path)
    inode = resolve(file_system, path)
    file = reserved(wanted.size, fs.fs_bsize, time, fs.format)
    file.ino = inode.ino
    had = _runs_now(device, fs, inode, os.fsdecode(path))
    more = (file.size - inode.size) // fs.fs_bsize
    if more <= 0:
        raise Refusal(f"{os.fsdecode(path)} has {format_size(inode.size)} already; give a larger --paging-size")
    allocator, plan = Allocator.open(device, fs), WritePlan(zeroed=False)
    _check_room(allocator, file.size // fs.fs_bsize, more, inode.size)
    new = allocator.take_runs(more)
    plan.add_zeros(Extent(fsbtobyte(fs, run.fragment), run.blocks * fs.fs_bsize) for run in new)
    file.runs = [*had, *new]
    addresses = [run.fragment + block * fs.fs_frag for run in file.runs for block in range(run.blocks)]
    blocks = map_blocks(allocator, addresses, file.size // DEV_BSIZE)
    for offset, data in blocks.indirect:
        plan.add_block(offset, data)
    layout, offset = record(dinode(fs.byte_order, fs.tables)), inode_offset(fs, inode.ino)
    values = layout.unpack(device.read(offset, layout.size))
    values |= {"di_size": file.size, "di_blocks": blocks.sectors, "di_db": blocks.db, "di_ib": blocks.ib}
    values |= {"di_mtime": time, "di_mtimensec": 0, "di_ctime": time, "di_ctimensec": 0}
    plan.add_link(offset, sealed(fs, layout.pack(values)))
    for fragment in _indirect(device, fs, inode):
        plan.give_back(fragment, fs.fs_frag)
    return Plan(fs, allocator, plan, time, wanted, file)


def _runs_now(device: BlockDevice, fs: Superblock, inode: Inode, path: str) -> list[Run]:
    """The runs that the file has. Refusal: it is no paging file."""
    if inode.kind != "file":
        raise Refusal(f"{path} is not a regular file; choose another --path")
    if inode.size % fs.fs_bsize or not inode.size:
        raise Refusal(f"{path} is not made of whole blocks; choose another --path")
    found = list(extents(device, fs, inode, 0, inode.size // fs.fs_bsize))
    if any(extent.is_hole for extent in found):
        raise Refusal(f"{path} has holes; choose another --path")
    return [Run(extent.fragment, extent.blocks) for extent in found]


def _check_room(allocator: Allocator, blocks: int, more: int, size: int) -> None:
    """NoRoom, with the size that would do. The old indirect blocks come free only afterwards."""
    fs, free = allocator.fs, allocator.free_blocks()
    if more + indirect_blocks(fs, blocks) <= free:
        return
    had = blocks - more
    most = free
    while most > 0 and most + indirect_blocks(fs, had + most) > free:
        most -= 1
    wanted = f"{more} blocks of {fs.fs_bsize} more do not fit: {free} are free"
    whole = size + most * fs.fs_bsize
    raise NoRoom(f"{wanted}; give at most --paging-size {whole}" if most > 0 else f"{wanted}; the disk is full")


def _indirect(device: BlockDevice, fs: Superblock, inode: Inode) -> Iterator[int]:
    """The addresses of all indirect blocks of the file."""
    left, span = inode.size // fs.fs_bsize - NDADDR, fs.fs_nindir
    for level in range(NIADDR):
        if left <= 0:
            return
        yield from _indirect_below(device, fs, inode.pointers[NDADDR + level], min(left, span), span)
        left, span = left - span, span * fs.fs_nindir


def _indirect_below(device: BlockDevice, fs: Superblock, fragment: int, blocks: int, span: int) -> Iterator[int]:
    yield fragment
    span //= fs.fs_nindir
    if span == 1:
        return
    count = -(-blocks // span)
    below = record(pointer(fs.byte_order, fs.tables))
    pointers = below.array(count).unpack(device.read(fsbtobyte(fs, fragment), count * below.size))
    for at, one in enumerate(pointers):
        yield from _indirect_below(device, fs, one, min(span, blocks - at * span), span)
