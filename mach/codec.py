"""Messages as bytes: a fixed binary layout, derived from the fields of the dataclasses.

Interface:
    codec_of(cls).encode(message, export)             -> the body (bytes) and the data (the one bytes field, or b"")
    codec_of(cls).decode(body, data, import_right)    -> the message
                 .has_rights                          whether a message of the class can carry any
    codec_at(msgh_id)                                 the codec of an id from the wire
    ProtocolViolation                                 the sender broke the protocol: whatever does not decode exactly
    WireRight                                         a right on the wire: (kind, name); names are the carrier's affair

Layout, little endian: all fixed fields of the message in their order (numbers at their width, a right as u8 kind and
u32 name), then the variable ones (str: u16 length and UTF-8; tuple: u32 count and its records).  The one `bytes`
field travels apart, as data, so that pages are never copied into a buffer.

Each class gets two functions of its own, written out as text and compiled once, as dataclasses are: encoding a
data_request is then one call and one struct.pack.

Invariants:
    1. A right is imported only once all else of its message is known to be sound: a broken message makes none.

Not here: sockets; what a name means; what a message means.
"""

from __future__ import annotations

import enum
import struct
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from mach.message import MESSAGES, Message
from mach.ports import ReceiveRight, Right, SendOnceRight, SendRight


class ProtocolViolation(Exception):
    """The peer sent what the protocol does not allow; it is to be disconnected."""


class RightKind(enum.IntEnum):
    """How a right stands on the wire.  HOME: it names one of the receiver's own ports."""

    NULL = 0
    SEND = 1
    SEND_ONCE = 2
    RECEIVE = 3
    HOME = 4


WireRight = tuple[int, int]  # RightKind and name
Export = Callable[[Right], WireRight]
Import = Callable[[int, int], Right]

_KINDS: dict[type[Right], tuple[RightKind, ...]] = {
    SendRight: (RightKind.SEND, RightKind.HOME),
    SendOnceRight: (RightKind.SEND_ONCE,),
    ReceiveRight: (RightKind.RECEIVE,),
}
_NOTHING: WireRight = (RightKind.NULL, 0)


@dataclass(frozen=True, slots=True)
class Codec:
    """The two functions of one message class."""

    cls: type[Message]
    encode: Callable[[Any, Export], tuple[bytes, bytes]]
    decode: Callable[[memoryview, bytes, Import], Any]
    has_rights: bool


