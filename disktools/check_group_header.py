"""One struct cg of any variant: its numbers, and where its maps are.

Interface:
    read_group(disk, cg) -> Group | None      None: unreadable or not a group; that is in the report then
    Group                                     fields by name, and the maps cut out: iused, free, btot, b, clusters ...
    initialised_inodes(disk, cg) -> int       how many inodes of the group were ever written (UFS2 writes them late)
Not here: what the maps should be (check_groups).

Sources: 4.3BSD sys/h/fs.h; 4.4BSD and FreeBSD sys/ufs/ffs/fs.h. The names of UFS2 are mapped to the older ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootfs.geometry import cgbase, cgtod
from bootfs.layout import CG_MAGIC, MAXCPG, NRPOS, cylinder_group
from bootfs.layout_format import record
from disktools.check_disk import Disk


@dataclass(frozen=True, slots=True)
class Group:
    """What struct cg of group `cgx` says. The maps are bytes, bit 0 first; tables that the variant lacks are empty.

    `btot` counts free blocks by cylinder, `b` by cylinder and rotational position; `cluster_sums` runs of free blocks
    by length, `clusters` is the map of free blocks.
    """

    cgx: int
    fields: dict[str, Any]
    iused: bytes
    free: bytes
    btot: tuple[int, ...] = ()
    b: tuple[int, ...] = ()
    cluster_sums: tuple[int, ...] = ()
    clusters: bytes = b""
    raw: bytes = b""


def initialised_inodes(disk: Disk, cg: int) -> int:
    """cg_initediblk of UFS2 where it can be believed, else all."""
    fs = disk.fs
    if fs.tables != "ufs2":
        return fs.fs_ipg
    layout = record(cylinder_group(fs.byte_order, "ufs2"))
    data = disk.read_fragments(cgtod(fs, cg), layout.size, f"cylinder group {cg}")
    if data is None:
        return fs.fs_ipg
    fields = layout.unpack(data)
    count = int(fields["cg_initediblk"])
    return count if fields["cg_magic"] == CG_MAGIC and 0 < count <= fs.fs_ipg else fs.fs_ipg


def read_group(disk: Disk, cg: int) -> Group | None:
    """The group, its own numbers checked."""
    fs, report, where = disk.fs, disk.report, f"cylinder group {cg}"
    layout = record(cylinder_group(fs.byte_order, fs.tables))
    data = disk.read_fragments(cgtod(fs, cg), fs.fs_bsize, where)
    if data is None:
        return None
    fields = layout.unpack(data)
    if not report.expect(where, "cg_magic", fields["cg_magic"], CG_MAGIC):
        return None
    _check_numbers(disk, cg, fields)
    data = data[: fs.fs_cgsize]
    group = _static_maps(disk, cg, fields, data, layout.size) if fs.tables == "4.3" else _maps(disk, cg, fields, data)
    if group is None:
        report.add(where, "its maps do not fit in fs_cgsize")
    return group


def _check_numbers(disk: Disk, cg: int, fields: dict[str, Any]) -> None:
    fs, report, where = disk.fs, disk.report, f"cylinder group {cg}"
    fragments = min(fs.fs_fpg, fs.fs_size - cgbase(fs, cg))
    report.expect(where, "cg_cgx", fields["cg_cgx"], cg)
    report.expect(where, "cg_niblk", fields["cg_niblk"], fs.fs_ipg)
    report.expect(where, "cg_ndblk", fields["cg_ndblk"], fragments)
    if fs.tables != "ufs2":
        # The last group's cylinders are fs_ncyl % fs_cpg for mkfs and fsck of 4.3BSD, even where that is 0.
        cpg, ncyl = disk.fields["fs_cpg"], disk.fields["fs_ncyl"]
        last = (ncyl % cpg, cpg, ncyl - cg * cpg) if cpg > 0 and cg == fs.fs_ncg - 1 else (cpg,)
        found = fields["cg_ncyl"]
        if found not in (last if ncyl % max(cpg, 1) == 0 else last[:1]):
            report.add(where, f"cg_ncyl is {found}, should be {last[0]}")
    for name, limit in (("cg_rotor", fragments), ("cg_frotor", fragments), ("cg_irotor", fs.fs_ipg)):
        if not 0 <= fields[name] < limit:
            report.add(where, f"{name} is {fields[name]}, should be below {limit}")
    if fs.tables == "ufs2" and not 0 <= fields["cg_initediblk"] <= fs.fs_ipg:
        report.add(where, f"cg_initediblk is {fields['cg_initediblk']}, should be at most {fs.fs_ipg}")


def _static_maps(disk: Disk, cg: int, fields: dict[str, Any], data: bytes, size: int) -> Group | None:
    """The tables of 4.3: cg_free follows the structure."""
    fs = disk.fs
    end = size + -(-fs.fs_fpg // 8)
    if end > len(data) or fs.fs_ipg > 8 * len(fields["cg_iused"]):
        return None
    return Group(cg, fields, fields["cg_iused"], data[size:end], fields["cg_btot"], fields["cg_b"], raw=data)


def _maps(disk: Disk, cg: int, fields: dict[str, Any], data: bytes) -> Group | None:
    """The tables of 4.4 and UFS2, at the offsets that struct cg gives."""
    fs = disk.fs
    blocks = fs.fs_fpg >> fs.fs_fragshift
    iused = _cut(data, fields["cg_iusedoff"], -(-fs.fs_ipg // 8))
    free = _cut(data, fields["cg_freeoff"], -(-fs.fs_fpg // 8))
    if iused is None or free is None:
        return None
    btot: tuple[int, ...] = ()
    b: tuple[int, ...] = ()
    if has_rotational_tables(disk):
        cylinders, positions = disk.fields["fs_cpg"], disk.fields["fs_nrpos"]
        totals = _cut(data, fields["cg_btotoff"], 4 * cylinders)
        places = _cut(data, fields["cg_boff"], 2 * cylinders * positions)
        if totals is None or places is None:
            return None
        btot, b = _integers(totals, 4, fs.byte_order), _integers(places, 2, fs.byte_order)
    sums: tuple[int, ...] = ()
    clusters = b""
    if fs.fs_contigsumsize > 0:
        raw = _cut(data, fields["cg_clustersumoff"], 4 * (fs.fs_contigsumsize + 1))
        map_ = _cut(data, fields["cg_clusteroff"], -(-blocks // 8))
        if raw is None or map_ is None:
            return None
        sums, clusters = _integers(raw, 4, fs.byte_order), map_
    return Group(cg, fields, iused, free, btot, b, sums, clusters, data)


def has_rotational_tables(disk: Disk) -> bool:
    """Whether cg_btot and cg_b mean anything: FreeBSD and NetBSD mark a UFS1 in which they no longer keep them."""
    fs, fields = disk.fs, disk.fields
    if fs.tables == "4.3":
        return True
    if fs.tables == "ufs2" or fields["fs_flags"] & 0x80:
        return False
    return bool(0 < fields["fs_cpg"] <= 4096 and 0 < fields["fs_nrpos"] <= 64 and fields["fs_spc"] > 0)


def positions(disk: Disk) -> tuple[int, int]:
    """Cylinders and rotational positions of the tables of a group."""
    if disk.fs.tables == "4.3":
        return MAXCPG, NRPOS
    return disk.fields["fs_cpg"], disk.fields["fs_nrpos"]


def _cut(data: bytes, offset: int, length: int) -> bytes | None:
    return data[offset : offset + length] if 0 < offset <= len(data) - length else None


def _integers(data: bytes, width: int, order: str) -> tuple[int, ...]:
    view = memoryview(data).cast("i" if width == 4 else "h")
    if order == "big":
        swapped = bytearray(len(data))
        for at in range(width):
            swapped[at::width] = data[width - 1 - at :: width]
        view = memoryview(swapped).cast("i" if width == 4 else "h")
    return tuple(view)
