"""Waiting at a connection: who waits for what its peer owes takes the peer's messages itself.

Interface:
    Attendant(network, connection)    a Line (mach/feeder.py)
        .take()                   whether the calling thread is to attend: it does from now on
        .attend(why, timeout)     deliver what comes, until end(): True; False if `timeout` seconds passed first
        .end()                    what it waited for has come
        .attends, .is_current     whether a thread does; whether it is the one that asks
        .close()                  the connection is closed: nobody attends any more

A thread that sleeps while another polls has to be woken by that one once it has been woken itself.  Two processors that
were asleep have to be woken then for every page that comes from a disk, and that is half of what a socket costs.  So
while somebody attends, the poll is not told of what comes over the connection; all others it serves as ever.

A connection that was attended once keeps a buffer (mach/wire.PacketBuffer).

Invariants:
    1. One thread attends at a time, from its take() to the end of its attend().
    2. Who attends holds no mutex and has no duty (mach/threads), and handles what comes without its own task and
       privilege.
    3. Once end() or close() has been called, by whomever, attend() ends.
    4. Of a peer that sends faster than it is served no more is taken than the poll would take (mach/mqueue.Flow): then
       attend() is over.

Not here: what is waited for (kernel/processor.py); names and rights (mach/connection.py); whether who attends sleeps
(mach/eager_poll.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from mach.eager_poll import EagerPoll
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
        self._poll = EagerPoll(self._runtime)
        self._bell = -1  # an eventfd that ends the poll

    @property
    def attends(self) -> bool:
        return self._thread is not None

    @property
    def is_current(self) -> bool:
        return self._thread is not None and self._thread is self._runtime.current()

    def take(self) -> bool:
        connection = self._connection
        with connection.lock:
            if self._thread is not None or connection.closed or connection.held_back or not self._is_ready():
                return False
            self._thread = self._runtime.current()
            self._over = False
            return True

    def _is_ready(self) -> bool:
        """False: the process has no descriptor left."""
        if self._buffer is None:
            try:
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            except OSError:
                return False
            self._buffer = PacketBuffer()
            self._poll.register(self._bell)
            self._poll.register(self._connection.sock.fileno())
        return True

    def attend(self, why: str | Callable[[], str], timeout: float | None) -> bool:
        me = self._runtime.current()
        itself = me.vm_privilege, me.task
        me.vm_privilege, me.task, me.waits_for = False, None, why  # what comes is handled in nobody's name
        try:
            self._runtime.may_block()
            self._network.watch(self._connection)
            return self._until_over(timeout)
        finally:
            (me.vm_privilege, me.task), me.waits_for = itself, ""
            self._leave()

    def _until_over(self, timeout: float | None) -> bool:
        now = self._runtime.now
        deadline = None if timeout is None else now() + timeout
        left = timeout
        while not (self._over or self._connection.held_back):
            self._take_what_comes(left)
            if deadline is not None:
                left = deadline - now()
                if left <= 0:
                    return self._over
        return True

    def _take_what_comes(self, timeout: float | None) -> None:
        assert self._buffer is not None
        for descriptor in self._poll.poll(timeout):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            else:
                self._network.receive(self._connection, self._buffer)

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
