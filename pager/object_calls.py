"""Calls on a memory object itself: its size, and its secret name.  Only who has a right to it can make them.

Interface:
    OBJECT_CALLS    message class -> handler(pager, object, seqno, message), as those of handlers.py

Truncation is Hurd's default_pager_object_set_size, with its faults mended (mach.md 7.1.19: pages that leak, a new size
of 0 that underflows): the pages behind the end give their slots back, the rest of the last page is zeros on backing
store and in whatever the kernel still sends of it, requests behind the end are errors.

Invariants:
    1. A page behind the end has no entry in the map, and none can be stored again but by a larger size.

Not here: objects by number (service.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mach.default_pager import (
    DefaultPagerObjectName,
    DefaultPagerObjectNameReply,
    DefaultPagerObjectSetSize,
    DefaultPagerObjectSetSizeReply,
)
from mach.kern_return import KernReturn
from mach.memory_object import MemoryObjectLockRequest, MemoryObjectReturn, VmProt
from mach.message import Message
from mach.ports import DeadPort, SendOnceRight, SendRight
from pager.integrity import page_digests
from pager.memory_object import MAX_OBJECT_BYTES, MemoryObject
from pager.page_io import write_pages
from pager.page_map import Fate, Row
from pager.partition import BackingStoreError
from pager.secret_names import secret_name

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager


def default_pager_object_name(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: DefaultPagerObjectName
) -> None:
    with obj.lock:
        obj.take_turn(seqno)
        obj.pass_turn()
    name = secret_name(pager.secret, obj.object_id)
    _answer(message.reply, DefaultPagerObjectNameReply(KernReturn.KERN_SUCCESS, name))


def default_pager_object_set_size(
    pager: DefaultPager, obj: MemoryObject, seqno: int, message: DefaultPagerObjectSetSize
) -> None:
    """Shared objects only: the size of a temporary one is its kernel's affair."""
    size = obj.page_size
    removed: list[tuple[int, int]] = []
    tail: Row | None = None
    control: SendRight | None = None
    with obj.lock:
        obj.take_turn(seqno)
        fit = not obj.internal and message.size <= MAX_OBJECT_BYTES
        if fit:
            obj.await_quiet()
            last = message.size // size  # the page that the end is in, if it is in one
            removed = obj.map.truncate(-(-message.size // size))
            obj.size = obj.limit = message.size
            if message.size % size:
                (tail,) = obj.map.rows(range(last, last + 1))
                obj.begin_write(tail.pages)
            control = obj.control.copy() if obj.control is not None else None
        obj.pass_turn()
    if not fit:
        return _answer(message.reply, DefaultPagerObjectSetSizeReply(KernReturn.KERN_INVALID_ARGUMENT))
    for partition, slot in removed:
        pager.store.partition(partition).free_slot(slot)
    pager.clients.release(obj.client, len(removed))
    pager.space_changed()
    if tail is not None:
        _clear_behind_the_end(pager, obj, tail)
    if control is not None:
        _flush_behind_the_end(control, message.size, size)
    return _answer(message.reply, DefaultPagerObjectSetSizeReply(KernReturn.KERN_SUCCESS))


def _clear_behind_the_end(pager: DefaultPager, obj: MemoryObject, tail: Row) -> None:
    """The last page's content with zeros behind the end; lost if it cannot be had.  It counts as being written."""
    assert obj.limit is not None
    rows: list[Row] = []
    vacated: list[tuple[int, int]] = []
    if tail.stored:
        content = _content(pager, obj, tail)
        if content is None:
            rows = [tail._replace(generations=tail.next_generations()).homeless(Fate.LOST)]
            vacated = [(tail.partition, tail.slot)]
        else:
            cut = memoryview(content[: obj.limit % obj.page_size].ljust(obj.page_size, b"\0"))
            written = write_pages(pager.store, obj, [tail], cut, tail.page, room=0)
            rows, vacated = written.rows, written.vacated
    with obj.lock:
        before = len(obj.map)
        for row in rows:
            obj.map.store(row)
        gone = before - len(obj.map)
        obj.end_write(tail.pages)
    for partition, slot in vacated:
        pager.store.partition(partition).free_slot(slot)
    pager.clients.release(obj.client, gone)


def _content(pager: DefaultPager, obj: MemoryObject, tail: Row) -> bytes | None:
    """A stored page, None if it cannot be read or fails its check."""
    try:
        content = pager.store.partition(tail.partition).read(tail.slot, 1)
    except BackingStoreError:
        return None
    digests = page_digests(obj.object_id, tail.page, tail.generations, content, obj.page_size)
    return bytes(content) if digests == tail.digests else None


def _flush_behind_the_end(control: SendRight, end: int, page_size: int) -> None:
    """The kernel's pages behind the end are gone; the one that the end is in comes back, and is cut (handlers.py)."""
    whole = -(-end // page_size) * page_size
    requests = [_flush(whole, MAX_OBJECT_BYTES - whole, MemoryObjectReturn.NONE)]
    if whole != end:
        requests.append(_flush(whole - page_size, page_size, MemoryObjectReturn.ALL))
    for request in requests:
        try:
            control.send(request, always=True)
        except DeadPort:
            pass  # the kernel has gone, and its pages with it
    control.drop()


def _flush(offset: int, length: int, should_return: MemoryObjectReturn) -> MemoryObjectLockRequest:
    return MemoryObjectLockRequest(offset, length, should_return, 1, VmProt.NONE, None)


def _answer(reply: SendOnceRight, message: Message) -> None:
    try:
        reply.send(message)
    except DeadPort:
        pass  # the caller has gone


OBJECT_CALLS: dict[type[Message], Callable[[DefaultPager, MemoryObject, int, Any], None]] = {
    DefaultPagerObjectName: default_pager_object_name,
    DefaultPagerObjectSetSize: default_pager_object_set_size,
}
