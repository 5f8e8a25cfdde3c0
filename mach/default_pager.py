"""The default pager's own service: the calls of Mach's default_pager.defs (2275 -), and ours to look inside.

Interface: each request is an RPC on the default pager's port: it carries a send-once right, and its answer is the
message of the same name with Reply, 100 higher, as MIG numbers them.
    DefaultPagerObjectCreate, Info, Objects, ObjectPages         as Mach's (2275 - 2278)
    DefaultPagerPartitions, PartitionMap, ObjectRead             ours (2281 -): they change nothing; for Statistics
                                                                 and other figures see default_pager_figures.py
    DefaultPagerPagingStorage                                    more space, or less (2285, in the manner of Hurd's)
    DefaultPagerTriggers                                         to be told when space runs short (2286, XNU's);
                                                                 DefaultPagerSpaceAlert is what then comes (2295)
    DefaultPagerObjectLookup                                     the right to an object whose secret name one has (2289)
To a memory object's own port, so that only who has the right to it can ask:
    DefaultPagerObjectSetSize                                    Hurd's (2287)
    DefaultPagerObjectName                                       a name by which another client gets the right (2288)

An object is named in the looking calls by a number, which is not a right: it can be looked at, and nothing more.

Not here: paging itself (mach/memory_object.py).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from mach.kern_return import KernReturn
from mach.message import I32, U8, U32, U64, Digest, Message, message
from mach.ports import SendOnceRight, SendRight

Result = Annotated[KernReturn, "I"]
SecretName = Annotated[bytes, "28s"]


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
class BadSlotRecord:
    """A slot that is out of use, because its block could not be written."""

    slot: U32
    device_offset: U64


class StorageAction(enum.IntEnum):
    """What to do about paging storage."""

    REMOVE = 0
    ADD = 1
    GROW = 2


class SpaceAlert(enum.IntEnum):
    """Which mark was passed; XNU's HI_WAT_ALERT and LO_WAT_ALERT."""

    SHORT = 1  # fewer bytes are free than the high water mark asks for
    PLENTY = 2  # more are free than the low water mark asks for


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """One paging partition.  Counts are page slots."""

    index: U32
    total: U32
    free: U32
    bad: U32
    going_away: U8
    priority: I32
    name: str
    device: str
    access: str  # how it is read and written: "direct", or "buffered" and why
    runs: tuple[RunRecord, ...]
    bad_slots: tuple[BadSlotRecord, ...]  # the first of them


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
    """ADD: page on these runs of that device too.  GROW: these are the runs that the partition `name` has now.  REMOVE:
    move everything out of the partition `name` and forget it.

    The file that the runs are of was looked up by the caller: the pager sees no file system (paper §8).
    """

    reply: SendOnceRight
    action: Annotated[StorageAction, "B"]
    priority: I32  # as swapon's: higher ones are used first; below 0: lower than all there are
    name: str
    device: str
    runs: tuple[RunRecord, ...]


@message(2385)
class DefaultPagerPagingStorageReply(Message):
    """KERN_RESOURCE_SHORTAGE: there is no room for what the partition holds; it is as it was.  `words` say why not."""

    result: Result
    words: str


@message(2286)
class DefaultPagerTriggers(Message):
    """Send one SpaceAlert to `alert` as soon as fewer than `high_water` bytes are free (0: never), or more than
    `low_water` (0: never); at once if that is so now.  Who wants another asks again."""

    reply: SendOnceRight
    high_water: U64
    low_water: U64
    alert: SendOnceRight


@message(2386)
class DefaultPagerTriggersReply(Message):
    result: Result


@message(2295)
class DefaultPagerSpaceAlert(Message):
    kind: Annotated[SpaceAlert, "B"]
    free_space: U64  # bytes


@message(2287)
class DefaultPagerObjectSetSize(Message):
    """To the object: it ends at `size` bytes.  What lies behind is gone, the rest of its last page is zeros, and
    requests behind it are errors; its kernel's pages there are flushed."""

    reply: SendOnceRight
    size: U64


@message(2387)
class DefaultPagerObjectSetSizeReply(Message):
    result: Result


@message(2288)
class DefaultPagerObjectName(Message):
    """To the object: its secret name, to be handed to a client that shall have the right too."""

    reply: SendOnceRight


@message(2388)
class DefaultPagerObjectNameReply(Message):
    result: Result
    name: SecretName


@message(2289)
class DefaultPagerObjectLookup(Message):
    """The right to the object of that name.  Nobody guesses one: 160 of its bits are a keyed digest."""

    reply: SendOnceRight
    name: SecretName


@message(2389)
class DefaultPagerObjectLookupReply(Message):
    result: Result
    memory_object: SendRight | None
