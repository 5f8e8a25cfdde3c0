"""A whole disk looked at from outside: its manifest by bootfs, and every relation between tree, inodes and maps.

This follows the maps from the reader's side and shares no code with the allocator but the parsing of a group.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from bootfs.blocklist import Hole
from bootfs.device import BlockDevice, FileDevice, MemoryDevice
from bootfs.filesystem import FileSystem
from bootfs.geometry import (
    blksize,
    cgbase,
    cgdmin,
    cgsblock,
    cgtod,
    dtog,
    dtogd,
    fsbtobyte,
    ino_to_fsba,
    lblkno,
    numfrags,
)
from bootfs.inode import Inode
from bootfs.layout import SBSIZE, cylinder_group, dinode, superblock
from bootfs.layout_format import record
from bootfs.manifest import manifest
from bootfs.superblock import Superblock
from disktools.allocator import Allocator
from disktools.check_file_system import check_file_system
from disktools.newfs import NewFileSystem
from disktools.paging_file import PagingFile, parse_path, plan_new_disk


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
        tail = 0
        for run in disk.runs(inode):
            tail = 0 if isinstance(run, Hole) else inode.size % fs.fs_bsize
            if isinstance(run, Hole):
                continue
            first = run.device_offset // fs.fs_fsize
            mine += range(first, first + -(-run.length // fs.fs_fsize))
        whole = numfrags(fs, blksize(fs, inode.size, lblkno(fs, inode.size))) if tail else 0
        rest = -(-tail // fs.fs_fsize)
        if mine:
            mine += range(mine[-1] + 1, mine[-1] + 1 + whole - rest)  # a last block beyond the twelfth is a full one
        for at, pointer in enumerate(inode.details.ext_pointers):
            left = inode.details.ext_size - at * fs.fs_bsize
            mine += range(pointer, pointer + min(fs.fs_frag, -(-left // fs.fs_fsize)) if pointer else pointer)
        if inode.kind != "other" and inode.text is None:
            for level in range(3):
                mine += indirect(device, disk, inode.pointers[12 + level], level)
        assert inode.details.blocks == len(mine) * fs.fs_fsize // 512, f"{inode}: di_blocks"
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
        pointers = struct.unpack(
            f"{order}{fs.fs_nindir}{'Q' if fs.pointer_bytes == 8 else 'I'}",
            device.read(fsbtobyte(fs, fragment), fs.fs_bsize),
        )
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
    if fs.format != "4.3bsd":
        check_of_later_formats(device, fs, inodes)
    found = check_file_system(device)  # the ffscheck command's opinion, reached another way
    assert found is not None
    assert not found.report.problems


def check_of_later_formats(device: BlockDevice, fs: Superblock, inodes: dict[int, Inode]) -> None:
    """What UFS1 and UFS2 have besides: types in entries, clusters, wide counts, cleanness, hashes."""
    if fs.entries == "4.4":
        types = {entry: inodes[entry].mode >> 12 for entry in inodes}
        for ino, kind in entry_types(device, fs, inodes):
            assert kind == types[ino], f"inode {ino}: d_type"
    data = device.read(fs.location, SBSIZE)
    wide = record(superblock(fs.byte_order, "ufs2")).unpack(data)
    assert fs.fs_clean == 1
    if fs.tables != "ufs2" and wide["fs_maxbsize"] == fs.fs_bsize:
        for name in ("cs_ndir", "cs_nbfree", "cs_nifree", "cs_nffree"):
            assert wide[f"fs_cstotal.{name}"] == getattr(fs, name), f"wide {name}"
        for name in ("time", "size", "dsize", "csaddr"):
            assert wide[f"fs_{name}"] == wide[f"fs_old_{name}"], f"wide fs_{name}"
    if fs.tables == "ufs2" and fs.fs_metackhash & 1:
        assert wide["fs_ckhash"] == crc32c(data[:1304] + bytes(4) + data[1308 : fs.fs_sbsize])
    for cg in range(fs.fs_ncg):
        check_group(fs, cg, device.read(fsbtobyte(fs, cgtod(fs, cg)), fs.fs_bsize))
    if fs.tables == "ufs2" and fs.fs_metackhash & 4:
        for ino in inodes:
            raw = device.read(fsbtobyte(fs, ino_to_fsba(fs, ino)) + ino % fs.fs_inopb * 256, 256)
            hashed = record(dinode(fs.byte_order, "ufs2")).unpack(raw)["di_ckhash"]
            assert hashed == crc32c(raw[:244] + bytes(4) + raw[248:]), f"inode {ino}: check hash"


def entry_types(device: BlockDevice, fs: Superblock, inodes: dict[int, Inode]) -> list[tuple[int, int]]:
    """Inode number and d_type of every entry of every directory."""
    disk, found = FileSystem.open(device), []
    for inode in inodes.values():
        if inode.kind == "dir":
            data, at = b"".join(disk.contents(inode)), 0
            while at < len(data):
                ino, reclen, kind = struct.unpack_from("<IHB" if fs.byte_order == "little" else ">IHB", data, at)
                found += [(ino, kind)] if ino else []
                at += reclen
    return found


def check_group(fs: Superblock, cg: int, raw: bytes) -> None:
    """Clusters, counted anew from the map of fragments; the check hash; no inode in use that was never written."""
    values = record(cylinder_group(fs.byte_order, fs.tables)).unpack(raw)
    size = min(fs.fs_fpg, fs.fs_size - cgbase(fs, cg))
    bits = bin(int.from_bytes(raw[values["cg_freeoff"] :][: -(-fs.fs_fpg // 8)], "little") | 1 << 8 * fs.fs_bsize)
    free = bits[::-1][:size]
    blocks = "".join(
        "1" if free[at : at + fs.fs_frag] == "1" * fs.fs_frag else "0" for at in range(0, size, fs.fs_frag)
    )
    if fs.fs_contigsumsize:
        wanted = [0] * fs.fs_contigsumsize
        for run in re.findall("1+", blocks):
            wanted[min(len(run), fs.fs_contigsumsize) - 1] += 1
        order = "<" if fs.byte_order == "little" else ">"
        place = values["cg_clustersumoff"] + 4
        assert list(struct.unpack_from(f"{order}{len(wanted)}i", raw, place)) == wanted, f"clusters of group {cg}"
        packed = int.from_bytes(raw[values["cg_clusteroff"] :][: -(-len(blocks) // 8)], "little")
        assert packed == int(blocks[::-1], 2), f"map of clusters of group {cg}"
        assert values["cg_nclusterblks"] == size // fs.fs_frag
    if fs.tables == "ufs2":
        taken = int.from_bytes(raw[values["cg_iusedoff"] :][: fs.fs_ipg // 8], "little")
        assert taken >> values["cg_initediblk"] == 0, f"an inode of group {cg} is in use and was never written"
        if fs.fs_metackhash & 2:
            assert values["cg_ckhash"] == crc32c(raw[:132] + bytes(4) + raw[136 : fs.fs_cgsize])


def crc32c(data: bytes) -> int:
    """A bit at a time, as the textbook has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc


def disk_of(new: NewFileSystem, paging: int = 0, source: bytes | None = None, time: int = 1_000_000_000) -> bytearray:
    """A whole new disk in memory."""
    device = MemoryDevice(bytearray(new.size))
    wanted = PagingFile(parse_path("/mach_servers/paging_file"), paging) if paging else None
    plan_new_disk(new, wanted, source, time).write(device, lambda _: None)
    return device.data


def check_file(path: Path) -> None:
    with FileDevice(path) as device:
        check_whole(device)
