"""What is free on a whole file system, and the only code that takes it.

Interface:
    Allocator.open(device, fs)       of a disk; FileSystemError where its maps and counts disagree
    Allocator.new(fs, fields)        of a disk in the making
    take_runs(blocks) -> [Run]       full blocks in as few runs as can be
    take_block(cg), take_fragments(count, cg), take_inode(cg, directory), take_file(bytes, cg, holes)     NoRoom
    extend_fragments, give_fragments
    free_blocks(), totals(), check(), map_writes(device, time)
    fresh_inodes                     inode blocks that were never written: to be zeros before the maps count them
Invariants:
    1. Each group's invariants hold (CylinderGroup.check).
    2. Nothing is on the disk before the caller writes what map_writes gives; a plan that fails leaves no trace.
Not here: what the space is for; writing, except to say which bytes the maps are.

Policy: first fit from a group upwards, round the disk. The paging file gets the largest stretches of all groups.
Fragment numbers here are of the whole file system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.geometry import cgbase, cgsblock, cgtod, dtog, dtogd, fragroundup, fsbtobyte, ino_to_fsba, numfrags
from bootfs.layout import NDADDR, SBSIZE, csum, superblock
from bootfs.layout_format import record
from bootfs.superblock import Superblock
from disktools.cylinder_group import CylinderGroup
from disktools.errors import NoRoom
from disktools.group_tables import CSUM_NAMES, Rotation
from disktools.superblock_update import updated_superblock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """`blocks` full blocks that lie together on the disk from `fragment`."""

    fragment: int
    blocks: int


class Allocator:
    """The groups of one file system, in memory."""

    def __init__(self, fs: Superblock, groups: Sequence[CylinderGroup]) -> None:
        self.fs = fs
        self.groups = groups
        self.fresh_inodes: list[tuple[int, int]] = []  # byte offset and length
        self._changed: set[int] = set()

    @classmethod
    def new(cls, fs: Superblock, fields: Mapping[str, Any]) -> Allocator:
        """All free. `fields` are the whole of struct fs. The last group counts its remainder of cylinders."""
        rotation = Rotation.of(fs, fields)
        cpg, last = fields.get("fs_cpg", 1), fs.fs_ncg - 1
        groups: list[CylinderGroup] = []
        models: dict[tuple[bool, bool, int], CylinderGroup] = {}  # on a large disk most groups are alike
        for cgx in range(fs.fs_ncg):
            key = (cgx == 0, cgx == last, cgsblock(fs, cgx) - cgbase(fs, cgx))
            if key not in models:
                ncyl = fields["fs_ncyl"] % cpg if cgx == last and fs.tables == "4.3" else cpg
                models[key] = CylinderGroup.empty(fs, rotation, cgx, ncyl)
            groups.append(models[key].twin(cgx))
        one = cls(fs, groups)
        one._changed.update(range(fs.fs_ncg))
        return one

    @classmethod
    def open(cls, device: BlockDevice, fs: Superblock) -> Allocator:
        """The groups as they are on `device`. FileSystemError FS_INVALID_FS names the first contradiction."""
        end = fsbtobyte(fs, fs.fs_size)
        if end > device.size:
            raise FileSystemError(
                FsCode.FS_INVALID_FS, f"it should have {end} bytes, and only {device.size} are here", "image cut short"
            )
        fields = record(superblock(fs.byte_order, fs.tables)).unpack(device.read(fs.location, SBSIZE))
        rotation = Rotation.of(fs, fields)
        groups = [
            CylinderGroup.parse(fs, rotation, cgx, device.read(fsbtobyte(fs, cgtod(fs, cgx)), fs.fs_bsize))
            for cgx in range(fs.fs_ncg)
        ]
        one = cls(fs, groups)
        one._check_totals(device)
        return one

    def _check_totals(self, device: BlockDevice) -> None:
        summaries = device.read(fsbtobyte(self.fs, self.fs.fs_csaddr), self.fs.fs_cssize)
        layout = record(csum(self.fs.byte_order))
        for group in self.groups:
            if layout.unpack(summaries, group.cgx * layout.size) != group.summary():
                raise FileSystemError(
                    FsCode.FS_INVALID_FS,
                    "differs from the group itself; repair the file system with fsck first",
                    f"summary of cylinder group {group.cgx}",
                )
        if self.totals() != {name: getattr(self.fs, name) for name in self.totals()}:
            raise FileSystemError(
                FsCode.FS_INVALID_FS,
                "the free counts are not the sum of the groups'; repair the file system with fsck first",
                "superblock",
            )

    def totals(self) -> dict[str, int]:
        """struct csum of the whole file system: cs_ndir, cs_nbfree, cs_nifree, cs_nffree."""
        summaries = [group.summary() for group in self.groups]
        return {name: sum(one[name] for one in summaries) for name in CSUM_NAMES}

    def check(self) -> None:
        """Invariant 1."""
        for group in self.groups:
            group.check()

    def free_blocks(self) -> int:
        """Wholly free blocks; what fs_minfree holds in reserve is counted, for root may use it."""
        return sum(group.counts.nbfree for group in self.groups)

    # Taking

    def _first(self, cg: int, what: str, find: Callable[[CylinderGroup], T | None]) -> tuple[CylinderGroup, T]:
        """The first group from `cg` round the disk where `find` finds, and what it found."""
        for step in range(len(self.groups)):
            group = self.groups[(cg + step) % len(self.groups)]
            found = find(group)
            if found is not None:
                return group, found
        raise NoRoom(f"the disk has no free {what} left")

    def take_block(self, cg: int = 0, after: int = 0) -> int:
        """One full block, in group `cg` if it has one; there from fragment `after` on if it can be."""
        start = dtogd(self.fs, after) // self.fs.fs_frag if after and dtog(self.fs, after) == cg else 0
        group, block = self._first(cg, "block", lambda g: g.find_block(start) if g.counts.nbfree else None)
        group.take_blocks(block)
        self._changed.add(group.cgx)
        return cgbase(self.fs, group.cgx) + block * self.fs.fs_frag

    def take_fragments(self, count: int, cg: int = 0) -> int:
        """`count` fragments of one block; a whole block when that is what they are."""
        if count == self.fs.fs_frag:
            return self.take_block(cg)
        group, fragment = self._first(cg, f"stretch of {count} fragments", lambda g: g.find_fragments(count))
        group.take_fragments(fragment, count)
        self._changed.add(group.cgx)
        return cgbase(self.fs, group.cgx) + fragment

    def extend_fragments(self, fragment: int, count: int, more: int) -> bool:
        """Take `more` fragments right behind the `count` at `fragment`, if they are free and in the same block."""
        group, first = self.groups[dtog(self.fs, fragment)], dtogd(self.fs, fragment)
        wanted = range(first + count, first + count + more)
        if first % self.fs.fs_frag + count + more > self.fs.fs_frag or not all(group.is_free(one) for one in wanted):
            return False
        group.take_fragments(first + count, more)
        self._changed.add(group.cgx)
        return True

    def give_fragments(self, fragment: int, count: int) -> None:
        """Free fragments of one block."""
        group = self.groups[dtog(self.fs, fragment)]
        group.give_fragments(dtogd(self.fs, fragment), count)
        self._changed.add(group.cgx)

    def take_inode(self, cg: int, directory: bool) -> int:
        """One inode, in group `cg` if it has one."""
        group, number = self._first(cg, "inode", CylinderGroup.find_inode)
        before = group.initialised
        group.take_inode(number, directory)
        if group.initialised > before:
            fs, first = self.fs, ino_to_fsba(self.fs, group.cgx * self.fs.fs_ipg + before)
            self.fresh_inodes.append((fsbtobyte(fs, first), (group.initialised - before) * fs.inode_bytes))
        self._changed.add(group.cgx)
        return group.cgx * self.fs.fs_ipg + number

    def take_file(self, size: int, cg: int = 0, holes: int = 0) -> list[int]:
        """The addresses of the blocks of a file of `size` bytes: full ones, and fragments for a small file's tail.

        So many blocks fewer as are `holes`; the last is none.
        """
        full, rest = divmod(size, self.fs.fs_bsize)
        if rest and full >= NDADDR:
            full, rest = full + 1, 0
        addresses: list[int] = []
        for _ in range(full - holes):
            near = addresses[-1] if addresses else 0
            addresses.append(self.take_block(dtog(self.fs, near) if near else cg, near))
        if rest:
            tail_group = dtog(self.fs, addresses[-1]) if addresses else cg
            addresses.append(self.take_fragments(numfrags(self.fs, fragroundup(self.fs, rest)), tail_group))
        return addresses

    def take_runs(self, blocks: int) -> list[Run]:
        """`blocks` full blocks in the fewest runs there can be, in the order of the disk. NoRoom.

        The largest stretches first, and for what then remains the smallest stretch that holds all of it.
        """
        if blocks > self.free_blocks():
            raise NoRoom(f"{blocks} blocks are wanted and only {self.free_blocks()} are free")
        stretches = sorted(self._stretches(), key=lambda run: (-run.blocks, run.fragment))
        chosen: list[Run] = []
        for at, run in enumerate(stretches):
            if run.blocks >= blocks:
                tightest = min(
                    (one for one in stretches[at:] if one.blocks >= blocks), key=lambda one: (one.blocks, one.fragment)
                )
                chosen.append(Run(tightest.fragment, blocks))
                break
            chosen.append(run)
            blocks -= run.blocks
        for run in chosen:
            self._take_run(run)
        return sorted(chosen, key=lambda run: run.fragment)

    def _stretches(self) -> Iterator[Run]:
        """Every stretch of free blocks, those that meet at the border of two groups joined."""
        frag = self.fs.fs_frag
        open_run: Run | None = None
        for group in self.groups:
            for block, count in group.free_runs():
                fragment = cgbase(self.fs, group.cgx) + block * frag
                if open_run and open_run.fragment + open_run.blocks * frag == fragment:
                    open_run = Run(open_run.fragment, open_run.blocks + count)
                    continue
                if open_run:
                    yield open_run
                open_run = Run(fragment, count)
        if open_run:
            yield open_run

    def _take_run(self, run: Run) -> None:
        fragment, left = run.fragment, run.blocks
        while left:
            group = self.groups[dtog(self.fs, fragment)]
            block = dtogd(self.fs, fragment) // self.fs.fs_frag
            count = min(left, len(group.blocks) - block)
            group.take_blocks(block, count)
            self._changed.add(group.cgx)
            fragment, left = fragment + count * self.fs.fs_frag, left - count

    # The maps on disk

    def clean_writes(self, device: BlockDevice, clean: bool) -> Iterator[tuple[int, bytes]]:
        """The superblock that says whether the disk is to be checked before it is used. 4.2/4.3BSD has no such mark."""
        if self.fs.format != "4.3bsd":
            data = device.read(self.fs.location, SBSIZE)
            yield self.fs.location, updated_superblock(self.fs, data, {"fs_clean": self.fs.fs_clean if clean else 0})

    def map_writes(self, device: BlockDevice, time: int) -> Iterator[tuple[int, bytes]]:
        """Byte offset and bytes of everything that must be written for what was taken since the last call, in order.

        The changed groups, their summaries, then fs_time and fs_cstotal of the superblock at fs.location; the copies of
        the superblock are left alone, as the kernel leaves them. `device` gives the superblock as it is now.
        """
        fs, layout = self.fs, record(csum(self.fs.byte_order))
        changed = sorted(self._changed)
        self._changed.clear()
        for cgx in changed:
            yield fsbtobyte(fs, cgtod(fs, cgx)), self.groups[cgx].pack()
        for cgx in changed:
            yield fsbtobyte(fs, fs.fs_csaddr) + cgx * layout.size, layout.pack(self.groups[cgx].summary())
        values = {f"fs_cstotal.{name}": count for name, count in self.totals().items()}
        yield fs.location, updated_superblock(fs, device.read(fs.location, SBSIZE), values | {"fs_time": time})
