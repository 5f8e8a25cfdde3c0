"""A disk, partition or file that mkswap(8) has made paging space: all of it is blocks, and no file system is there.

Interface:
    swap_space(device, offset, size) -> BlockList     FileSystemError UnknownFormat: it has no such signature

It is what the field marks raw paging space with, and what Hurd's default pager asks for too: the signature says that
nothing else is there to be overwritten, how much of it is to be used, and which of its pages are bad.

Source: Linux include/linux/swap.h, union swap_header, version 1: in its first page 1024 bytes for boot blocks and
labels, then version, last page, number of bad pages; at 1536 their numbers; at the page's end "SWAPSPACE2".  Numbers
have the byte order of the machine that made it.

Not here: which part of a disk (disk); whether somebody uses it already (pager/storage).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat

SIGNATURE = b"SWAPSPACE2"
PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
HEADER_AT = 1024
BAD_PAGES_AT = 1536


def swap_space(device: BlockDevice, offset: int, size: int) -> BlockList:
    """The pages that may be written to, in order, as a file that has just them."""
    first = device.read(offset, min(size, PAGE_SIZES[-1]))
    page = next((one for one in PAGE_SIZES if first[one - len(SIGNATURE) : one] == SIGNATURE), 0)
    if not page:
        raise UnknownFormat("it has no signature of mkswap")
    order = next((one for one in "<>" if struct.unpack_from(one + "I", first, HEADER_AT)[0] == 1), "")
    if not order:
        raise UnknownFormat("its signature of mkswap is of no version that is known")
    _, last, bad_count = struct.unpack_from(order + "III", first, HEADER_AT)
    if bad_count > (page - BAD_PAGES_AT - len(SIGNATURE)) // 4:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"claims {bad_count} bad pages, more than its header holds", "swap")
    bad = struct.unpack_from(f"{order}{bad_count}I", first, BAD_PAGES_AT)
    if not 0 < last < size // page:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"claims {last + 1} pages of {page} in {size} bytes", "swap")
    runs, at = [], 0
    for start, end in _good(sorted(set(bad)), last + 1):
        runs.append(Run(at, offset + start * page, (end - start) * page))
        at += runs[-1].length
    return BlockList(tuple(runs), at, page)


def _good(bad: list[int], end: int) -> Iterator[tuple[int, int]]:
    """The stretches of good pages; page 0 is the header's."""
    start = 1
    for number in [*(one for one in bad if 0 < one < end), end]:
        if start < number:
            yield start, number
        start = number + 1
