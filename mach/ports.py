"""Ports: queues that one task receives from, and the counted rights by which others may send.

Interface:
    Ipc(runtime)          all ports of one party; .allocate(...) -> ReceiveRight, .port_set(...) -> PortSet
    ReceiveRight          make_send, make_send_once, receive, request_no_senders, become_kobject, resign_kobject,
                          destroy
    SendRight             send, copy, drop, watch (dead-name notification), dead
    SendOnceRight         send (uses it up), drop (its port hears SendOnce)
    PortSet               add, remove, receive, serve, destroy
    DeadPort              the destination has died, or what is received from

A right is an object, and holding the object is holding the right: nothing can be reached without one.  Whatever
rights a message carries belong to its receiver: a sender puts in `right.copy()` (COPY_SEND), `receive.make_send()`
(MAKE_SEND) or the right itself (MOVE).

A port with a *kobject* has no queue: its messages are handled in the context of their sender, as Mach handles
messages to kernel ports (ipc_mqueue_send calls ipc_kobject_server; paper §5.6 needs this of device_write).

Invariants:
    1. port.send_rights is the number of live SendRight objects; when it falls to 0 and that was asked for, the port's
       owner gets one NoSenders.
    2. Messages of one port are received in the order they were sent; seqno counts them from 0.
    3. The rights of a message that cannot be delivered are dropped with it.
    4. No notification is sent, and no kobject called, while the lock of ipc is held.

Not here: who waits for messages, and how (mach/mqueue.py); other processes (mach/socket_carrier.py makes ports stand
for theirs); what any message means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

from mach.feeder import Line
from mach.message import Message, Received
from mach.mqueue import Flow, MessageQueue, Receivers
from mach.notify import DeadName, NoSenders, SendOnce
from mach.page_list import vm_deallocate
from mach.peer import Peer
from mach.servers import note_moves, servers
from mach.threads import OwedBy

KObject = Callable[[Message], None]


class DeadPort(Exception):
    """The port has died (MACH_SEND_INVALID_DEST); the caller's peer is gone."""


class Port:
    """A port itself.  Only this module and carriers touch it; all else holds rights."""

    def __init__(self, ipc: Ipc, name: str, payload: Any, kobject: KObject | None, limit: int) -> None:
        self.ipc = ipc
        self.name = name
        self.payload = payload
        self.kobject = kobject
        self.limit = limit
        self.receiver = ipc.runtime.task()  # the task that holds the receive right
        self.destination: Port | None = None  # where a message takes the receive right (ip_destination); for reports
        self.queue = MessageQueue(ipc, name)
        self.space = ipc.runtime.condition(ipc.lock, f"{name}.space")
        self.queued = 0
        self.flow: Flow | None = None  # of the peer that sends here, if there is one
        self.seqno = 0
        self.send_rights = 0
        self.make_sends = 0
        self.dead = False
        self.peer: Peer | None = None  # the process that it came from, over a connection
        self.line: Line | None = None  # that connection, to who waits for what is owed there
        self.notify: SendOnceRight | None = None
        self.watchers: dict[SendRight, tuple[SendOnceRight, object]] = {}

    def __str__(self) -> str:
        return f"to {self.name}"


class Right:
    """The base of the three rights."""

    __slots__ = ("port",)

    def __init__(self, port: Port) -> None:
        self.port = port

    def drop(self) -> None:
        raise NotImplementedError


class SendRight(Right):
    """The right to send any number of messages to a port."""

    __slots__ = ("_live",)

    def __init__(self, port: Port) -> None:  # the lock of ipc is held
        self.port = port
        self._live = True
        port.send_rights += 1

    @property
    def dead(self) -> bool:
        return self.port.dead

    def send(self, message: Message, *, always: bool = False) -> None:
        """Queue a message, waiting while the queue is full unless `always` (the kernel's way).  DeadPort if it died."""
        assert self._live, f"a dropped right to {self.port.name} is used"
        self.port.ipc.send(self.port, message, always)

    def copy(self) -> SendRight:
        with self.port.ipc.lock:
            return SendRight(self.port)

    def drop(self) -> None:
        """Give the right up.  Dropping the last one tells the port's owner, if it asked."""
        port, ipc = self.port, self.port.ipc
        watcher = notify = None
        with ipc.lock:
            assert self._live, f"a right to {port.name} is dropped twice"
            self._live = False
            port.send_rights -= 1
            if port.watchers:
                watcher = port.watchers.pop(self, None)
            if port.send_rights == 0 and not port.dead:
                notify, port.notify = port.notify, None
        if watcher is not None:
            watcher[0].discard()
        if notify is not None:
            _tell(notify, NoSenders(port.make_sends))

    def watch(self, notify: SendOnceRight, token: object = None) -> None:
        """Ask for one DeadName(token) at `notify` when the port dies; at once if it has."""
        with self.port.ipc.lock:
            dead = self.port.dead
            if not dead:
                assert self not in self.port.watchers, f"{self.port.name} is watched twice through one right"
                self.port.watchers[self] = (notify, token)
        if dead:
            _tell(notify, DeadName(token))


