"""Messages as programs lay them out: MIG's words, and messages of ours there and back."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mach.kern_return import KernReturn
from mach.mach_interface import REQUESTS, MachPortInsertRight, VmAllocate, VmWrite
from mach.memory_object import MemoryObjectDataRequest, MemoryObjectDataSupply, VmProt
from mach.message import Message
from mach.notify import DeadName
from mach.ports import Ipc, ReceiveRight, Right, SendOnceRight, SendRight
from mach.threads import NativeRuntime
from mach.typed import (
    HEADER_BYTES,
    BadMessage,
    Header,
    Item,
    TypedMessage,
    answer,
    build,
    from_typed,
    parse,
    to_typed,
)

IPC = Ipc(NativeRuntime())
PORT = IPC.allocate("any")
RIGHTS: dict[type[Right], Callable[[], Right]] = {
    SendRight: PORT.make_send,
    SendOnceRight: PORT.make_send_once,
    ReceiveRight: lambda: PORT,
    Right: PORT.make_send,
}
LIMITS = {"B": 1 << 8, "I": 1 << 32, "Q": 1 << 32, "i": 1 << 31}  # offsets are words on the i386


def _value(data: st.DataObject, hint: Any) -> Any:
    if typing.get_origin(hint) is typing.Annotated:
        number, code = typing.get_args(hint)
        if isinstance(number, type) and issubclass(number, Enum):
            return data.draw(st.sampled_from(sorted(number)))
        return data.draw(st.integers(0, LIMITS[code] - 1))
    if hint is bytes:
        return data.draw(st.binary(max_size=9))
    if hint is str:
        return data.draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=127))
    if typing.get_origin(hint) is tuple:
        return tuple(data.draw(st.lists(st.integers(0, 2**32 - 1), max_size=20)))
    options = typing.get_args(hint) or (hint,)
    if type(None) in options and data.draw(st.booleans()):
        return None
    return RIGHTS[next(option for option in options if option is not type(None))]()


PROGRAMS_CAN_SEND = sorted(
    (cls for cls in REQUESTS.values() if not any("Record" in str(field.type) for field in fields(cls))),  # type: ignore[arg-type]
    key=lambda cls: cls.msgh_id,
)


@pytest.mark.parametrize("cls", PROGRAMS_CAN_SEND, ids=lambda cls: cls.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_message_of_ours_comes_back_from_a_programs_layout(cls: type[Message], data: st.DataObject) -> None:
    hints = typing.get_type_hints(cls, include_extras=True)
    if bytes in [typing.get_args(hint)[0] for hint in hints.values() if typing.get_origin(hint) is typing.Annotated]:
        return  # a digest: for no program
    if hints.get("result") is not None:
        return  # replies are the receiver's to take apart: tested below
    message = cls(**{field.name: _value(data, hints[field.name]) for field in fields(cls)})  # type: ignore[arg-type]
    typed = to_typed(message)
    assert typed is not None
    items = parse(build(typed.items))
    for made, item in zip(typed.items, items, strict=True):
        assert (made.type, made.size_bits, made.number, made.inline) == (
            item.type,
            item.size_bits,
            item.number,
            item.inline,
        )
        item.memory = made.memory
    assert from_typed(TypedMessage(typed.identity, typed.reply, tuple(items), typed.rights), cls) == message


def test_the_words_are_those_of_migs_stubs() -> None:
    """vm_allocate: three words behind their descriptors, as every libmach of Mach 3.0 sends them."""
    typed = to_typed(VmAllocate(PORT.make_send_once(), 0x1000, 0x2000, 1))
    assert typed is not None
    assert [int.from_bytes(build(typed.items)[at : at + 4], "little") for at in range(0, 24, 4)] == [
        *(0x10012002, 0x1000),  # MACH_MSG_TYPE_INTEGER_32, 32 bits, one, in line
        *(0x10012002, 0x2000),
        *(0x10012000, 1),  # MACH_MSG_TYPE_BOOLEAN
    ]


def test_data_stands_out_of_line_behind_a_long_descriptor() -> None:
    typed = to_typed(VmWrite(PORT.make_send_once(), 0x1000, b"five!"))
    assert typed is not None
    words = [int.from_bytes(build(typed.items)[at : at + 4], "little") for at in range(8, 24, 4)]
    assert words == [1 << 29, 9 | 8 << 16, 5, 0], "long form, out of line; BYTE of 8 bits; five; its address"


def test_the_data_of_memory_object_data_supply_is_its_second_argument() -> None:
    typed = to_typed(MemoryObjectDataSupply(4096, VmProt.NONE, 0, None, b"x"))
    assert typed is not None
    assert [item.inline for item in typed.items] == [True, False, True, True, True]


def test_a_request_for_pages_carries_the_control_port_first() -> None:
    typed = to_typed(MemoryObjectDataRequest(PORT.make_send(), 8192, 4096, VmProt.READ))
    assert typed is not None
    assert (typed.identity, typed.items[0].is_port, len(typed.rights)) == (2203, True, 1)


def test_a_reply_that_fails_says_nothing_but_why() -> None:
    assert len(answer(2021, KernReturn.KERN_NO_SPACE, 0x1000).items) == 1
    assert len(answer(2021, KernReturn.KERN_SUCCESS, 0x1000).items) == 2


def test_a_dead_name_is_told_by_its_name() -> None:
    typed = to_typed(DeadName(0x105))
    assert typed is not None
    assert (typed.identity, int.from_bytes(typed.items[0].words, "little")) == (72, 0x105)


def test_another_right_than_the_interfaces_is_another_message() -> None:
    typed = to_typed(MachPortInsertRight(PORT.make_send_once(), 5, PORT.make_send()))
    assert typed is not None
    assert from_typed(typed, VmAllocate) is None
    assert from_typed(TypedMessage(2021, None, typed.items, typed.rights), MachPortInsertRight) is None, "no reply port"


@given(st.binary(max_size=200))
def test_any_bytes_are_items_or_a_bad_message(body: bytes) -> None:
    """P7: and what was taken apart is as long as what there was."""
    try:
        items = parse(body)
    except BadMessage:
        return
    assert sum(len(item.words) for item in items) <= len(body)
    assert all(isinstance(item, Item) for item in items)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_header_is_packed_as_it_was(content: bytes) -> None:
    assert Header.unpack(content).pack() == content
