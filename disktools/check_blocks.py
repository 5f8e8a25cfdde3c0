"""Whose is each fragment? Every claim sorted, so that a second claimant, or one on the file system's own tables, shows.

Interface:
    settle(disk, claims) -> list of (first fragment, end)   all that is in use, in order, joined
    check_tails(disk, tails)                                zeros beyond the end of each file
Not here: the maps (check_groups), who claims what (check_inodes).
"""

from __future__ import annotations

from collections.abc import Iterator

from bootfs.geometry import cgdmin, cgsblock
from disktools.check_disk import Disk
from disktools.check_inodes import Claim
from disktools.check_report import Step

Stretch = tuple[int, int]
SUMMARY = -1  # the claimant of the summary area; -2 - cg is the one of a group's tables


def own_tables(disk: Disk) -> Iterator[Claim]:
    """What the file system has for itself: in group 0 all from the boot area on."""
    fs = disk.fs
    for cg in range(disk.groups):
        yield (cgsblock(fs, cg) if cg else 0), cgdmin(fs, cg), -2 - cg
    yield fs.fs_csaddr, fs.fs_csaddr + -(-fs.fs_cssize // fs.fs_fsize), SUMMARY


def settle(disk: Disk, claims: list[Claim]) -> list[Stretch]:
    """Every overlap is told of once for each inode; what it returns has none."""
    claims += own_tables(disk)
    claims.sort()
    merged: list[Stretch] = []
    shared: dict[tuple[int, int], tuple[int, int]] = {}
    begin, end, owner = 0, 0, -2
    for first, past, who in claims:
        if first < end:
            if who != owner or first != begin or who > 0:
                at, count = shared.get((who, owner), (first, 0))
                shared[who, owner] = at, count + min(past, end) - first
            if past > end:
                end, owner = past, who
        elif first == end:
            end, owner = past, who
        else:
            merged.append((begin, end))
            begin, end, owner = first, past, who
    merged.append((begin, end))
    for (one, two), (fragment, count) in shared.items():
        _tell(disk, one, two, fragment, count)
    return merged


def _tell(disk: Disk, one: int, two: int, fragment: int, count: int) -> None:
    if one < 0 and two < 0:
        disk.report.add("superblock", f"{_name(one)} and {_name(two)} overlap at fragment {fragment}")
        return
    if one < 0:
        one, two = two, one
    many = f"fragment {fragment}" if count == 1 else f"{count} fragments from {fragment} on"
    whom = f"inode {two}" if two > 0 else _name(two)
    disk.report.inode(one, f"{many} belong{'s'[: count == 1]} also to {'itself' if one == two else whom}")


def _name(who: int) -> str:
    return "the summary area" if who == SUMMARY else f"the tables of cylinder group {-2 - who}"


def check_tails(disk: Disk, tails: list[tuple[int, int, int]], step: Step) -> None:
    """Kernels clear what they allocate beyond the end of a file: data there means that the size is wrong."""
    tails.sort()
    for at, (offset, length, ino) in enumerate(tails):
        if not at & 0xFFF:
            step(at, len(tails))
        data = disk.read(offset, length, f"inode {ino}", ino)
        if data is not None and data.strip(b"\0"):
            disk.report.inode(ino, "there is data beyond its end, in its last block: its size may be too small")
