"""Partition tables: MBR, GPT, Apple's map; BSD, DragonFly, Sun, Solaris and NeXT labels, on a disk or in a slice.

Interface:
    Partition                  its name, the table it is in, where it is
    partitions(device)         all there are, in the order of their names' tables; a table that is not sound has none
    Names are FreeBSD's: s1, s2 ... in an MBR or Apple's map, p1, p2 ... in a GPT, a, b ... in a label; s1a, p1a ... in
    one in those.
Not here: what is in a partition (disk). Every table is bounded: garbage in one costs no more than a few reads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import xor
from typing import Any, Literal

from bootfs import layout_labels as layout
from bootfs.device import BlockDevice
from bootfs.layout import DEV_BSIZE, ByteOrder
from bootfs.layout_format import Record, record

Table = Literal["mbr", "gpt", "apple", "bsd", "bsd64", "sun", "vtoc", "next"]

ORDERS: tuple[ByteOrder, ...] = ("little", "big")
LABEL_AREA = 2 * DEV_BSIZE  # bytes that a BSD label is somewhere in:
LABEL_PLACES = (0, 2048, 4096)  # at the start of a disk or slice, or in sector 1 where sectors are larger
RAW_PART = 2  # "c": the whole disk, or the whole slice
EXTENDED = (0x05, 0x0F, 0x85)
PROTECTIVE = 0xEE
MAX_LOGICAL = 60
MAX_GPT_ENTRIES = 1024
MAX_APPLE_ENTRIES = 64
NEXT_LABEL_AREA = 8192
NEXT_LABEL_PLACES = tuple(sector * size for sector in (0, 15, 30, 45) for size in (DEV_BSIZE, 2 * DEV_BSIZE))


@dataclass(frozen=True, slots=True)
class Partition:
    """One entry of a table. Offset and size are bytes on the whole device, and within it."""

    name: str
    table: Table
    offset: int
    size: int

    def answers_to(self, name: str) -> bool:
        """Whether a person means this one: s1 and p1 are also 1."""
        return name in (self.name, self.name[1:] if self.name[1:].isdigit() else self.name)


def partitions(device: BlockDevice) -> tuple[Partition, ...]:
    """The partitions of a device, those of no size and those beyond it left out. FileSystemError: the device's own."""
    found = list(_gpt(device)) or list(_mbr(device)) or list(_apple(device))
    found += [*_labels(device, "", 0, device.size), *_sun(device)]
    return tuple(found)


def _read(device: BlockDevice, offset: int, length: int) -> bytes:
    """Up to `length` bytes: fewer at the end of the device."""
    if not 0 <= offset < device.size:
        return b""
    return device.read(offset, min(length, device.size - offset))


def _partition(device: BlockDevice, name: str, table: Table, offset: int, size: int) -> Iterator[Partition]:
    """The partition, cut at the end of a shortened image; nothing if it is not on the device."""
    if 0 <= offset < device.size and size > 0:
        yield Partition(name, table, offset, min(size, device.size - offset))


# MBR


def _entries(sector: bytes) -> list[dict[str, Any]]:
    """The used entries of an MBR or of a link in an extended partition, with their numbers; none if it is neither."""
    if sector[layout.MBR_SIGNATURE_AT : DEV_BSIZE] != layout.MBR_SIGNATURE:
        return []
    entry = record(layout.mbr_entry())
    found = [entry.unpack(sector, layout.MBR_ENTRIES_AT + at * entry.size) | {"number": at + 1} for at in range(4)]
    if any(one["status"] & 0x7F for one in found):
        return []  # boot code of something else that ends in the same signature
    return [one for one in found if one["type"] and one["sectors"]]


def _mbr(device: BlockDevice) -> Iterator[Partition]:
    for entry in _entries(_read(device, 0, DEV_BSIZE)):
        start, size = entry["start"] * DEV_BSIZE, entry["sectors"] * DEV_BSIZE
        if entry["type"] in EXTENDED:
            yield from _logical(device, start)
        elif entry["type"] != PROTECTIVE:
            yield from _slice(device, f"s{entry['number']}", "mbr", start, size)


def _logical(device: BlockDevice, extended: int) -> Iterator[Partition]:
    """Those in an extended partition: a chain of sectors, each with one partition and the place of the next."""
    at, seen = extended, set[int]()
    for number in range(5, 5 + MAX_LOGICAL):
        if at in seen:
            return
        seen.add(at)
        following = None
        for entry in _entries(_read(device, at, DEV_BSIZE)):
            if entry["type"] in EXTENDED:
                following = extended + entry["start"] * DEV_BSIZE
            else:
                start, size = at + entry["start"] * DEV_BSIZE, entry["sectors"] * DEV_BSIZE
                yield from _slice(device, f"s{number}", "mbr", start, size)
        if following is None:
            return
        at = following


