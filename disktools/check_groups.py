"""Maps and counts of the cylinder groups, against what the inodes have.

Interface:
    check_groups(disk, inodes, in_use, step)      in_use: the stretches of fragments in use (check_blocks.settle)
Not here: struct cg itself (check_group_header).

Everything is computed anew for each group and compared as a whole; only where that differs is it looked at bit by bit.
Sources: 4.3BSD etc/fsck/pass5.c, FreeBSD sbin/fsck_ffs/pass5.c; sys/h/fs.h for cbtocylno and cbtorpos.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import compress
from typing import Any

from bootfs.geometry import cgbase
from bootfs.layout import ROOTINO, csum
from bootfs.layout_format import record
from disktools.check_blocks import Stretch
from disktools.check_disk import Disk
from disktools.check_group_header import Group, has_rotational_tables, positions, read_group
from disktools.check_inodes import Inodes
from disktools.check_report import Step

TOLD = 4  # stretches of a map that one line names


class _Truth:
    """What a group's maps and counts should be."""

    def __init__(self, disk: Disk, cg: int, in_use: int) -> None:
        fs = disk.fs
        self.fragments = min(fs.fs_fpg, fs.fs_size - cgbase(fs, cg))
        self.free = ((1 << self.fragments) - 1) & ~in_use
        self.states = block_states(self.free, self.fragments, fs.fs_frag)
        self.full = (1 << fs.fs_frag) - 1
        self.nbfree = self.states.count(self.full)
        self.frsum = [0] * 8
        self.nffree = 0
        for state, count in Counter(self.states).items():
            if 0 < state < self.full:
                for length in _stretches(state):
                    self.nffree += count * length
                    self.frsum[length] += count


@cache
def _stretches(state: int) -> tuple[int, ...]:
    """The lengths of the stretches of free fragments in one block."""
    return tuple(len(one) for one in re.findall("1+", f"{state:b}"))


@cache
def _part(frag: int, at: int) -> bytes:
    """A table for bytes.translate: of 8 fragments in a byte, the state of the block at position `at`."""
    return bytes(byte >> at * frag & (1 << frag) - 1 for byte in range(256))


