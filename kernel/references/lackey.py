"""Memory traces as valgrind's lackey writes them (`valgrind --tool=lackey --trace-mem=yes`).

Interface:
    page_references(path, page_size) -> array of page numbers, one a reference    BadReferences; OSError
    References      .pages (equal neighbours are one), .count of all references, .distinct pages

A line is a kind (I instruction, L load, S store, M modify), an address in hexadecimal, a comma, a size in bytes.  Lines
of valgrind's own (==pid==) are left out.  A reference that crosses into the next page counts for both.  The file may be
compressed by gzip.

Lines are taken apart by numpy, a hundred thousand at a time: a trace of a second of a program's life has 10^8 of them.

Not here: what the references cost (policies.py).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 22
ADDRESS_AT = 3  # "I  04001b70,3", " S 1fff000778,8"
LONGEST_ADDRESS = 16
LONGEST_SIZE = 4
NEWLINE, COMMA, SPACE = b"\n, "
KINDS = np.zeros(256, dtype=bool)
KINDS[list(b"ILSM")] = True
NO_DIGIT = 99
DIGITS = np.full(256, NO_DIGIT, dtype=np.uint8)
for _value, _character in enumerate(b"0123456789abcdef"):
    DIGITS[_character] = _value
DIGITS[list(b"ABCDEF")] = range(10, 16)

Pages = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class BadReferences(Exception):
    """A file that is no memory trace."""


@dataclass(frozen=True, slots=True)
class References:
    """See the head of the module."""

    pages: Pages
    count: int
    distinct: int
    page_size: int


def page_references(path: str, page_size: int) -> References:
    """All references of the trace.  `page_size` is a power of two."""
    with Path(path).open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        parts: list[Pages] = []
        count = 0
        try:
            for chunk in _chunks(gzip.GzipFile(fileobj=file) if zipped else file):
                pages = _pages(np.frombuffer(chunk, dtype=np.uint8), page_size)
                count += len(pages)
                parts.append(_without_repeats(pages))
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise BadReferences(f"{path} is cut short, or no gzip file") from None
    if not count:
        raise BadReferences(
            f"{path} has no memory references; make some with: "
            f"valgrind --tool=lackey --trace-mem=yes --log-file={path} PROGRAM"
        )
    pages = _without_repeats(np.concatenate(parts))
    return References(pages, count, len(np.unique(pages)), page_size)


def _without_repeats(pages: Pages) -> Pages:
    """A page that is referenced again at once is there: no policy does anything then."""
    if not len(pages):
        return pages
    keep = np.empty(len(pages), dtype=bool)
    keep[0] = True
    np.not_equal(pages[1:], pages[:-1], out=keep[1:])
    return pages[keep]


def _chunks(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time."""
    rest = b""
    while chunk := file.read(CHUNK_BYTES):
        chunk = rest + chunk
        end = chunk.rfind(b"\n") + 1
        yield chunk[:end]
        rest = chunk[end:]
    if rest:
        yield rest + b"\n"


def _pages(text: Bytes, page_size: int) -> Pages:
    """The pages that the lines of `text` refer to, in order."""
    ends = np.flatnonzero(text == NEWLINE)
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    long_enough = ends - starts > ADDRESS_AT + 2
    starts, ends = starts[long_enough], ends[long_enough]
    first, second, third = text[starts], text[starts + 1], text[starts + 2]
    is_reference = (KINDS[first] & (second == SPACE) | KINDS[second] & (first == SPACE)) & (third == SPACE)
    starts, ends = starts[is_reference], ends[is_reference]
    addresses, at = _numbers(text, starts + ADDRESS_AT, 16, LONGEST_ADDRESS)
    good = text[at] == COMMA
    addresses, at, ends = addresses[good], at[good], ends[good]
    sizes, _ = _numbers(text, at + 1, 10, LONGEST_SIZE)
    shift = page_size.bit_length() - 1
    pages = (addresses >> np.uint64(shift)).astype(np.int64)
    last = (addresses + np.maximum(sizes, 1) - np.uint64(1)) >> np.uint64(shift)
    crossing = np.flatnonzero(last.astype(np.int64) > pages)
    return np.insert(pages, crossing + 1, pages[crossing] + 1) if len(crossing) else pages


def _numbers(
    text: Bytes, at: NDArray[np.int64], base: int, longest: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The numbers that begin at `at`, and where each ends."""
    values = np.zeros(len(at), dtype=np.uint64)
    at = at.copy()
    for _ in range(longest):
        digits = DIGITS[text[at]]
        more = digits < base
        if more.all():  # as for all but the last digits
            values = values * np.uint64(base) + digits
            at += 1
        elif more.any():
            values = np.where(more, values * np.uint64(base) + digits, values)
            at += more
        else:
            break
    return values, at
