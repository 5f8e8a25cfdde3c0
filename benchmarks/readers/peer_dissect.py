"""dissect.ffs, a reader in Python."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

began = time.perf_counter()
from dissect.ffs import FFS  # noqa: E402

imported = time.perf_counter() - began


def walk(node: Any) -> int:
    """Every name with its inode."""
    names = 0
    for name, child in node.listdir().items():
        if name in (".", ".."):
            continue
        names += 1
        if child.is_dir():
            names += walk(child)
        else:
            _ = child.size
    return names


def main(image: str, large: str) -> None:
    """The same work as ours."""
    found = {"import": imported}
    for key, path in (("first lookup, open included", "/dir20/file0250"), ("lookup, open included", "/dir21/file0250")):
        began = time.perf_counter()
        with open(image, "rb") as disk:
            _ = FFS(disk).get(path).size
        found[key] = time.perf_counter() - began
    with open(image, "rb") as disk:
        fs = FFS(disk)
        began = time.perf_counter()
        found["names"] = walk(fs.get("/")) + 1
        found["list"] = time.perf_counter() - began
        began = time.perf_counter()
        assert fs.get("/" + large).dataruns()
        found["block list"] = time.perf_counter() - began
        began = time.perf_counter()
        size, stream = 0, fs.get("/" + large).open()
        while piece := stream.read(1 << 20):
            size += len(piece)
        found["read"] = time.perf_counter() - began
        found["bytes"] = size
    print(json.dumps(found))


main(sys.argv[1], sys.argv[2])
