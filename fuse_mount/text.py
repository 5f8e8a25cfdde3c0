"""Facts as a person reads them, and the same facts as JSON beside them.

Interface:
    facts(name, gather)              two files, NAME and NAME.json: one thing, a line a fact
    table(name, columns, gather)     two files: many things, a line each, under a line of column names
    plain(record)                    a record as a dict of JSON's own kinds, in the record's order
    hexadecimal, protection          how some numbers are written in the text; in JSON they stay numbers

Both files of a pair are made from one gathering each, by one function, so they cannot tell different stories.

Not here: what the facts are, or where they come from.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fuse_mount.tree import Node, TextFile

Facts = Mapping[str, Any]
Formats = Mapping[str, Callable[[Any], str]]

NO_FORMATS: Formats = {}


@functools.cache
def _field_names(record_class: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(record_class))


def plain(record: Any) -> Any:
    """A frozen record, or any part of one, as JSON's own kinds: bytes in hexadecimal, enumerations by their names."""
    if type(record) is int or type(record) is str:  # nearly all: a list of pages is long
        return record
    if dataclasses.is_dataclass(record):
        return {name: plain(getattr(record, name)) for name in _field_names(record.__class__)}
    if isinstance(record, enum.Enum):
        return record.name.lower()
    if isinstance(record, bytes):
        return record.hex()
    if isinstance(record, tuple | list):
        return [plain(part) for part in record]
    return record


def hexadecimal(number: int) -> str:
    """An address."""
    return f"{number:#010x}"


def protection(bits: int) -> str:
    """vm_prot_t: VM_PROT_READ 1, WRITE 2, EXECUTE 4 (<mach/vm_prot.h>)."""
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))


def inheritance(how: int) -> str:
    """vm_inherit_t (<mach/vm_inherit.h>)."""
    return ("share", "copy", "none")[how] if how < 3 else str(how)


def as_json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def one_line(value: object) -> str:
    """A value as a cell: names come from outside, and may hold anything."""
    shown = str(value)
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode()


def facts_text(content: Facts, formats: Formats = NO_FORMATS) -> str:
    """One fact a line: its name in words, its value."""
    width = max((len(name) for name in content), default=0)
    lines = (
        f"{name.replace('_', ' '):<{width}}  {one_line(formats.get(name, str)(value))}"
        for name, value in content.items()
    )
    return "".join(line.rstrip() + "\n" for line in lines)


def table_text(columns: Sequence[str], rows: Sequence[Facts], formats: Formats = NO_FORMATS) -> str:
    """A header after "# ", then a line a row.  Numbers stand to the right, words to the left; an empty word is "-"."""
    cells = [[one_line(formats.get(column, str)(row[column])) or "-" for column in columns] for row in rows]
    widths = [max([len(column), *(len(line[at]) for line in cells)]) for at, column in enumerate(columns)]
    right = [bool(rows) and isinstance(rows[0][column], int) for column in columns]

    def line(mark: str, words: Sequence[str]) -> str:
        aligned = (
            word.rjust(width) if number else word.ljust(width)
            for word, width, number in zip(words, widths, right, strict=True)
        )
        return (mark + "  ".join(aligned)).rstrip() + "\n"

    return line("# ", columns) + "".join(line("  ", words) for words in cells)


def facts(name: str, gather: Callable[[], Facts], formats: Formats = NO_FORMATS) -> dict[bytes, Node]:
    """NAME and NAME.json: what `gather` says."""
    return {
        name.encode(): TextFile(lambda: facts_text(gather(), formats)),
        f"{name}.json".encode(): TextFile(lambda: as_json(gather())),
    }


def table(
    name: str, columns: Sequence[str], gather: Callable[[], Sequence[Facts]], formats: Formats = NO_FORMATS
) -> dict[bytes, Node]:
    """NAME and NAME.json: the rows that `gather` gives, of which the text shows `columns`."""
    return {
        name.encode(): TextFile(lambda: table_text(columns, gather(), formats)),
        f"{name}.json".encode(): TextFile(lambda: as_json(gather())),
    }
