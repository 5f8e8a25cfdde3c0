"""What each client has of the pager, and how much of it it may have: none can starve the others (promise P7).

Interface:
    Limits            objects, pages; 0: as many as there are
    Clients(runtime, limits, report)
        .admit(peer) -> Client | None      one object more; None: it has all that it may
        .leave(client)                     one object fewer
        .reserve(client, pages) -> how many of them it may have; they are charged to it
        .release(client, pages)
        .at_limit(client), .all(), .refused
    may_administer(peer), may_look_into(peer, client)

A client is a process: all its connections count together.  An object, and what is paged out of it, is charged to the
client that made it, whoever else maps it.  What is of this process itself has no limits.  How many requests of a client
wait is bounded where they are received (mach/socket_carrier.py): what is more stays in its sockets.

Invariants:
    1. client.pages is the number of slots that its objects hold, and those reserved for writes that are under way.
    2. A client is known as long as it has an object.

Not here: what happens to a page that may not be stored (page_io.py: it is lost, and says so).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from mach.peer import Peer
from mach.threads import LockRank, Runtime
from pager.log import event


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one client; 0: none."""

    objects: int = 0
    pages: int = 0


class Client:
    """One process that has made objects here, or, with no peer, this process itself."""

    __slots__ = ("objects", "pages", "peer", "told")

    def __init__(self, peer: Peer | None) -> None:
        self.peer = peer
        self.objects = 0
        self.pages = 0
        self.told = False  # that it is at its limit: once is enough

    def __str__(self) -> str:
        return "the pager's own process" if self.peer is None else str(self.peer)


class Clients:
    """See the head of the module."""

    def __init__(self, runtime: Runtime, limits: Limits, report: Callable[[str], None]) -> None:
        self.limits = limits
        self._report = report
        self.refused = 0  # objects that were not made, and pages that were not stored, for the limits
        self._lock = runtime.mutex("clients", LockRank.PARTITIONS)
        self._clients: dict[Peer | None, Client] = {}

    def admit(self, peer: Peer | None) -> Client | None:
        with self._lock:
            client = self._clients.get(peer) or Client(peer)
            if peer is not None and 0 < self.limits.objects <= client.objects:
                self.refused += 1
                return None
            client.objects += 1
            self._clients[peer] = client
            return client

    def leave(self, client: Client) -> None:
        with self._lock:
            client.objects -= 1
            if not client.objects:
                del self._clients[client.peer]

    def reserve(self, client: Client, pages: int) -> int:
        with self._lock:
            granted = pages
            if client.peer is not None and self.limits.pages:
                granted = max(0, min(pages, self.limits.pages - client.pages))
                self.refused += pages - granted
            client.pages += granted
            news = granted < pages and not client.told
            client.told = client.told or granted < pages
        if news:
            words = f"{client} has {self.limits.pages} pages, its limit: what it pages out more is lost"
            self._report(event("client_at_limit", words, client=str(client), pages=self.limits.pages))
        return granted

    def at_limit(self, client: Client) -> bool:
        return client.peer is not None and 0 < self.limits.pages <= client.pages

    def release(self, client: Client, pages: int) -> None:
        if pages:
            with self._lock:
                client.pages -= pages

    def all(self) -> list[Client]:
        with self._lock:
            return list(self._clients.values())


def may_administer(peer: Peer | None) -> bool:
    """Paging storage, and what is in objects that one has no right to, are for root and for who runs the pager."""
    return peer is None or peer.uid in (0, os.getuid())


def may_look_into(peer: Peer | None, client: Client) -> bool:
    """Objects are found by number: their content and its digests are shown to users whose own they are."""
    return may_administer(peer) or (client.peer is not None and peer is not None and client.peer.uid == peer.uid)
