"""What a reader must find on a disk of the corpus, hashes of the contents too."""

from __future__ import annotations

from functools import partial
from typing import Any

from corpus.readers.reading import file_facts

from fixtures.disks.corpus import Disk

Pieces = tuple[tuple[int, bytes], ...]


def content(pieces: Pieces, at: int, length: int) -> bytes:
    """A stretch of a file whose bytes are `pieces`, and zeros between them."""
    found = bytearray(length)
    for begin, data in pieces:
        low, high = max(begin, at), min(begin + len(data), at + length)
        if low < high:
            found[low - at : high - at] = data[low - begin : high - begin]
    return bytes(found)


def expected(disk: Disk) -> dict[str, dict[str, Any]]:
    """The manifest, with a hash for each file."""
    found = {}
    for path, facts in disk.image.expected.items():
        is_file = facts["kind"] == "file"
        read = partial(content, disk.image.pieces.get(path, ()))
        found[path] = facts | (file_facts(facts["size"], read) if is_file else {})
    return found


def differences(theirs: dict[str, dict[str, Any]], ours: dict[str, dict[str, Any]], leave_out: set[str]) -> list[str]:
    """Names that only one has, and facts that `theirs` tells otherwise; `leave_out`: facts that it cannot know."""
    found = [f"{path}: only one has it" for path in sorted(set(theirs) ^ set(ours))]
    for path in sorted(set(theirs) & set(ours)):
        for key in theirs[path].keys() - leave_out:
            if theirs[path][key] != ours[path].get(key):
                found.append(f"{path}: {key} {theirs[path][key]!r}, not {ours[path].get(key)!r}")
    return found
