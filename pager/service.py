"""The default pager's service calls: one function per call, named as the call.

Interface:
    CALLS    message class -> function(pager, message); each answers through message.reply

All but object_create, paging_storage (paging_files.py) and triggers only look, and what they see of an object is one
moment of it: they take its lock for as long as it takes to copy what they tell.  default_pager_object_read also waits
for writes of its pages.

Not here: paging (handlers.py); the daemon's options.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from mach.default_pager import (
    BadSlotRecord,
    DefaultPagerInfo,
    DefaultPagerInfoReply,
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectLookup,
    DefaultPagerObjectLookupReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerObjects,
    DefaultPagerObjectsReply,
    DefaultPagerPagingStorage,
    DefaultPagerPartitionMap,
    DefaultPagerPartitionMapReply,
    DefaultPagerPartitions,
    DefaultPagerPartitionsReply,
    DefaultPagerTriggers,
    DefaultPagerTriggersReply,
    ObjectRecord,
    PageRecord,
    PageState,
    PartitionRecord,
    RunRecord,
)
from mach.kern_return import KernReturn
from mach.message import Message
from mach.ports import DeadPort, SendOnceRight
from pager.clients import may_look_into
from pager.memory_object import MAX_OBJECT_BYTES, MemoryObject
from pager.page_io import Missing, read_pages
from pager.page_map import Entry, Fate
from pager.paging_files import default_pager_paging_storage
from pager.partition import BackingStoreError, PagingPartition
from pager.secret_names import named_object
from pager.service_figures import FIGURES

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

RECORDS_PER_REPLY = 512
MAP_BYTES = 65536
READ_BYTES = 256 * 1024
SUCCESS = KernReturn.KERN_SUCCESS
INVALID = KernReturn.KERN_INVALID_ARGUMENT


def default_pager_object_create(pager: DefaultPager, message: DefaultPagerObjectCreate) -> None:
    if message.size > MAX_OBJECT_BYTES:
        return _answer(message.reply, DefaultPagerObjectCreateReply(INVALID, None))
    receive = pager.ipc.allocate("memory object")
    right = receive.make_send()  # before no-senders is asked for, or it would come at once
    obj = pager.create_object(message.size, internal=False, receive=receive, peer=message.reply.port.peer)
    if obj is None:
        right.drop()
        receive.destroy()
        return _answer(message.reply, DefaultPagerObjectCreateReply(KernReturn.KERN_RESOURCE_SHORTAGE, None))
    pager.serve_object(obj)
    return _answer(message.reply, DefaultPagerObjectCreateReply(SUCCESS, right))


def default_pager_info(pager: DefaultPager, message: DefaultPagerInfo) -> None:
    store, size = pager.store, pager.page_size
    reply = DefaultPagerInfoReply(
        SUCCESS, store.total_pages * size, store.free_pages * size, size, len(pager.objects()), pager.wired_bytes()
    )
    _answer(message.reply, reply)


def default_pager_objects(pager: DefaultPager, message: DefaultPagerObjects) -> None:
    chosen = [obj for obj in pager.objects() if obj.object_id > message.after][:RECORDS_PER_REPLY]
    _answer(message.reply, DefaultPagerObjectsReply(SUCCESS, tuple(_object_record(obj) for obj in chosen)))


def _object_record(obj: MemoryObject) -> ObjectRecord:
    with obj.lock:
        return ObjectRecord(
            object_id=obj.object_id,
            size=obj.size,
            paged=len(obj.map) * obj.page_size,
            internal=obj.internal,
            pageins=obj.pageins,
            pageouts=obj.pageouts,
            errors=obj.errors,
        )


def default_pager_object_pages(pager: DefaultPager, message: DefaultPagerObjectPages) -> None:
    """Exact offsets, whatever the object's size (Mach's are wrong above 64 pages, reference 3.7)."""
    obj = pager.find(message.object_id)
    if obj is None:
        return _answer(message.reply, DefaultPagerObjectPagesReply(INVALID, ()))
    if not may_look_into(message.reply.port.peer, obj.client):
        return _answer(message.reply, DefaultPagerObjectPagesReply(KernReturn.KERN_NO_ACCESS, ()))
    with obj.lock:
        entries = list(islice(obj.map.pages(-(-message.offset // obj.page_size)), RECORDS_PER_REPLY))
        writing = set(obj.writing)
    pages = tuple(
        PageRecord(
            offset=page * obj.page_size,
            partition=entry.partition,
            slot=entry.slot,
            device_offset=_device_offset(pager, entry),
            generation=entry.generation,
            state=_state(entry, page in writing),
            digest=entry.digest,
        )
        for page, entry in entries
    )
    return _answer(message.reply, DefaultPagerObjectPagesReply(SUCCESS, pages))


def _device_offset(pager: DefaultPager, entry: Entry) -> int:
    try:
        return pager.store.partition(entry.partition).device_offset(entry.slot) if entry.stored else 0
    except BackingStoreError:  # its partition was removed since we looked
        return 0


def _state(entry: Entry, writing: bool) -> PageState:
    if writing:
        return PageState.WRITING
    return {Fate.STORED: PageState.IDLE, Fate.LOST: PageState.BAD, Fate.GIVEN: PageState.PRECIOUS}[entry.fate]


def default_pager_partitions(pager: DefaultPager, message: DefaultPagerPartitions) -> None:
    records = tuple(_partition_record(partition) for partition in pager.store.partitions())
    _answer(message.reply, DefaultPagerPartitionsReply(SUCCESS, records))


def _partition_record(partition: PagingPartition) -> PartitionRecord:
    return PartitionRecord(
        index=partition.index,
        total=partition.total,
        free=partition.free,
        bad=partition.bad,
        going_away=partition.going_away,
        priority=partition.priority,
        name=partition.name,
        device=getattr(partition.device, "name", "memory"),
        access=getattr(partition.device, "access", "buffered") + (", failing" if partition.is_failing else ""),
        runs=tuple(RunRecord(run.file_offset, run.device_offset, run.length) for run in partition.runs),
        bad_slots=tuple(
            BadSlotRecord(slot, partition.device_offset(slot)) for slot in partition.bad_slots(RECORDS_PER_REPLY)
        ),
    )


def default_pager_partition_map(pager: DefaultPager, message: DefaultPagerPartitionMap) -> None:
    partitions = pager.store.partitions()
    if message.partition >= len(partitions):
        return _answer(message.reply, DefaultPagerPartitionMapReply(INVALID, b""))
    content = partitions[message.partition].map(message.first_slot, MAP_BYTES)
    return _answer(message.reply, DefaultPagerPartitionMapReply(SUCCESS, content))


def default_pager_object_read(pager: DefaultPager, message: DefaultPagerObjectRead) -> None:
    """What is on backing store, zeros between; KERN_MEMORY_ERROR if a page of it cannot be had."""
    obj = pager.find(message.object_id)
    size = pager.page_size
    if obj is None or message.length > READ_BYTES or message.offset + message.length > MAX_OBJECT_BYTES:
        return _answer(message.reply, DefaultPagerObjectReadReply(INVALID, b""))
    if not may_look_into(message.reply.port.peer, obj.client):
        return _answer(message.reply, DefaultPagerObjectReadReply(KernReturn.KERN_NO_ACCESS, b""))
    pages = range(message.offset // size, -(-(message.offset + message.length) // size))
    with obj.lock:
        if obj.dead:
            pages = range(0)
        obj.await_written(pages)
        rows = obj.map.rows(pages)
        obj.begin_read()
    pieces = read_pages(pager.store, obj, rows)
    with obj.lock:
        obj.end_read()
    content = b"".join(
        bytes(piece.row.page_count * size) if isinstance(piece.content, Missing) else piece.content for piece in pieces
    )
    failed = any(piece.content is Missing.FAILED for piece in pieces)
    start = message.offset - pages.start * size
    data = b"" if failed else content[start : start + message.length]
    result = KernReturn.KERN_MEMORY_ERROR if failed else SUCCESS
    return _answer(message.reply, DefaultPagerObjectReadReply(result, data))


def default_pager_triggers(pager: DefaultPager, message: DefaultPagerTriggers) -> None:
    pager.water_marks.watch(message.high_water, message.low_water, message.alert)
    _answer(message.reply, DefaultPagerTriggersReply(SUCCESS))
    pager.space_changed()


def default_pager_object_lookup(pager: DefaultPager, message: DefaultPagerObjectLookup) -> None:
    """KERN_INVALID_NAME, whether there was ever such an object or not: nothing is learned by guessing."""
    object_id = named_object(pager.secret, message.name)
    obj = None if object_id is None else pager.find(object_id)
    right = None
    if obj is not None and not obj.internal:
        with obj.lock:
            right = None if obj.dead else obj.receive.make_send()
    result = SUCCESS if right is not None else KernReturn.KERN_INVALID_NAME
    _answer(message.reply, DefaultPagerObjectLookupReply(result, right))


def _answer(reply: SendOnceRight, message: Message) -> None:
    try:
        reply.send(message)
    except DeadPort:
        pass  # the caller has gone


CALLS: dict[type[Message], Callable[[DefaultPager, Any], None]] = {
    DefaultPagerObjectCreate: default_pager_object_create,
    DefaultPagerInfo: default_pager_info,
    DefaultPagerObjects: default_pager_objects,
    DefaultPagerObjectPages: default_pager_object_pages,
    DefaultPagerPartitions: default_pager_partitions,
    DefaultPagerPartitionMap: default_pager_partition_map,
    **FIGURES,
    DefaultPagerObjectRead: default_pager_object_read,
    DefaultPagerPagingStorage: default_pager_paging_storage,
    DefaultPagerTriggers: default_pager_triggers,
    DefaultPagerObjectLookup: default_pager_object_lookup,
}
