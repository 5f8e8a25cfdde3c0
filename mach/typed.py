"""Messages as programs of Mach 3.0 lay them out: a header, then items, each behind its type (<mach/message.h>).

Interface:
    Header                          mach_msg_header_t: .unpack(bytes), .pack()
    Disposition                     MACH_MSG_TYPE_MOVE_RECEIVE ... MAKE_SEND_ONCE: what a port item does with a right
    Item                            one item: its descriptor and its content
    parse(body) -> list[Item]       descriptors and in-line content taken apart; BadMessage
    raw(body) -> Item               a body that is not items
    build(items) -> bytes           the inverse; for what is out of line, and for a right, stand their Item's `words`
    TypedMessage                    a message between programs: identity, right to reply by, items, rights in order
    to_typed(message)               a message of ours (a dataclass) as MIG would lay it out
    from_typed(typed, cls)          the inverse, or None if the items are not those of the interface

MIG makes one item of each argument, in order.  So the layout of a message of ours follows from its fields: a number or
an enumeration is an INTEGER_32 (a U8 a BOOLEAN; offsets are 32 bits on the i386), a right a port, `bytes` out-of-line
BYTEs, `str` an in-line STRING_C.  A first field `reply` is the header's local port.  A reply that says anything but
KERN_SUCCESS has no other item.

Not here: whose names and whose memory they are (kernel/ipc_kmsg.py).
"""

from __future__ import annotations

import enum
import struct
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mach.message import Message, message
from mach.notify import DeadName
from mach.ports import ReceiveRight, Right, SendOnceRight

MSGH_COMPLEX = 0x80000000
BOOLEAN, INTEGER_32, CHAR, BYTE, STRING_C, PORT_NAME = 0, 2, 8, 9, 12, 15  # MACH_MSG_TYPE_*
WORD = 4
NAME_BYTES = 128  # dev_name_t and its like: char[128]
MAX_ITEMS = 256  # of one message: the kernel's patience with a program


class Disposition(enum.IntEnum):
    """What the sender's right becomes; to the receiver the first three say what it has got."""

    MOVE_RECEIVE = 16
    MOVE_SEND = 17
    MOVE_SEND_ONCE = 18
    COPY_SEND = 19
    MAKE_SEND = 20
    MAKE_SEND_ONCE = 21


class BadMessage(Exception):
    """The bytes are not items."""


@dataclass(slots=True)
class Header:
    """mach_msg_header_t.  `remote` and `local` are names."""

    bits: int
    size: int
    remote: int
    local: int
    seqno: int
    identity: int

    LAYOUT: typing.ClassVar[struct.Struct] = struct.Struct("<5Ii")

    @classmethod
    def unpack(cls, content: bytes) -> Header:
        return cls(*cls.LAYOUT.unpack(content))

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.bits, self.size, self.remote, self.local, self.seqno, self.identity)


HEADER_BYTES = Header.LAYOUT.size


@dataclass(slots=True)
class Item:
    """One item.  `words`: what stands in the message itself: in-line content, names of rights, or an address."""

    type: int  # MACH_MSG_TYPE_*, or a Disposition
    size_bits: int  # of one element
    number: int  # of elements
    words: bytes
    inline: bool = True
    deallocate: bool = False
    memory: bytes = b""  # what is out of line, once it is out of the sender's memory

    @property
    def is_port(self) -> bool:
        return Disposition.MOVE_RECEIVE <= self.type <= Disposition.MAKE_SEND_ONCE

    @property
    def content_bytes(self) -> int:
        return self.size_bits * self.number // 8


@message(0, local=True)
class TypedMessage(Message):
    """A message that a program has made.  `rights`: of its port items, in their order; None for MACH_PORT_NULL."""

    identity: int
    reply: Right | None
    items: tuple[Item, ...]
    rights: tuple[Right | None, ...]


# -- descriptors -------------------------------------------------------------------------------------------------------

SHORT = struct.Struct("<I")
LONG = struct.Struct("<IHHI")
INLINE, LONGFORM, DEALLOCATE = 1 << 28, 1 << 29, 1 << 30


def parse(body: bytes) -> list[Item]:
    """The items of what follows a header."""
    items: list[Item] = []
    at = 0
    while at < len(body):
        if len(items) == MAX_ITEMS:
            raise BadMessage(f"more than {MAX_ITEMS} items")
        item, at = _parse_one(body, at)
        items.append(item)
    return items


