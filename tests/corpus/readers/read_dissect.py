"""A disk as dissect.ffs reads it, a reader in Python."""

from __future__ import annotations

from typing import Any

from dissect.ffs import FFS
from dissect.util.stream import RangeStream
from reading import Facts, file_facts, report

KINDS = {0o100000: "file", 0o040000: "dir", 0o120000: "link"}


def facts(node: Any) -> Facts:
    """Of one inode."""
    dinode = node.inode
    found: Facts = {"kind": KINDS.get(dinode.di_mode & 0o170000, "other"), "ino": node.inum, "size": dinode.di_size}
    found |= {"mode": dinode.di_mode & 0o7777, "nlink": dinode.di_nlink, "uid": dinode.di_uid, "gid": dinode.di_gid}
    found["mtime"] = dinode.di_mtime
    if found["kind"] == "file":
        stream = node.open()

        def read(at: int, length: int) -> bytes:
            stream.seek(at)
            return bytes(stream.read(length))

        found |= file_facts(dinode.di_size, read)
    if found["kind"] == "link":
        found["target"] = node.open().read().decode("utf-8", "surrogateescape")
    return found


def walk(image: str, offset: int) -> dict[str, Facts]:
    """Every path from the root."""
    with open(image, "rb") as disk:
        size = disk.seek(0, 2)
        root = FFS(RangeStream(disk, offset, size - offset)).root
        found = {"/": facts(root)}
        waiting = [("", root)]
        while waiting:
            above, directory = waiting.pop()
            for child in directory.iterdir():
                if child.name in (".", "..") or child.inum == 0:
                    continue
                path = f"{above}/{child.name}"
                found[path] = facts(child)
                if found[path]["kind"] == "dir":
                    waiting.append((path, child))
        return found


report(walk)
