"""Directories as BSD writes them: chunks of 512 bytes, each full of entries that never cross into the next.

Interface:
    pack_directory(fs, entries, at_least) -> bytes      a whole new directory
    insert(fs, data, entry) -> (offset, chunk) | None   the one chunk that changes, if there is slack for the name
    new_chunk(fs, entry) -> bytes                       for a directory that must grow
An entry to be is (inode number, mode of the file, name).
    check_name(name)                                    Refusal
Not here: where the chunks are on disk; reading and checking them (bootfs.directory).

Source: 4.3BSD sys/h/dir.h (DIRSIZ), sys/sys/ufs_namei.c (direnter); 4.4BSD sys/ufs/ufs/dir.h (d_type, IFTODT).
"""

from __future__ import annotations

import stat
from collections.abc import Iterable

from bootfs.layout import MAXNAMLEN, directory_header
from bootfs.layout_format import Record, record
from bootfs.superblock import Superblock
from disktools.errors import Refusal

NewEntry = tuple[int, int, bytes]  # inode number, mode, name


def _header(fs: Superblock) -> Record:
    return record(directory_header(fs.byte_order, fs.entries))


def dirsiz(name: bytes) -> int:
    """The least bytes that an entry takes: its head, the name, at least one NUL, rounded up to 4."""
    return 8 + (len(name) + 1 + 3 & ~3)


def check_name(name: bytes) -> None:
    """Refusal unless `name` can be an entry."""
    if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise Refusal(f"{name.decode(errors='replace')!r} cannot be the name of a file")
    if len(name) > MAXNAMLEN:
        raise Refusal(f"the name {name[:20].decode(errors='replace')}... is longer than {MAXNAMLEN} bytes")


def _entry(fs: Superblock, entry: NewEntry, reclen: int) -> bytes:
    ino, mode, name = entry
    fields = {"d_ino": ino, "d_reclen": reclen, "d_namlen": len(name)}
    if fs.entries == "4.4":
        fields["d_type"] = stat.S_IFMT(mode) >> 12
    return (_header(fs).pack(fields) + name).ljust(reclen, b"\0")


EMPTY: NewEntry = (0, 0, b"")


def pack_directory(fs: Superblock, entries: Iterable[NewEntry], at_least: int = 0) -> bytes:
    """The directory with these entries in this order, padded with empty chunks to `at_least` bytes."""
    chunks: list[list[NewEntry]] = [[]]
    room = fs.dirblksiz
    for entry in entries:
        size = dirsiz(entry[2])
        if size > room:
            chunks.append([])
            room = fs.dirblksiz
        chunks[-1].append(entry)
        room -= size
    data = b"".join(_chunk(fs, chunk) for chunk in chunks)
    return data + _entry(fs, EMPTY, fs.dirblksiz) * ((at_least - len(data)) // fs.dirblksiz)


def _chunk(fs: Superblock, chunk: list[NewEntry]) -> bytes:
    """One chunk; its last entry reaches to the end."""
    data = b"".join(_entry(fs, entry, dirsiz(entry[2])) for entry in chunk[:-1])
    return data + _entry(fs, chunk[-1], fs.dirblksiz - len(data))


def new_chunk(fs: Superblock, entry: NewEntry) -> bytes:
    """A chunk with one entry."""
    return _entry(fs, entry, fs.dirblksiz)


def insert(fs: Superblock, data: bytes, entry: NewEntry) -> tuple[int, bytes] | None:
    """Put the entry where a free record, or the slack behind an entry, holds it. None when nothing does.

    `data` is the directory, checked by bootfs.directory.entries. Gives the offset of the chunk and its new 512 bytes,
    so that one write of one sector makes the name appear.
    """
    layout, offset = _header(fs), 0
    while offset < len(data):
        head = layout.unpack(data, offset)
        reclen = head["d_reclen"]
        old = data[offset + layout.size : offset + layout.size + head["d_namlen"]] if head["d_ino"] else b""
        used = dirsiz(old) if head["d_ino"] else 0
        if reclen - used >= dirsiz(entry[2]):
            start = offset - offset % fs.dirblksiz
            chunk = bytearray(data[start : start + fs.dirblksiz])
            kept = (layout.pack(head | {"d_reclen": used}) + old).ljust(used, b"\0") if used else b""
            chunk[offset - start : offset - start + reclen] = kept + _entry(fs, entry, reclen - used)
            return start, bytes(chunk)
        offset += reclen
    return None
