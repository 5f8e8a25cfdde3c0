"""The superblock beyond the relations that every reader checks: its size against the device, and all its copies.

Interface:
    check_superblock(disk)      fills disk.groups; Interruption when the device holds not even the first group
Not here: the totals of what is free (check_groups), finding it (check_disk).

The 1986 fsck looks only at the last copy, and not at what tunefs may change there; here every copy is read and every
field that no kernel writes must agree.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bootfs.geometry import cgdmin, cgsblock, fsbtobyte
from bootfs.layout import superblock
from bootfs.layout_format import record
from bootfs.superblock import SUPERBLOCK_BYTES
from disktools.check_disk import Disk
from disktools.check_report import Interruption


def _names(text: str) -> list[str]:
    return text.split()


# What kernels write into the first superblock only: times, states, totals, pointers of their own memory, and the choice
# between time and space that they make by themselves.
VOLATILE = frozenset(
    _names("""
    fs_link fs_rlink fs_time fs_fmod fs_clean fs_ronly fs_flags fs_fsmnt fs_cgrotor fs_csp fs_optim fs_state
    fs_cstotal.cs_ndir fs_cstotal.cs_nbfree fs_cstotal.cs_nifree fs_cstotal.cs_nffree
    fs_cstotal.cs_numclusters fs_cstotal.cs_spare fs_space fs_rotbl
    fs_old_time fs_old_cstotal.cs_ndir fs_old_cstotal.cs_nbfree fs_old_cstotal.cs_nifree fs_old_cstotal.cs_nffree
    fs_old_flags fs_volname fs_swuid fs_pad fs_ocsp fs_maxbsize fs_unrefs fs_providersize fs_metaspace fs_sparecon64
    fs_sblockactualloc fs_sblockloc fs_pendingblocks fs_pendinginodes fs_snapinum fs_avgfilesize fs_avgfpdir
    fs_save_cgsize fs_mtime fs_sujfree fs_sparecon32 fs_ckhash fs_metackhash
    """)
)
# Where 4.4 has spare words and an old table, the UFS1 of later BSDs keeps the wide fields of UFS2.
REUSED_IN_44 = frozenset({"fs_sparecon", "fs_opostbl"})
TABLES = "its tables after struct fs"


def check_superblock(disk: Disk) -> None:
    """Every superblock of the disk."""
    _check_size(disk)
    _check_values(disk)
    _check_copies(disk)


def _check_size(disk: Disk) -> None:
    fs = disk.fs
    if max(fs.fs_fpg, fs.fs_ipg) > 8 * fs.fs_bsize:
        disk.report.add("superblock", "fs_fpg and fs_ipg are too large for maps that must fit in one block")
        raise Interruption
    room = disk.device.size // fs.fs_fsize
    disk.groups = fs.fs_ncg
    if fs.fs_size <= room:
        return
    disk.report.add(
        "superblock", f"fs_size is {fs.fs_size} fragments, but the device has only {room}; is it cut short?"
    )
    disk.groups = min(fs.fs_ncg, -(-room // fs.fs_fpg))
    while disk.groups and cgdmin(fs, disk.groups - 1) > room:
        disk.groups -= 1
    if disk.groups == 0:
        raise Interruption


def _check_values(disk: Disk) -> None:
    """What no relation needs and every kernel assumes."""
    report, fields, fs = disk.report, disk.fields, disk.fs
    if not 0 <= fs.fs_minfree <= 99:
        report.add("superblock", f"fs_minfree is {fs.fs_minfree}, should be a percentage")
    if not 0 <= fields["fs_optim"] <= 1:
        report.add("superblock", f"fs_optim is {fields['fs_optim']}, should be 0 (time) or 1 (space)")
    if not 0 <= fs.fs_dsize <= fs.fs_size:
        report.add("superblock", f"fs_dsize is {fs.fs_dsize}, should be less than fs_size")
    if fs.fs_sbsize < SUPERBLOCK_BYTES - 4:
        report.add("superblock", f"fs_sbsize is {fs.fs_sbsize}, less than struct fs has")
    if cgdmin(fs, fs.fs_ncg - 1) > fs.fs_size:
        report.add("superblock", f"fs_size {fs.fs_size} ends within the tables of the last cylinder group")
    # Later BSDs invent a disk of one sector a track; only in 4.3 was the product always meant.
    if fs.tables == "4.3" and fields["fs_spc"] != fields["fs_nsect"] * fields["fs_ntrak"]:
        report.add("superblock", f"fs_spc is {fields['fs_spc']}, should be fs_nsect x fs_ntrak")


def _comparable(disk: Disk, data: bytes) -> dict[str, Any]:
    """The fields that must agree in all copies; with those tables after struct fs that 4.3 keeps there."""
    fs = disk.fs
    values = record(superblock(fs.byte_order, fs.tables)).unpack(data)
    kept = {name: value for name, value in values.items() if name not in VOLATILE}
    if fs.tables == "4.4":
        kept = {name: value for name, value in kept.items() if name not in REUSED_IN_44}
    if fs.tables == "4.3" and fs.fs_sbsize <= len(data):
        kept[TABLES] = data[SUPERBLOCK_BYTES - 4 : fs.fs_sbsize]
    return kept


def _check_copies(disk: Disk) -> None:
    """Each copy against the one in use; a field in which all copies are against it is that one's fault."""
    fs, own = disk.fs, _comparable(disk, disk.data)
    against: dict[int, dict[str, Any]] = {}
    compared = 0
    for cg in range(disk.groups):
        place = fsbtobyte(fs, cgsblock(fs, cg))
        if place == fs.location:
            continue
        where = f"superblock copy of cylinder group {cg}"
        data = disk.read(
            place, len(disk.data) if place + len(disk.data) <= disk.device.size else SUPERBLOCK_BYTES, where
        )
        if data is None:
            continue
        compared += 1
        if data[: fs.fs_sbsize] != disk.data[: fs.fs_sbsize]:
            copy = _comparable(disk, data)
            different = {name: value for name, value in copy.items() if value != own.get(name, value)}
            if different:
                against[cg] = different
    votes = Counter((name, value) for different in against.values() for name, value in different.items())
    for (name, value), count in votes.items():
        if count == compared:
            disk.report.add("superblock", _difference(name, own[name], value, _all_of(compared)))
            for different in against.values():
                del different[name]
    for cg, different in against.items():
        _tell(disk, f"superblock copy of cylinder group {cg}", different, own)


def _tell(disk: Disk, where: str, different: dict[str, Any], own: dict[str, Any]) -> None:
    if "fs_magic" in different:
        disk.report.add(where, "is not there: no magic number")
        return
    for name, value in different.items():
        disk.report.add(where, _difference(name, value, own[name], "the superblock"))


def _all_of(count: int) -> str:
    return "its copy" if count == 1 else f"all its {count} copies"


def _difference(name: str, value: Any, other: Any, of_whom: str) -> str:
    """One line; of a table only the first place where it differs."""
    if not isinstance(value, bytes | tuple):
        return f"{name} is {value}, but {other} in {of_whom}"
    at = next((at for at, (one, two) in enumerate(zip(value, other, strict=False)) if one != two), 0)
    return f"{name}[{at}] is {value[at]}, but {other[at]} in {of_whom}"
