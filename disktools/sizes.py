"""Sizes as people write them: 64M, 64MiB, 1G, or bytes.

Interface:
    parse_size(text) -> bytes      ValueError with a line that says what is accepted
    format_size(bytes) -> text     exact where it is whole, rounded where it is not
"""

from __future__ import annotations

import re

_UNITS = "KMGT"
_SIZE = re.compile(rf"(\d+)\s*(?:([{_UNITS}])(?:iB)?|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes; the units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not text.isascii():
        raise ValueError(f"{text!r} is not a size; write 64M, 64MiB, 1G or a number of bytes")
    number, unit = match.groups()
    return int(number) << 10 * (_UNITS.index(unit.upper()) + 1 if unit else 0)


def format_size(size: int) -> str:
    """The largest unit that gives at least 1; one decimal where it is not whole."""
    for power in range(len(_UNITS), 0, -1):
        unit = 1 << 10 * power
        if size >= unit:
            whole = size % unit == 0
            return f"{size // unit} {_UNITS[power - 1]}iB" if whole else f"{size / unit:.1f} {_UNITS[power - 1]}iB"
    return f"{size} bytes"
