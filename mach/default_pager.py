"""The default pager's own service: the calls of Mach's default_pager.defs (2275 -), and ours to look inside.

Interface: each request is an RPC on the default pager's port: it carries a send-once right, and its answer is the
message of the same name with Reply, 100 higher, as MIG numbers them.
    DefaultPagerObjectCreate, Info, Objects, ObjectPages         as Mach's (2275 - 2278)
    DefaultPagerPartitions, PartitionMap, Statistics, ObjectRead ours (2281 -): they change nothing
    DefaultPagerPagingStorage                                    more space, or less (2285, in the manner of Hurd's)

An object is named here by a number, which is not a right: it can be looked at, and nothing more.

Not here: paging itself (mach/memory_object.py).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from mach.kern_return import KernReturn
from mach.message import U8, U32, U64, Digest, Message, message
from mach.ports import SendOnceRight, SendRight

Result = Annotated[KernReturn, "I"]


class PageState(enum.IntEnum):
    """What a page on backing store is in the middle of."""

    IDLE = 0
    WRITING = 1
    BAD = 2  # its last write failed: the page is lost
    PRECIOUS = 3  # the kernel has the only copy


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One memory object."""

    object_id: U64
    size: U64  # bytes
    paged: U64  # bytes on backing store
    internal: U8  # made by memory_object_create, not by default_pager_object_create
    pageins: U64  # pages
    pageouts: U64  # pages
    errors: U64  # pages that could not be read or written


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page on backing store."""

    offset: U64  # bytes, in the object
    partition: U32
    slot: U32
    device_offset: U64  # bytes, on the partition's device
    generation: U32  # how often the page has been written
    state: Annotated[PageState, "B"]
    digest: Digest  # BLAKE3, keyed by (object, page, generation)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of the block list that a partition lives in; bytes."""

    file_offset: U64
    device_offset: U64
    length: U64


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """One paging partition.  Counts are page slots."""

    index: U32
    total: U32
    free: U32
    bad: U32
    going_away: U8
    name: str
    device: str
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True, slots=True)
class CounterRecord:
    name: str
    value: U64


@message(2275)
class DefaultPagerObjectCreate(Message):
    """Make a memory object that any task may map: shared memory backed by paging space (paper §6.1)."""

    reply: SendOnceRight
    size: U64


@message(2375)
class DefaultPagerObjectCreateReply(Message):
    result: Result
    memory_object: SendRight | None


@message(2276)
class DefaultPagerInfo(Message):
    reply: SendOnceRight


@message(2376)
class DefaultPagerInfoReply(Message):
    result: Result
    total_space: U64  # bytes
    free_space: U64  # bytes
    page_size: U32
    objects: U32
    wired: U64  # bytes of the pager's own memory that are locked down


@message(2277)
class DefaultPagerObjects(Message):
    """Objects with a number above `after`, in order; ask again after the last until none come."""

    reply: SendOnceRight
    after: U64


@message(2377)
class DefaultPagerObjectsReply(Message):
    result: Result
    objects: tuple[ObjectRecord, ...]


@message(2278)
class DefaultPagerObjectPages(Message):
    """The paged-out pages of an object from byte `offset` on; ask again from behind the last until none come."""

    reply: SendOnceRight
    object_id: U64
    offset: U64


@message(2378)
class DefaultPagerObjectPagesReply(Message):
    result: Result
    pages: tuple[PageRecord, ...]


@message(2281)
class DefaultPagerPartitions(Message):
    reply: SendOnceRight


@message(2381)
class DefaultPagerPartitionsReply(Message):
    result: Result
    partitions: tuple[PartitionRecord, ...]


@message(2282)
class DefaultPagerPartitionMap(Message):
    """One byte a slot from `first_slot` on: "." free, "#" used, "x" bad; at most 65,536."""

    reply: SendOnceRight
    partition: U32
    first_slot: U32


@message(2382)
class DefaultPagerPartitionMapReply(Message):
    result: Result
    data: bytes


@message(2283)
class DefaultPagerStatistics(Message):
    reply: SendOnceRight


@message(2383)
class DefaultPagerStatisticsReply(Message):
    result: Result
    counters: tuple[CounterRecord, ...]


@message(2284)
class DefaultPagerObjectRead(Message):
    """The object's paged image, zeros where nothing is paged; reading changes nothing.  At most 256 KiB."""

    reply: SendOnceRight
    object_id: U64
    offset: U64
    length: U32


@message(2384)
class DefaultPagerObjectReadReply(Message):
    result: Result
    data: bytes


@message(2285)
class DefaultPagerPagingStorage(Message):
    """Page on these runs of that device too (add), or move everything out of the partition `name` and forget it.

    The file that the runs are of was looked up by the caller: the pager sees no file system (paper §8).
    """

    reply: SendOnceRight
    add: U8
    name: str
    device: str
    runs: tuple[RunRecord, ...]


@message(2385)
class DefaultPagerPagingStorageReply(Message):
    """KERN_RESOURCE_SHORTAGE: there is no room for what the partition holds; it is as it was.  `words` say why not."""

    result: Result
    words: str
