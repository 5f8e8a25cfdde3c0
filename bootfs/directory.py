"""Directories: entries in chunks of 512 bytes, each chunk written at once and never crossed by an entry.

Interface:
    Entry                                 a name and the inode it refers to
    entries(data, fs, place)              those of a stretch of a directory, checked; free ones left out
Not here: reading the data, following the names.

Sources: 4.3BSD sys/h/dir.h, 4.4BSD sys/ufs/ufs/dir.h. Mach's own reader checks nothing here and loops for ever on a
d_reclen of zero (bootstrap/file_io.c:451); ours refuses each such chunk.
"""

from __future__ import annotations

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
    slashes = b"/" in data
    for chunk in range(0, len(data), DIRBLKSIZ):
        end = chunk + DIRBLKSIZ
        at = chunk
        while at < end:
            fields = unpack(data, at) if at + head <= end else (0, 0, 0)
            ino, reclen, namlen = fields[0], fields[1], fields[-1]  # d_namlen is the last field of both variants
            start = at + head
            name = data[start : start + namlen]
            room = reclen - head
            if room < 0 or at + reclen > end or reclen & 3 or (ino and not 0 < namlen <= room):
                fault = _fault(ino, reclen, namlen, end - at)
                raise FileSystemError(FsCode.FS_INVALID_FS, f"broken entry at byte {at}: {fault}", place)
            if ino:
                if namlen > MAXNAMLEN or b"\0" in name or (slashes and b"/" in name):
                    fault = _fault(ino, reclen, namlen, end - at) or "a name with '/' or NUL in it"
                    raise FileSystemError(FsCode.FS_INVALID_FS, f"broken entry at byte {at}: {fault}", place)
                keep(new(Entry, (name, ino)))
            at += reclen
    return found


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
