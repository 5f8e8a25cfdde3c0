"""What the default pager does about each message of the memory object protocol: one function per message.

Interface:
    HANDLERS    message class -> handler(pager, object, seqno, message)

Every handler takes its turn at the object (by `seqno`) and passes it on, whatever it thinks of the message: a turn
that is not passed stops the object.  Mach's pager panics on a message that is wrong; here it is refused: its rights
are dropped, it is counted, and nothing else happens (promise P7, reference weakness 13).

Invariants:
    1. No lock is held while a message is sent.
    2. Each page of a data_request is answered exactly once: supplied, unavailable, or in error.

Not here: ports of the pager itself and its threads (default_pager.py); the disk (page_io.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mach.kern_return import KernReturn
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectDataError,
    MemoryObjectDataInitialize,
    MemoryObjectDataReclaim,
    MemoryObjectDataRequest,
    MemoryObjectDataReturn,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDataWrite,
    MemoryObjectDestroy,
    MemoryObjectInit,
    MemoryObjectSetAttributes,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.notify import DeadName, NoSenders
from mach.page_list import vm_deallocate
from mach.ports import DeadPort, SendRight
from pager.memory_object import MemoryObject
from pager.object_calls import OBJECT_CALLS
from pager.page_io import Missing, Piece, Written, give_away, read_pages, write_pages
from pager.page_map import Row, absent

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

MAX_CLUSTER_BYTES = 1 << 20  # what one message may ask for or bring
FOR_WRITING = frozenset(access for access in map(VmProt, range(VmProt.ALL + 1)) if access & VmProt.WRITE)
DEAD_KERNEL = "the kernel that mapped the object"  # the token of its notification


def memory_object_init(pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectInit) -> None:
    """A kernel maps an object of default_pager_object_create: tell it that the object is ready."""
    with obj.lock:
        obj.take_turn(seqno)
        fit = not obj.internal and obj.control is None and message.page_size == pager.page_size
        if fit:
            obj.control, obj.name = message.control, message.name
        obj.pass_turn()
    if not fit:
        _reply(message.control, MemoryObjectDestroy(KernReturn.KERN_NO_ACCESS))  # or it would wait for ever
        return pager.refuse(message, f"memory_object_init of {obj!r}: another kernel maps it, or it is not for mapping")
    message.control.watch(obj.receive.make_send_once(), DEAD_KERNEL)
    ready = MemoryObjectSetAttributes(object_ready=1, may_cache=0, copy_strategy=CopyStrategy.DELAY)
    return _reply(message.control, ready)


def memory_object_terminate(pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectTerminate) -> None:
    """The kernel is done: once all that it asked for has been done, forget the rights to its ports."""
    with obj.lock:
        obj.take_turn(seqno)
        obj.await_quiet()
        control, obj.control = obj.control, None
        name, obj.name = obj.name, None
        obj.pass_turn()
    for right in (control, name, message.control, message.name):
        if right is not None:
            right.drop()


def memory_object_data_request(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectDataRequest
) -> None:
    """Page in.  Pages are kept on backing store, where the next pageout overwrites them in place; only while space is
    short are those that will be written to supplied as precious, and their slots used for others.
    """
    pages = obj.page_range(message.offset, message.length)
    if pages is not None and message.length > MAX_CLUSTER_BYTES:
        pages = None
    with obj.lock:
        obj.take_turn(seqno)
        if pages is not None:
            obj.await_written(pages)
            rows = obj.map.rows(pages)
            obj.begin_read()
        limit = obj.limit
        obj.pass_turn()
    if pages is None:
        return pager.refuse(message, f"data_request for {message.length} bytes at {message.offset} of {obj!r}")
    pieces = read_pages(pager.store, obj, rows) if limit is None else _pieces_within(pager, obj, pages, rows, limit)
    give = message.desired_access in FOR_WRITING and obj.internal and pager.store.is_short
    found = failed = 0
    for piece in pieces:
        precious = False
        count = len(piece.row.generations)
        if not isinstance(piece.content, Missing):
            found += count
            if give:
                precious = give_away(pager.store, obj, piece.row)
                pager.clients.release(obj.client, count if precious else 0)
        elif piece.content is not Missing.ABSENT:
            failed += count
        _reply(message.control, _answer(piece, pager.page_size, precious))
    message.control.drop()
    with obj.lock:  # only now: terminate waits until the answers are sent
        obj.end_read()
        obj.pageins += found
        obj.errors += failed
    return None


def _pieces_within(pager: DefaultPager, obj: MemoryObject, pages: range, rows: list[Row], limit: int) -> list[Piece]:
    """What there is of the pages of an object that has an end (set_size); behind it there is an error."""
    end = max(pages.start, min(pages.stop, -(-limit // pager.page_size)))
    before = [row.part(0, end - row.page) if row.pages.stop > end else row for row in rows if row.page < end]
    behind = [Piece(absent(range(end, pages.stop)), Missing.FAILED)] if end < pages.stop else []
    return read_pages(pager.store, obj, before) + behind


def _answer(piece: Piece, page_size: int, precious: bool) -> Message:
    """A page that was given away and is asked for again has been lost by its kernel: an error, not zeros (P2)."""
    row, content = piece
    offset, length = row.page * page_size, len(row.generations) * page_size
    if content is Missing.ABSENT:
        return MemoryObjectDataUnavailable(offset, length)
    if isinstance(content, Missing):
        return MemoryObjectDataError(offset, length, KernReturn.KERN_MEMORY_ERROR)
    if isinstance(content, memoryview):  # a part of what was read
        content = bytes(content)
    return MemoryObjectDataSupply(offset, VmProt.NONE, precious, None, content)


def memory_object_data_write(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectDataWrite
) -> None:
    """Page out."""
    _store(pager, obj, seqno, message, only_new=False)


def memory_object_data_return(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectDataReturn
) -> None:
    """Page out, in the newer form: pages that are dirty, or clean but precious.  Whether the kernel keeps a copy is its
    own affair."""
    _store(pager, obj, seqno, message, only_new=False)


def memory_object_data_initialize(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectDataInitialize
) -> None:
    """Page out what is older than anything paged out before: a page that is there already wins."""
    _store(pager, obj, seqno, message, only_new=True)


def _store(
    pager: DefaultPager,
    obj: MemoryObject,
    seqno: int,
    message: MemoryObjectDataWrite | MemoryObjectDataReturn | MemoryObjectDataInitialize,
    only_new: bool,
) -> None:
    pages = obj.page_range(message.offset, len(message.data))
    if pages is not None and len(message.data) > MAX_CLUSTER_BYTES:
        pages = None
    rows: list[Row] = []
    with obj.lock:
        obj.take_turn(seqno)
        if pages is not None:
            obj.await_written(pages)
            data, kept = _before_the_end(obj, message.offset, message.data, pages)
            rows = obj.map.rows(kept)
            if only_new:
                rows = [row for row in rows if row.fate is None]
            obj.begin_write(pages)
        obj.pass_turn()
    if pages is None:
        return pager.refuse(message, f"{len(message.data)} bytes written at {message.offset} of {obj!r}")
    new = sum([row.page_count for row in rows if not row.stored])
    room = pager.clients.reserve(obj.client, new) if new else 0
    written = write_pages(pager.store, obj, rows, memoryview(data), pages.start, room)
    with obj.lock:
        came = _note_written(obj, written, message.offset + len(message.data))
        obj.end_write(pages)
    for partition, slot in written.vacated:
        pager.store.partition(partition).free_slot(slot)
    vm_deallocate(message.data)  # the frames that the pages left are free now
    pager.clients.release(obj.client, room - came)
    message.control.drop()
    pager.wrote(obj, written.lost, bool(came or written.vacated))
    return None


def _note_written(obj: MemoryObject, written: Written, end: int) -> int:
    """In the map and the counters.  Returns how many pages more have a slot."""
    before = len(obj.map)
    for row in written.rows:
        obj.map.store(row)
    obj.size = max(obj.size, end) if obj.limit is None else obj.limit
    obj.pageouts += sum(row.page_count for row in written.rows) - written.lost
    obj.errors += written.lost
    return len(obj.map) - before


def _before_the_end(obj: MemoryObject, offset: int, data: bytes, pages: range) -> tuple[bytes, range]:
    """What of a write is to be kept, zeros behind the end of an object that has one (set_size), and of which pages."""
    if obj.limit is None:
        return data, pages
    end = max(pages.start, min(pages.stop, -(-obj.limit // obj.page_size)))
    return bytes(data)[: max(0, obj.limit - offset)].ljust(len(data), b"\0"), range(pages.start, end)


def memory_object_data_reclaim(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: MemoryObjectDataReclaim
) -> None:
    """Pages that no task can reach any more."""
    pages = obj.page_range(message.offset, message.length) if obj.internal else None
    removed: list[tuple[int, int]] = []
    with obj.lock:
        obj.take_turn(seqno)
        if pages is not None:
            obj.await_quiet()
            removed = obj.map.forget(pages)
        obj.pass_turn()
    if pages is None:
        return pager.refuse(message, f"data_reclaim of {message.length} bytes at {message.offset} of {obj!r}")
    for partition, slot in removed:
        pager.store.partition(partition).free_slot(slot)
    pager.clients.release(obj.client, len(removed))
    pager.space_changed()
    message.control.drop()
    return None


def no_senders(pager: DefaultPager, obj: MemoryObject, seqno: int, message: NoSenders) -> None:
    """Nobody can ask for the object any more: its slots are free again.

    Mach's pager panics if the object was not terminated before; here that is how a client's death looks.
    """
    with obj.lock:
        obj.take_turn(seqno)
        obj.await_quiet()
        revived = obj.receive.port.send_rights > 0  # somebody looked it up by its secret name meanwhile
        obj.dead = not revived
        slots = [] if revived else obj.map.remove_all()
        gone = [] if revived else [right for right in (obj.control, obj.name, obj.receive) if right is not None]
        if not revived:
            obj.control = obj.name = None
        obj.pass_turn()
    if revived:
        return obj.receive.request_no_senders(obj.receive.make_send_once())
    for partition, slot in slots:
        pager.store.partition(partition).free_slot(slot)
    pager.clients.release(obj.client, len(slots))
    pager.forget(obj)
    for right in gone:
        right.drop()
    return None


def dead_name(pager: DefaultPager, obj: MemoryObject, seqno: int, message: DeadName) -> None:
    """The kernel that mapped a shared object has died without a word; the object may be mapped again."""
    with obj.lock:
        obj.take_turn(seqno)
        obj.await_quiet()
        dead = [right for right in (obj.control, obj.name) if right is not None and obj.control and obj.control.dead]
        if dead:
            obj.control = obj.name = None
        obj.pass_turn()
    for right in dead:
        right.drop()


def unexpected(pager: DefaultPager, obj: MemoryObject, seqno: int, message: Message) -> None:
    """A message that has no business at a memory object of ours."""
    with obj.lock:
        obj.take_turn(seqno)
        obj.pass_turn()
    pager.refuse(message, f"{type(message).__name__} is sent to {obj!r}")


def _reply(control: SendRight, message: Message) -> None:
    try:
        control.send(message, always=True)
    except DeadPort:
        pass  # the kernel has gone: it needs no answer


Handler = Callable[["DefaultPager", MemoryObject, int, Any], None]
HANDLERS: dict[type[Message], Handler] = {
    MemoryObjectInit: memory_object_init,
    MemoryObjectTerminate: memory_object_terminate,
    MemoryObjectDataRequest: memory_object_data_request,
    MemoryObjectDataWrite: memory_object_data_write,
    MemoryObjectDataInitialize: memory_object_data_initialize,
    MemoryObjectDataReturn: memory_object_data_return,
    MemoryObjectDataReclaim: memory_object_data_reclaim,
    DeadName: dead_name,
    NoSenders: no_senders,
    **OBJECT_CALLS,
}
