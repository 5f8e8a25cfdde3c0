"""Directories: entries in chunks of 512 bytes (or 1024), each chunk written at once and never crossed by an entry.

Interface:
    Entry                                 a name and the inode it refers to
    Entries                               many of them, as a row of names and a row of inode numbers
    entries(data, fs, place) -> Entries   those of a stretch of a directory, checked; free ones left out
Not here: reading the data, following the names.

Sources: 4.3BSD sys/h/dir.h, 4.4BSD sys/ufs/ufs/dir.h. Mach's own reader checks nothing here and loops for ever on a
d_reclen of zero (bootstrap/file_io.c:451); ours refuses each such chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from bootfs.errors import FileSystemError, FsCode
from bootfs.layout import DT_WHT, MAXNAMLEN, WINO, ByteOrder, Variant, directory_header
from bootfs.layout_format import record
from bootfs.superblock import Superblock

HEADER = record(directory_header("little", "4.4")).size  # bytes, in all variants


class Entry(NamedTuple):
    """A name of 1 to 255 bytes, without "/" and NUL, and the number of its inode (not yet checked)."""

    name: bytes
    ino: int


class Entries(NamedTuple):
    """Entries in disk order: the names, and the inode number of each. (A listing waits for every object made here.)"""

    names: list[bytes]
    inos: list[int]


def entries(data: bytes, fs: Superblock, place: str) -> Entries:
    """The entries in use in `data`, whole chunks of a directory.

    FileSystemError FS_INVALID_FS at the first bad one.
    """
    unpack = _header(fs.byte_order, fs.entries)
    names: list[bytes] = []
    inos: list[int] = []
    keep_name, keep_ino = names.append, inos.append

    def is_whiteout(at: int) -> bool:
        return fs.entries == "4.4" and data[at + 6] == DT_WHT

    padded = data + bytes(HEADER)  # the last 4 bytes may be taken for an entry's, and a header is 8
    for chunk in range(0, len(data), fs.dirblksiz):
        at, end = chunk, min(chunk + fs.dirblksiz, len(data))
        while at < end:
            ino, reclen, namlen = unpack(padded, at)
            name, after = at + HEADER, at + reclen
            stop = name + namlen
            if ino > WINO and namlen and stop <= after <= end and not reclen & 3:  # as nearly all are
                keep_name(data[name:stop])
                keep_ino(ino)
            elif fault := _fault(ino, reclen, namlen, end - at):
                raise _broken(at, fault, place)
            elif ino and not is_whiteout(at):
                keep_name(data[name:stop])
                keep_ino(ino)
            at = after
    together = b"".join(names)
    is_long = fs.entries == "4.3" and any(len(name) > MAXNAMLEN for name in names)  # 8 bits cannot say too much
    if b"/" in together or b"\0" in together or is_long:
        _refuse_names(data, unpack, place)
    return Entries(names, inos)


@cache
def _header(order: ByteOrder, variant: Variant) -> Callable[[bytes, int], tuple[int, int, int]]:
    """What unpacks the three numbers of a header that both variants have."""
    layout = record(directory_header(order, variant))
    return layout.selection(("d_ino", "d_reclen", "d_namlen")).unpack_from


def _broken(at: int, fault: str, place: str) -> FileSystemError:
    return FileSystemError(FsCode.FS_INVALID_FS, f"broken entry at byte {at}: {fault}", place)


def _refuse_names(data: bytes, unpack: Callable[[bytes, int], tuple[int, int, int]], place: str) -> None:
    """Find the entry whose name no name can be; the lengths of all are right. FileSystemError."""
    at = 0
    while at < len(data):
        ino, reclen, namlen = unpack(data, at)
        name = data[at + HEADER : at + HEADER + namlen]
        if ino and namlen > MAXNAMLEN:
            raise _broken(at, f"d_namlen {namlen}", place)
        if ino and (b"/" in name or b"\0" in name):
            raise _broken(at, "a name with '/' or NUL in it", place)
        at += reclen


def _fault(ino: int, reclen: int, namlen: int, room: int) -> str | None:
    """What is wrong with an entry's numbers. Of a free one (ino 0) only d_reclen means anything."""
    if reclen < 8 or reclen % 4:
        return f"d_reclen {reclen}"
    if reclen > room:
        return f"d_reclen {reclen} leaves its chunk"
    if ino and not 1 <= namlen <= MAXNAMLEN:
        return f"d_namlen {namlen}"
    if ino and 8 + namlen > reclen:
        return f"d_namlen {namlen} does not fit in d_reclen {reclen}"
    return None
