"""`struct` formats derived from the construct definitions: the same structures, some twenty times faster.

Interface:
    record(construct) -> Record    cached; names, offsets and one compiled `struct.Struct`
    Record.unpack, pack, offset_of, index_of
    Record.selection               a format that takes no more than is wanted out of the structure
Nested structs are flattened with a dot: `fs_cstotal.cs_nbfree`. An array of integers is a tuple, Bytes are bytes.
Not here: any layout. A property test holds both readings of a structure together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct as Compiled
from struct import calcsize
from typing import Any

from construct import Array, Bytes, FormatField, Renamed, Struct


@dataclass(frozen=True, slots=True)
class Field:
    """One named piece of a structure: `code` is its letter in `struct`; `count` is None for a single value."""

    name: str
    code: str
    count: int | None

    @property
    def format(self) -> str:
        return self.code if self.count is None else f"{self.count}{self.code}"


@dataclass(frozen=True, slots=True)
class Record:
    """A structure as a flat tuple of values. `struct` is for hot paths; the methods are for everything else."""

    struct: Compiled
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Bytes of the structure."""
        return self.struct.size

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
        """The values by name. `data` must hold the whole structure at `offset`."""
        flat = self.struct.unpack_from(data, offset)
        values: dict[str, Any] = {}
        at = 0
        for field in self.fields:
            name, code, count = field.name, field.code, field.count
            if count is None or code == "s":
                values[name] = flat[at]
                at += 1
            else:
                values[name] = flat[at : at + count]
                at += count
        return values

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """The bytes of `values`; names that are missing are zero. KeyError for a name that the structure lacks."""
        unknown = values.keys() - {field.name for field in self.fields}
        if unknown:
            raise KeyError(f"no such fields: {sorted(unknown)}")
        flat: list[Any] = []
        for field in self.fields:
            name, code, count = field.name, field.code, field.count
            if count is None or code == "s":
                flat.append(values.get(name, b"" if code == "s" else 0))
            else:
                flat.extend(values.get(name, (0,) * count))
        return self.struct.pack(*flat)

    def array(self, count: int) -> Compiled:
        """The format of `count` of these in a row, if the record is one integer: a block of pointers."""
        return Compiled(f"{self.struct.format[0]}{count}{self.struct.format[1:]}")

    def selection(self, names: Sequence[str], count: int = 1) -> Compiled:
        """The format of `count` of these in a row, only these integers of each, which are in disk order: what is
        skipped costs no time."""
        order, code, at = self.struct.format[0], "", 0
        for name in names:
            field, begin = self.fields[self.index_of(name, of="fields")], self.offset_of(name)
            code += f"{begin - at}x{field.code}"
            at = begin + calcsize(order + field.code)
        return Compiled(order + f"{code}{self.size - at}x" * count)

    def offset_of(self, name: str) -> int:
        """The byte offset of a field in the structure."""
        at = self.index_of(name, of="fields")
        return calcsize(self.struct.format[0] + "".join(field.format for field in self.fields[:at]))

    def index_of(self, name: str, of: str = "values") -> int:
        """Where a field stands in the tuple that `struct.unpack` gives (`of="fields"`: in `fields`)."""
        at = 0
        for place, field in enumerate(self.fields):
            if field.name == name:
                return at if of == "values" else place
            at += 1 if field.count is None or field.code == "s" else field.count
        raise KeyError(name)


@cache
def record(construct: Any) -> Record:
    """The derived format of a Struct of fixed size, or of one integer. TypeError for a construct it does not know."""
    fields = tuple(_fields(construct, ""))
    orders = {order for order, _ in fields if order}
    order = orders.pop() if orders else "<"
    if orders:
        raise TypeError(f"mixed byte orders in {construct}")
    return Record(Compiled(order + "".join(field.format for _, field in fields)), tuple(field for _, field in fields))


def _fields(construct: Any, name: str) -> Iterator[tuple[str, Field]]:
    """The byte order ("" where it does not matter) and field of each piece, in order."""
    if isinstance(construct, Renamed):
        yield from _fields(construct.subcon, f"{name}.{construct.name}" if name else construct.name)
    elif isinstance(construct, Struct):
        for part in construct.subcons:
            yield from _fields(part, name)
    elif isinstance(construct, FormatField):
        yield ("" if construct.length == 1 else construct.fmtstr[0]), Field(name, construct.fmtstr[1:], None)
    elif isinstance(construct, Array):
        ((order, element),) = _fields(construct.subcon, name)
        yield order, Field(name, element.code, construct.count)
    elif isinstance(construct, Bytes):
        yield "", Field(name, "s", construct.length)
    else:
        raise TypeError(f"no struct format for {construct!r}")
