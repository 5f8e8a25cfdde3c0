"""One cylinder group in memory: which fragments and inodes are free, with every count that the disk keeps of them.

Interface:
    CylinderGroup.empty(fs, rotation, cgx, ncyl)     a new group: all free but its own metadata
    CylinderGroup.twin(cgx)          a new group like an untouched one; the two share their maps until one changes
    CylinderGroup.parse(fs, rotation, cgx, data)     the group on a disk; FileSystemError where it contradicts itself
    find_block, free_runs, find_fragments, find_inode    what could be taken
    take_blocks, take_fragments, give_fragments, take_inode
    recount(), check()               the counts computed anew; AssertionError where they differ
    pack() -> bytes                  fs_cgsize bytes, as struct cg
Invariants:
    1. Every count equals what the maps say (check).
    2. The group's own metadata is never free.
    3. Nothing beyond the group's last fragment is free.
    4. No inode is taken from `initialised` on: its block was never written.
Not here: choosing among groups (allocator), other groups, totals; struct cg itself (group_tables).

Blocks and fragments are numbered within the group. A block is one byte: bit i is set when its fragment i is free, so
that searching for a free block is bytearray.find. Source: 4.3BSD sys/h/fs.h, sys/sys/ufs_alloc.c, etc/fsck/pass5.c;
for the stretches of free blocks (clusters) 4.4BSD sys/ufs/ffs/ffs_alloc.c (ffs_clusteracct).
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

from bootfs.errors import FileSystemError, FsCode
from bootfs.geometry import cgbase, cgdmin, cgsblock
from bootfs.layout import MAXIPG, ROOTINO, cylinder_group
from bootfs.layout_format import record
from bootfs.superblock import Superblock
from disktools.group_tables import NO_ROTATION, GroupFacts, Rotation, blank_group, read_group, write_group


@dataclass(slots=True)
class Counts:
    """What struct cg counts: cg_cs without directories, cg_frsum, cg_btot and cg_b (flat, all positions a cylinder)."""

    nbfree: int = 0
    nffree: int = 0
    nifree: int = 0
    frsum: list[int] = field(default_factory=lambda: [0] * 8)
    btot: list[int] = field(default_factory=list)
    rotations: list[int] = field(default_factory=list)


@cache
def _free_stretches(bits: int) -> tuple[int, ...]:
    """The lengths of the stretches of free fragments in one block."""
    return tuple(len(stretch) for stretch in re.findall("1+", f"{bits:b}"))


@cache
def _blocks_with_stretch(length: int, full: int) -> bytes:
    """A table for bytes.translate: 1 for the block states, not wholly free, that have a stretch of exactly `length`."""
    return bytes(bits < full and length in _free_stretches(bits) for bits in range(256))


@lru_cache(maxsize=64)
def _free_places(blocks: bytes, frag: int, rotation: Rotation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many free blocks lie on each cylinder, and at each rotational position of each."""
    full = (1 << frag) - 1
    btot, places = [0] * rotation.cylinders, [0] * (rotation.cylinders * rotation.positions)
    for block, bits in enumerate(blocks):
        if bits == full:
            cylinder = rotation.cbtocylno(block * frag)
            btot[cylinder] += 1
            places[cylinder * rotation.positions + rotation.cbtorpos(block * frag)] += 1
    return tuple(btot), tuple(places)


_DIGITS = bytes(range(48, 50)) + bytes(254)  # 0 and 1 as text, for int()
_VALUES = bytes(48) + bytes(range(2)) + bytes(206)  # and back


def _flags(bitmap: bytes) -> bytes:
    """The bits of `bitmap` as bytes of 0 and 1, the lowest first."""
    if bitmap.count(0) == len(bitmap):
        return bytes(len(bitmap) * 8)
    digits = f"{int.from_bytes(bitmap, 'little'):0{len(bitmap) * 8}b}"
    return digits[::-1].encode().translate(_VALUES)


@cache
def _states(frag: int) -> list[bytes]:
    """For each byte of a map of fragments the blocks in it, as bytes."""
    return [bytes(byte >> at & (1 << frag) - 1 for at in range(0, 8, frag)) for byte in range(256)]


def _bitmap(flags: bytes | bytearray, length: int) -> bytes:
    """Bytes of 0 and 1 as `length` bytes of bits, the first one lowest."""
    if flags.find(1) < 0:
        return bytes(length)
    return int(flags[::-1].translate(_DIGITS), 2).to_bytes(length, "little")