class _Layout:
    """How the fields of one dataclass, a message or a record inside one, lie."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.numbers: dict[str, type | None] = {}  # fixed fields; the enum that the number must be one of
        self.rights: dict[str, tuple[type[Right], bool]] = {}  # and whether it may be null
        self.variable: dict[str, _Layout | None] = {}  # its records' layout; None: str
        self.data: str | None = None
        self.fixed: list[str] = []
        self.names = [field.name for field in fields(cls)]
        hints = typing.get_type_hints(cls, include_extras=True)
        self.struct = struct.Struct("<" + "".join(self._add(name, hints[name]) for name in self.names))

    def _add(self, name: str, hint: Any) -> str:
        """Note one field; returns its part of the struct format."""
        if typing.get_origin(hint) is typing.Annotated:
            number, code = typing.get_args(hint)
            self.numbers[name] = None if number in (int, bytes) else number
            self.fixed.append(name)
            return str(code)
        if hint is bytes:
            assert self.data is None, f"{self.cls.__name__} has two bytes fields"
            self.data = name
        elif hint is str:
            self.variable[name] = None
        elif typing.get_origin(hint) is tuple:
            self.variable[name] = _Layout(typing.get_args(hint)[0])
        else:
            options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            right = next(option for option in options if option is not type(None))
            assert issubclass(right, Right), f"{self.cls.__name__}.{name}: no wire form for {hint}"
            self.rights[name] = (right, type(None) in options)
            self.fixed.append(name)
            return "BI"
        return ""

    # -- encoding ----------------------------------------------------------------------------------------------

    def encoder(self) -> Callable[[Any, Export], tuple[bytes, bytes]]:
        names: dict[str, Any] = {"pack": self.struct.pack, "NOTHING": _NOTHING, "text": _encoded_text}
        lines, values, parts = ["def encode(message, export):"], [], []
        for name in self.fixed:
            if name in self.rights:
                optional = self.rights[name][1]
                null = f"NOTHING if message.{name} is None else " if optional else ""
                lines.append(f"    kind_{name}, name_{name} = {null}export(message.{name})")
                values += [f"kind_{name}", f"name_{name}"]
            else:
                values.append(f"message.{name}")
        for name, record in self.variable.items():
            names[f"rows_{name}"] = _rows_encoder(record) if record is not None else _encoded_text
            parts.append(f" + rows_{name}(message.{name})")
        data = f"message.{self.data}" if self.data else 'b""'
        lines.append(f"    return pack({', '.join(values)}){''.join(parts)}, {data}")
        return typing.cast(Callable[[Any, Export], tuple[bytes, bytes]], _compiled(lines, names, self.cls))

    # -- decoding ----------------------------------------------------------------------------------------------

    def decoder(self) -> Callable[[memoryview, bytes, Import], Any]:
        names: dict[str, Any] = {"unpack": self.struct.unpack_from, "cls": self.cls, "cut": struct.error}
        names |= {"violation": ProtocolViolation, "what": self.cls.__name__}
        targets = "".join(f"kind_{n}, name_{n}, " if n in self.rights else f"{n}, " for n in self.fixed)
        lines = ["def decode(body, data, import_right):", "    try:"]
        if targets:
            lines.append(f"        ({targets}) = unpack(body)")
        lines.append(f"        end = {self.struct.size}")
        for name, record in self.variable.items():
            names[f"rows_{name}"] = _rows_decoder(record) if record is not None else _decoded_text
            lines.append(f"        {name}, end = rows_{name}(body, end, what)")
        for name in self.enums(names):
            lines.append(f"        {name} = members_{name}[{name}]")
        lines += ["    except cut:", "        raise violation(f'{what} is cut short') from None"]
        lines += ["    except KeyError as value:", "        raise violation(f'{what}: {value} is no value') from None"]
        lines += ["    if end != len(body):", "        raise violation(f'{what}: {len(body) - end} bytes too many')"]
        if self.data is None:
            lines += ["    if data:", "        raise violation(f'{what} carries no data')"]
        lines += self._import_lines(names)
        given = ", ".join("data" if name == self.data else name for name in self.names)
        lines.append(f"    return cls({given})")
        return typing.cast(Callable[[memoryview, bytes, Import], Any], _compiled(lines, names, self.cls))

    def enums(self, names: dict[str, Any]) -> list[str]:
        """The fields whose number must be a member; `names` gets a table of the members of each."""
        found = [name for name, number in self.numbers.items() if number is not None]
        names |= {f"members_{name}": _members(self.numbers[name]) for name in found}
        return found

    def _import_lines(self, names: dict[str, Any]) -> list[str]:
        """First all kinds are looked at, then the rights are made (INV-1)."""
        checks, imports = [], []
        for name, (right, optional) in self.rights.items():
            names[f"kinds_{name}"] = _KINDS[right] + ((RightKind.NULL,) if optional else ())
            null = f"None if kind_{name} == 0 else " if optional else ""
            checks += [
                f"    if kind_{name} not in kinds_{name}:",
                f"        raise violation(f'{{what}}.{name}: {{kind_{name}}} is no kind of {right.__name__}')",
            ]
            imports.append(f"    {name} = {null}import_right(kind_{name}, name_{name})")
        return checks + imports


def _members(enumeration: Any) -> dict[int, Any]:
    """Every value that the enumeration can have; of flags, every combination."""
    if issubclass(enumeration, enum.Flag):
        every = sum(member.value for member in enumeration)
        return {value: enumeration(value) for value in range(every + 1) if value & ~every == 0}
    return {member.value: member for member in enumeration}


def _compiled(lines: list[str], names: dict[str, Any], cls: type) -> Any:
    exec(compile("\n".join(lines), f"<codec of {cls.__name__}>", "exec"), names)
    return names["encode" if "encode" in names else "decode"]


def _encoded_text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<H", len(raw)) + raw


def _decoded_text(body: memoryview, start: int, what: str) -> tuple[str, int]:
    (length,) = struct.unpack_from("<H", body, start)
    end = start + 2 + length
    if end > len(body):
        raise ProtocolViolation(f"{what}: a string is cut short")
    return bytes(body[start + 2 : end]).decode("utf-8", "surrogateescape"), end


def _rows_encoder(record: _Layout) -> Callable[[tuple[Any, ...]], bytes]:
    encode = record.encoder()

    def rows(items: tuple[Any, ...]) -> bytes:
        return struct.pack("<I", len(items)) + b"".join([encode(item, _no_right)[0] for item in items])

    return rows


def _no_right(right: Right) -> WireRight:
    raise AssertionError("a record holds a right")


def _rows_decoder(record: _Layout) -> Callable[[memoryview, int, str], tuple[tuple[Any, ...], int]]:
    size, unpack = record.struct.size, record.struct.unpack_from
    tables: dict[str, Any] = {}
    enums = record.enums(tables)
    variable = {name: _rows_decoder(layout) if layout else _decoded_text for name, layout in record.variable.items()}

    def rows(body: memoryview, start: int, what: str) -> tuple[tuple[Any, ...], int]:
        (count,) = struct.unpack_from("<I", body, start)
        end = start + 4
        if count * size > len(body) - end:
            raise ProtocolViolation(f"{what}: {count} records do not fit")
        items = []
        for _ in range(count):
            values = dict(zip(record.fixed, unpack(body, end), strict=True))
            end += size
            for name in enums:
                values[name] = tables[f"members_{name}"][values[name]]
            for name, decode in variable.items():
                values[name], end = decode(body, end, what)
            items.append(record.cls(**values))
        return tuple(items), end

    return rows


_CODECS: dict[type, Codec] = {}
_CODECS_BY_ID: dict[int, Codec] = {}


def codec_of(cls: type[Message]) -> Codec:
    """The codec of a message class."""
    codec = _CODECS.get(cls)
    if codec is None:
        layout = _Layout(cls)
        codec = _CODECS[cls] = Codec(cls, layout.encoder(), layout.decoder(), bool(layout.rights))
    return codec


def class_of(msgh_id: int) -> type[Message]:
    """The message class of an id from the wire, or ProtocolViolation."""
    try:
        return MESSAGES[msgh_id]
    except KeyError:
        raise ProtocolViolation(f"no message has the id {msgh_id}") from None


def codec_at(msgh_id: int) -> Codec:
    """The codec of an id from the wire, or ProtocolViolation."""
    codec = _CODECS_BY_ID.get(msgh_id)
    if codec is None:
        codec = _CODECS_BY_ID[msgh_id] = codec_of(class_of(msgh_id))
    return codec
