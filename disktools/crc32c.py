"""CRC-32C, by which FreeBSD 12 and later guard superblocks, cylinder groups and inodes of UFS2.

Interface:
    check_hash(data, hole) -> int       as FreeBSD counts it: from all ones, not complemented at the end
Not here: where a hash is kept, and which structures carry one (fs_metackhash).

Source: Castagnoli's polynomial 0x1EDC6F41, reflected; FreeBSD sys/libkern/gsb_crc32.c.
"""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0x82F63B78  # reflected


@cache
def _table() -> tuple[int, ...]:
    """What a byte that falls out at the low end does to the rest."""
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        found.append(byte)
    return tuple(found)


def check_hash(data: bytes | bytearray, hole: int) -> int:
    """The hash of a structure whose own 4 bytes of hash, at offset `hole`, count as zeros."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in b"".join((data[:hole], bytes(4), data[hole + 4 :])):
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc
