"""What the poll is told to wait for, when two threads tell it at once."""

from __future__ import annotations

import select
import socket
from typing import Any

from mach.ports import Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime
from mach.wire import Packet


class Racing:
    """An epoll at which another thread gets in between the looking and the telling, once."""

    def __init__(self, epoll: Any) -> None:
        self.epoll = epoll
        self.between: Any = None
        self.events = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.epoll, name)

    def modify(self, fd: int, events: int) -> None:
        between, self.between = self.between, None
        if between is not None:
            between()
        self.epoll.modify(fd, events)
        self.events = events


def test_what_came_to_wait_while_the_poll_was_told_is_waited_for() -> None:
    """A sender that found the socket full slept for ever, because the poller told the poll later what it saw before."""
    network = Network(Ipc(NativeRuntime()))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection = network._add(ours, initiator=True)
        racing = network._epoll = Racing(network._epoll)  # type: ignore[assignment]

        def a_sender_finds_the_socket_full() -> None:
            connection._outbox._waiting.append(Packet(1, 1, b"", b""))
            network.watch(connection)

        racing.between = a_sender_finds_the_socket_full
        network.watch(connection)
        assert racing.events & select.EPOLLOUT
    finally:
        network.close()
        theirs.close()
