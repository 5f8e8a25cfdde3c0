"""One cylinder group in memory: which fragments and inodes are free, with every count that the disk keeps of them.

Interface:
    Rotation(nspf, spc, nsect)       where a block passes under the heads; from a superblock's fields
    CylinderGroup.empty(fs, rotation, cgx, ncyl)     a new group: all free but its own metadata
    CylinderGroup.parse(fs, rotation, cgx, data)     the group on a disk; FileSystemError where it contradicts itself
    find_block, free_runs, find_fragments, find_inode    what could be taken
    take_blocks, take_fragments, give_fragments, take_inode
    recount(), check()               the counts computed anew; AssertionError where they differ
    pack() -> bytes                  fs_cgsize bytes, as struct cg
Invariants:
    1. Every count equals what the maps say (check).
    2. The group's own metadata is never free.
    3. Nothing beyond the group's last fragment is free.
Not here: choosing among groups (allocator), other groups, totals.

Blocks and fragments are numbered within the group. A block is one byte: bit i is set when its fragment i is free, so
that searching for a free block is bytearray.find. Source: 4.3BSD sys/h/fs.h, sys/sys/ufs_alloc.c, etc/fsck/pass5.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from bootfs.errors import FileSystemError, FsCode
from bootfs.geometry import cgbase, cgdmin, cgsblock
from bootfs.layout import CG_MAGIC, MAXCPG, MAXIPG, NRPOS, ROOTINO, cylinder_group
from bootfs.layout_format import Record, record
from bootfs.superblock import Superblock


@dataclass(frozen=True, slots=True)
class Rotation:
    """`nspf` sectors a fragment, `spc` sectors a cylinder, `nsect` sectors a track."""

    nspf: int
    spc: int
    nsect: int

    @classmethod
    def of(cls, fs: Superblock, fields: Mapping[str, Any]) -> Rotation:
        """From the fields of struct fs; FileSystemError where the tables of a group could not hold such a disk."""
        one = cls(fields["fs_nspf"], fields["fs_spc"], fields["fs_nsect"])
        if min(one.nspf, one.spc, one.nsect) < 1 or (fs.fs_fpg * one.nspf - 1) // one.spc >= MAXCPG:
            raise FileSystemError(FsCode.FS_INVALID_FS, f"impossible geometry {one}", "superblock")
        return one

    def cbtocylno(self, fragment: int) -> int:
        """The cylinder of a fragment, both counted within the group."""
        return fragment * self.nspf // self.spc

    def cbtorpos(self, fragment: int) -> int:
        """The rotational position, 0 to 7, where a fragment begins."""
        return fragment * self.nspf % self.nsect * NRPOS // self.nsect


@dataclass(slots=True)
class Counts:
    """What struct cg counts: cg_cs without directories, cg_frsum, cg_btot and cg_b (flat, 8 positions a cylinder)."""

    nbfree: int = 0
    nffree: int = 0
    nifree: int = 0
    frsum: list[int] = field(default_factory=lambda: [0] * 8)
    btot: list[int] = field(default_factory=lambda: [0] * MAXCPG)
    rotations: list[int] = field(default_factory=lambda: [0] * (MAXCPG * NRPOS))


@cache
def _free_stretches(bits: int) -> tuple[int, ...]:
    """The lengths of the stretches of free fragments in one block."""
    return tuple(len(stretch) for stretch in re.findall("1+", f"{bits:b}"))


@cache
def _blocks_with_stretch(length: int, full: int) -> bytes:
    """A table for bytes.translate: 1 for the block states, not wholly free, that have a stretch of exactly `length`."""
    return bytes(bits < full and length in _free_stretches(bits) for bits in range(256))


@lru_cache(maxsize=64)
def _free_places(blocks: bytes, frag: int, rotation: Rotation) -> list[list[int]]:
    """How many free blocks lie at each cylinder and rotational position. On a large new disk most groups are alike."""
    full = (1 << frag) - 1
    places = [[0] * NRPOS for _ in range(MAXCPG)]
    for block, bits in enumerate(blocks):
        if bits == full:
            fragment = block * frag
            places[rotation.cbtocylno(fragment)][rotation.cbtorpos(fragment)] += 1
    return places


_DIGITS = bytes(range(48, 50)) + bytes(254)  # 0 and 1 as text, for int()


def _layout(fs: Superblock) -> Record:
    if fs.tables != "4.3":
        raise FileSystemError(
            FsCode.FS_INVALID_FS,
            "has the dynamic tables of 4.3-Reno and later; only 4.2/4.3BSD tables can be changed as yet",
            "superblock",
        )
    return record(cylinder_group(fs.byte_order, "4.3"))


class CylinderGroup:
    """The mutable state of one group; `values` are the fields of struct cg that allocation does not count."""

    def __init__(self, fs: Superblock, rotation: Rotation, cgx: int, values: dict[str, Any]) -> None:
        self.fs = fs
        self.rotation = rotation
        self.cgx = cgx
        self.values = values
        self.fragments = min(fs.fs_fpg, fs.fs_size - cgbase(fs, cgx))
        self.full = (1 << fs.fs_frag) - 1
        self.blocks = bytearray(-(-self.fragments // fs.fs_frag))
        self.inodes = bytearray(fs.fs_ipg)  # 1 where taken
        self.directories = 0
        self.counts = Counts()
        self.rest = b""  # what follows the maps up to fs_cgsize: nobody's, and kept

    @classmethod
    def empty(cls, fs: Superblock, rotation: Rotation, cgx: int, ncyl: int) -> CylinderGroup:
        """A new group of `ncyl` cylinders, as struct cg counts them."""
        group = cls(fs, rotation, cgx, {"cg_cgx": cgx, "cg_ncyl": ncyl, "cg_niblk": fs.fs_ipg})
        group.values["cg_ndblk"] = group.fragments
        group.values["cg_magic"] = CG_MAGIC
        group.blocks = bytearray([group.full]) * len(group.blocks)
        beyond = group.fragments % fs.fs_frag
        if beyond:
            group.blocks[-1] = (1 << beyond) - 1
        reserved = group.reserved()
        first, end = reserved.start // fs.fs_frag, reserved.stop // fs.fs_frag  # reserved.start is a block's
        group.blocks[first:end] = bytes(end - first)
        if reserved.stop % fs.fs_frag:
            group.blocks[end] &= group.full << reserved.stop % fs.fs_frag
        if cgx == 0:
            group.inodes[:ROOTINO] = b"\1" * ROOTINO
        group.counts = group.recount()
        return group

    @classmethod
    def parse(cls, fs: Superblock, rotation: Rotation, cgx: int, data: bytes) -> CylinderGroup:
        """The group in `data` (fs_bsize bytes). FileSystemError: allocating there would be unsafe."""
        layout = _layout(fs)
        values = layout.unpack(data)
        group = cls(fs, rotation, cgx, values)
        group._expect("its magic number", values["cg_magic"], CG_MAGIC)
        group._expect("its number", values["cg_cgx"], cgx)
        group._expect("its size in fragments", values["cg_ndblk"], group.fragments)
        group._expect("room for fs_cgsize", layout.size + -(-fs.fs_fpg // 8) <= fs.fs_cgsize, True)
        group._expect("at most 2048 inodes", fs.fs_ipg <= MAXIPG, True)
        group._unpack_maps(values["cg_iused"], data[layout.size :])
        group.rest = data[layout.size + -(-fs.fs_fpg // 8) : fs.fs_cgsize]
        group._expect("free inodes below 3", cgx == 0 and not all(group.inodes[: ROOTINO + 1]), False)
        group.directories = values["cg_cs.cs_ndir"]
        group.counts = group.recount()
        claimed = Counts(
            values["cg_cs.cs_nbfree"],
            values["cg_cs.cs_nffree"],
            values["cg_cs.cs_nifree"],
            list(values["cg_frsum"]),
            list(values["cg_btot"]),
            list(values["cg_b"]),
        )
        for name in Counts.__slots__:
            group._expect(f"its count {name}", getattr(claimed, name), getattr(group.counts, name))
        group._expect("free metadata", any(group.is_free(fragment) for fragment in group.reserved()), False)
        return group

    def _expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise FileSystemError(
                FsCode.FS_INVALID_FS,
                f"{what} should be {wanted}, not {found}; repair the file system with fsck first",
                f"cylinder group {self.cgx}",
            )

    def _unpack_maps(self, inodes: bytes, free: bytes) -> None:
        frag = self.fs.fs_frag
        taken = int.from_bytes(inodes, "little")
        self.inodes = bytearray(taken >> number & 1 for number in range(self.fs.fs_ipg))
        bits = bytes(free[: -(-self.fragments // 8)])
        if frag == 8:
            self.blocks = bytearray(bits[: len(self.blocks)])
        else:
            self.blocks = bytearray(
                bits[at >> 3] >> (at & 7) & self.full for at in range(0, len(self.blocks) * frag, frag)
            )
        beyond = self.fragments % frag
        if beyond:
            self.blocks[-1] &= (1 << beyond) - 1

    def reserved(self) -> range:
        """Its own metadata: superblock copy, struct cg, inodes; in group 0 all from the boot area to the summary."""
        base = cgbase(self.fs, self.cgx)
        end = cgdmin(self.fs, self.cgx) - base
        if self.cgx:
            return range(cgsblock(self.fs, self.cgx) - base, end)
        return range(end + self.fs.fs_cssize // self.fs.fs_fsize)

    def is_free(self, fragment: int) -> bool:
        """Whether one fragment is free."""
        return bool(self.blocks[fragment // self.fs.fs_frag] >> fragment % self.fs.fs_frag & 1)

    # What could be taken

    def find_block(self, start: int = 0) -> int | None:
        """The first wholly free block from block `start`, or from the beginning."""
        block = self.blocks.find(self.full, start)
        if block < 0 < start:
            block = self.blocks.find(self.full)
        return block if block >= 0 else None

    def free_runs(self) -> Iterator[tuple[int, int]]:
        """Every stretch of wholly free blocks, as first block and number of blocks, in order."""
        for run in re.finditer(re.escape(bytes([self.full])) + b"+", self.blocks):
            yield run.start(), run.end() - run.start()

    def find_fragments(self, count: int) -> int | None:
        """Where `count` (< fs_frag) fragments fit: the tightest stretch in a broken block, else a new block."""
        for length in range(count, self.fs.fs_frag):
            if self.counts.frsum[length]:
                block = self.blocks.translate(_blocks_with_stretch(length, self.full)).find(1)
                digits = f"{self.blocks[block]:08b}"[::-1]
                stretch = next(s for s in re.finditer("1+", digits) if s.end() - s.start() == length)
                return block * self.fs.fs_frag + stretch.start()
        block_or_none = self.find_block()
        return None if block_or_none is None else block_or_none * self.fs.fs_frag

    def find_inode(self) -> int | None:
        """The first free inode, numbered within the group."""
        number = self.inodes.find(0)
        return number if number >= 0 else None

    # Taking and giving

    def take_blocks(self, block: int, count: int = 1) -> None:
        """Take blocks that are wholly free."""
        for at in range(block, block + count):
            assert self.blocks[at] == self.full, f"block {at} of group {self.cgx} is not free"
            self._set(at, 0)

    def take_fragments(self, fragment: int, count: int) -> None:
        """Take free fragments, all in one block."""
        block, mask = self._mask(fragment, count)
        assert self.blocks[block] & mask == mask, f"fragment {fragment} of group {self.cgx} is not free"
        self._set(block, self.blocks[block] & ~mask)

    def give_fragments(self, fragment: int, count: int) -> None:
        """Free taken fragments, all in one block."""
        block, mask = self._mask(fragment, count)
        assert not self.blocks[block] & mask, f"fragment {fragment} of group {self.cgx} is free already"
        self._set(block, self.blocks[block] | mask)

    def take_inode(self, number: int, directory: bool) -> None:
        """Take a free inode."""
        assert not self.inodes[number], f"inode {number} of group {self.cgx} is not free"
        self.inodes[number] = 1
        self.counts.nifree -= 1
        self.directories += directory

    def _mask(self, fragment: int, count: int) -> tuple[int, int]:
        first = fragment % self.fs.fs_frag
        assert first + count <= self.fs.fs_frag, "fragments of one block only"
        return fragment // self.fs.fs_frag, ((1 << count) - 1) << first

    def _set(self, block: int, bits: int) -> None:
        """The one place where a block changes, so that the counts follow it."""
        self._count(self.counts, block, self.blocks[block], -1)
        self.blocks[block] = bits
        self._count(self.counts, block, bits, 1)

    def _count(self, counts: Counts, block: int, bits: int, sign: int) -> None:
        if bits == self.full:
            fragment = block * self.fs.fs_frag
            cylinder = self.rotation.cbtocylno(fragment)
            counts.nbfree += sign
            counts.btot[cylinder] += sign
            counts.rotations[cylinder * NRPOS + self.rotation.cbtorpos(fragment)] += sign
        elif bits:
            for length in _free_stretches(bits):
                counts.nffree += sign * length
                counts.frsum[length] += sign

    def recount(self) -> Counts:
        """The counts as the maps have them."""
        places = _free_places(bytes(self.blocks), self.fs.fs_frag, self.rotation)
        counts = Counts(nifree=self.inodes.count(0), nbfree=self.blocks.count(self.full))
        for cylinder in range(MAXCPG):
            counts.rotations[cylinder * NRPOS : cylinder * NRPOS + NRPOS] = places[cylinder]
            counts.btot[cylinder] = sum(places[cylinder])
        for bits in range(1, self.full):
            for length in _free_stretches(bits):
                here = self.blocks.count(bits)
                counts.frsum[length] += here
                counts.nffree += here * length
        return counts

    def check(self) -> None:
        """Invariants 1 to 3."""
        assert self.counts == self.recount(), f"INV-1 in group {self.cgx}"
        assert not any(self.is_free(fragment) for fragment in self.reserved()), f"INV-2 in group {self.cgx}"
        assert all(bits <= self.full for bits in self.blocks), f"INV-3 in group {self.cgx}"
        beyond = self.fragments % self.fs.fs_frag
        assert not beyond or self.blocks[-1] >> beyond == 0, f"INV-3 in group {self.cgx}"

    def summary(self) -> dict[str, int]:
        """The group's struct csum."""
        counts = self.counts
        return {
            "cs_ndir": self.directories,
            "cs_nbfree": counts.nbfree,
            "cs_nifree": counts.nifree,
            "cs_nffree": counts.nffree,
        }

    def pack(self) -> bytes:
        """fs_cgsize bytes of struct cg.

        The rotors stay: they are only hints. So does cg_time (0 on a new disk), which nobody reads but fsck, and that
        takes a time in its own future for damage: a machine of 1986 has a clock of 1986 (4.3BSD etc/fsck/pass5.c).
        """
        layout, counts, frag = _layout(self.fs), self.counts, self.fs.fs_frag
        inodes = int(self.inodes[::-1].translate(_DIGITS), 2)
        if frag == 8:
            free = int.from_bytes(self.blocks, "little")
        else:
            digits = "".join(f"{bits:0{frag}b}" for bits in reversed(self.blocks))
            free = int(digits, 2)
        values = self.values | {f"cg_cs.{name}": count for name, count in self.summary().items()}
        values |= {
            "cg_frsum": tuple(counts.frsum),
            "cg_btot": tuple(counts.btot),
            "cg_b": tuple(counts.rotations),
            "cg_iused": inodes.to_bytes(MAXIPG // 8, "little"),
        }
        free_map = free.to_bytes(-(-self.fs.fs_fpg // 8), "little")
        return (layout.pack(values) + free_map + self.rest).ljust(self.fs.fs_cgsize, b"\0")
