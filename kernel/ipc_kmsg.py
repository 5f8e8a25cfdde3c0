"""Messages into and out of a program: its bytes and names become a message with rights, and back (ipc_kmsg.c).

Interface:
    MsgReturn                            mach_msg_return_t
    MsgError                             a message cannot be sent, or received: .code
    copyin(task, address, size)          -> the destination's right, and the message
    copyout(task, received, address, size)   writes what was received at `address`

What a program sends in the layout of an interface that we know becomes that interface's message (mach/typed.py), so
that nobody who receives it need know that a program sent it; anything else goes from program to program as it is.

Invariants:
    1. A right is taken from its sender's space only when every right of the message is there to be taken.
    2. The body of a message that does not say that it is complex is bytes, whatever it looks like.
    3. A message that its receiver has no room for is destroyed with all that it carries.

Not here: queues (mach/ports.py); the trap and its options (kernel/i386/traps.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mach.kern_return import MachError
from mach.mach_interface import REQUESTS
from mach.message import Message, Received
from mach.page_list import vm_deallocate
from mach.ports import Right, SendOnceRight, SendRight, drop_rights
from mach.typed import (
    HEADER_BYTES,
    MSGH_COMPLEX,
    BadMessage,
    Disposition,
    Header,
    Item,
    TypedMessage,
    build,
    from_typed,
    parse,
    port,
    raw,
    to_typed,
)

if TYPE_CHECKING:
    from kernel.user import UserTask

PORT_NULL, PORT_DEAD = 0, 0xFFFFFFFF
WORD = 4
MAX_INLINE_BYTES = 64 * 1024  # Mach has no limit but its memory, which a program could use up
MAX_OUT_OF_LINE_BYTES = 4 * 1024 * 1024


class MsgReturn(enum.IntEnum):
    """mach_msg_return_t (<mach/message.h>)."""

    MACH_MSG_SUCCESS = 0
    MACH_SEND_INVALID_DATA = 0x10000002
    MACH_SEND_INVALID_DEST = 0x10000003
    MACH_SEND_TIMED_OUT = 0x10000004
    MACH_SEND_INTERRUPTED = 0x10000007
    MACH_SEND_MSG_TOO_SMALL = 0x10000008
    MACH_SEND_INVALID_REPLY = 0x10000009
    MACH_SEND_INVALID_RIGHT = 0x1000000A
    MACH_SEND_INVALID_MEMORY = 0x1000000C
    MACH_SEND_NO_BUFFER = 0x1000000D
    MACH_SEND_INVALID_TYPE = 0x1000000F
    MACH_SEND_INVALID_HEADER = 0x10000010
    MACH_RCV_INVALID_NAME = 0x10004002
    MACH_RCV_TIMED_OUT = 0x10004003
    MACH_RCV_TOO_LARGE = 0x10004004
    MACH_RCV_INVALID_DATA = 0x10004008
    MACH_RCV_PORT_DIED = 0x10004009
    MACH_RCV_BODY_ERROR = 0x1000400C


class MsgError(Exception):
    """mach_msg fails; the program gets `code`."""

    def __init__(self, code: MsgReturn) -> None:
        super().__init__(code.name)
        self.code = code


# -- sending -----------------------------------------------------------------------------------------------------------


def copyin(task: UserTask, address: int, size: int) -> tuple[Right, Message]:
    """The destination, a right of the caller's now, and the message.  MsgError."""
    if size < HEADER_BYTES:
        raise MsgError(MsgReturn.MACH_SEND_MSG_TOO_SMALL)
    if size > MAX_INLINE_BYTES:
        raise MsgError(MsgReturn.MACH_SEND_NO_BUFFER)
    try:
        content = task.read(address, size)
    except MachError:
        raise MsgError(MsgReturn.MACH_SEND_INVALID_DATA) from None
    header = Header.unpack(content[:HEADER_BYTES])
    items = _items(content[HEADER_BYTES:], bool(header.bits & MSGH_COMPLEX))
    names = [name for item in items if item.is_port for name in _words(item.words)]
    kinds = [item.type for item in items if item.is_port for _ in range(item.number)]
    _require(task, header, names, kinds)
    for item in items:
        if not item.inline:
            item.memory = _out_of_line(task, item)
    wanted = [
        (header.remote, header.bits & 0xFF, MsgReturn.MACH_SEND_INVALID_DEST),
        (header.local, header.bits >> 8 & 0xFF, MsgReturn.MACH_SEND_INVALID_REPLY),
        *((name, kind, MsgReturn.MACH_SEND_INVALID_RIGHT) for name, kind in zip(names, kinds, strict=True)),
    ]
    destination, reply, *rights = _take_all(task, wanted)
    assert destination is not None
    return destination, _known(TypedMessage(header.identity, reply, tuple(items), tuple(rights)))


def _items(body: bytes, is_complex: bool) -> list[Item]:
    """INV-2.  Ports out of line, which Mach has, are refused."""
    try:
        items = parse(body)
    except BadMessage:
        if is_complex:
            raise MsgError(MsgReturn.MACH_SEND_INVALID_TYPE) from None
        return [raw(body)]
    if not is_complex and any(item.is_port or not item.inline for item in items):
        return [raw(body)]
    if any(item.is_port and not item.inline for item in items):
        raise MsgError(MsgReturn.MACH_SEND_INVALID_TYPE)
    return items


