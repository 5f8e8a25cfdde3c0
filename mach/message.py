"""What a message is: a frozen, slotted dataclass with a Mach message id, made of a few kinds of field.

Interface:
    @message(2203)      makes a class a message; @message(70, local=True) one that never crosses a carrier
    U8 U16 U32 U64 I32  whole numbers of a fixed width on the wire; Digest: 20 bytes
    MESSAGES            id -> class, of all messages that a carrier may bring
    Received            a message as mach_msg hands it over: payload of the port, sequence number, message

Field kinds: the numbers above and IntEnum of them, rights (mach/ports.py; `| None` for MACH_PORT_NULL), `bytes`,
`str`, and `tuple[Record, ...]` where Record is a frozen dataclass of numbers, strings and bytes.

Not here: how fields are laid out on a wire (mach/codec.py); what any message means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

Digest = Annotated[bytes, "20s"]
U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
I32 = Annotated[int, "i"]

MESSAGES: dict[int, type[Message]] = {}


class Message:
    """The base of all messages."""

    __slots__ = ()
    msgh_id: ClassVar[int]


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True)
def message(msgh_id: int, *, local: bool = False) -> Callable[[type[M]], type[M]]:
    """Make a subclass of Message the message `msgh_id`.  A local one is refused by the codec: it cannot be forged."""

    def make(cls: type[M]) -> type[M]:
        made = dataclass(frozen=True, slots=True)(cls)
        made.msgh_id = msgh_id
        if not local:
            assert msgh_id not in MESSAGES, f"message id {msgh_id} is taken by {MESSAGES[msgh_id].__name__}"
            MESSAGES[msgh_id] = made
        return made

    return make


class Received(NamedTuple):
    """One received message."""

    payload: Any  # what the receiver bound to the port (gnumach calls it the protected payload)
    seqno: int  # msgh_seqno: counts the messages received from this port, from 0
    message: Message
