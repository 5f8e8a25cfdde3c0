"""struct cg on disk, read and written: the static one of 4.2/4.3BSD, and the dynamic one of 4.4BSD, UFS1 and UFS2.

Interface:
    Rotation                     where a block passes under the heads, and the tables that count by it; Rotation.of
    GroupFacts                   all that a struct cg says and that changes
    blank_group(fs, cgx, ncyl) -> bytes            a new group's struct cg, before its facts
    read_group(fs, rotation, cgx, data) -> GroupFacts     FileSystemError: it is none, or its maps lie outside it
    write_group(fs, image, facts) -> bytes         `image` with these facts; all other bytes as they were
Invariants:
    1. Only what GroupFacts has, the check hash and nothing else differs between `image` and what write_group gives.
Not here: whether the facts are true (cylinder_group).

Sources: 4.3BSD sys/h/fs.h, 4.4BSD sys/ufs/ffs/fs.h (cbtorpos, cg_clustersum), FreeBSD sys/ufs/ffs/fs.h (cg_ckhash).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bootfs.errors import FileSystemError, FsCode
from bootfs.geometry import cgbase
from bootfs.layout import (
    CG_MAGIC,
    CK_CYLGRP,
    FS_FLAGS_UPDATED,
    MAXCPG,
    MAXIPG,
    NRPOS,
    cylinder_group,
)
from bootfs.layout_format import Record, record
from bootfs.superblock import Superblock
from disktools.crc32c import check_hash

CSUM_NAMES = ("cs_ndir", "cs_nbfree", "cs_nifree", "cs_nffree")


@dataclass(frozen=True, slots=True)
class Rotation:
    """`nspf` sectors a fragment, `spc` sectors a cylinder, `nsect` sectors a track.

    The tables have `cylinders` times `positions` counters; none (cylinders 0) where nobody keeps them any more.
    """

    nspf: int
    spc: int
    nsect: int
    cylinders: int = MAXCPG
    positions: int = NRPOS
    interleave: int = 1
    trackskew: int = 0
    npsect: int = 0  # sectors a track with the spare ones; 0 for as many as nsect

    @classmethod
    def of(cls, fs: Superblock, fields: Mapping[str, Any]) -> Rotation:
        """From the fields of struct fs; FileSystemError where the tables of a group could not hold such a disk."""
        if fs.tables == "ufs2" or (fs.tables == "4.4" and fields["fs_flags"] & FS_FLAGS_UPDATED):
            return NO_ROTATION  # FreeBSD and NetBSD leave the tables as they find them
        one = cls(fields["fs_nspf"], fields["fs_spc"], fields["fs_nsect"])
        if fs.tables == "4.4":
            skew = (fields["fs_interleave"], fields["fs_trackskew"], fields["fs_npsect"])
            one = cls(one.nspf, one.spc, one.nsect, fields["fs_cpg"], fields["fs_nrpos"], *skew)
        least = min(one.nspf, one.spc, one.nsect, one.cylinders, one.positions)
        if least < 1 or (fs.fs_fpg * one.nspf - 1) // one.spc >= one.cylinders or one.npsect < 0:
            if fs.tables == "4.4":
                return NO_ROTATION
            raise FileSystemError(FsCode.FS_INVALID_FS, f"impossible geometry {one}", "superblock")
        return one

    def cbtocylno(self, fragment: int) -> int:
        """The cylinder of a fragment, both counted within the group."""
        return fragment * self.nspf // self.spc

    def cbtorpos(self, fragment: int) -> int:
        """The rotational position, from 0 to `positions`, where a fragment begins."""
        if not self.npsect:
            return fragment * self.nspf % self.nsect * self.positions // self.nsect
        track, sector = divmod(fragment * self.nspf % self.spc, self.nsect)
        turned = (track * self.trackskew + sector * self.interleave) % self.nsect
        return turned * self.positions // self.npsect


NO_ROTATION = Rotation(1, 1, 1, cylinders=0)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The maps are as on disk: a bit each inode (1: taken), each fragment (1: free), each block (1: wholly free).

    `btot` and `rotations` are empty where no table counts by rotation, `clusters` (how many stretches of 1, 2 ... free
    blocks) and `cluster_map` where fs_contigsumsize is 0. `initialised` inodes have been written at least once.
    """

    summary: dict[str, int]
    frsum: list[int]
    btot: list[int]
    rotations: list[int]
    clusters: list[int]
    inodes: bytes
    free: bytes
    cluster_map: bytes
    initialised: int


