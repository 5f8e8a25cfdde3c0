"""Waiting at a connection: who waits for what its peer owes takes the peer's messages itself.

Interface:
    Attendant(carrier, connection)    a Line (mach/feeder.py)
        .take()             whether the calling thread is to attend: it does from now on
        .attend(why, timeout)   deliver what comes, until end(): True; False if `timeout` seconds passed first
        .end()              what it waited for has come
        .attends            whether a thread does; .is_current: whether it is the one that asks
        .close()            the connection is closed: nobody attends any more

A thread that sleeps while another polls has to be woken by that one once it has been woken itself.  Two processors that
were asleep have to be woken then for every page that comes from a disk, and that is half of what a socket costs.  So
while somebody attends, the poll leaves the connection alone; all others it serves as ever.

Invariants:
    1. One thread attends at a time.
    2. Who attends holds no mutex, and has no duty (mach/threads).
    3. Whoever is in attend() when its end() or the close() of the connection comes leaves it, whoever calls them.

Not here: what is waited for (kernel/processor.py); names and rights (mach/connection.py).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from mach.threads import Thread
from mach.wire import PacketBuffer

if TYPE_CHECKING:
    from mach.connection import Connection
    from mach.socket_carrier import Network


class Attendant:
    """See the head of the module.  What it needs of the system is had at the first take()."""

    def __init__(self, network: Network, connection: Connection) -> None:
        self._network = network
        self._connection = connection
        self._runtime = network.ipc.runtime
        self._thread: Thread | None = None  # who attends
        self._over = False
        self._buffer: PacketBuffer | None = None
        self._poll = select.poll()
        self._bell = -1  # an eventfd that ends the poll

    @property
    def attends(self) -> bool:
        return self._thread is not None

    @property
    def is_current(self) -> bool:
        return self._thread is not None and self._thread is self._runtime.current()

    def take(self) -> bool:
        with self._connection.lock:
            if self._thread is not None or self._connection.closed:
                return False
            self._thread = self._runtime.current()
            self._over = False
            if self._buffer is None:
                self._buffer = PacketBuffer()
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._poll.register(self._bell, select.POLLIN)
                self._poll.register(self._connection.sock, select.POLLIN)
            return True

    def attend(self, why: str | Callable[[], str], timeout: float | None) -> bool:
        assert self._thread is not None
        self._runtime.may_block()
        self._thread.waits_for = why
        self._network.watch(self._connection)
        try:
            return self._until_over(timeout)
        finally:
            self._thread.waits_for = ""
            self._leave()

    def _until_over(self, timeout: float | None) -> bool:
        assert self._buffer is not None
        deadline = None if timeout is None else self._runtime.now() + timeout
        while not self._over:
            left = None if deadline is None else max(0.0, deadline - self._runtime.now()) * 1000
            ready = self._poll.poll(left)
            if not ready:
                return self._over
            for descriptor, _ in ready:
                if descriptor == self._bell:
                    os.eventfd_read(self._bell)
                else:
                    self._network.receive(self._connection, self._buffer)
        return True

    def _leave(self) -> None:
        with self._connection.lock:
            self._thread = None
            closed = self._connection.closed
            if closed:
                self._put_away()
        if not closed:
            self._network.watch(self._connection)

    def end(self) -> None:
        if self.is_current:
            self._over = True
            return
        with self._connection.lock:
            self._end_other()

    def close(self) -> None:
        """The connection's lock is held."""
        if self._thread is None:
            self._put_away()
        else:
            self._end_other()

    def _end_other(self) -> None:
        self._over = True
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def _put_away(self) -> None:
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)
