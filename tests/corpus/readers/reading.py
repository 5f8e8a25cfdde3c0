"""What every peer tells of a disk, in the same words; runs in the peers' own environment, without any of our packages.

Interface:
    Facts                                        kind, ino, size, mode, ...: as the manifests of the corpus have them
    file_facts(size, read) -> Facts              hashes of what `read(offset, length)` gives
    report(walk)                                 walk(path of an image, byte offset in it) -> {path: facts}, as JSON
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]
WHOLE = 64 << 20  # bytes: of a longer file the ends are hashed
END = 1 << 16


def file_facts(size: int, read: Callable[[int, int], bytes]) -> Facts:
    """The hash of all, or of both ends of a file that is too long for that."""
    stretches = [(0, size)] if size <= WHOLE else [(0, END), (size - END, END)]
    seen = hashlib.sha256()
    for at, length in stretches:
        for piece in range(at, at + length, 1 << 20):
            seen.update(read(piece, min(1 << 20, at + length - piece)))
    return {"sha256": seen.hexdigest()}


def shown(name: bytes) -> str:
    """As bootfs shows a name."""
    return name.decode("utf-8", "surrogateescape")


def report(walk: Callable[[str, int], dict[str, Facts]]) -> None:
    """For the disk that the command line names."""
    json.dump(walk(sys.argv[1], int(sys.argv[2])), sys.stdout)
