"""Disks by the real mke2fs and debugfs, and tiny ones put together here, for the tests of ext2."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bootfs.device import FileDevice, MemoryDevice
from bootfs.ext2 import Ext2FileSystem
from bootfs.inode import Inode
from bootfs.layout_ext2 import directory_header, group_descriptor, inode, superblock
from bootfs.layout_format import record

SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
TOOLS = ("mke2fs", "debugfs", "e2fsck")
needs_e2fsprogs = pytest.mark.skipif(
    not all(shutil.which(tool, path=SEARCH) for tool in TOOLS), reason="mke2fs, debugfs, e2fsck: apt install e2fsprogs"
)
FILE, DIR, LINK = 0o100644, 0o040755, 0o120777


def tool(*command: str | Path, status: int | None = 0, text: str = "") -> str:
    """What a program of e2fsprogs says; `text` is its input, `status` the exit status it must have (None: any)."""
    done = subprocess.run(
        list(map(str, command)),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PATH": SEARCH, "MKE2FS_CONFIG": "/nonexistent", "TZ": "UTC"},
    )
    assert status in (None, done.returncode), f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def mke2fs(image: Path, size: str, *options: str | Path, tree: Path | None = None) -> Path:
    """A new file system in `image`, with the files of `tree`."""
    image.unlink(missing_ok=True)
    more = ["-d", tree] if tree else []
    tool("mke2fs", "-q", "-F", "-m", "0", *options, *more, image, size)
    return image


def debugfs(image: Path, *commands: str, write: bool = False) -> str:
    return tool("debugfs", *(["-w"] if write else []), "-f", "-", image, text="\n".join(commands) + "\n")


def consistent(image: Path) -> None:
    """e2fsck finds nothing to mend."""
    tool("e2fsck", "-f", "-n", image)


def mount(image: Path, writable: bool = False) -> Ext2FileSystem:
    return Ext2FileSystem.open(FileDevice(image, writable=writable))


def debugfs_blocks(image: Path, path: str) -> list[int]:
    """The data blocks of a file in order, as debugfs sees them; 0 for none, up to the last one that there is."""
    stat = debugfs(image, f"stat {path}")
    found: dict[int, int] = {}
    for part in stat.partition("BLOCKS:")[2].partition("TOTAL:")[0].replace("\n", ", ").split(", "):
        lbns, _, places = part.strip().lstrip("(").partition("):")
        if not places or not lbns[0].isdigit():
            continue  # (IND), (DIND), (TIND)
        first, _, last = lbns.partition("-")
        place = int(places.partition("-")[0])
        for lbn in range(int(first), int(last or first) + 1):
            found[lbn] = place + lbn - int(first)
    return [found.get(lbn, 0) for lbn in range(max(found, default=-1) + 1)]


class Tiny:
    """An ext2 of one group with blocks of 1 KiB, put together by hand: as wrong as a test wants it.

    block 1 superblock, 2 group descriptors, 3 and 4 maps (empty), 5 to 8 inodes, data from 9 on.
    """

    blocks = 512
    inodes = 32
    data_block = 9

    def __init__(self) -> None:
        self.image = bytearray(self.blocks * 1024)
        self.next_block = self.data_block
        self.next_ino = 11
        self.nodes: dict[int, dict[str, Any]] = {}
        self.names: list[tuple[bytes, int]] = [(b".", 2), (b"..", 2)]
        self.super: dict[str, Any] = {
            "s_inodes_count": self.inodes,
            "s_blocks_count": self.blocks,
            "s_first_data_block": 1,
            "s_blocks_per_group": 8192,
            "s_frags_per_group": 8192,
            "s_inodes_per_group": self.inodes,
            "s_magic": 0xEF53,
            "s_state": 1,
            "s_rev_level": 1,
            "s_first_ino": 11,
            "s_inode_size": 128,
            "s_feature_incompat": 2,
        }
        self.group: dict[str, Any] = {"bg_block_bitmap": 3, "bg_inode_bitmap": 4, "bg_inode_table": 5}

    def put(self, data: bytes) -> int:
        """The block that now holds `data`."""
        block, self.next_block = self.next_block, self.next_block + 1
        self.image[block * 1024 : block * 1024 + len(data)] = data
        return block

    def pointers(self, *places: int) -> int:
        return self.put(b"".join(place.to_bytes(4, "little") for place in places))

    def node(self, name: str | None, mode: int, size: int, pointers: tuple[int, ...] = (), **more: Any) -> int:
        ino, self.next_ino = self.next_ino, self.next_ino + 1
        block = pointers + (0,) * (15 - len(pointers))
        facts = {"i_mode": mode, "i_links_count": 1, "i_block": block, "i_blocks": 2 * len(pointers)}
        self.nodes[ino] = facts | {"i_size": size & 0xFFFFFFFF, "i_size_high": size >> 32} | more
        if name is not None:
            self.names.append((name.encode(), ino))
        return ino

    def file(self, name: str, data: bytes) -> int:
        """A file of up to 12 + 256 blocks."""
        places = [self.put(data[at : at + 1024]) for at in range(0, len(data), 1024)]
        if len(places) > 12:
            places[12:] = [self.pointers(*places[12:])]
        return self.node(name, FILE, len(data), tuple(places))

    def link(self, name: str, target: bytes, fast: bool) -> int:
        if not fast:
            return self.node(name, LINK, len(target), (self.put(target),))
        words = target.ljust(60, b"\0")
        block = tuple(int.from_bytes(words[at : at + 4], "little") for at in range(0, 60, 4))
        return self.node(name, LINK, len(target), block, i_blocks=0)

    def directory(self, name: str, entries: list[tuple[bytes, int]]) -> int:
        return self.node(name, DIR, 1024, (self.put(directory_block(entries)),))

    def build(self) -> bytearray:
        image = bytearray(self.image)
        image[1024:2048] = record(superblock()).pack(self.super)
        image[2048 : 2048 + 32] = record(group_descriptor()).pack(self.group)
        root = {"i_mode": DIR, "i_links_count": 2, "i_size": 1024, "i_block": (self.data_block + 400, *(0,) * 14)}
        at = (self.data_block + 400) * 1024
        image[at : at + 1024] = directory_block(self.names)
        for ino, facts in {2: root, **self.nodes}.items():
            at = 5 * 1024 + (ino - 1) * 128
            image[at : at + 128] = record(inode()).pack(facts)
        return image

    def mount(self) -> Ext2FileSystem:
        return Ext2FileSystem.open(MemoryDevice(self.build()))


def directory_block(entries: list[tuple[bytes, int]], size: int = 1024) -> bytes:
    """A block of directory entries, the last of which takes the room that is left."""
    header = record(directory_header(True))
    block = b""
    for index, (name, ino) in enumerate(entries):
        length = header.size + (len(name) + 3) // 4 * 4
        if index == len(entries) - 1:
            length = size - len(block)
        head = header.pack({"inode": ino, "rec_len": length, "name_len": len(name)})
        block += (head + name).ljust(length, b"\0")
    return block


def whole(fs: Ext2FileSystem, found: Inode) -> bytes:
    return b"".join(fs.contents(found))
