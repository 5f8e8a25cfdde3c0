"""Messages as bytes: a fixed binary layout, derived from the fields of the dataclasses.

Interface:
    codec_of(cls).encode(message, export)             -> the body (bytes) and the data (the one bytes field, or b"")
    codec_of(cls).decode(body, data, import_right)    -> the message
    ProtocolViolation                                 the sender broke the protocol: whatever does not decode exactly
    WireRight                                         a right on the wire: (kind, name); names are the carrier's affair

Layout, little endian: all fixed fields of the message in their order (numbers at their width, a right as u8 kind and
u32 name), then the variable ones (str: u16 length and UTF-8; tuple: u32 count and its records).  The one `bytes`
field travels apart, as data, so that pages are never copied into a buffer.

Not here: sockets; what a name means; what a message means.
"""

from __future__ import annotations

import enum
import struct
import types
import typing
from collections.abc import Callable
from dataclasses import fields
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


WireRight = tuple[RightKind, int]
Export = Callable[[Right], WireRight]
Import = Callable[[RightKind, int], Right]

_KINDS: dict[type[Right], tuple[RightKind, ...]] = {
    SendRight: (RightKind.SEND, RightKind.HOME),
    SendOnceRight: (RightKind.SEND_ONCE,),
    ReceiveRight: (RightKind.RECEIVE,),
}


_CODECS: dict[type, FieldCodec] = {}


class FieldCodec:
    """The layout of one dataclass: a message, or a record inside one."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.names = [field.name for field in fields(cls)]
        self.fixed: list[tuple[str, Any, type[Right] | None, bool]] = []  # name, number type, right type, optional
        self.variable: list[tuple[str, FieldCodec | None]] = []  # name, record codec (None: str)
        self.data_name: str | None = None
        layout = "<"
        hints = typing.get_type_hints(cls, include_extras=True)
        for name in self.names:
            layout += self._add(name, hints[name])
        self.struct = struct.Struct(layout)

    def _add(self, name: str, hint: Any) -> str:
        """Note one field; returns its part of the struct format."""
        if typing.get_origin(hint) is typing.Annotated:
            number, code = typing.get_args(hint)
            self.fixed.append((name, None if number in (int, bytes) else number, None, False))
            return str(code)
        if hint is bytes:
            assert self.data_name is None, f"{self.cls.__name__} has two bytes fields"
            self.data_name = name
        elif hint is str:
            self.variable.append((name, None))
        elif typing.get_origin(hint) is tuple:
            self.variable.append((name, FieldCodec(typing.get_args(hint)[0])))
        else:
            options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            right = next(option for option in options if option is not type(None))
            assert issubclass(right, Right), f"{self.cls.__name__}.{name}: no wire form for {hint}"
            self.fixed.append((name, None, right, type(None) in options))
            return "BI"
        return ""

    def encode(self, message: object, export: Export) -> tuple[bytes, bytes]:
        """Body and data of `message`; `export` turns each right into its wire form."""
        numbers: list[int] = []
        for name, _, right, _ in self.fixed:
            value = getattr(message, name)
            if right is None:
                numbers.append(value)
            else:
                numbers.extend((RightKind.NULL, 0) if value is None else export(value))
        parts = [self.struct.pack(*numbers)]
        for name, record in self.variable:
            value = getattr(message, name)
            if record is None:
                text = value.encode("utf-8", "surrogateescape")
                parts.append(struct.pack("<H", len(text)) + text)
            else:
                parts.append(struct.pack("<I", len(value)))
                parts.extend(part for item in value for part in record.encode(item, export))
        return b"".join(parts), getattr(message, self.data_name) if self.data_name else b""

    def decode(self, body: memoryview, data: bytes, import_right: Import) -> Any:
        """The message that `body` and `data` are, or ProtocolViolation."""
        values, end = self.decode_from(body, 0, import_right)
        if end != len(body):
            raise ProtocolViolation(f"{self.cls.__name__}: {len(body) - end} bytes too many")
        if self.data_name is not None:
            values[self.data_name] = data
        elif data:
            raise ProtocolViolation(f"{self.cls.__name__} carries no data")
        return self.cls(**values)

    def decode_from(self, body: memoryview, offset: int, import_right: Import) -> tuple[dict[str, Any], int]:
        try:
            numbers = iter(self.struct.unpack_from(body, offset))
        except struct.error:
            raise ProtocolViolation(f"{self.cls.__name__} is cut short") from None
        offset += self.struct.size
        rights = []
        values: dict[str, Any] = {}
        for name, record in self.variable:  # before any right is made: a broken message must make none
            values[name], offset = self._decode_variable(body, offset, record, import_right)
        for name, number, right, optional in self.fixed:
            value = next(numbers)
            if right is not None:
                rights.append((name, right, optional, value, next(numbers)))
            else:
                values[name] = value if number is None else self._number(number, value)
        for name, right, optional, kind, at in rights:
            values[name] = self._right(name, right, optional, kind, at, import_right)
        return values, offset

    def _decode_variable(
        self, body: memoryview, offset: int, record: FieldCodec | None, import_right: Import
    ) -> tuple[Any, int]:
        try:
            if record is None:
                (length,) = struct.unpack_from("<H", body, offset)
                text = bytes(body[offset + 2 : offset + 2 + length])
                if len(text) != length:
                    raise ProtocolViolation(f"{self.cls.__name__}: a string is cut short")
                return text.decode("utf-8", "surrogateescape"), offset + 2 + length
            (count,) = struct.unpack_from("<I", body, offset)
        except struct.error:
            raise ProtocolViolation(f"{self.cls.__name__} is cut short") from None
        offset += 4
        if count * record.struct.size > len(body) - offset:
            raise ProtocolViolation(f"{self.cls.__name__}: {count} records do not fit")
        items = []
        for _ in range(count):
            values, offset = record.decode_from(body, offset, import_right)
            items.append(record.cls(**values))
        return tuple(items), offset

    def _number(self, number: Any, value: int) -> Any:
        try:
            return number(value)
        except ValueError:
            raise ProtocolViolation(f"{self.cls.__name__}: {value} is no {number.__name__}") from None

    def _right(self, name: str, right: type[Right], optional: bool, kind: int, at: int, import_right: Import) -> Any:
        if kind == RightKind.NULL and optional:
            return None
        if kind not in _KINDS[right]:
            raise ProtocolViolation(f"{self.cls.__name__}.{name}: right kind {kind} where a {right.__name__} belongs")
        return import_right(RightKind(kind), at)


def codec_of(cls: type) -> FieldCodec:
    """The layout of a message class."""
    codec = _CODECS.get(cls)
    if codec is None:
        codec = _CODECS[cls] = FieldCodec(cls)
    return codec


def class_of(msgh_id: int) -> type[Message]:
    """The message class of an id from the wire, or ProtocolViolation."""
    try:
        return MESSAGES[msgh_id]
    except KeyError:
        raise ProtocolViolation(f"no message has the id {msgh_id}") from None
