"""Messages as bytes: what is encoded comes back, and nothing else decodes."""

from __future__ import annotations

import dataclasses
import struct
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mach.default_pager
import mach.mach_debug
import mach.memory_object  # noqa: F401  # so that all messages are registered
from mach.codec import ProtocolViolation, RightKind, class_of, codec_of
from mach.message import MESSAGES, Message
from mach.ports import Ipc, ReceiveRight, Right, SendOnceRight, SendRight
from mach.threads import NativeRuntime

IPC = Ipc(NativeRuntime())
KINDS = {SendRight: RightKind.SEND, SendOnceRight: RightKind.SEND_ONCE, ReceiveRight: RightKind.RECEIVE}
RANGES = {"B": (0, 2**8), "H": (0, 2**16), "I": (0, 2**32), "Q": (0, 2**64), "i": (-(2**31), 2**31)}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field kind."""
    if typing.get_origin(hint) is typing.Annotated:
        number, code = typing.get_args(hint)
        if number is bytes:
            return st.binary(min_size=struct.calcsize(code), max_size=struct.calcsize(code))
        if number is not int:
            return st.sampled_from(list(number))
        least, end = RANGES[code]
        return st.integers(least, end - 1)
    if hint is bytes:
        return st.binary(max_size=200)
    if hint is str:
        return st.text(max_size=20)
    if typing.get_origin(hint) is tuple:
        return st.lists(records(typing.get_args(hint)[0]), max_size=3).map(tuple)
    options = [option for option in typing.get_args(hint) or (hint,) if option is not type(None)]
    port = IPC.allocate("any")
    make = {SendRight: port.make_send, SendOnceRight: port.make_send_once, ReceiveRight: lambda: port}[options[0]]
    return st.builds(make)


def records(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in dataclasses.fields(cls)})


def encode(message: Message) -> tuple[bytes, bytes, dict[int, Right]]:
    names: dict[int, Right] = {}

    def export(right: Right) -> tuple[RightKind, int]:
        names[len(names) + 1] = right
        return KINDS[type(right)], len(names)

    body, data = codec_of(type(message)).encode(message, export)
    return body, data, names


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_every_message_comes_back_as_it_was_sent(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(records(cls))
    body, pages, names = encode(message)
    again = codec_of(cls).decode(memoryview(body), pages, lambda kind, name: names[name])
    assert again == message


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_message_cut_short_or_too_long_is_a_violation(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(records(cls))
    body, pages, names = encode(message)
    cut = data.draw(st.integers(0, len(body)))
    wrong = body[:cut] if cut < len(body) else body + b"x"
    with pytest.raises(ProtocolViolation):
        codec_of(cls).decode(memoryview(wrong), pages, lambda kind, name: names.get(name))


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
@given(body=st.binary(max_size=120))
@settings(max_examples=10, deadline=None)
def test_garbage_is_a_message_or_a_violation_and_nothing_else(cls: type[Message], body: bytes) -> None:
    right = IPC.allocate("any").make_send()
    try:
        message = codec_of(cls).decode(memoryview(body), b"", lambda kind, name: right)
    except ProtocolViolation:
        return
    assert isinstance(message, cls)


def test_an_unknown_id_and_a_forged_notification_are_violations() -> None:
    for number in (0, 70, 71, 72, 4_000_000_000):
        with pytest.raises(ProtocolViolation):
            class_of(number)


def test_ids_are_machs() -> None:
    ids = {cls.__name__: number for number, cls in MESSAGES.items()}
    assert ids["MemoryObjectCreate"] == 2250
    assert ids["MemoryObjectDataInitialize"] == 2251
    assert ids["MemoryObjectInit"] == 2200
    assert ids["MemoryObjectDataRequest"] == 2203
    assert ids["MemoryObjectDataWrite"] == 2205
    assert ids["MemoryObjectDataReturn"] == 2208
    assert ids["DefaultPagerObjectCreate"] == 2275
    assert ids["DefaultPagerObjectPages"] == 2278
