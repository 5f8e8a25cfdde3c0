"""Makers of partition tables for tests: each gives the bytes of a disk with the file systems where it says they are."""

from __future__ import annotations

import struct
import zlib

from bootfs import layout_labels as layout
from bootfs.layout import ByteOrder
from bootfs.layout_format import record

SECTOR = 512
Contents = dict[int, bytes]  # by byte offset


def disk(size: int, contents: Contents) -> bytearray:
    """A disk of `size` bytes with these contents."""
    image = bytearray(size)
    for offset, data in contents.items():
        image[offset : offset + len(data)] = data
    return image


def put(image: bytearray, offset: int, data: bytes) -> None:
    image[offset : offset + len(data)] = data


def write_mbr(image: bytearray, entries: list[tuple[int, int, int]], at: int = 0) -> None:
    """`entries` are type, first sector, sectors; in an extended partition at `at`."""
    form = record(layout.mbr_entry())
    for number, (kind, start, sectors) in enumerate(entries):
        raw = form.pack({"type": kind, "start": start, "sectors": sectors, "first_chs": bytes(3), "last_chs": bytes(3)})
        put(image, at + layout.MBR_ENTRIES_AT + number * form.size, raw)
    put(image, at + layout.MBR_SIGNATURE_AT, layout.MBR_SIGNATURE)


def write_gpt(image: bytearray, entries: list[tuple[int, int]], sector: int = SECTOR, at_end: bool = False) -> None:
    """`entries` are first and last sector. Only the copy at the end if `at_end`."""
    form, head = record(layout.gpt_entry()), record(layout.gpt_header())
    raw = b"".join(
        form.pack({"type": b"FFS type of test", "first": one, "last": two, "name": b""}) for one, two in entries
    )
    table = raw.ljust(128 * form.size, b"\0")
    last = len(image) // sector - 1
    place, table_lba = (last, last - 128 * form.size // sector) if at_end else (1, 2)
    values = {
        "signature": layout.GPT_SIGNATURE, "revision": 0x10000, "header_size": head.size, "my_lba": place,
        "alternate_lba": 1 if at_end else last, "first_usable": 34, "last_usable": last - 33, "entries_lba": table_lba,
        "entry_count": 128, "entry_size": form.size, "entries_crc": zlib.crc32(table),
        "disk_guid": b"guid of the disk",
    }  # fmt: skip
    values["header_crc"] = zlib.crc32(head.pack(values))
    put(image, place * sector, head.pack(values))
    put(image, table_lba * sector, table)
    write_mbr(image, [(0xEE, 1, last)])


def disklabel(order: ByteOrder, places: list[tuple[int, int]], sector: int = SECTOR) -> bytes:
    """A BSD label whose partitions begin at and have so many sectors."""
    head, entry = record(layout.disklabel(order)), record(layout.disklabel_partition(order))
    values = {
        "d_magic": layout.DISKMAGIC, "d_magic2": layout.DISKMAGIC, "d_secsize": sector, "d_npartitions": len(places),
        "d_typename": b"test", "d_packname": b"", "d_bbsize": 8192, "d_sbsize": 8192,
    }  # fmt: skip
    table = b"".join(
        entry.pack({"p_offset": start, "p_size": size, "p_fstype": 7 if size else 0, "p_fsize": 1024, "p_frag": 8})
        for start, size in places
    )
    words = struct.unpack(f"<{(head.size + len(table)) // 2}H", head.pack(values) + table)
    checksum = 0
    for word in words:
        checksum ^= word
    # The xor does not depend on the order of the bytes in a word as long as it is the same in all.
    raw = bytearray(head.pack(values) + table)
    at = head.offset_of("d_checksum")
    raw[at : at + 2] = struct.pack("<H", checksum)
    return bytes(raw)


def sun_label(places: list[tuple[int, int]], heads: int = 1, sectors: int = 16) -> bytes:
    """A Sun label whose partitions begin at so many cylinders and have so many sectors."""
    form = record(layout.sun_label())
    flat = [number for place in places for number in place]
    values = {
        "dkl_asciilabel": b"test", "dkl_vtoc": b"", "dkl_nhead": heads, "dkl_nsect": sectors, "dkl_ncyl": 1000,
        "dkl_map": tuple(flat + [0] * (16 - len(flat))), "dkl_magic": layout.SUN_MAGIC,
    }  # fmt: skip
    checksum = 0
    for word in struct.unpack(">256H", form.pack(values)):
        checksum ^= word
    return form.pack(values | {"dkl_cksum": checksum})


def next_label(version: int, front: int, places: list[tuple[int, int]], sector: int = 1024) -> bytes:
    """A NeXT label whose partitions begin so many sectors after the front porch."""
    head, entry = record(layout.next_label()), record(layout.next_partition())
    blank = {"dl_label": b"", "dl_name": b"", "dl_type": b"", "dl_bootfile": b"", "dl_hostname": b""}
    raw = head.pack({"dl_version": version, "dl_secsize": sector, "dl_front": front} | blank)
    for number in range(layout.NEXT_PARTITIONS):
        start, size = places[number] if number < len(places) else (-1, -1)
        raw += entry.pack({"p_base": start, "p_size": size, "p_mountpt": b"", "p_type": b"4.3BSD"})
    if version != layout.NEXT_VERSIONS[-1]:
        raw += bytes(1670 * 4)
    total = sum(struct.unpack(f">{len(raw) // 2}H", raw))
    return raw + struct.pack(">H", (total + (total >> 16)) & 0xFFFF)


def disklabel64(places: list[tuple[int, int]]) -> bytes:
    """DragonFly's label, the first 512 bytes with it: partitions by byte and length. (By hand, from its header.)"""
    table = b"".join(struct.pack("<2Q48x", *place) for place in places)
    rest = struct.pack("<2I16x5Q128x", 1 << 20, len(places), 0, 0, 0, 0, 0) + table
    magic = struct.pack("<I", 0xC4464C59)
    return bytes(512) + magic + struct.pack("<I", zlib.crc32(magic + bytes(4) + rest)) + rest


def vtoc(places: list[tuple[int, int]]) -> bytes:
    """The label of Solaris on x86, the sector before it with it: partitions by sector and count. (By hand.)"""
    table = b"".join(struct.pack("<2H2I", 2, 0, *place) for place in places).ljust(16 * 12, b"\0")
    label = struct.pack("<12x2I8s2H40x", 0x600DDEEE, 1, b"test", 512, len(places)) + table
    label = label.ljust(508, b"\0") + struct.pack("<H", 0xDABE)
    checksum = 0
    for word in struct.unpack("<255H", label):
        checksum ^= word
    return bytes(512) + label + struct.pack("<H", checksum)


def apple_map(places: list[tuple[int, int]], sector: int = SECTOR) -> bytes:
    """The first blocks of a disk of Apple's: partitions by block and count, the first of them the map. (By hand.)"""
    entries = [(1, len(places) + 1), *places]
    blocks = [struct.pack(">2sHI", b"ER", sector, 8192)]
    blocks += [struct.pack(">2s2x3I32s32s", b"PM", len(entries), *one, b"name", b"Apple_UFS") for one in entries]
    return b"".join(block.ljust(sector, b"\0") for block in blocks)