def _layout(fs: Superblock) -> Record:
    return record(cylinder_group(fs.byte_order, fs.tables))


def _order(fs: Superblock) -> str:
    return "<" if fs.byte_order == "little" else ">"


def _bytes_for(bits: int) -> int:
    return -(-bits // 8)


def _blocks(fs: Superblock) -> int:
    """Whole blocks in a group."""
    return fs.fs_fpg // fs.fs_frag


def _old(fs: Superblock, name: str) -> str:
    """The name of a field that UFS2 keeps only for the older formats."""
    return name.replace("cg_", "cg_old_") if fs.tables == "ufs2" else name


def blank_group(fs: Superblock, cgx: int, ncyl: int) -> bytes:
    """fs_cgsize bytes for a new group of `ncyl` cylinders; in UFS2, where there are none, `ncyl` means nothing."""
    layout = _layout(fs)
    values = {"cg_magic": CG_MAGIC, "cg_cgx": cgx, "cg_ndblk": min(fs.fs_fpg, fs.fs_size - cgbase(fs, cgx))}
    if fs.tables == "ufs2":
        values["cg_niblk"] = fs.fs_ipg
    else:
        values |= {"cg_ncyl": ncyl, "cg_niblk": fs.fs_ipg}
    if fs.tables != "4.3":
        values |= _places(fs, layout.size)
    if fs.fs_contigsumsize > 0 and fs.tables != "4.3":
        values["cg_nclusterblks"] = values["cg_ndblk"] // fs.fs_frag
    return layout.pack(values).ljust(fs.fs_cgsize, b"\0")


def _places(fs: Superblock, start: int) -> dict[str, int]:
    """Where a new dynamic group has its maps. UFS1: one counter of either rotational table, which nobody keeps."""
    places = {}
    if fs.tables == "4.4":
        places = {"cg_btotoff": start, "cg_boff": start + 4}
        start += 4 + 2
    places["cg_iusedoff"] = start
    places["cg_freeoff"] = start + _bytes_for(fs.fs_ipg)
    end = places["cg_freeoff"] + _bytes_for(fs.fs_fpg)
    if fs.fs_contigsumsize > 0:
        # There are no stretches of 0 blocks: the first word of the table may lie under the end of the map before it.
        places["cg_clustersumoff"] = -(-end // 4) * 4 - 4
        places["cg_clusteroff"] = places["cg_clustersumoff"] + (fs.fs_contigsumsize + 1) * 4
        end = places["cg_clusteroff"] + _bytes_for(_blocks(fs))
    places["cg_nextfreeoff"] = end
    return places


def group_bytes(variant: str, fpg: int, ipg: int, frag: int, contigsumsize: int) -> int:
    """Bytes of a new dynamic struct cg with its maps; what fs_cgsize must hold."""
    start = record(cylinder_group("little", "ufs2")).size + (6 if variant == "4.4" else 0)
    clusters = 4 + contigsumsize * 4 + _bytes_for(fpg // frag) if contigsumsize else 0
    return start + _bytes_for(ipg) + _bytes_for(fpg) + clusters


def read_group(fs: Superblock, rotation: Rotation, cgx: int, data: bytes) -> GroupFacts:
    """The facts in `data` (fs_bsize bytes). FileSystemError FS_INVALID_FS names the field that is wrong."""
    layout = _layout(fs)
    values = layout.unpack(data)
    _expect(cgx, "its magic number", values["cg_magic"], CG_MAGIC)
    _expect(cgx, "its number", values["cg_cgx"], cgx)
    fragments = min(fs.fs_fpg, fs.fs_size - cgbase(fs, cgx))
    _expect(cgx, "its size in fragments", values["cg_ndblk"], fragments)
    summary = {name: values[f"cg_cs.{name}"] for name in CSUM_NAMES}
    if fs.tables == "4.3":
        _expect(cgx, "room for fs_cgsize", layout.size + _bytes_for(fs.fs_fpg) <= fs.fs_cgsize, True)
        _expect(cgx, "at most 2048 inodes", fs.fs_ipg <= MAXIPG, True)
        tables = (list(values["cg_frsum"]), list(values["cg_btot"]), list(values["cg_b"]))
        free = data[layout.size : layout.size + _bytes_for(fs.fs_fpg)]
        return GroupFacts(summary, *tables, [], values["cg_iused"], free, b"", fs.fs_ipg)
    image = data[: fs.fs_cgsize]
    for name, at, length in _parts(fs, rotation, values):
        _expect(cgx, f"{name} inside the group", layout.size <= at + 4 and at + length <= fs.fs_cgsize, True)
    parts = {name: image[at : at + length] for name, at, length in _parts(fs, rotation, values)}
    if fs.fs_contigsumsize > 0:
        _expect(cgx, "its size in blocks", values["cg_nclusterblks"], fragments // fs.fs_frag)
    if fs.tables == "ufs2":
        _expect(cgx, "initialised inodes at most fs_ipg", 0 <= values["cg_initediblk"] <= fs.fs_ipg, True)
        if fs.fs_metackhash & CK_CYLGRP:
            wanted = check_hash(image, layout.offset_of("cg_ckhash"))
            _expect(cgx, "its check hash", values["cg_ckhash"], wanted)
    return GroupFacts(
        summary,
        list(values["cg_frsum"]),
        _numbers(fs, "i", parts.get("cg_btot", b"")),
        _numbers(fs, "h", parts.get("cg_b", b"")),
        _numbers(fs, "i", parts.get("cg_clustersum", b"    ")[4:]),
        parts["cg_iused"],
        parts["cg_free"],
        parts.get("cg_cluster", b""),
        values.get("cg_initediblk", fs.fs_ipg),
    )


def _expect(cgx: int, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise FileSystemError(
            FsCode.FS_INVALID_FS,
            f"{what} should be {wanted}, not {found}; repair the file system with fsck first",
            f"cylinder group {cgx}",
        )


def _numbers(fs: Superblock, code: str, data: bytes) -> list[int]:
    return list(struct.unpack(f"{_order(fs)}{len(data) // struct.calcsize('<' + code)}{code}", data))


def _parts(fs: Superblock, rotation: Rotation, values: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Name, offset and bytes of each map and table of a dynamic group."""
    parts = [
        ("cg_iused", values["cg_iusedoff"], _bytes_for(fs.fs_ipg)),
        ("cg_free", values["cg_freeoff"], _bytes_for(fs.fs_fpg)),
    ]
    if rotation.cylinders:
        places = rotation.cylinders * rotation.positions
        parts += [("cg_btot", values["cg_btotoff"], rotation.cylinders * 4), ("cg_b", values["cg_boff"], places * 2)]
    if fs.fs_contigsumsize > 0:
        parts.append(("cg_clustersum", values["cg_clustersumoff"], (fs.fs_contigsumsize + 1) * 4))
        parts.append(("cg_cluster", values["cg_clusteroff"], _bytes_for(_blocks(fs))))
    return parts


def write_group(fs: Superblock, rotation: Rotation, image: bytes, facts: GroupFacts) -> bytes:
    """fs_cgsize bytes: `image` with `facts` in their places.

    The rotors stay: they are only hints. So does cg_time (0 on a new disk), which nobody reads but fsck, and that takes
    a time in its own future for damage: a machine of 1986 has a clock of 1986 (4.3BSD etc/fsck/pass5.c).
    """
    layout, data = _layout(fs), bytearray(image)
    values = layout.unpack(image)
    values |= {f"cg_cs.{name}": count for name, count in facts.summary.items()} | {"cg_frsum": tuple(facts.frsum)}
    if fs.tables == "4.3":
        values |= {"cg_btot": tuple(facts.btot), "cg_b": tuple(facts.rotations), "cg_iused": facts.inodes}
        data[: layout.size] = layout.pack(values)
        data[layout.size : layout.size + len(facts.free)] = facts.free
        return bytes(data)
    if fs.tables == "ufs2":
        values["cg_initediblk"] = facts.initialised
    data[: layout.size] = layout.pack(values)
    contents = {
        "cg_iused": facts.inodes,
        "cg_free": facts.free,
        "cg_btot": struct.pack(f"{_order(fs)}{len(facts.btot)}i", *facts.btot),
        "cg_b": struct.pack(f"{_order(fs)}{len(facts.rotations)}h", *facts.rotations),
        "cg_clustersum": struct.pack(f"{_order(fs)}{len(facts.clusters)}i", *facts.clusters),
        "cg_cluster": facts.cluster_map,
    }
    for name, at, length in _parts(fs, rotation, values):
        data[at + length - len(contents[name]) : at + length] = contents[name]
    if fs.tables == "ufs2" and fs.fs_metackhash & CK_CYLGRP:
        place = layout.offset_of("cg_ckhash")
        struct.pack_into(f"{_order(fs)}I", data, place, check_hash(data, place))
    return bytes(data)
