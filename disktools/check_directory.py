"""The entries of one directory, each checked as a kernel relies on it.

Interface:
    DirectoryReader(disk)
    entries(ino, directory) -> list of (inode number, type or None, name)    those in use; the broken are in the report
Not here: what the entries lead to (check_tree).

Sources: 4.3BSD etc/fsck/dir.c (dircheck) and pass2.c, sys/h/dir.h; 4.4BSD sys/ufs/ufs/dir.h.
"""

from __future__ import annotations

from bootfs.layout import DT_WHT, MAXNAMLEN, WINO, directory_header
from bootfs.layout_format import record
from disktools.check_disk import Disk
from disktools.check_inodes import Directory

Found = tuple[int, int | None, bytes]


class DirectoryReader:
    """Reads directories of one disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.fs, self.report = disk, disk.fs, disk.report
        self.unpack = record(directory_header(self.fs.byte_order, self.fs.entries)).struct.unpack_from
        self.typed = self.fs.entries == "4.4"

    def entries(self, ino: int, directory: Directory, quiet: bool = False) -> list[Found]:
        """All entries in use of a directory, in order. `quiet`: it was told already what is wrong with it."""
        fs, kept = self.fs, self.report
        found: list[Found] = []
        wanted = -(-directory.size // fs.fs_bsize)
        if wanted > len(directory.blocks) and not quiet:
            kept.inode(ino, f"a directory with holes: {len(directory.blocks)} of {wanted} blocks are there")
        for block, fragment in directory.blocks:
            length = min(fs.fs_bsize, directory.size - block * fs.fs_bsize)
            length = -(-length // self.fs.dirblksiz) * self.fs.dirblksiz
            data = self.disk.read_fragments(fragment, length, f"inode {ino}", ino)
            if data is None:
                continue
            for chunk in range(0, length, self.fs.dirblksiz):
                fault = self.chunk(data, chunk, found)
                if fault is not None and not quiet:
                    kept.inode(ino, f"directory entry at byte {block * fs.fs_bsize + fault[0]}: {fault[1]}")
        return found

    def chunk(self, data: bytes, start: int, found: list[Found]) -> tuple[int, str] | None:
        """The entries of one chunk; where and what the first fault is, after which the rest cannot be trusted."""
        unpack, typed = self.unpack, self.typed
        at, end = start, start + self.fs.dirblksiz
        fault: tuple[int, str] | None = None
        while at < end:
            if end - at < 8:
                return at, "less room than an entry needs"
            fields = unpack(data, at)
            ino, reclen, namlen = fields[0], fields[1], fields[-1]
            if reclen < 8 or reclen & 3 or reclen > end - at:
                return at, f"d_reclen is {reclen}"
            if ino and not (ino == WINO and typed and fields[2] == DT_WHT):
                if not 0 < namlen <= MAXNAMLEN or reclen < (namlen + 12 & ~3):
                    return at, f"d_namlen is {namlen}, with a d_reclen of {reclen}"
                name = data[at + 8 : at + 8 + namlen]
                if data[at + 8 + namlen]:
                    fault = fault or (at, f"the name {name!r} is not ended by a NUL")
                if 0 in name:
                    fault = fault or (at, f"a NUL in the name {name!r}")
                if 47 in name:
                    fault = fault or (at, f"a '/' in the name {name!r}")
                found.append((ino, fields[2] if typed else None, name))
            at += reclen
        return fault
