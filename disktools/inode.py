"""New inodes: what a file is, and by which pointers its blocks are found.

Interface:
    BlockMap                    di_db, di_ib, di_blocks, and the indirect blocks to write
    map_blocks(allocator, addresses, sectors) -> BlockMap    takes the indirect blocks that are needed
    indirect_blocks(fs, blocks) -> int      how many that will be
    NewInode.pack(fs) -> bytes  struct dinode, 128 bytes or, in UFS2, 256
    sealed(fs, data) -> bytes   a struct dinode with its check hash, where the disk has them
    inode_offset(fs, ino) -> int            where they go
Not here: contents, names.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from bootfs.geometry import dtog, fsbtobyte, ino_to_fsba, ino_to_fsbo
from bootfs.layout import CK_INODE, DEV_BSIZE, NDADDR, NIADDR, dinode, pointer
from bootfs.layout_format import record
from bootfs.superblock import Superblock
from disktools.allocator import Allocator
from disktools.crc32c import check_hash


@dataclass(frozen=True, slots=True)
class BlockMap:
    """`db` and `ib` as in the inode, `sectors` of 512 bytes that the file holds, `indirect` blocks by byte offset."""

    db: tuple[int, ...] = (0,) * NDADDR
    ib: tuple[int, ...] = (0,) * NIADDR
    sectors: int = 0
    indirect: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NewInode:
    """One inode as it will be. Times are seconds since 1970. `text`: a link kept where the pointers would be."""

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime: int
    time: int  # of access and change
    blocks: BlockMap
    mtimensec: int = 0
    text: bytes = b""

    def pack(self, fs: Superblock) -> bytes:
        """struct dinode."""
        layout = record(dinode(fs.byte_order, fs.tables))
        owner = ("di_ouid", "di_ogid") if fs.format == "4.3bsd" else ("di_uid", "di_gid")
        values = {
            "di_mode": self.mode,
            "di_nlink": self.nlink,
            owner[0]: self.uid,
            owner[1]: self.gid,
            "di_size": self.size,
            "di_atime": self.time,
            "di_mtime": self.mtime,
            "di_ctime": self.time,
            "di_db": self.blocks.db,
            "di_ib": self.blocks.ib,
            "di_blocks": self.blocks.sectors,
        }
        if fs.format != "4.3bsd":
            values["di_mtimensec"] = self.mtimensec
        if fs.tables == "ufs2":
            values |= {"di_birthtime": self.mtime, "di_birthnsec": self.mtimensec}
        data, at = layout.pack(values), layout.offset_of("di_db")
        return sealed(fs, data[:at] + self.text + data[at + len(self.text) :])


def sealed(fs: Superblock, data: bytes) -> bytes:
    """struct dinode with its check hash right, where fs_metackhash asks for one."""
    if fs.tables != "ufs2" or not fs.fs_metackhash & CK_INODE:
        return data
    layout = record(dinode(fs.byte_order, fs.tables))
    return layout.pack(layout.unpack(data) | {"di_ckhash": check_hash(data, layout.offset_of("di_ckhash"))})


def inode_offset(fs: Superblock, ino: int) -> int:
    """The byte offset of an inode from the start of the file system."""
    return fsbtobyte(fs, ino_to_fsba(fs, ino)) + ino_to_fsbo(fs, ino) * fs.inode_bytes


def indirect_blocks(fs: Superblock, blocks: int) -> int:
    """The indirect blocks of a file of so many blocks without holes."""
    count, left, span = 0, blocks - NDADDR, 1
    for _ in range(NIADDR):
        if left <= 0:
            break
        span *= fs.fs_nindir
        here = min(left, span)
        under = span // fs.fs_nindir
        while under:
            count += -(-here // (under * fs.fs_nindir))
            under //= fs.fs_nindir
        left -= here
    return count


def map_blocks(allocator: Allocator, addresses: Sequence[int], sectors: int) -> BlockMap:
    """The pointers to `addresses` (one a block, in order), `sectors` long without their indirect blocks. NoRoom."""
    fs = allocator.fs
    direct = tuple(addresses[:NDADDR])
    left = list(addresses[NDADDR:])
    indirect: list[tuple[int, bytes]] = []
    tops = []
    cg = dtog(fs, addresses[-1]) if addresses else 0
    for level in range(NIADDR):
        if not left:
            break
        reach = fs.fs_nindir ** (level + 1)
        layer, left = left[:reach], left[reach:]
        for _ in range(level + 1):
            layer = [
                _indirect(allocator, layer[at : at + fs.fs_nindir], cg, indirect)
                for at in range(0, len(layer), fs.fs_nindir)
            ]
        tops.append(layer[0])
    return BlockMap(
        direct + (0,) * (NDADDR - len(direct)),
        tuple(tops) + (0,) * (NIADDR - len(tops)),
        sectors + len(indirect) * fs.fs_bsize // DEV_BSIZE,
        indirect,
    )


def _indirect(allocator: Allocator, pointers: Sequence[int], cg: int, written: list[tuple[int, bytes]]) -> int:
    fs = allocator.fs
    fragment = allocator.take_block(cg)
    one = record(pointer(fs.byte_order, fs.tables)).struct.format
    data = struct.pack(f"{one[0]}{len(pointers)}{one[1:]}", *pointers)
    written.append((fsbtobyte(fs, fragment), data.ljust(fs.fs_bsize, b"\0")))
    return fragment
