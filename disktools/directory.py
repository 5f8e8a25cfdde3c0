"""Directories as 4.2/4.3BSD wrote them: chunks of 512 bytes, each full of entries that never cross into the next.

Interface:
    pack_directory(fs, entries, at_least) -> bytes      a whole new directory
    insert(fs, data, ino, name) -> (offset, chunk) | None    the one chunk that changes, if there is slack for the name
    new_chunk(fs, ino, name) -> bytes                   for a directory that must grow
    check_name(name)                                    Refusal
Not here: where the chunks are on disk; reading and checking them (bootfs.directory).

Source: 4.3BSD sys/h/dir.h (DIRSIZ), sys/sys/ufs_namei.c (direnter).
"""

from __future__ import annotations

from collections.abc import Iterable

from bootfs.layout import DIRBLKSIZ, MAXNAMLEN, directory_header
from bootfs.layout_format import Record, record
from bootfs.superblock import Superblock
from disktools.errors import Refusal


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


def _entry(fs: Superblock, ino: int, name: bytes, reclen: int) -> bytes:
    head = _header(fs).pack({"d_ino": ino, "d_reclen": reclen, "d_namlen": len(name)})
    return (head + name).ljust(reclen, b"\0")


def pack_directory(fs: Superblock, entries: Iterable[tuple[int, bytes]], at_least: int = 0) -> bytes:
    """The directory with these entries in this order, padded with empty chunks to `at_least` bytes."""
    chunks: list[list[tuple[int, bytes]]] = [[]]
    room = DIRBLKSIZ
    for ino, name in entries:
        if dirsiz(name) > room:
            chunks.append([])
            room = DIRBLKSIZ
        chunks[-1].append((ino, name))
        room -= dirsiz(name)
    data = b"".join(_chunk(fs, chunk) for chunk in chunks)
    return data + _entry(fs, 0, b"", DIRBLKSIZ) * ((at_least - len(data)) // DIRBLKSIZ)


def _chunk(fs: Superblock, chunk: list[tuple[int, bytes]]) -> bytes:
    """One chunk; its last entry reaches to the end."""
    data = b"".join(_entry(fs, ino, name, dirsiz(name)) for ino, name in chunk[:-1])
    ino, name = chunk[-1]
    return data + _entry(fs, ino, name, DIRBLKSIZ - len(data))


def new_chunk(fs: Superblock, ino: int, name: bytes) -> bytes:
    """A chunk with one entry."""
    return _entry(fs, ino, name, DIRBLKSIZ)


def insert(fs: Superblock, data: bytes, ino: int, name: bytes) -> tuple[int, bytes] | None:
    """Put the entry where a free record, or the slack behind an entry, holds it. None when nothing does.

    `data` is the directory, checked by bootfs.directory.entries. Gives the offset of the chunk and its new 512 bytes,
    so that one write of one sector makes the name appear.
    """
    layout, offset = _header(fs), 0
    while offset < len(data):
        head = layout.unpack(data, offset)
        owner, reclen = head["d_ino"], head["d_reclen"]
        old = data[offset + layout.size : offset + layout.size + head["d_namlen"]] if owner else b""
        used = dirsiz(old) if owner else 0
        if reclen - used >= dirsiz(name):
            start = offset - offset % DIRBLKSIZ
            chunk = bytearray(data[start : start + DIRBLKSIZ])
            kept = _entry(fs, owner, old, used) if owner else b""
            chunk[offset - start : offset - start + reclen] = kept + _entry(fs, ino, name, reclen - used)
            return start, bytes(chunk)
        offset += reclen
    return None