class CylinderGroup:
    """The mutable state of one group; `values` are the fields of struct cg that allocation does not count."""

    def __init__(self, fs: Superblock, rotation: Rotation, cgx: int, image: bytes) -> None:
        self.fs = fs
        self.rotation = rotation
        self.cgx = cgx
        self.image = image  # struct cg as it was found; of it all stays that is not counted here
        self.fragments = min(fs.fs_fpg, fs.fs_size - cgbase(fs, cgx))
        self.full = (1 << fs.fs_frag) - 1
        self.blocks = bytearray(-(-self.fragments // fs.fs_frag))
        self.inodes = bytearray(fs.fs_ipg)  # 1 where taken
        self.initialised = fs.fs_ipg
        self.directories = 0
        self.counts = Counts()
        self._pack_of_twins = b""
        self.like: CylinderGroup | None = None  # whose maps these are as long as nothing was taken here

    @classmethod
    def empty(cls, fs: Superblock, rotation: Rotation, cgx: int, ncyl: int) -> CylinderGroup:
        """A new group of `ncyl` cylinders, as struct cg counts them."""
        group = cls(fs, rotation, cgx, blank_group(fs, cgx, ncyl))
        group.blocks = bytearray([group.full]) * len(group.blocks)
        beyond = group.fragments % fs.fs_frag
        if beyond:
            group.blocks[-1] = (1 << beyond) - 1
        first, end = group._reserved_blocks()
        group.blocks[first:end] = bytes(end - first)
        if group.reserved().stop % fs.fs_frag:
            group.blocks[end] &= group.full << group.reserved().stop % fs.fs_frag
        if cgx == 0:
            group.inodes[:ROOTINO] = b"\1" * ROOTINO
        if fs.tables == "ufs2":
            group.initialised = min(fs.fs_ipg, 2 * fs.fs_inopb)
        group.counts = group.recount()
        return group

    def twin(self, cgx: int) -> CylinderGroup:
        """Group `cgx`, new and shaped as this one, from which nothing may be taken any more."""
        other = copy.copy(self)
        other.cgx, other.counts, other.like = cgx, copy.deepcopy(self.counts), self
        return other

    def _own(self) -> None:
        """Before the first change: maps of its own."""
        if self.like:
            self.image, self.like = self._renumbered(self.image), None
            self.blocks, self.inodes = bytearray(self.blocks), bytearray(self.inodes)

    def _renumbered(self, image: bytes) -> bytes:
        layout = record(cylinder_group(self.fs.byte_order, self.fs.tables))
        at = layout.offset_of("cg_cgx")
        return image[:at] + self.cgx.to_bytes(4, self.fs.byte_order) + image[at + 4 :]

    @classmethod
    def parse(cls, fs: Superblock, rotation: Rotation, cgx: int, data: bytes) -> CylinderGroup:
        """The group in `data` (fs_bsize bytes). FileSystemError: allocating there would be unsafe."""
        found = read_group(fs, rotation, cgx, data)
        group = cls(fs, rotation, cgx, data[: fs.fs_cgsize])
        group._unpack_maps(found.inodes, found.free)
        group.initialised = found.initialised
        group._expect("free inodes below 3", cgx == 0 and not all(group.inodes[: ROOTINO + 1]), False)
        group.directories = found.summary["cs_ndir"]
        group.counts = group.recount()
        tables = (found.btot, found.rotations)
        if fs.tables == "4.4" and tables != (group.counts.btot, group.counts.rotations):
            # Later kernels let these two go stale and need them no more: they are then left as they are.
            group.rotation, tables = NO_ROTATION, ([], [])
            group.counts = group.recount()
        nbfree, nffree, nifree = (found.summary[name] for name in ("cs_nbfree", "cs_nffree", "cs_nifree"))
        claimed = Counts(nbfree, nffree, nifree, found.frsum, *tables)
        for name in Counts.__slots__:
            group._expect(f"its count {name}", getattr(claimed, name), getattr(group.counts, name))
        group._expect("free metadata", group._metadata_is_free(), False)
        group._expect("inodes taken that never were written", group.inodes.find(1, group.initialised) >= 0, False)
        clusters, cluster_map = group._clusters()
        group._expect("its count clusters", found.clusters, clusters)
        group._expect("its map of clusters", found.cluster_map == cluster_map, True)
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
        self.inodes = bytearray(_flags(inodes)[: self.fs.fs_ipg])
        bits = free[: -(-self.fragments // 8)]
        blocks = bits if frag == 8 else b"".join(map(_states(frag).__getitem__, bits))
        self.blocks = bytearray(blocks[: len(self.blocks)])
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

    def _metadata_is_free(self) -> bool:
        first, end, rest = *self._reserved_blocks(), self.reserved().stop % self.fs.fs_frag
        return any(self.blocks[first:end]) or bool(rest and self.blocks[end] & (1 << rest) - 1)

    def _reserved_blocks(self) -> tuple[int, int]:
        """The first block of its metadata, and the one after the last whole one."""
        reserved, frag = self.reserved(), self.fs.fs_frag
        return reserved.start // frag, reserved.stop // frag  # reserved.start is a block's

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
        wanted = bytes([self.full]) * count
        assert self.blocks[block : block + count] == wanted, f"block {block} of group {self.cgx} is not free"
        self._own()
        if self.rotation.cylinders:
            for at in range(block, block + count):
                self._set(at, 0)
        else:
            self.blocks[block : block + count] = bytes(count)
            self.counts.nbfree -= count

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
        self._own()
        self.inodes[number] = 1
        if number >= self.initialised:  # by whole blocks, as the kernels do
            self.initialised = (number // self.fs.fs_inopb + 1) * self.fs.fs_inopb
        self.counts.nifree -= 1
        self.directories += directory

    def _mask(self, fragment: int, count: int) -> tuple[int, int]:
        first = fragment % self.fs.fs_frag
        assert first + count <= self.fs.fs_frag, "fragments of one block only"
        return fragment // self.fs.fs_frag, ((1 << count) - 1) << first

    def _set(self, block: int, bits: int) -> None:
        """The one place where a block changes, so that the counts follow it."""
        self._own()
        self._count(self.counts, block, self.blocks[block], -1)
        self.blocks[block] = bits
        self._count(self.counts, block, bits, 1)

    def _count(self, counts: Counts, block: int, bits: int, sign: int) -> None:
        if bits == self.full:
            counts.nbfree += sign
            if self.rotation.cylinders:
                fragment = block * self.fs.fs_frag
                cylinder = self.rotation.cbtocylno(fragment)
                counts.btot[cylinder] += sign
                counts.rotations[cylinder * self.rotation.positions + self.rotation.cbtorpos(fragment)] += sign
        elif bits:
            for length in _free_stretches(bits):
                counts.nffree += sign * length
                counts.frsum[length] += sign

    def recount(self) -> Counts:
        """The counts as the maps have them."""
        counts = Counts(nifree=self.inodes.count(0), nbfree=self.blocks.count(self.full))
        if self.rotation.cylinders:
            btot, rotations = _free_places(bytes(self.blocks), self.fs.fs_frag, self.rotation)
            counts.btot, counts.rotations = list(btot), list(rotations)
        for bits, here in Counter(self.blocks.translate(None, bytes([0, self.full]))).items():
            for length in _free_stretches(bits):
                counts.frsum[length] += here
                counts.nffree += here * length
        return counts

    def check(self) -> None:
        """Invariants 1 to 4."""
        assert self.counts == self.recount(), f"INV-1 in group {self.cgx}"
        assert not self._metadata_is_free(), f"INV-2 in group {self.cgx}"
        assert all(bits <= self.full for bits in self.blocks), f"INV-3 in group {self.cgx}"
        beyond = self.fragments % self.fs.fs_frag
        assert not beyond or self.blocks[-1] >> beyond == 0, f"INV-3 in group {self.cgx}"
        assert not any(self.inodes[self.initialised :]), f"INV-4 in group {self.cgx}"

    def summary(self) -> dict[str, int]:
        """The group's struct csum."""
        counts = self.counts
        return {
            "cs_ndir": self.directories,
            "cs_nbfree": counts.nbfree,
            "cs_nifree": counts.nifree,
            "cs_nffree": counts.nffree,
        }

    def facts(self) -> GroupFacts:
        """As the disk keeps them."""
        counts, frag = self.counts, self.fs.fs_frag
        if frag == 8:
            free = bytes(self.blocks)
        else:
            digits = "".join(f"{bits:0{frag}b}" for bits in reversed(self.blocks))
            free = int(digits, 2).to_bytes(-(-self.fs.fs_fpg // 8), "little")
        clusters, cluster_map = self._clusters()
        return GroupFacts(
            self.summary(),
            counts.frsum,
            counts.btot,
            counts.rotations,
            clusters,
            _bitmap(self.inodes, (MAXIPG if self.fs.tables == "4.3" else -(-self.fs.fs_ipg // 8) * 8) // 8),
            free.ljust(-(-self.fs.fs_fpg // 8), b"\0"),
            cluster_map,
            self.initialised,
        )

    def _clusters(self) -> tuple[list[int], bytes]:
        """How many stretches of 1, 2, ... free blocks there are (the last counts the longer ones too); which are free.

        A last block that is cut short is none.
        """
        longest = self.fs.fs_contigsumsize if self.fs.tables != "4.3" else 0
        if longest <= 0:
            return [], b""
        counts = [0] * longest
        for _, length in self.free_runs():
            counts[min(length, longest) - 1] += 1
        flags = self.blocks.translate(bytes(bits == self.full for bits in range(256)))
        return counts, _bitmap(flags, -(-(self.fs.fs_fpg // self.fs.fs_frag) // 8))

    def pack(self) -> bytes:
        """fs_cgsize bytes of struct cg."""
        if self.like:
            return self._renumbered(self.like._packed())
        return write_group(self.fs, self.rotation, self.image, self.facts())

    def _packed(self) -> bytes:
        """pack, remembered, of a group that others are like."""
        if not self._pack_of_twins:
            self._pack_of_twins = self.pack()
        return self._pack_of_twins
