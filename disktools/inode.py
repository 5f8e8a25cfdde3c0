"""New inodes: what a file is, and by which pointers its blocks are found.

Interface:
    BlockMap                    di_db, di_ib, di_blocks, and the indirect blocks to write
    map_blocks(allocator, addresses, sectors, blocks) -> BlockMap    takes the indirect blocks that are needed
    indirect_blocks(fs, blocks) -> int      how many that will be
    NewInode.pack(fs) -> bytes  struct dinode, 128 bytes or, in UFS2, 256
    sealed(fs, data) -> bytes   a struct dinode with its check hash, where the disk has them
    inode_offset(fs, ino) -> int            where they go
Not here: contents, names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

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


Pointer = tuple[int, int]  # the number of a block below one level, and the fragment where it is


def map_blocks(
    allocator: Allocator, addresses: Sequence[int], sectors: int, blocks: Sequence[int] | None = None
) -> BlockMap:
    """The pointers to `addresses`, `sectors` long without their indirect blocks. NoRoom.

    `blocks` are the numbers, rising, of the blocks at these addresses; without it, from 0 on one after the other.
    """
    fs = allocator.fs
    numbers = range(len(addresses)) if blocks is None else blocks
    indirect: list[tuple[int, bytes]] = []
    cg = dtog(fs, addresses[-1]) if addresses else 0
    base = bisect_left(numbers, NDADDR)
    direct = dict(zip(numbers[:base], addresses[:base], strict=True))
    tops = []
    first = NDADDR
    for level in range(NIADDR):
        end = first + fs.fs_nindir ** (level + 1)
        stop = bisect_left(numbers, end)
        layer: Iterable[Pointer] = zip((one - first for one in numbers[base:stop]), addresses[base:stop], strict=True)
        for _ in range(level + 1):
            layer = _indirect_blocks(allocator, layer, cg, indirect)
        tops.append(next((address for _, address in layer), 0))
        first, base = end, stop
    return BlockMap(
        tuple(direct.get(block, 0) for block in range(NDADDR)),
        tuple(tops),
        sectors + len(indirect) * fs.fs_bsize // DEV_BSIZE,
        indirect,
    )


def _indirect_blocks(
    allocator: Allocator, layer: Iterable[Pointer], cg: int, written: list[tuple[int, bytes]]
) -> list[Pointer]:
    """The blocks of pointers that hold `layer`, each with its number: what is not in the layer is a hole."""
    fs = allocator.fs
    block = record(pointer(fs.byte_order, fs.tables)).array(fs.fs_nindir)
    made = []
    for number, group in groupby(layer, key=lambda one: one[0] // fs.fs_nindir):
        pointers = [0] * fs.fs_nindir
        for below, address in group:
            pointers[below % fs.fs_nindir] = address
        fragment = allocator.take_block(cg)
        written.append((fsbtobyte(fs, fragment), block.pack(*pointers)))
        made.append((number, fragment))
    return made