def _slice(device: BlockDevice, name: str, table: Table, offset: int, size: int) -> Iterator[Partition]:
    """A slice and what the labels in it divide it into."""
    yield from _partition(device, name, table, offset, size)
    yield from _labels(device, name, offset, size)
    yield from _vtoc(device, name, offset)


def _labels(device: BlockDevice, slice_name: str, base: int, size: int) -> Iterator[Partition]:
    """The labels that may be on a whole disk or in a slice of it."""
    yield from _disklabel(device, slice_name, base, size)
    yield from _disklabel64(device, slice_name, base)
    yield from _next(device, slice_name, base, size)


# GPT


def _gpt(device: BlockDevice) -> Iterator[Partition]:
    for sector in (DEV_BSIZE, 4096):
        for place in (sector, device.size // sector * sector - sector):
            header = _gpt_header(_read(device, place, sector))
            if header is not None:
                yield from _gpt_entries(device, header, sector)
                return


def _gpt_header(data: bytes) -> dict[str, Any] | None:
    """The header if its check sum says that it is one."""
    form = record(layout.gpt_header())
    if data[:8] != layout.GPT_SIGNATURE or len(data) < form.size:
        return None
    header = form.unpack(data)
    size = header["header_size"]
    if not form.size <= size <= len(data):
        return None
    bare = data[:16] + bytes(4) + data[20:size]
    return header if zlib.crc32(bare) == header["header_crc"] else None


def _gpt_entries(device: BlockDevice, header: dict[str, Any], sector: int) -> Iterator[Partition]:
    form = record(layout.gpt_entry())
    count, size = min(header["entry_count"], MAX_GPT_ENTRIES), header["entry_size"]
    if not form.size <= size <= 4096:
        return
    data = _read(device, header["entries_lba"] * sector, count * size)
    for number in range(len(data) // size):
        entry = form.unpack(data, number * size)
        if any(entry["type"]):
            offset, length = entry["first"] * sector, (entry["last"] - entry["first"] + 1) * sector
            yield from _slice(device, f"p{number + 1}", "gpt", offset, length)


# Apple


def _apple(device: BlockDevice) -> Iterator[Partition]:
    """The entries of the map, which has one for itself too; the first block tells the size of all."""
    first = _read(device, 0, DEV_BSIZE)
    sector = int.from_bytes(first[2:4], "big")
    if first[:2] != layout.APPLE_DRIVER or not _is_sector_size(sector):
        return
    form = record(layout.apple_partition())
    for number in range(1, MAX_APPLE_ENTRIES + 1):
        data = _read(device, number * sector, form.size)
        if len(data) < form.size or data[:2] != layout.APPLE_PARTITION:
            return
        entry = form.unpack(data)
        yield from _slice(
            device, f"s{number}", "apple", entry["pmPyPartStart"] * sector, entry["pmPartBlkCnt"] * sector
        )


# BSD disklabel


def _disklabel(device: BlockDevice, slice_name: str, base: int, size: int) -> Iterator[Partition]:
    """The partitions of the label in the first two sectors, if one is there: its place differs from machine to machine.

    On some systems its offsets count from the slice that it is in, on others from the disk.
    """
    for place, order in product(LABEL_PLACES, ORDERS):
        area = _read(device, base + place, LABEL_AREA)
        label = _sound_disklabel(area[max(area.find(layout.DISKMAGIC.to_bytes(4, order)), 0) :], order)
        if label is not None:
            sector, entries = label
            places = [(entry["p_offset"] * sector, entry["p_size"] * sector) for entry in entries]
            yield from _label_partitions(device, "bsd", slice_name, base, size, places)
            return


def _sound_disklabel(data: bytes, order: ByteOrder) -> tuple[int, list[dict[str, int]]] | None:
    """Sector size and partitions of the label at the start of `data`; None if its magic or its check sum is wrong."""
    head, entry = record(layout.disklabel(order)), record(layout.disklabel_partition(order))
    if data[:4] != layout.DISKMAGIC.to_bytes(4, order) or len(data) < head.size:
        return None
    label = head.unpack(data)
    count, sector = label["d_npartitions"], label["d_secsize"]
    end = head.size + count * entry.size
    if label["d_magic2"] != layout.DISKMAGIC or count > layout.MAXPARTITIONS or end > len(data):
        return None
    if _xor_words(data[:end]) or not _is_sector_size(sector):
        return None
    return sector, _array(entry, data, head.size, count)


def _label_partitions(
    device: BlockDevice, table: Table, slice_name: str, base: int, size: int, places: list[tuple[int, int]]
) -> Iterator[Partition]:
    """The partitions of a label in a slice (or on a disk) of `size` bytes from `base`."""
    from_disk = base > 0 and (
        any(length and offset + length > size for offset, length in places)
        or (len(places) > RAW_PART and places[RAW_PART][0] == base)
    )
    for number, (offset, length) in enumerate(places):
        start = offset if from_disk else base + offset
        yield from _partition(device, f"{slice_name}{chr(ord('a') + number)}", table, start, length)


def _disklabel64(device: BlockDevice, slice_name: str, base: int) -> Iterator[Partition]:
    """DragonFly's: all in bytes, from the start of the slice."""
    head, entry = record(layout.disklabel64()), record(layout.disklabel64_partition())
    data = _read(device, base + layout.DISKLABEL64_AT, head.size + layout.MAXPARTITIONS64 * entry.size)
    if len(data) < head.size:
        return
    label = head.unpack(data)
    count = label["d_npartitions"]
    end = head.size + count * entry.size
    if label["d_magic"] != layout.DISKMAGIC64 or count > layout.MAXPARTITIONS64 or end > len(data):
        return
    if zlib.crc32(data[:4] + bytes(4) + data[8:end]) != label["d_crc"]:
        return
    for number, one in enumerate(_array(entry, data, head.size, count)):
        name = f"{slice_name}{chr(ord('a') + number)}"
        yield from _partition(device, name, "bsd64", base + one["p_boffset"], one["p_bsize"])


def _xor_words(data: bytes) -> int:
    return reduce(xor, struct.unpack(f"<{len(data) // 2}H", data), 0)


def _is_sector_size(size: int) -> bool:
    return DEV_BSIZE <= size <= 65536 and size & (size - 1) == 0


def _array(form: Record, data: bytes, at: int, count: int) -> list[dict[str, int]]:
    return [form.unpack(data, at + number * form.size) for number in range(count)]


# Sun, Solaris on x86, NeXT


def _sun(device: BlockDevice) -> Iterator[Partition]:
    data = _read(device, 0, DEV_BSIZE)
    form, entry = record(layout.sun_label()), record(layout.sun_partition())
    if len(data) < form.size or _xor_words(data):
        return
    label = form.unpack(data)
    if label["dkl_magic"] != layout.SUN_MAGIC:
        return
    cylinder = label["dkl_nhead"] * label["dkl_nsect"] * DEV_BSIZE
    for number, one in enumerate(_array(entry, data, layout.SUN_PARTITIONS_AT, 8)):
        offset, length = one["dkl_cylno"] * cylinder, one["dkl_nblk"] * DEV_BSIZE
        yield from _partition(device, chr(ord("a") + number), "sun", offset, length)


def _vtoc(device: BlockDevice, slice_name: str, base: int) -> Iterator[Partition]:
    """Solaris on x86, in a slice of its own: the letters stand for its slices 0 to 15."""
    form, entry = record(layout.vtoc()), record(layout.vtoc_partition())
    data = _read(device, base + layout.VTOC_AT, form.size)
    if len(data) < form.size or _xor_words(data):
        return
    label = form.unpack(data)
    if (label["v_sanity"], label["dkl_magic"]) != (layout.VTOC_SANITY, layout.SUN_MAGIC):
        return
    for number, one in enumerate(_array(entry, data, layout.VTOC_PARTITIONS_AT, layout.VTOC_PARTITIONS)):
        name = f"{slice_name}{chr(ord('a') + number)}"
        yield from _partition(device, name, "vtoc", base + one["p_start"] * DEV_BSIZE, one["p_size"] * DEV_BSIZE)


def _next(device: BlockDevice, slice_name: str, base: int, size: int) -> Iterator[Partition]:
    form, entry = record(layout.next_label()), record(layout.next_partition())
    for place in NEXT_LABEL_PLACES:
        data = _read(device, base + place, NEXT_LABEL_AREA)
        if not _is_next_label(data):
            continue
        label = form.unpack(data)
        sector, front = label["dl_secsize"], label["dl_front"]
        if not _is_sector_size(sector) or front < 0:
            continue
        entries = _array(entry, data, form.size, layout.NEXT_PARTITIONS)
        used = [one["p_base"] >= 0 and one["p_size"] > 0 for one in entries]  # -1 where there is none
        places = [
            ((front + one["p_base"]) * sector, one["p_size"] * sector if is_used else 0)
            for one, is_used in zip(entries, used, strict=True)
        ]
        yield from _label_partitions(device, "next", slice_name, base, size, places)
        return


def _is_next_label(data: bytes) -> bool:
    """By version and check sum: the sum of the words before it, the carry added once."""
    version = int.from_bytes(data[:4], "big")
    if version not in layout.NEXT_VERSIONS:
        return False
    head = record(layout.next_label()).size + layout.NEXT_PARTITIONS * record(layout.next_partition()).size
    end = head if version == layout.NEXT_VERSIONS[-1] else head + 1670 * 4  # after the table of bad blocks
    if len(data) < end + 2:
        return False
    total = sum(struct.unpack(f">{end // 2}H", data[:end]))
    return bool((total + (total >> 16)) & 0xFFFF == int.from_bytes(data[end : end + 2], "big"))
