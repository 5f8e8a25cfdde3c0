"""The default pager's service calls that tell figures: counters, latencies, clients, the pager's own memory.

Interface:
    FIGURES    message class -> function(pager, message), as CALLS (service.py)

Not here: how the figures come about (metrics.py, clients.py, wiring.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mach.default_pager_figures import (
    BucketRecord,
    ClientRecord,
    CounterRecord,
    DefaultPagerClients,
    DefaultPagerClientsReply,
    DefaultPagerLatencies,
    DefaultPagerLatenciesReply,
    DefaultPagerStatistics,
    DefaultPagerStatisticsReply,
    DefaultPagerWired,
    DefaultPagerWiredReply,
    LatencyRecord,
)
from mach.kern_return import KernReturn
from mach.message import Message
from mach.ports import DeadPort, SendOnceRight
from pager.clients import Client
from pager.metrics import BOUNDS_US

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

SUCCESS = KernReturn.KERN_SUCCESS


def default_pager_statistics(pager: DefaultPager, message: DefaultPagerStatistics) -> None:
    counters = tuple(CounterRecord(name, value) for name, value in sorted(pager.totals().items()))
    _answer(message.reply, DefaultPagerStatisticsReply(SUCCESS, counters))


def default_pager_latencies(pager: DefaultPager, message: DefaultPagerLatencies) -> None:
    records = tuple(
        LatencyRecord(
            name,
            int(histogram.seconds * 1e6),
            tuple(BucketRecord(b, n) for b, n in zip(BOUNDS_US, histogram.counts, strict=True) if n),
        )
        for name, histogram in pager.latencies().items()
    )
    _answer(message.reply, DefaultPagerLatenciesReply(SUCCESS, records))


def default_pager_clients(pager: DefaultPager, message: DefaultPagerClients) -> None:
    limits = pager.clients.limits
    records = tuple(_client_record(client) for client in pager.clients.all())
    _answer(message.reply, DefaultPagerClientsReply(SUCCESS, limits.objects, limits.pages, records))


def _client_record(client: Client) -> ClientRecord:
    peer = client.peer
    pid, uid = (0, 0) if peer is None else (peer.pid, peer.uid)
    return ClientRecord(pid, uid, client.objects, client.pages)


def default_pager_wired(pager: DefaultPager, message: DefaultPagerWired) -> None:
    memory, measures = pager.own_memory()
    _answer(message.reply, DefaultPagerWiredReply(SUCCESS, memory, measures))


def _answer(reply: SendOnceRight, message: Message) -> None:
    try:
        reply.send(message)
    except DeadPort:
        pass  # the caller has gone


FIGURES: dict[type[Message], Callable[[DefaultPager, Any], None]] = {
    DefaultPagerStatistics: default_pager_statistics,
    DefaultPagerLatencies: default_pager_latencies,
    DefaultPagerClients: default_pager_clients,
    DefaultPagerWired: default_pager_wired,
}
