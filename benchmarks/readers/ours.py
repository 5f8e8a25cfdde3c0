"""bootfs, measured from inside."""

from __future__ import annotations

import json
import os
import sys
import time

began = time.perf_counter()
from bootfs.device import FileDevice  # noqa: E402
from bootfs.filesystem import FileSystem  # noqa: E402

imported = time.perf_counter() - began


def main(image: str, large: str) -> None:
    """Each measure after another, on one open disk but for the lookup."""
    found = {"import": imported}
    began = time.perf_counter()
    with FileDevice(image) as device:
        FileSystem.open(device).lookup("/dir20/file0250")
    found["first lookup, open included"] = time.perf_counter() - began
    began = time.perf_counter()
    with FileDevice(image) as device:
        FileSystem.open(device).lookup("/dir21/file0250")
    found["lookup, open included"] = time.perf_counter() - began

    with FileDevice(image) as device:
        fs = FileSystem.open(device)
        began = time.perf_counter()
        names = sum(1 for _ in fs.walk())
        found["list"] = time.perf_counter() - began
        found["names"] = names
        began = time.perf_counter()
        fs.block_list(fs.lookup("/" + large))
        found["block list"] = time.perf_counter() - began
        inode = fs.lookup("/" + large)
        # Copying to bytes 1 to 31 of a page takes the kernel five times as long, on some processors. Where a piece of
        # the file comes to lie is chance, but the same in all rounds, unless something of any length lies before it.
        ballast = bytes(1 << 16 | os.urandom(1)[0] << 4)
        began = time.perf_counter()
        size = sum(len(piece) for piece in fs.contents(inode))
        found["read"] = time.perf_counter() - began
        found["bytes"] = size
        del ballast
    print(json.dumps(found))


main(sys.argv[1], sys.argv[2])
