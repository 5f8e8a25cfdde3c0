"""dissect.ffs on broken disks. It raises its own Error, and EOFError where a disk is cut short."""

from __future__ import annotations

from typing import Any

from broken import MOST_NAMES, PIECE, serve
from dissect.ffs import FFS
from dissect.ffs.exceptions import Error


def look(path: str) -> None:
    """Every name, the ends of every file, where its blocks are."""
    with open(path, "rb") as disk:
        waiting: list[Any] = [FFS(disk).get("/")]
        seen: set[int] = set()
        names = 0
        while waiting:
            for name, child in waiting.pop().listdir().items():
                if name in (".", ".."):
                    continue
                names += 1
                if names > MOST_NAMES:
                    return
                if child.is_dir():
                    if child.inum not in seen:
                        seen.add(child.inum)
                        waiting.append(child)
                elif child.is_symlink():
                    _ = child.link
                elif child.is_file():
                    stream = child.open()
                    stream.read(PIECE)
                    stream.seek(max(0, child.size - PIECE))
                    stream.read(PIECE)
                    child.dataruns()


serve(look, (Error, EOFError))