def _parse_one(body: bytes, at: int) -> tuple[Item, int]:
    try:
        (word,) = SHORT.unpack_from(body, at)
        if word & LONGFORM:
            _, kind, size_bits, number = LONG.unpack_from(body, at)
            at += LONG.size
        else:
            kind, size_bits, number = word & 0xFF, word >> 8 & 0xFF, word >> 16 & 0xFFF
            at += SHORT.size
    except struct.error:
        raise BadMessage("a descriptor is cut short") from None
    item = Item(kind, size_bits, number, b"", bool(word & INLINE), bool(word & DEALLOCATE))
    if item.is_port and size_bits != 8 * WORD:
        raise BadMessage("a port is a word")
    length = item.content_bytes if item.inline else WORD
    item.words = body[at : at + length]
    if len(item.words) != length:
        raise BadMessage("an item is cut short")
    return item, at + (length + WORD - 1) // WORD * WORD


RAW = -1  # not a type: bytes without a descriptor


def raw(body: bytes) -> Item:
    """The whole body of a message that is no items."""
    return Item(RAW, 8, len(body), body)


def build(items: Sequence[Item]) -> bytes:
    """What follows a header, for a receiver."""
    parts = []
    for item in items:
        if item.type == RAW:
            parts.append(item.words)
            continue
        flags = (INLINE if item.inline else 0) | (DEALLOCATE if item.deallocate else 0)
        if item.size_bits > 0xFF or item.number > 0xFFF or not item.inline:  # MIG's pointer_t is always long
            parts.append(LONG.pack(flags | LONGFORM, item.type, item.size_bits, item.number))
        else:
            parts.append(SHORT.pack(flags | item.type | item.size_bits << 8 | item.number << 16))
        parts.append(item.words + bytes(-len(item.words) % WORD))
    return b"".join(parts)


# -- items of values ---------------------------------------------------------------------------------------------------


def integers(*values: int, type: int = INTEGER_32) -> Item:
    """In-line numbers."""
    return Item(type, 32, len(values), b"".join((value & 0xFFFFFFFF).to_bytes(WORD, "little") for value in values))


def memory(content: bytes) -> Item:
    """Out-of-line bytes: MIG's pointer_t."""
    return Item(BYTE, 8, len(content), bytes(WORD), inline=False, memory=content)


def port(right: Right | None) -> Item:
    kind = Disposition.MOVE_SEND
    if isinstance(right, ReceiveRight):
        kind = Disposition.MOVE_RECEIVE
    elif isinstance(right, SendOnceRight):
        kind = Disposition.MOVE_SEND_ONCE
    return Item(kind, 32, 1, bytes(WORD))


def answer(request: int, result: int, *values: int | bytes | Right | tuple[int, ...] | None) -> TypedMessage:
    """The reply of a MIG routine: its identity is 100 above its request's, its first item the result."""
    items, rights = [integers(result)], []
    for value in values if result == 0 else ():
        if value is None or isinstance(value, Right):
            items.append(port(value))
            rights.append(value)
        elif isinstance(value, bytes):
            items.append(memory(value))
        else:
            items.append(integers(*(value if isinstance(value, tuple) else (value,))))
    return TypedMessage(request + 100, None, tuple(items), tuple(rights))


# -- messages of ours --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field of a message is laid out."""

    name: str
    kind: type  # int, bytes, str, tuple or a class of rights
    number: Any = None  # what to make of an int: an enumeration
    type: int = INTEGER_32
    optional: bool = False


# The arguments of two routines in memory_object's .defs, where the data is not the last.
ORDER = {
    2093: ("offset", "data", "lock_value", "precious", "reply"),  # memory_object_data_supply
    2208: ("control", "offset", "data", "dirty", "kernel_copy"),  # memory_object_data_return
}


class _Layout:
    """All of a message's fields in MIG's order."""

    def __init__(self, cls: type[Message]) -> None:
        hints = typing.get_type_hints(cls, include_extras=True)
        names = list(ORDER.get(cls.msgh_id) or [field.name for field in fields(cls)])  # type: ignore[arg-type]
        self.has_reply = bool(names) and names[0] == "reply" and hints["reply"] is SendOnceRight
        self.fields = [_field(name, hints[name]) for name in names[self.has_reply :]]
        self.only_result = bool(self.fields) and self.fields[0].name == "result"