class SendOnceRight(Right):
    """The right to send exactly one message: a reply, a notification."""

    __slots__ = ("_live",)

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self._live = True

    def send(self, message: Message) -> None:
        """Send the one message.  Never blocks.  DeadPort if the port died."""
        assert self._live, f"a used send-once right to {self.port.name} is used again"
        self._live = False
        self.port.ipc.send(self.port, message, always=True)

    def drop(self) -> None:
        """Destroy it unused: whoever waits for the message hears SendOnce."""
        if self._live:
            _tell(self, SendOnce())

    def discard(self) -> None:
        """Destroy it unused and silently: a request for a notification is taken back."""
        self._live = False


class ReceiveRight(Right):
    """The right to receive from a port; there is one, and the port lives as long as it does."""

    __slots__ = ()

    @property
    def payload(self) -> Any:
        return self.port.payload

    @payload.setter
    def payload(self, payload: Any) -> None:
        self.port.payload = payload

    def make_send(self) -> SendRight:
        with self.port.ipc.lock:
            self.port.make_sends += 1
            return SendRight(self.port)

    def make_send_once(self) -> SendOnceRight:
        return SendOnceRight(self.port)

    def receive(self, timeout: float | None = None, owed_by: OwedBy | None = None) -> Received | None:
        """The next message, or None after `timeout` seconds."""
        return self.port.ipc.receive(self.port.queue, timeout, owed_by)

    def request_no_senders(self, notify: SendOnceRight) -> None:
        """Ask for one NoSenders at `notify` when no send right is left; at once if some were made and none is left."""
        with self.port.ipc.lock:
            at_once = self.port.send_rights == 0 and self.port.make_sends > 0
            if not at_once:
                self.port.notify = notify
        if at_once:
            _tell(notify, NoSenders(self.port.make_sends))

    def become_kobject(self, kobject: KObject) -> None:
        """Handle this port's messages by `kobject`, in their senders' context, from now on; first those queued."""
        port, ipc = self.port, self.port.ipc
        while True:
            with ipc.lock:
                mine = [message for at, message in port.queue.messages if at is port]
                if not mine:
                    port.kobject = kobject
                    return
                port.queue.messages = deque(entry for entry in port.queue.messages if entry[0] is not port)
                port.queued = 0
                if port.flow is not None:
                    port.flow.left(len(mine))
                port.space.broadcast()
            for message in mine:
                kobject(message)

    def resign_kobject(self) -> None:
        """Be a port with a queue again, before the receive right is given away."""
        with self.port.ipc.lock:
            self.port.kobject = None

    def drop(self) -> None:
        self.destroy()

    def destroy(self) -> None:
        """Kill the port: its queued messages are dropped, its watchers told, senders get DeadPort."""
        port, ipc = self.port, self.port.ipc
        with ipc.lock:
            if port.dead:
                return
            port.dead = True
            lost = [message for at, message in port.queue.messages if at is port]
            port.queue.messages = deque(entry for entry in port.queue.messages if entry[0] is not port)
            if port.flow is not None:
                port.flow.left(len(lost))
            watchers, port.watchers = port.watchers, {}
            notify, port.notify = port.notify, None
            port.space.broadcast()
            if not port.queue.of_set:
                ipc.close(port.queue, DeadPort(f"port {port.name} died while a message was awaited there"))
        if notify is not None:
            notify.discard()
        for message in lost:
            drop_rights(message)
        for right, token in watchers.values():
            _tell(right, DeadName(token))


