"""A disk as pytsk3 reads it, The Sleuth Kit's library in C."""

from __future__ import annotations

from typing import Any

import pytsk3
from reading import Facts, file_facts, report, shown

KINDS = {
    pytsk3.TSK_FS_META_TYPE_REG: "file",
    pytsk3.TSK_FS_META_TYPE_DIR: "dir",
    pytsk3.TSK_FS_META_TYPE_LNK: "link",
}


def facts(file: Any) -> Facts:
    """Of one inode."""
    meta = file.info.meta
    found: Facts = {"kind": KINDS.get(meta.type, "other"), "ino": meta.addr, "mode": int(meta.mode) & 0o7777}
    found |= {key: getattr(meta, key) for key in ("size", "nlink", "uid", "gid", "mtime")}
    if found["kind"] == "file":
        found |= file_facts(meta.size, file.read_random)
    if found["kind"] == "link":
        found["target"] = shown(meta.link if isinstance(meta.link, bytes) else meta.link.encode())
    return found


def walk(image: str, offset: int) -> dict[str, Facts]:
    """Every path from the root."""
    fs = pytsk3.FS_Info(pytsk3.Img_Info(image), offset=offset)
    found = {"/": facts(fs.open_meta(fs.info.root_inum))}
    waiting: list[tuple[str, Any]] = [("", fs.open_dir("/"))]
    while waiting:
        above, directory = waiting.pop()
        for entry in directory:
            name = entry.info.name.name
            if name in (b".", b"..") or entry.info.meta is None or entry.info.meta.addr == fs.info.last_inum:
                continue  # the last one: what The Sleuth Kit calls $OrphanFiles
            path = f"{above}/{shown(name)}"
            found[path] = facts(entry)
            if found[path]["kind"] == "dir":
                waiting.append((path, entry.as_directory()))
    return found


report(walk)