def _field(name: str, hint: Any) -> _Field:
    if typing.get_origin(hint) is typing.Annotated:
        number, code = typing.get_args(hint)[:2]
        kind = bytes if number is bytes else int
        return _Field(name, kind, None if number in (int, bytes) else number, BOOLEAN if code == "B" else INTEGER_32)
    if hint in (int, bytes, str):
        return _Field(name, hint)
    if typing.get_origin(hint) is tuple:
        return _Field(name, tuple)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    rights = [option for option in options if option is not type(None)]
    if not all(isinstance(right, type) and issubclass(right, Right) for right in rights):
        raise TypeError(f"{name}: no layout for {hint}")
    return _Field(name, rights[0] if len(rights) == 1 else Right, optional=type(None) in options)


_LAYOUTS: dict[type[Message], _Layout | None] = {}


def _layout(cls: type[Message]) -> _Layout | None:
    """None: no program can be sent such a message, nor send it."""
    if cls not in _LAYOUTS:
        try:
            _LAYOUTS[cls] = _Layout(cls)
        except TypeError:
            _LAYOUTS[cls] = None
    return _LAYOUTS[cls]


def to_typed(message: Message) -> TypedMessage | None:
    """None if the message has no layout; its rights are the caller's still."""
    if isinstance(message, TypedMessage):
        return message
    if isinstance(message, DeadName):  # a name in the receiver's space, which it gave with its request
        name = message.token if isinstance(message.token, int) else 0
        return TypedMessage(message.msgh_id, None, (integers(name, type=PORT_NAME),), ())
    layout = _layout(type(message))
    if layout is None:
        return None
    items: list[Item] = []
    rights: list[Right | None] = []
    for field in layout.fields:
        value = getattr(message, field.name)
        if field.kind is int:
            items.append(integers(value, type=field.type))
        elif field.kind is tuple:
            items.append(integers(*value))
        elif field.kind is bytes:
            items.append(memory(value))
        elif field.kind is str:
            text = value.encode("latin-1", "replace")[: NAME_BYTES - 1].ljust(NAME_BYTES, b"\0")
            items.append(Item(STRING_C, 8 * NAME_BYTES, 1, text))
        else:
            items.append(port(value))
            rights.append(value)
        if layout.only_result and len(items) == 1 and value:
            break
    reply = message.reply if layout.has_reply else None  # type: ignore[attr-defined]
    return TypedMessage(message.msgh_id, reply, tuple(items), tuple(rights))


def from_typed(typed: TypedMessage, cls: type[Message]) -> Message | None:
    """None if `typed` is not such a message; its rights are the caller's still."""
    layout = _layout(cls)
    if layout is None or len(typed.items) != len(layout.fields):
        return None
    if layout.has_reply != isinstance(typed.reply, SendOnceRight):
        return None
    rights = iter(typed.rights)
    try:
        pairs = zip(layout.fields, typed.items, strict=True)
        values = {field.name: _value(field, item, rights) for field, item in pairs}
    except ValueError:
        return None
    return cls(**(values | {"reply": typed.reply} if layout.has_reply else values))


def _value(field: _Field, item: Item, rights: Iterator[Right | None]) -> Any:
    """ValueError if the item is not what the field is."""
    if item.is_port:
        if item.number != 1 or not item.inline:
            raise ValueError("an array of ports")
        right = next(rights)
        if (right is None and not field.optional) or (right is not None and not isinstance(right, field.kind)):
            raise ValueError("another right")
        return right
    content = item.words if item.inline else item.memory
    if field.kind is bytes and item.type in (BYTE, CHAR) and item.size_bits == 8:
        return content
    if field.kind is str and item.type == STRING_C:
        return content.split(b"\0", 1)[0].decode("latin-1")
    if field.kind is tuple and item.type == INTEGER_32:
        return struct.unpack(f"<{item.number}I", content)
    if field.kind is int and item.size_bits == 32 and item.number == 1 and item.type in (field.type, INTEGER_32):
        number = int.from_bytes(content, "little")
        return number if field.number is None else field.number(number)
    raise ValueError("another type")
