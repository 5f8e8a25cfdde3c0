"""What a reader must find on a disk of the corpus, hashes of the contents too."""

from __future__ import annotations

import hashlib
from typing import Any

from fixtures.disks.corpus import Disk

WHOLE = 64 << 20  # bytes: of a longer file, which is mostly holes, the ends are hashed (readers/reading.py)
END = 1 << 16
Pieces = tuple[tuple[int, bytes], ...]


def sha256(size: int, pieces: Pieces) -> str:
    """Of a file whose bytes are `pieces`, and zeros between them."""
    seen = hashlib.sha256()
    for at, length in [(0, size)] if size <= WHOLE else [(0, END), (size - END, END)]:
        content = bytearray(length)
        for begin, data in pieces:
            low, high = max(begin, at), min(begin + len(data), at + length)
            if low < high:
                content[low - at : high - at] = data[low - begin : high - begin]
        seen.update(content)
    return seen.hexdigest()


def expected(disk: Disk) -> dict[str, dict[str, Any]]:
    """The manifest, with a hash for each file."""
    found = {}
    for path, facts in disk.image.expected.items():
        is_file = facts["kind"] == "file"
        found[path] = facts | ({"sha256": sha256(facts["size"], disk.image.pieces[path])} if is_file else {})
    return found


def differences(theirs: dict[str, dict[str, Any]], ours: dict[str, dict[str, Any]], leave_out: set[str]) -> list[str]:
    """Names that only one has, and facts that `theirs` tells otherwise; `leave_out`: facts that it cannot know."""
    found = [f"{path}: only one has it" for path in sorted(set(theirs) ^ set(ours))]
    for path in sorted(set(theirs) & set(ours)):
        for key in theirs[path].keys() - leave_out:
            if theirs[path][key] != ours[path].get(key):
                found.append(f"{path}: {key} {theirs[path][key]!r}, not {ours[path].get(key)!r}")
    return found
