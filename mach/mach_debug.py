"""Looking into a kernel: in the manner of Mach's mach_debug.defs (3000 -).  Nothing here changes anything.

Interface: RPCs on a kernel's host port, as in mach/default_pager.py:
    VmStatistics                      counters of the whole machine
    MachVmQueues                      what is on each page queue
    MachTasks, MachVmRegions          tasks, and the address map of one
    MachVmObjects, MachVmObjectPages  VM objects, and the resident pages of one
    MachVmRead, MachVmObjectRead      what a task, or an object, holds: resident pages first, then its pager's

Not here: changing a kernel; its internals.
"""

from __future__ import annotations

from dataclasses import dataclass

from mach.default_pager import Result
from mach.default_pager_figures import CounterRecord
from mach.message import U8, U32, U64, Message, message
from mach.ports import SendOnceRight


@dataclass(frozen=True, slots=True)
class TaskRecord:
    task_id: U32
    resident: U64  # pages mapped
    virtual: U64  # bytes allocated
    faults: U64
    name: str


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """One entry of an address map; bytes."""

    start: U64
    end: U64
    protection: U8
    max_protection: U8
    inheritance: U8
    wired: U32
    object_id: U64
    offset: U64  # of the start, in the object


@dataclass(frozen=True, slots=True)
class VmObjectRecord:
    object_id: U64
    size: U64  # bytes
    resident: U32  # pages
    references: U32
    internal: U8
    shadow_id: U64  # 0: none
    shadow_offset: U64
    paging_offset: U64
    pager: str  # "" none, else what is known of it
    paged_out: U32  # pages that the pager is known to hold


@dataclass(frozen=True, slots=True)
class VmPageRecord:
    offset: U64  # bytes, in the object
    frame: U32
    wire_count: U32
    state: str  # words: active, inactive, busy, dirty, referenced, absent, error, laundry ...


@dataclass(frozen=True, slots=True)
class QueueRecord:
    name: str  # free, active, inactive, wired, laundry
    pages: U32
    head: str  # the first pages, as "object:offset"


@message(3000)
class VmStatistics(Message):
    reply: SendOnceRight


@message(3100)
class VmStatisticsReply(Message):
    result: Result
    page_size: U32
    counters: tuple[CounterRecord, ...]


@message(3001)
class MachVmQueues(Message):
    reply: SendOnceRight


@message(3101)
class MachVmQueuesReply(Message):
    result: Result
    queues: tuple[QueueRecord, ...]


@message(3002)
class MachTasks(Message):
    reply: SendOnceRight


@message(3102)
class MachTasksReply(Message):
    result: Result
    tasks: tuple[TaskRecord, ...]


@message(3003)
class MachVmRegions(Message):
    reply: SendOnceRight
    task_id: U32


@message(3103)
class MachVmRegionsReply(Message):
    result: Result
    regions: tuple[RegionRecord, ...]


@message(3004)
class MachVmObjects(Message):
    """VM objects with a number above `after`, in order."""

    reply: SendOnceRight
    after: U64


@message(3104)
class MachVmObjectsReply(Message):
    result: Result
    objects: tuple[VmObjectRecord, ...]


@message(3005)
class MachVmObjectPages(Message):
    """The resident pages of an object from byte `offset` on."""

    reply: SendOnceRight
    object_id: U64
    offset: U64


@message(3105)
class MachVmObjectPagesReply(Message):
    result: Result
    pages: tuple[VmPageRecord, ...]


@message(3006)
class MachVmObjectRead(Message):
    """The coherent content of an object.  Reading makes nothing resident and evicts nothing.  At most 256 KiB."""

    reply: SendOnceRight
    object_id: U64
    offset: U64
    length: U32


@message(3106)
class MachVmObjectReadReply(Message):
    result: Result
    data: bytes


@message(3007)
class MachVmRead(Message):
    """What a task sees at an address; otherwise as MachVmObjectRead."""

    reply: SendOnceRight
    task_id: U32
    address: U64
    length: U32


@message(3107)
class MachVmReadReply(Message):
    result: Result
    data: bytes
