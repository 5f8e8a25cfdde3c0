"""pytsk3, The Sleuth Kit's library in C."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

began = time.perf_counter()
import pytsk3  # noqa: E402

imported = time.perf_counter() - began


def walk(directory: Any) -> int:
    """Every name with its inode."""
    names = 0
    for entry in directory:
        name = entry.info.name.name
        if name in (b".", b"..") or entry.info.meta is None:
            continue
        names += 1
        if entry.info.meta.type == pytsk3.TSK_FS_META_TYPE_DIR and not name.startswith(b"$"):
            names += walk(entry.as_directory())
    return names


def main(image: str, large: str) -> None:
    """The same work as ours."""
    found = {"import": imported}
    for key, path in (("first lookup, open included", "/dir20/file0250"), ("lookup, open included", "/dir21/file0250")):
        began = time.perf_counter()
        pytsk3.FS_Info(pytsk3.Img_Info(image)).open(path)
        found[key] = time.perf_counter() - began
    fs = pytsk3.FS_Info(pytsk3.Img_Info(image))
    began = time.perf_counter()
    found["names"] = walk(fs.open_dir("/")) + 1
    found["list"] = time.perf_counter() - began
    began = time.perf_counter()
    runs = [(run.addr, run.len) for attribute in fs.open("/" + large) for run in attribute]
    found["block list"] = time.perf_counter() - began
    assert runs
    file = fs.open("/" + large)
    began = time.perf_counter()
    size, at = file.info.meta.size, 0
    while at < size:
        at += len(file.read_random(at, min(1 << 20, size - at)))
    found["read"] = time.perf_counter() - began
    found["bytes"] = at
    print(json.dumps(found))


main(sys.argv[1], sys.argv[2])