def block_states(free: int, fragments: int, frag: int) -> bytes:
    """One byte a block, bit i set when its fragment i is free, from a map with one bit a fragment."""
    packed = free.to_bytes(-(-fragments // 8), "little")
    blocks = -(-fragments // frag)
    if frag == 8:
        return packed
    each = 8 // frag
    states = bytearray(len(packed) * each)
    for at in range(each):
        states[at::each] = packed.translate(_part(frag, at))
    return bytes(states[:blocks])


def stretches(bits: int) -> Iterator[Stretch]:
    """Where the bits of a map are set: (first, end), in order."""
    data = bits.to_bytes(bits.bit_length() // 8 + 1, "little")
    for some in re.finditer(rb"[^\0]+", data):
        text = "".join(f"{byte:08b}"[::-1] for byte in some[0][:4096])
        for run in re.finditer("1+", text):
            yield some.start() * 8 + run.start(), some.start() * 8 + run.end()


def _named(bits: int, base: int) -> str:
    """The set bits of a map as numbers of the whole disk."""
    shown: list[str] = []
    for first, end in stretches(bits):
        if len(shown) == TOLD:
            shown.append("...")
            break
        shown.append(str(base + first) if end - first == 1 else f"{base + first}-{base + end - 1}")
    return ", ".join(shown)


def check_groups(disk: Disk, inodes: Inodes, in_use: list[Stretch], step: Step) -> None:
    """Each group, the summary area and the totals of the superblock."""
    check = _Groups(disk, inodes)
    at = 0
    for cg in range(disk.groups):
        step(cg, disk.groups)
        base = cgbase(disk.fs, cg)
        limit = base + disk.fs.fs_fpg
        bits = 0
        while at < len(in_use) and in_use[at][0] < limit:
            first, end = max(in_use[at][0], base), min(in_use[at][1], limit)
            if end > first:
                bits |= ((1 << (end - first)) - 1) << (first - base)
            if in_use[at][1] > limit:
                break
            at += 1
        check.group(cg, bits)
    check.summaries()


class _Groups:
    """The pass under way, with the sums of all groups so far."""

    def __init__(self, disk: Disk, inodes: Inodes) -> None:
        self.disk, self.fs, self.report, self.inodes = disk, disk.fs, disk.report, inodes
        self.totals: Counter[str] = Counter()
        self.counts: dict[int, dict[str, int]] = {}
        self.places = _places(disk) if has_rotational_tables(disk) else []

    def group(self, cg: int, in_use: int) -> None:
        """One group, of which the fragments `in_use` are in use."""
        truth = _Truth(self.disk, cg, in_use)
        used = self.inodes.used[cg] | (set(range(ROOTINO)) if cg == 0 else set())
        should = {
            "cs_ndir": self.inodes.directories_in[cg],
            "cs_nbfree": truth.nbfree,
            "cs_nifree": self.fs.fs_ipg - len(used),
            "cs_nffree": truth.nffree,
        }
        self.counts[cg] = should
        self.totals.update(should)
        group = read_group(self.disk, cg)
        if group is None:
            return
        self.inode_map(group, used)
        self.free_map(group, truth)
        where = f"cylinder group {cg}"
        for name, value in should.items():
            self.report.expect(where, f"cg_cs.{name}", group.fields[f"cg_cs.{name}"], value)
        for length in range(1, self.fs.fs_frag):
            self.report.expect(where, f"cg_frsum[{length}]", group.fields["cg_frsum"][length], truth.frsum[length])
        if group.btot:
            self.rotation(group, truth)
        if group.cluster_sums:
            self.clusters(group, truth)

    def inode_map(self, group: Group, used: set[int]) -> None:
        wanted = bytearray(-(-self.fs.fs_ipg // 8))
        for number in used:
            wanted[number >> 3] |= 1 << (number & 7)
        found = int.from_bytes(group.iused, "little") & (1 << self.fs.fs_ipg) - 1
        self.compare(group, found, int.from_bytes(wanted, "little"), "inode", group.cgx * self.fs.fs_ipg)

    def compare(self, group: Group, found: int, wanted: int, what: str, base: int) -> None:
        """A map of what is in use."""
        if found == wanted:
            return
        where = f"cylinder group {group.cgx}"
        for bits, text in (
            (wanted & ~found, "in use, but free in its map"),
            (found & ~wanted, "free, but in use in its map"),
        ):
            if bits:
                several = bits.bit_count() > 1
                self.report.add(
                    where, f"{what}{'s' * several} {_named(bits, base)} {'are' if several else 'is'} {text}"
                )

    def free_map(self, group: Group, truth: _Truth) -> None:
        found = int.from_bytes(group.free, "little")
        if found == truth.free:
            return
        base, whole = cgbase(self.fs, group.cgx), (1 << truth.fragments) - 1
        self.compare(group, whole & ~found, whole & ~truth.free, "fragment", base)
        if found & ~whole:
            self.report.add(f"cylinder group {group.cgx}", "fragments beyond its end are free in its map")

    def rotation(self, group: Group, truth: _Truth) -> None:
        """cg_btot and cg_b: free blocks by cylinder, and by rotational position there."""
        cylinders, rotations = positions(self.disk)
        free = truth.states.translate(_is(truth.full))
        at = Counter(compress(self.places, free))
        where = f"cylinder group {group.cgx}"
        found = Counter({place: count for place, count in enumerate(group.b) if count})
        if found != at:
            for place in sorted(found.keys() | at.keys()):
                cylinder, position = divmod(place, rotations)
                self.report.expect(where, f"cg_b[{cylinder}][{position}]", found[place], at[place])
        totals = [0] * cylinders
        for place, count in at.items():
            if place // rotations < cylinders:
                totals[place // rotations] += count
        if list(group.btot) != totals:
            for cylinder, (one, two) in enumerate(zip(group.btot, totals, strict=True)):
                self.report.expect(where, f"cg_btot[{cylinder}]", one, two)

    def clusters(self, group: Group, truth: _Truth) -> None:
        """Runs of free blocks by length, the last count being of all longer ones; and the map of free blocks."""
        where, most = f"cylinder group {group.cgx}", self.fs.fs_contigsumsize
        free = truth.states[: truth.fragments // self.fs.fs_frag].translate(_is(truth.full))
        sums = [0] * (most + 1)
        for run in re.finditer(b"\1+", free):
            sums[min(run.end() - run.start(), most)] += 1
        for length in range(1, most + 1):
            self.report.expect(where, f"cluster summary [{length}]", group.cluster_sums[length], sums[length])
        wanted = int(free[::-1].translate(_DIGITS) or b"0", 2)
        found = int.from_bytes(group.clusters, "little") & (1 << len(free)) - 1
        if found != wanted:
            self.report.add(where, f"the cluster map is wrong at blocks {_named(found ^ wanted, 0)} of the group")

    def summaries(self) -> None:
        """The summary area, which has each group's counts again, and the totals of the superblock."""
        fs, layout = self.fs, record(csum(self.fs.byte_order))
        data = self.disk.read_fragments(fs.fs_csaddr, fs.fs_ncg * layout.size, "summary area")
        if data is not None:
            for cg, should in self.counts.items():
                found: dict[str, Any] = layout.unpack(data, cg * layout.size)
                if found != should:
                    for name, value in should.items():
                        self.report.expect(f"summary area, cylinder group {cg}", name, found[name], value)
        if len(self.counts) == fs.fs_ncg:
            for name in ("cs_ndir", "cs_nbfree", "cs_nifree", "cs_nffree"):
                found_total = self.disk.fields[f"fs_cstotal.{name}"]
                self.report.expect("superblock", f"fs_cstotal.{name}", found_total, self.totals[name])


_DIGITS = bytes(range(48, 50)) + bytes(254)  # 0 and 1 as text, for int()


@cache
def _is(state: int) -> bytes:
    """A table for bytes.translate: 1 for one state, 0 for any other."""
    return bytes(one == state for one in range(256))


def _places(disk: Disk) -> list[int]:
    """For each block of a group its cylinder and rotational position, as the index in cg_b."""
    fs, fields = disk.fs, disk.fields
    nspf, spc, nsect = fields["fs_nspf"], fields["fs_spc"], fields["fs_nsect"]
    if min(nspf, spc, nsect) < 1:
        disk.report.add("superblock", "fs_nspf, fs_spc and fs_nsect should be above 0")
        return []
    _, rotations = positions(disk)
    sectors = range(0, fs.fs_fpg * nspf, fs.fs_frag * nspf)
    if fs.tables == "4.3":
        return [at // spc * rotations + at % nsect * rotations // nsect for at in sectors]
    # As the kernels do for disks older than these fields (FreeBSD ffs_vfsops.c, ffs_oldfscompat_read).
    npsect, interleave = max(fields["fs_npsect"], nsect), max(fields["fs_interleave"], 1)
    skew = fields["fs_trackskew"]
    return [
        at // spc * rotations + (at % spc // nsect * skew + at % spc % nsect * interleave) % nsect * rotations // npsect
        for at in sectors
    ]
