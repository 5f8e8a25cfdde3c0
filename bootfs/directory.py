"""Directories: entries in chunks of 512 bytes, each chunk written at once and never crossed by an entry.

Interface:
    Entry                                 a name and the inode it refers to
    entries(data, fs, place)              those of a stretch of a directory, checked; free ones left out
Not here: reading the data, following the names.

Sources: 4.3BSD sys/h/dir.h, 4.4BSD sys/ufs/ufs/dir.h. Mach's own reader checks nothing here and loops for ever on a
d_reclen of zero (bootstrap/file_io.c:451); ours refuses each such chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bootfs.errors import FileSystemError, FsCode
from bootfs.layout import DIRBLKSIZ, MAXNAMLEN, directory_header
from bootfs.layout_format import record
from bootfs.superblock import Superblock


class Entry(NamedTuple):
    """A name of 1 to 255 bytes, without "/" and NUL, and the number of its inode (not yet checked)."""

    name: bytes
    ino: int


def entries(data: bytes, fs: Superblock, place: str) -> list[Entry]:
    """The entries in use in `data`, whole chunks of a directory. FileSystemError FS_INVALID_FS at the first bad one."""
    header = record(directory_header(fs.byte_order, fs.entries))
    unpack, head = header.struct.unpack_from, header.size
    found: list[Entry] = []
    new, keep = tuple.__new__, found.append
    for chunk in range(0, len(data), DIRBLKSIZ):
        at, end = chunk, chunk + DIRBLKSIZ
        last = end - head
        while at < end:
            fields = unpack(data, at) if at <= last else (0, 0, 0)
            ino, reclen, namlen = fields[0], fields[1], fields[-1]  # d_namlen is the last field of both variants
            if reclen & 3 or reclen > end - at or reclen < head or (ino and not 0 < namlen <= reclen - head):
                raise _broken(at, _fault(ino, reclen, namlen, end - at), place)
            if ino:
                keep(new(Entry, (data[at + head : at + head + namlen], ino)))
            at += reclen
    names = b"/".join([entry[0] for entry in found])
    if b"\0" in names or names.count(b"/") >= max(len(found), 1) or len(max(names.split(b"/"), key=len)) > MAXNAMLEN:
        _refuse_names(data, header.struct.unpack_from, place)
    return found


def _broken(at: int, fault: str | None, place: str) -> FileSystemError:
    return FileSystemError(FsCode.FS_INVALID_FS, f"broken entry at byte {at}: {fault}", place)


def _refuse_names(data: bytes, unpack: Callable[..., tuple[int, ...]], place: str) -> None:
    """Find the entry whose name no name can be; the lengths of all are right. FileSystemError."""
    at = 0
    while at < len(data):
        ino, reclen, *_, namlen = unpack(data, at)
        name = data[at + 8 : at + 8 + namlen]
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
        return f"d_reclen {reclen} leaves its {DIRBLKSIZ}-byte chunk"
    if ino and not 1 <= namlen <= MAXNAMLEN:
        return f"d_namlen {namlen}"
    if ino and 8 + namlen > reclen:
        return f"d_namlen {namlen} does not fit in d_reclen {reclen}"
    return None