def _words(content: bytes) -> list[int]:
    return [int.from_bytes(content[at : at + WORD], "little") for at in range(0, len(content), WORD)]


def _require(task: UserTask, header: Header, names: list[int], kinds: list[int]) -> None:
    """INV-1.  A destination and a right to reply by are rights to send."""
    if Disposition.MOVE_RECEIVE in (header.bits & 0xFF, header.bits >> 8 & 0xFF):
        raise MsgError(MsgReturn.MACH_SEND_INVALID_HEADER)
    if not task.space.holds(header.remote, header.bits & 0xFF):
        raise MsgError(MsgReturn.MACH_SEND_INVALID_DEST)
    if header.local != PORT_NULL and not task.space.holds(header.local, header.bits >> 8 & 0xFF):
        raise MsgError(MsgReturn.MACH_SEND_INVALID_REPLY)
    for name, kind in zip(names, kinds, strict=True):
        if name not in (PORT_NULL, PORT_DEAD) and not task.space.holds(name, kind):
            raise MsgError(MsgReturn.MACH_SEND_INVALID_RIGHT)


def _take_all(task: UserTask, wanted: list[tuple[int, int, MsgReturn]]) -> list[Right | None]:
    """Rights by name and disposition.  One may be gone after all: moved twice, or by another thread of the task; then
    those taken before it are destroyed, as the kernel destroys a message."""
    taken: list[Right | None] = []
    for name, disposition, wrong in wanted:
        try:
            taken.append(None if name in (PORT_NULL, PORT_DEAD) else task.space.take(name, disposition))
        except MachError:
            for right in taken:
                if right is not None:
                    right.drop()
            raise MsgError(wrong) from None
    return taken


def _out_of_line(task: UserTask, item: Item) -> bytes:
    if item.content_bytes > MAX_OUT_OF_LINE_BYTES:
        raise MsgError(MsgReturn.MACH_SEND_NO_BUFFER)
    if not item.content_bytes:
        return b""
    (address,) = _words(item.words)
    try:
        content = task.read(address, item.content_bytes)
        if item.deallocate:
            task.vm_deallocate(address, item.content_bytes)
    except MachError:
        raise MsgError(MsgReturn.MACH_SEND_INVALID_MEMORY) from None
    return content


def _known(typed: TypedMessage) -> Message:
    cls = REQUESTS.get(typed.identity)
    message = from_typed(typed, cls) if cls is not None else None
    return message if message is not None else typed


# -- receiving ---------------------------------------------------------------------------------------------------------


def copyout(task: UserTask, received: Received, address: int, size: int) -> None:
    """MsgError, and the message is gone (INV-3)."""
    typed = to_typed(received.message)
    if typed is None:  # of an interface that programs have no part in
        drop_rights(received.message)
        raise MsgError(MsgReturn.MACH_RCV_BODY_ERROR)
    length = HEADER_BYTES + len(build(typed.items))
    if length > size:
        drop_rights(received.message)
        raise MsgError(MsgReturn.MACH_RCV_TOO_LARGE)
    rights = iter(typed.rights)
    try:
        items = _for_receiver(task, typed.items, rights)
    except MsgError:
        for right in (*rights, typed.reply):
            if right is not None:
                right.drop()
        raise
    reply, reply_type = PORT_NULL, 0
    if typed.reply is not None:
        reply, reply_type = task.space.insert(typed.reply), port(typed.reply).type
    is_complex = any(item.is_port or not item.inline for item in items)
    bits = reply_type | Disposition.MOVE_SEND << 8 | (MSGH_COMPLEX if is_complex else 0)
    header = Header(bits, length, reply, received.payload, received.seqno, typed.identity)
    try:
        task.write(address, header.pack() + build(items))
    except MachError:
        raise MsgError(MsgReturn.MACH_RCV_INVALID_DATA) from None


def _for_receiver(task: UserTask, sent: Iterable[Item], rights: Iterator[Right | None]) -> list[Item]:
    """Names for the rights, and memory for what is out of line."""
    items = []
    for item in sent:
        if item.is_port:
            mine = [next(rights) for _ in range(item.number)]
            names = [PORT_NULL if right is None else task.space.insert(right) for right in mine]
            kind = port(mine[0]).type if mine and mine[0] is not None else Disposition.MOVE_SEND
            words = b"".join(name.to_bytes(WORD, "little") for name in names)
            items.append(Item(kind, item.size_bits, item.number, words))
        elif not item.inline:
            at = _give_memory(task, item.memory)
            items.append(Item(item.type, item.size_bits, item.number, at.to_bytes(WORD, "little"), inline=False))
        else:
            items.append(item)
    return items


def _give_memory(task: UserTask, content: bytes) -> int:
    """Where in the receiver's memory the content is now.  Its sender's frames are free then (mach/page_list.py)."""
    try:
        if not content:
            return 0
        at = task.vm_allocate(len(content))
        task.write(at, content)
        return at
    except MachError:
        raise MsgError(MsgReturn.MACH_RCV_BODY_ERROR) from None
    finally:
        vm_deallocate(content)


def send(destination: Right, message: Message) -> None:
    """Into the destination's queue; the right is used up.  DeadPort."""
    if isinstance(destination, SendOnceRight):
        destination.send(message)
    else:
        assert isinstance(destination, SendRight)
        try:
            destination.send(message)
        finally:
            destination.drop()
