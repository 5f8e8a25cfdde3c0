"""The default pager's service calls: one function per call, named as the call.

Interface:
    CALLS    message class -> function(pager, message); each answers through message.reply

All but object_create and paging_storage only look, and what they see of an object is one moment of it: they take its
lock for as long as it takes to copy what they tell.  default_pager_object_read also waits for writes of its pages.

Not here: paging (handlers.py); the daemon's options.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from mach.default_pager import (
    CounterRecord,
    DefaultPagerInfo,
    DefaultPagerInfoReply,
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerObjects,
    DefaultPagerObjectsReply,
    DefaultPagerPagingStorage,
    DefaultPagerPagingStorageReply,
    DefaultPagerPartitionMap,
    DefaultPagerPartitionMapReply,
    DefaultPagerPartitions,
    DefaultPagerPartitionsReply,
    DefaultPagerStatistics,
    DefaultPagerStatisticsReply,
    ObjectRecord,
    PageRecord,
    PageState,
    PartitionRecord,
    RunRecord,
)
from mach.kern_return import KernReturn
from mach.message import Message
from mach.ports import DeadPort, SendOnceRight
from pager.drain import CannotRemove, drain
from pager.memory_object import MAX_OBJECT_BYTES, MemoryObject
from pager.page_io import Missing, read_pages
from pager.page_map import Entry, Fate
from pager.partition import BackingStoreError, PagingPartition
from pager.storage import StorageError

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
    obj = pager.create_object(message.size, internal=False, receive=receive)
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
    records = tuple(
        PartitionRecord(
            index=partition.index,
            total=partition.total,
            free=partition.free,
            bad=partition.bad,
            going_away=partition.going_away,
            name=partition.name,
            device=getattr(partition.device, "name", "memory"),
            runs=tuple(RunRecord(run.file_offset, run.device_offset, run.length) for run in partition.runs),
        )
        for partition in pager.store.partitions()
    )
    _answer(message.reply, DefaultPagerPartitionsReply(SUCCESS, records))


def default_pager_partition_map(pager: DefaultPager, message: DefaultPagerPartitionMap) -> None:
    partitions = pager.store.partitions()
    if message.partition >= len(partitions):
        return _answer(message.reply, DefaultPagerPartitionMapReply(INVALID, b""))
    content = partitions[message.partition].map(message.first_slot, MAP_BYTES)
    return _answer(message.reply, DefaultPagerPartitionMapReply(SUCCESS, content))


def default_pager_statistics(pager: DefaultPager, message: DefaultPagerStatistics) -> None:
    counters = tuple(CounterRecord(name, value) for name, value in sorted(pager.totals().items()))
    _answer(message.reply, DefaultPagerStatisticsReply(SUCCESS, counters))


def default_pager_object_read(pager: DefaultPager, message: DefaultPagerObjectRead) -> None:
    """What is on backing store, zeros between; KERN_MEMORY_ERROR if a page of it cannot be had."""
    obj = pager.find(message.object_id)
    size = pager.page_size
    if obj is None or message.length > READ_BYTES or message.offset + message.length > MAX_OBJECT_BYTES:
        return _answer(message.reply, DefaultPagerObjectReadReply(INVALID, b""))
    pages = range(message.offset // size, -(-(message.offset + message.length) // size))
    with obj.lock:
        if obj.dead:
            pages = range(0)
        obj.await_written(pages)
        entries = [obj.map.entry(page) for page in pages]
        obj.begin_read()
    pieces = read_pages(pager.store, obj, pages, entries)
    with obj.lock:
        obj.end_read()
    content = b"".join(
        bytes(piece.count * size) if isinstance(piece.content, Missing) else piece.content for piece in pieces
    )
    failed = any(piece.content is Missing.FAILED for piece in pieces)
    start = message.offset - pages.start * size
    data = b"" if failed else content[start : start + message.length]
    result = KernReturn.KERN_MEMORY_ERROR if failed else SUCCESS
    return _answer(message.reply, DefaultPagerObjectReadReply(result, data))


def default_pager_paging_storage(pager: DefaultPager, message: DefaultPagerPagingStorage) -> None:
    """Add at once; remove in a thread of its own, so that nobody waits for it (in Mach, memory_object_create does)."""
    if message.add:
        return _answer(message.reply, _add_storage(pager, message))
    partition = pager.store.find(message.name)
    if partition is None:
        words = f"there is no partition {message.name}"
        return _answer(message.reply, DefaultPagerPagingStorageReply(INVALID, words))
    pager.runtime.fork(lambda: _remove_storage(pager, partition, message.reply), f"drain {message.name}", daemon=True)
    return None


def _add_storage(pager: DefaultPager, message: DefaultPagerPagingStorage) -> DefaultPagerPagingStorageReply:
    if pager.disks is None:
        return DefaultPagerPagingStorageReply(KernReturn.KERN_FAILURE, "this pager takes no storage")
    runs = tuple(Run(run.file_offset, run.device_offset, run.length) for run in message.runs)
    try:
        device = pager.disks.open(message.device)
        try:
            blocks = BlockList(runs, sum(run.length for run in runs), pager.page_size)
            pager.store.add(message.name, device, blocks)
        except BackingStoreError:
            _release(pager, device)
            raise
    except (StorageError, BackingStoreError) as error:
        return DefaultPagerPagingStorageReply(INVALID, str(error))
    pager.report(f"paging on {message.name} too: {sum(run.length for run in runs)} bytes")
    return DefaultPagerPagingStorageReply(SUCCESS, "")


def _remove_storage(pager: DefaultPager, partition: PagingPartition, reply: SendOnceRight) -> None:
    """Privileged as all that pageout may wait for: a later write of a page waits for its move."""
    pager.memory.begin(True)
    try:
        drain(pager, partition, cancelled=lambda: reply.port.dead)
    except CannotRemove as error:
        pager.report(f"{partition.name} stays: {error}")
        code = KernReturn.KERN_RESOURCE_SHORTAGE if error.for_want_of_room else KernReturn.KERN_FAILURE
        return _answer(reply, DefaultPagerPagingStorageReply(code, str(error)))
    _release(pager, partition.device)
    pager.report(f"{partition.name} is removed")
    return _answer(reply, DefaultPagerPagingStorageReply(SUCCESS, ""))


def _release(pager: DefaultPager, device: BlockDevice) -> None:
    """Close a device that no partition is on."""
    if pager.disks is not None and not any(partition.device is device for partition in pager.store.partitions()):
        pager.disks.release(device)


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
    DefaultPagerStatistics: default_pager_statistics,
    DefaultPagerObjectRead: default_pager_object_read,
    DefaultPagerPagingStorage: default_pager_paging_storage,
}
