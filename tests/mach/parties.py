"""The two sides of a socket, for the tests of what travels over it.

Interface:
    Party                     one side, polled by hand
    settle(*parties)          until nothing moves any more
    create(party)             memory_object_create, and the rights that a kernel keeps of it
"""

from __future__ import annotations

from mach.memory_object import (
    MemoryObjectCreate,
)
from mach.ports import Ipc, ReceiveRight
from mach.socket_carrier import Network
from mach.threads import NativeRuntime


class Party:
    """One side; both live in this process, and are polled by hand, so that nothing happens unseen."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ipc = Ipc(NativeRuntime())
        self.network = Network(self.ipc, self.said.append)
        self.service: ReceiveRight = self.ipc.allocate("service", limit=1000)


def settle(*parties: Party) -> None:
    """Poll until nothing moves any more."""
    for _ in range(60):
        for party in parties:
            party.network.poll(0)


def create(party: Party) -> tuple[MemoryObjectCreate, ReceiveRight, ReceiveRight]:
    pager, control = party.ipc.allocate("pager"), party.ipc.allocate("control")
    right = pager.make_send()
    name = party.ipc.allocate("name")
    message = MemoryObjectCreate(pager, 65536, control.make_send(), name.make_send(), 4096)
    party.memory_object = right
    return message, control, name
