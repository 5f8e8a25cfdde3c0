"""The socket carrier: ports of other processes, over Unix SEQPACKET sockets.

Interface:
    Network(ipc, on_disconnect, requests)    the carrier of one party; becomes ipc.feeder
        .listen(path, receive_right, uids)  offer that port as a service at `path` (mode 0600, without more uids)
        .connect(path) -> SendRight   to the service at `path`
        .poll(timeout), .wake(), .settle()    as mach.feeder.Feeder
        .trouble, .may_wait, .may_put_off     as mach.feeder.Carrier
        .receive, .watch              for who attends a connection (mach/attendant.py)
        .stop_listening(), .close()   let nobody in any more; end all connections too
        .violations, .connections     peers disconnected for what they sent; those there are
        .totals()                     the same as counters
    SocketInUse, NobodyThere          expected failures of listen and connect

Invariants:
    1. One thread polls at a time; a message is delivered by the thread that polled it, or attends its connection.
    2. A poll takes at most one message from each connection, so that none can starve the others.
    3. What a peer sends can cost it its connection and nobody else anything.
    4. Of a process that sends faster than it is served, over however many connections, `requests` messages wait here,
       and one more a connection; the rest waits in its sockets.
    5. That page lists have been freed is told before the leader sleeps or is the leader no more, and after a few polls
       at the latest: who sends its pages in a burst hears of several at once.

Not here: names and rights (mach/connection.py); the bytes of a packet (mach/wire.py).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from collections.abc import Callable, Iterable

from mach.attendant import Attendant
from mach.codec import ProtocolViolation
from mach.connection import Connection
from mach.mqueue import Flow
from mach.peer import peer_of
from mach.ports import Ipc, ReceiveRight, SendRight
from mach.threads import LockRank, Thread
from mach.wire import PacketBuffer

EPOLLIN, EPOLLOUT = select.EPOLLIN, select.EPOLLOUT
READABLE = EPOLLIN | select.EPOLLHUP | select.EPOLLERR


PUT_OFF_POLLS = 8  # while there is always something to read
CONNECTIONS = 512  # fewer than there are descriptors
CONNECTIONS_PER_PROCESS = 64


class SocketInUse(Exception):
    """Another process serves this path."""


class NobodyThere(Exception):
    """Nobody serves this path."""


class Network:
    """See the head of the module.  For the native runtime."""

    def __init__(
        self, ipc: Ipc, on_disconnect: Callable[[str], None] = lambda why: None, requests: int = Flow.LIMIT
    ) -> None:
        self.ipc = ipc
        self._requests = requests
        self.violations = 0
        self.turned_away = 0
        self._uids = {0, os.getuid()}
        self.connections: dict[int, Connection] = {}  # by file descriptor
        self._on_disconnect = on_disconnect
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, EPOLLIN)
        self._listener: socket.socket | None = None
        self._path = ""
        self._service: ReceiveRight | None = None
        self._poller: Thread | None = None
        self._owing: set[Connection] = set()  # whose peers have not been told of all that is freed; the leader's
        self._put_off = 0  # polls since they could have been
        self._buffer = PacketBuffer()
        self._lock = ipc.runtime.mutex("network", LockRank.CARRIER)
        ipc.feeder = self

    def listen(self, path: str, service: ReceiveRight, uids: Iterable[int] = ()) -> None:
        """Serve at `path` root, our own user and `uids`; a socket that a dead process has left there is replaced.

        SocketInUse, OSError.
        """
        self._uids |= set(uids)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            try:
                listener.bind(path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                self._remove_stale(path)
                listener.bind(path)
            os.chmod(
                path, 0o666 if uids else 0o600
            )  # who may is looked up at accept; before listen: nobody can have connected yet
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
        listener.setblocking(False)
        self._listener, self._path, self._service = listener, path, service
        service.port.flow = Flow()  # of all clients together
        self._epoll.register(listener.fileno(), EPOLLIN)

    @staticmethod
    def _remove_stale(path: str) -> None:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # connecting to a plain file is "refused", too
            raise SocketInUse(f"{path} is there already and is no socket; remove it or choose another path")
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # its process is dead
            return
        except OSError:
            raise SocketInUse(
                f"{path} is there already and is no socket of ours; remove it or choose another path"
            ) from None
        finally:
            probe.close()
        raise SocketInUse(f"{path} is in use by a running process; stop it or choose another path")

    def connect(self, path: str) -> SendRight:
        """A send right to the service at `path`.  NobodyThere."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            if self.ipc.runtime.tracer is not None:
                sock.bind("")  # an abstract name of its own, which the peer sees too
            sock.connect(path)
        except OSError as error:
            sock.close()
            raise NobodyThere(f"nobody listens at {path}: {(error.strerror or 'no such socket').lower()}") from None
        return self._add(sock, initiator=True).to_service()

    def poll(self, timeout: float | None) -> None:
        """Wait for sockets, and deliver at most one message from each (INV-2)."""
        self._poller = self.ipc.runtime.current()
        try:
            for fd, events in self._ready(timeout):
                connection = self.connections.get(fd)
                if connection is not None:
                    self._serve(connection, events)
                elif fd == self._wake:
                    os.eventfd_read(self._wake)
                elif self._listener is not None and fd == self._listener.fileno():
                    self._accept()
        finally:
            self._poller = None

    def _ready(self, timeout: float | None) -> list[tuple[int, int]]:
        """What has arrived.  Who waits for more has told every peer what it is to know (INV-5)."""
        if self._owing:
            ready = self._epoll.poll(0)
            self._put_off += 1
            if ready and self._put_off < PUT_OFF_POLLS:
                return ready
            self.settle()
            if ready:
                return ready
        return self._epoll.poll(timeout)

    def may_put_off(self, connection: Connection) -> bool:
        """Whether the thread will poll, or else settle, before it sleeps: so it is if it has the lead (mach/mqueue)."""
        thread = self.ipc.runtime.current()
        if thread.duty is None:
            return False
        self._owing.add(connection)
        return thread.duty is not None  # relieved meanwhile

    def settle(self) -> None:
        owing, self._owing = self._owing, set()
        self._put_off = 0
        for connection in tuple(owing):
            connection.tell_freed()

    def may_wait(self) -> bool:
        """Whether a sender may sleep until a peer reads: only if another thread polls, and so flushes, and if none has
        to wait until it is done with the message that it delivers."""
        if self._poller is None or self._poller is self.ipc.runtime.current():
            return False
        return not any(
            line.is_current for connection in list(self.connections.values()) if (line := connection.rights.line)
        )

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close everything and remove the path.  Nobody may be polling."""
        for connection in list(self.connections.values()):
            self._disconnect(connection)
        self.stop_listening()
        self._epoll.close()
        os.close(self._wake)

    def stop_listening(self) -> None:
        """Let no new peer in, and remove the path."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass

    def totals(self) -> dict[str, int]:
        """Counters: clients now, those disconnected for what they sent, those not let in."""
        connections, away = len(self.connections), self.turned_away
        return {"clients": connections, "violations": self.violations, "turned_away": away}

    def _accept(self) -> None:
        listener = self._listener
        assert self._service is not None
        if listener is None:
            return
        try:
            sock, _ = listener.accept()
        except OSError:  # it went away again, or we are out of descriptors: it will be tried again
            return
        peer = peer_of(sock)
        known = [connection for connection in list(self.connections.values()) if connection.rights.peer == peer]
        crowded = len(known) >= CONNECTIONS_PER_PROCESS or len(self.connections) >= CONNECTIONS
        if peer.uid not in self._uids or crowded:
            self.turned_away += 1
            sock.close()
            return
        connection = self._add(sock, initiator=False)
        connection.rights.peer = peer
        connection.rights.flow = known[0].rights.flow if known else Flow(self._requests)
        connection.service(self._service.make_send())

    def _add(self, sock: socket.socket, initiator: bool) -> Connection:
        sock.setblocking(False)
        connection = Connection(self.ipc, sock, initiator, self)
        if self.ipc.runtime.tracer is None:  # else who waits is told of with who woke it
            connection.rights.line = Attendant(self, connection)
        else:
            name = sock.getsockname() if initiator else sock.getpeername()
            connection.trace_name = name.lstrip(b"\0").decode() if isinstance(name, bytes) else ""
        self.connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), EPOLLIN)
        return connection

    def _serve(self, connection: Connection, events: int) -> None:
        try:
            if events & EPOLLOUT and connection.flush():
                self.watch(connection)
        except OSError:
            self._disconnect(connection)
            return
        if events & READABLE:
            self.receive(connection, self._buffer)

    def receive(self, connection: Connection, buffer: PacketBuffer) -> None:
        """Take a message, if one has come, and deliver it; end a connection that has gone or breaks the protocol."""
        try:
            with connection.receiving:
                packet = buffer.receive(connection.sock)
                flow = connection.arrived(packet) if packet is not None else None
                if flow is not None and flow.is_full:
                    self._hold_back(connection, flow)
            if packet is None:
                self._disconnect(connection)
        except BlockingIOError:
            pass
        except ProtocolViolation as violation:
            self.violations += 1
            self._on_disconnect(f"a client is disconnected: {violation}")
            self._disconnect(connection)
        except OSError:
            self._disconnect(connection)

    def trouble(self, connection: Connection, why: str) -> None:
        """A connection cannot send: now (why is empty) or any more."""
        if not why:
            self.watch(connection)
            return
        self._on_disconnect(f"a client is disconnected: {why}")
        self._disconnect(connection)

    def watch(self, connection: Connection) -> None:
        """Have the poll say what is of interest now.

        Two threads may be at it: whoever told the poll last looks again, so that what it is told last is what holds.
        """
        told = -1
        while told != (events := self._of_interest(connection)):
            try:
                self._epoll.modify(connection.sock.fileno(), events)
            except (OSError, ValueError):  # closed meanwhile
                return
            told = events

    @staticmethod
    def _of_interest(connection: Connection) -> int:
        line = connection.rights.line
        attended = line is not None and line.attends
        return (0 if connection.held_back or attended else EPOLLIN) | (EPOLLOUT if connection.unsent else 0)

    def _hold_back(self, connection: Connection, flow: Flow) -> None:
        """Leave what the peer sends more in its socket until most of the flow has been received."""

        def let_go() -> None:
            connection.held_back = False
            self.watch(connection)

        with self.ipc.lock:
            if flow.is_full:
                connection.held_back = True
                self.watch(connection)
                flow.held_back.append(let_go)

    def _disconnect(self, connection: Connection) -> None:
        with self._lock:  # two threads may find it broken at once
            fd = connection.sock.fileno()
            if self.connections.get(fd) is connection:
                del self.connections[fd]
                self._epoll.unregister(fd)
        connection.close()
