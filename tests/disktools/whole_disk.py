"""A whole disk looked at from outside: its manifest by bootfs, and every relation between tree, inodes and maps.

This follows the maps from the reader's side and shares no code with the allocator but the parsing of a group.
"""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

from bootfs.blocklist import Hole
from bootfs.device import BlockDevice, FileDevice, MemoryDevice
from bootfs.filesystem import FileSystem
from bootfs.geometry import blksize, cgdmin, cgsblock, dtog, dtogd, fsbtobyte, lblkno, numfrags
from bootfs.inode import Inode
from bootfs.manifest import manifest
from disktools.allocator import Allocator


def manifest_of(disk: Path | bytearray) -> dict[str, dict[str, Any]]:
    if isinstance(disk, Path):
        with FileDevice(disk) as device:
            return manifest(FileSystem.open(device))
    return manifest(FileSystem.open(MemoryDevice(disk)))


def reachable(device: BlockDevice) -> tuple[Counter[int], Counter[int], dict[int, Inode]]:
    """How often each fragment is used by a file, how often each inode is named (by ".." too), and the inodes."""
    disk = FileSystem.open(device)
    fs = disk.superblock
    names: Counter[int] = Counter()
    inodes: dict[int, Inode] = {}
    for _, inode in disk.walk():
        inodes[inode.ino] = inode
        if inode.kind == "dir":
            names.update(entry.ino for entry in disk.entries(inode))
    fragments: Counter[int] = Counter()
    for inode in inodes.values():
        mine: list[int] = []
        for run in disk.runs(inode):
            assert not isinstance(run, Hole)
            first = run.device_offset // fs.fs_fsize
            mine += range(first, first + -(-run.length // fs.fs_fsize))
        whole = numfrags(fs, blksize(fs, inode.size, lblkno(fs, inode.size))) if inode.size % fs.fs_bsize else 0
        rest = -(-(inode.size % fs.fs_bsize) // fs.fs_fsize)
        if mine:
            mine += range(mine[-1] + 1, mine[-1] + 1 + whole - rest)  # a last block beyond the twelfth is a full one
        if inode.kind != "other":
            for level in range(3):
                mine += indirect(device, disk, inode.pointers[12 + level], level)
        assert inode.blocks == len(mine) * fs.fs_fsize // 512, f"{inode}: di_blocks"
        fragments.update(mine)
    return fragments, names, inodes


def indirect(device: BlockDevice, disk: FileSystem, fragment: int, level: int) -> list[int]:
    """The fragments of the indirect blocks under one pointer."""
    fs = disk.superblock
    if not fragment:
        return []
    found = list(range(fragment, fragment + fs.fs_frag))
    if level:
        order = "<" if fs.byte_order == "little" else ">"
        pointers = struct.unpack(f"{order}{fs.fs_nindir}I", device.read(fsbtobyte(fs, fragment), fs.fs_bsize))
        for pointer in pointers:
            found += indirect(device, disk, pointer, level - 1)
    return found


def check_whole(device: BlockDevice) -> None:
    """Every fragment has one owner or is free, every inode its links, every count is right, every copy is a copy."""
    fs = FileSystem.open(device).superblock
    allocator = Allocator.open(device, fs)
    allocator.check()
    fragments, names, inodes = reachable(device)
    assert max(fragments.values()) == 1, "a fragment of two files"
    for inode in inodes.values():
        assert inode.nlink == names[inode.ino], f"{inode}: links"
    used = set(fragments)
    for cg in range(fs.fs_ncg):
        used.update(range(0 if cg == 0 else cgsblock(fs, cg), cgdmin(fs, cg)))
    used.update(range(fs.fs_csaddr, fs.fs_csaddr + fs.fs_cssize // fs.fs_fsize))
    free = {f for f in range(fs.fs_size) if allocator.groups[dtog(fs, f)].is_free(dtogd(fs, f))}
    assert not free & used, "a used fragment is free"
    assert free | used == set(range(fs.fs_size)), "a fragment is lost"
    taken = {g.cgx * fs.fs_ipg + i for g in allocator.groups for i, one in enumerate(g.inodes) if one}
    assert taken == set(inodes) | {0, 1}, "inode maps"
    for group in allocator.groups:
        here = sum(1 for i in inodes.values() if i.kind == "dir" and i.ino // fs.fs_ipg == group.cgx)
        assert group.directories == here, f"directories of group {group.cgx}"


def check_file(path: Path) -> None:
    with FileDevice(path) as device:
        check_whole(device)
