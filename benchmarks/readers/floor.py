"""The floor: as many bytes as the large file has, by preadv of 1 MiB; and an empty Python process."""

from __future__ import annotations

import json
import os
import sys
import time


def main(image: str) -> None:
    """200 reads into one buffer."""
    disk = os.open(image, os.O_RDONLY)
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    size = sum(os.preadv(disk, [buffer], (at + 20) << 20) for at in range(200))
    print(json.dumps({"read": time.perf_counter() - began, "bytes": size}))


main(sys.argv[1])
