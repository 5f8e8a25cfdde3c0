"""pytsk3 on broken disks. It raises OSError."""

from __future__ import annotations

from typing import Any

import pytsk3
from broken import MOST_NAMES, PIECE, serve


def look(path: str) -> None:
    """Every name, the ends of every file, where its blocks are."""
    fs = pytsk3.FS_Info(pytsk3.Img_Info(path))
    waiting: list[Any] = [fs.open_dir("/")]
    seen: set[int] = set()
    names = 0
    while waiting:
        for entry in waiting.pop():
            meta, name = entry.info.meta, entry.info.name.name
            if meta is None or name in (b".", b"..") or name.startswith(b"$"):
                continue
            names += 1
            if names > MOST_NAMES:
                return
            if meta.type == pytsk3.TSK_FS_META_TYPE_DIR and meta.addr not in seen:
                seen.add(meta.addr)
                waiting.append(entry.as_directory())
            elif meta.type == pytsk3.TSK_FS_META_TYPE_REG and meta.size > 0:
                entry.read_random(0, min(meta.size, PIECE))
                entry.read_random(max(0, meta.size - PIECE), min(meta.size, PIECE))
                [(run.addr, run.len) for attribute in entry for run in attribute]


serve(look, OSError)