class PortSet:
    """Several ports received from as one."""

    def __init__(self, ipc: Ipc, name: str) -> None:
        self._ipc = ipc
        self._queue = MessageQueue(ipc, name, of_set=True)

    def add(self, right: ReceiveRight) -> None:
        """Put a port into the set, with what is queued at it."""
        ipc, wake = self._ipc, False
        with ipc.lock:
            right.port.receiver = ipc.runtime.task()
            came_before = right.port.queue.messages
            right.port.queue = self._queue
            for entry in came_before:
                self._queue.messages.append(entry)
                wake |= ipc.announce(self._queue)
        if wake and ipc.feeder is not None:
            ipc.feeder.wake()

    def remove(self, right: ReceiveRight) -> None:
        """Take a port out again, with what is queued at it."""
        port = right.port
        with self._ipc.lock:
            if port.queue is self._queue:
                port.queue = MessageQueue(self._ipc, port.name)
                port.queue.messages.extend(entry for entry in self._queue.messages if entry[0] is port)
                self._queue.messages = deque(entry for entry in self._queue.messages if entry[0] is not port)

    def destroy(self) -> None:
        """The set is no more: who receives from it gets DeadPort.  Its ports must have left it."""
        with self._ipc.lock:
            self._ipc.close(self._queue, DeadPort(f"{self._queue.name} died while a message was awaited there"))

    def receive(self, timeout: float | None = None) -> Received | None:
        """The next message of any port in the set, or None after `timeout` seconds."""
        return self._ipc.receive(self._queue, timeout)

    def serve(self, handle: Callable[[Received], None]) -> None:
        """Receive and handle for ever.  The thread keeps the lead while it handles a message, until it may sleep."""
        self._ipc.serve(self._queue, handle)


class Ipc(Receivers):
    """All the ports of one party (a task, or a machine's kernel), under one mutex."""

    def allocate(self, name: str, payload: Any = None, kobject: KObject | None = None, limit: int = 5) -> ReceiveRight:
        """A new port.  `limit`: how many messages wait before senders do (MACH_PORT_QLIMIT_DEFAULT is 5)."""
        return ReceiveRight(Port(self, name, payload, kobject, limit))

    def port_set(self, name: str) -> PortSet:
        return PortSet(self, name)

    # -- sending -----------------------------------------------------------------------------------------------

    def send(self, port: Port, message: Message, always: bool) -> None:
        if (tracer := self.runtime.tracer) is None:
            return self._send(port, message, always)
        with tracer.sending(port.name, message):
            return self._send(port, message, always)

    def _send(self, port: Port, message: Message, always: bool) -> None:
        self.runtime.checkpoint(type(message).__name__, port)
        wake = False
        dead, kobject = port.dead, port.kobject
        if kobject is None and not dead:  # a kernel's port needs no lock: there is no queue
            with self.lock:
                if port.queued >= port.limit and not always:
                    self._await_room(port)
                dead, kobject = port.dead, port.kobject
                if not dead and kobject is None:
                    if self.runtime.reports:
                        note_moves(port, message)
                    port.queued += 1
                    if port.flow is not None:
                        port.flow.queued += 1
                    port.queue.messages.append((port, message))
                    wake = self.announce(port.queue)
        if dead:
            drop_rights(message)
            raise DeadPort(f"port {port.name} is dead")
        if kobject is not None:
            kobject(message)
        elif wake and self.feeder is not None:
            self.feeder.wake()

    def _await_room(self, port: Port) -> None:
        self.resign()
        while port.queued >= port.limit and not (port.dead or port.kobject):
            port.space.wait(lambda: f"room in the queue of port {port.name}", owed_by=lambda: servers(port))

    def deliver(self, port: Port, message: Message) -> None:
        """Send what the feeder has brought, from the thread that polls it."""
        if (tracer := self.runtime.tracer) is None:
            return self._deliver(port, message)
        with tracer.sending(port.name, message):
            return self._deliver(port, message)

    def _deliver(self, port: Port, message: Message) -> None:
        dead, kobject = port.dead, port.kobject
        if kobject is None and not dead:
            with self.lock:
                dead, kobject = port.dead, port.kobject
                if not dead and kobject is None:
                    port.queued += 1
                    if port.flow is not None:
                        port.flow.queued += 1
                    port.queue.messages.append((port, message))
                    self.announce_fed(port.queue)
        if dead:
            drop_rights(message)
            raise DeadPort(f"port {port.name} is dead")
        if kobject is not None:
            kobject(message)


def _tell(notify: SendOnceRight, message: Message) -> None:
    """Send a notification; if nobody is left to hear it, it is lost."""
    with suppress(DeadPort):
        notify.send(message)


def drop_rights(message: Message) -> None:
    """Destroy what a message that nobody will receive carries: its rights (INV-3), and its page data."""
    for field in fields(message):  # type: ignore[arg-type]
        value = getattr(message, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Right):
                part.drop()
    vm_deallocate(getattr(message, "data", b""))
