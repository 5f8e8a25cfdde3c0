"""Directories: entries in chunks of 512 bytes, each chunk written at once and never crossed by an entry.

Interface:
    Entry                                 a name and the inode it refers to
    entries(data, fs, place)              those of a stretch of a directory, checked; free ones left out
Not here: reading the data, following the names.

Sources: 4.3BSD sys/h/dir.h, 4.4BSD sys/ufs/ufs/dir.h. Mach's own reader checks nothing here and loops for ever on a
d_reclen of zero (bootstrap/file_io.c:451); ours refuses each such chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootfs.errors import FileSystemError, FsCode
from bootfs.layout import DIRBLKSIZ, MAXNAMLEN, directory_header
from bootfs.layout_format import record
from bootfs.superblock import Superblock


@dataclass(frozen=True, slots=True)
class Entry:
    """A name of 1 to 255 bytes, without "/" and NUL, and the number of its inode (not yet checked)."""

    name: bytes
    ino: int


def entries(data: bytes, fs: Superblock, place: str) -> Iterator[Entry]:
    """The entries in use in `data`, whole chunks of a directory. FileSystemError FS_INVALID_FS at the first bad one."""
    header = record(directory_header(fs.byte_order, fs.entries))
    unpack = header.struct.unpack_from
    for chunk in range(0, len(data), DIRBLKSIZ):
        end = chunk + DIRBLKSIZ
        at = chunk
        while at < end:
            # d_namlen is the last field of both variants.
            fields = unpack(data, at) if at + header.size <= end else (0, 0, 0)
            ino, reclen, namlen = fields[0], fields[1], fields[-1]
            fault = _fault(ino, reclen, namlen, end - at)
            name = bytes(data[at + header.size : at + header.size + namlen])
            if fault is None and ino and (b"/" in name or b"\0" in name):
                fault = "a name with '/' or NUL in it"
            if fault is not None:
                raise FileSystemError(FsCode.FS_INVALID_FS, f"broken entry at byte {at}: {fault}", place)
            if ino:
                yield Entry(name, ino)
            at += reclen


def _fault(ino: int, reclen: int, namlen: int, room: int) -> str | None:
    """What is wrong with an entry's numbers. Of a free one (ino 0) only d_reclen means anything."""
    if reclen < 8 or reclen % 4:
        return f"d_reclen {reclen}"
    if reclen > room:
        return f"d_reclen {reclen} leaves its {DIRBLKSIZ}-byte chunk"
    if ino and not 1 <= namlen <= MAXNAMLEN:
        return f"d_namlen {namlen}"
    if ino and 8 + (namlen + 3) // 4 * 4 > reclen:
        return f"d_namlen {namlen} does not fit in d_reclen {reclen}"
    return None
