"""The default pager's service, its figures: what is counted and measured in it, who its clients are, its own memory.

Interface: as in default_pager.py, RPCs on the default pager's port, that only look:
    DefaultPagerStatistics, Latencies, Clients, Wired            ours (2283, 2290 -)

Not here: what a figure means to whom (docs/protocol.md says what each is).
"""

from __future__ import annotations

from dataclasses import dataclass

from mach.default_pager import Result
from mach.message import U8, U32, U64, Message, message
from mach.ports import SendOnceRight


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """How many took less than `bound_us` microseconds, and not less than the bucket before."""

    bound_us: U64
    count: U64


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """How long one kind of message took; buckets that are empty are left out."""

    name: str
    total_us: U64
    buckets: tuple[BucketRecord, ...]


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """A process that has objects here.  pid 0: the pager itself."""

    pid: U32
    uid: U32
    objects: U32
    pages: U64  # slots that its objects hold


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A part of the pager's own memory; bytes.  Of locked pages that other processes map too only our share counts."""

    name: str
    resident: U64
    locked: U64


@dataclass(frozen=True, slots=True)
class MeasureRecord:
    """One thing that keeps the pager from waiting for memory, and whether the system granted it."""

    name: str
    granted: U8
    words: str


@dataclass(frozen=True, slots=True)
class CounterRecord:
    name: str
    value: U64


@message(2283)
class DefaultPagerStatistics(Message):
    reply: SendOnceRight


@message(2383)
class DefaultPagerStatisticsReply(Message):
    result: Result
    counters: tuple[CounterRecord, ...]


@message(2290)
class DefaultPagerLatencies(Message):
    """How long messages took to handle."""

    reply: SendOnceRight


@message(2390)
class DefaultPagerLatenciesReply(Message):
    result: Result
    latencies: tuple[LatencyRecord, ...]


@message(2291)
class DefaultPagerClients(Message):
    """Who has objects here, and how much."""

    reply: SendOnceRight


@message(2391)
class DefaultPagerClientsReply(Message):
    result: Result
    object_limit: U64  # of each; 0: none
    page_limit: U64
    clients: tuple[ClientRecord, ...]


@message(2292)
class DefaultPagerWired(Message):
    """The pager's own memory, by what it is for (paper, table 7-3), and what was done to keep it in memory."""

    reply: SendOnceRight


@message(2392)
class DefaultPagerWiredReply(Message):
    result: Result
    memory: tuple[MemoryRecord, ...]
    measures: tuple[MeasureRecord, ...]
