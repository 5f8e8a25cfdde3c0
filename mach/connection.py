"""One end of a connection between two parties: rights become names and names become rights, as in Mach's netmsgserver.

Interface:
    Connection(ipc, sock, initiator, carrier)
        .service(right)     make `right` the one port that the peer may reach from the start (SERVICE_NAME)
        .to_service()       a send right to the peer's service port
        .arrived(packet)    deliver what has been received
        .flush()            send what could not be sent before; True if nothing is left
        .tell_freed()       tell the peer which of its page lists have been freed here
        .close()            the peer is gone

A port of the peer is, here, a proxy: a port whose kobject forwards.  A port of ours that the peer may send to stands
in `exports` under a name.  A receive right that is moved leaves its port behind as a proxy.

Invariants:
    1. The peer reaches exactly the ports whose rights it was sent: a name is looked up in this connection's exports.
    2. An export keeps its right until as many references have been released as were sent (so a right in flight
       cannot be lost), or the peer is gone.
    3. When the connection closes, every proxy dies (watchers hear DeadName) and every right held for the peer is
       dropped (owners hear NoSenders, waiters for a reply SendOnce): the death of a process is the death of its rights.
    4. Nothing is sent, and no right is dropped, while `lock` is held but by the socket itself, which never blocks.
    5. No message waits at a port whose receive right it carries: nobody could ever receive it.
    6. A page list is freed, here, once: when its receiver has freed it, or at once if the connection closes.

Not here: sockets' readiness (mach/socket_carrier.py); what messages mean.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mach.carrier_messages import CARRIER, PagesFreed, PortDied, PortReleased
from mach.codec import Codec, ProtocolViolation, RightKind, WireRight, codec_at, codec_of
from mach.connection_tables import Export, Import, PageLoans
from mach.feeder import Carrier
from mach.message import Message
from mach.mqueue import Flow
from mach.notify import DeadName, NoSenders, SendOnce
from mach.outbox import Outbox
from mach.peer import Peer
from mach.ports import DeadPort, Ipc, Port, ReceiveRight, Right, SendOnceRight, SendRight, drop_rights
from mach.threads import LockRank
from mach.wire import Packet

if TYPE_CHECKING:
    from mach.attendant import Attendant

SERVICE_NAME = 2  # the accepting end's service port
OUTBOX_BYTES = 4 * 1024 * 1024  # unread messages that are kept for a slow peer
FREED_AT_ONCE = 4  # page lists that the peer hears of in one packet, if that can be put off; Mach bounds them by ten

_FROM_PORTS = frozenset(cls.msgh_id for cls in (NoSenders, SendOnce, DeadName))

CARRIER_MESSAGES = (PortReleased, PortDied, PagesFreed)

After = list[Callable[[], object]]  # what is to be done once the lock is released


class Connection:
    """See the head of the module."""

    def __init__(self, ipc: Ipc, sock: socket.socket, initiator: bool, carrier: Carrier) -> None:
        self.ipc = ipc
        self.sock = sock
        self.initiator = initiator
        self.lock = ipc.runtime.mutex("connection", LockRank.CARRIER)
        self.receiving = ipc.runtime.mutex("connection.receiving", LockRank.RECEIVING)
        self.line: Attendant | None = None
        self.closed = False
        self.peer: Peer | None = None  # who is at the other end, if it is known
        self.trace_name = ""  # both ends know it, if the initiating one is traced
        self.undeliverable = 0
        self.flow = Flow()  # what the peer's process has sent to objects of its own, and nobody has received yet
        self.held_back = False  # nothing more is received from it for the moment
        self.exports: dict[int, Export] = {}
        self.imports: dict[int, Import] = {}
        self._export_names: dict[Port, int] = {}
        self._import_names: dict[Port, int] = {}
        self._next_name = 1 if initiator else SERVICE_NAME
        self._carrier = carrier
        self._outbox = Outbox(sock)
        self._room = ipc.runtime.condition(self.lock, "connection.room")
        self._loans = PageLoans()
        self._obituaries = ipc.allocate("obituaries", kobject=self._port_died)

    # -- the first right ---------------------------------------------------------------------------------------

    def service(self, right: SendRight) -> None:
        """Offer `right` (which becomes ours) as the service of this, the accepting, end."""
        after: After = []
        with self.lock:
            kind, name = self._export(right, after)
            assert (kind, name) == (RightKind.SEND, SERVICE_NAME)
        _perform(after)

    def to_service(self) -> SendRight:
        """A send right to what the accepting peer offers."""
        with self.lock:
            right = self._import(RightKind.SEND, SERVICE_NAME, [])
        assert isinstance(right, SendRight)
        return right

    # -- out ---------------------------------------------------------------------------------------------------

    def _forward(self, name: int, message: Message) -> None:
        """The kobject of every proxy: send a message to the peer's port `name`."""
        if message.msgh_id in _FROM_PORTS:
            return self._notified(name, message)
        codec = codec_of(type(message))
        after: After = []
        with self.lock:
            if self._outbox.bytes_held > OUTBOX_BYTES:
                self._await_room()
            entry = self.imports.get(name)
            gone = self.closed or entry is None
            if entry is not None and not gone:
                body, data = codec.encode(message, lambda right: self._export(right, after))
                self._loans.lend(data)
                self._put(Packet(message.msgh_id, name, body, data), after)
                if entry.once:
                    del self.imports[name], self._import_names[entry.receive.port]
                    after.append(entry.receive.destroy)
        _perform(after)
        if gone:
            drop_rights(message)
            raise DeadPort("the connection to the port is closed")
        return None

    def _notified(self, name: int, message: Message) -> None:
        """A proxy hears from its own port."""
        if isinstance(message, NoSenders):
            self._no_senders(name)
        elif isinstance(message, SendOnce):  # the reply will never come: so says the dropping of its right
            self._forget_once(name)

    def _await_room(self) -> None:
        while self._outbox.bytes_held > OUTBOX_BYTES and self._may_sleep():
            self._room.wait("the peer to read its messages")

    def _may_sleep(self) -> bool:
        return self.initiator and self._carrier.may_wait() and not self.closed

    def _tell_peer(self, message: Message, after: After) -> None:
        body, _ = codec_of(type(message)).encode(message, lambda right: self._export(right, after))
        self._put(Packet(message.msgh_id, CARRIER, body, b""), after)

    def _put(self, packet: Packet, after: After) -> None:
        """Send a packet, or keep it until the peer reads."""
        if (tracer := self.ipc.runtime.tracer) is not None:
            tracer.crossed(self.trace_name, self.initiator, outwards=True)
        try:
            if self._outbox.put(packet):
                return
        except OSError as error:
            after.append(partial(self._carrier.trouble, self, f"cannot send: {error.strerror}"))
            return
        if self._outbox.bytes_held > OUTBOX_BYTES and not self.initiator:
            after.append(partial(self._carrier.trouble, self, "it does not read its messages"))
        after.append(partial(self._carrier.trouble, self, ""))

    @property
    def unsent(self) -> bool:
        """Whether something waits for the peer to read."""
        return not self._outbox.is_empty

    def flush(self) -> bool:
        with self.lock:
            if self.closed:
                return True
            flushed = self._outbox.flush()
            if flushed:
                self._room.broadcast()
            return flushed

    def _export(self, right: Right, after: After) -> WireRight:
        """Turn a right of ours into its wire form; it is the peer's from now on."""
        port = right.port
        if isinstance(right, ReceiveRight):
            name = self._new_name()
            self.imports[name] = Import(right, 1)
            self._import_names[port] = name
            port.line = self.line
            after.append(lambda: right.become_kobject(partial(self._forward, name)))
            after.append(lambda: right.request_no_senders(right.make_send_once()))
            return RightKind.RECEIVE, name
        if isinstance(right, SendOnceRight):
            name = self._new_name()
            self.exports[name] = Export(right, 1)
            return RightKind.SEND_ONCE, name
        assert isinstance(right, SendRight)
        if port in self._import_names:  # it goes home
            after.append(right.drop)
            return RightKind.HOME, self._import_names[port]
        if port in self._export_names:
            name = self._export_names[port]
            self.exports[name].sent += 1
            after.append(right.drop)
            return RightKind.SEND, name
        name = self._new_name()
        self._keep(name, right, after)
        return RightKind.SEND, name

    def _keep(self, name: int, right: SendRight, after: After) -> None:
        self.exports[name] = Export(right, 1)
        self._export_names[right.port] = name
        after.append(lambda: right.watch(self._obituaries.make_send_once(), name))

    def _new_name(self) -> int:
        name = self._next_name
        self._next_name += 2  # the two ends count in odd and in even numbers
        return name

    # -- in ----------------------------------------------------------------------------------------------------

    def arrived(self, packet: Packet) -> Flow | None:
        """Deliver a packet, or raise ProtocolViolation.  The flow that it went into, if there is one."""
        if (tracer := self.ipc.runtime.tracer) is not None:
            tracer.crossed(self.trace_name, self.initiator, outwards=False)
        codec, body = codec_at(packet.msgh_id), memoryview(packet.body)
        if packet.destination == CARRIER or codec.cls in CARRIER_MESSAGES:
            self._carrier_message(codec, packet)
            return None
        self._loans.borrow(packet.data, self._freed)
        after: After = []
        with self.lock:
            export = self.exports.get(packet.destination)  # not among the rights that the message brings (INV-5)
            message = codec.decode(body, packet.data, lambda kind, name: self._import(kind, name, after))
            target = self._target(packet.destination, export, after)
        _perform(after)
        self._deliver(target, message)
        return target.flow if target is not None else None

    def _target(self, name: int, export: Export | None, after: After) -> Port | None:
        if export is None:
            return None  # it died, and the peer does not know yet
        if isinstance(export.right, SendOnceRight):
            del self.exports[name]
            after.append(export.right.discard)  # used up by this very message
        return export.right.port

    def _deliver(self, target: Port | None, message: Message) -> None:
        try:
            if target is None:
                drop_rights(message)
                raise DeadPort
            if self.line is not None and self.line.is_current:
                self.ipc.send(target, message, always=True)
            else:
                self.ipc.deliver(target, message)
        except DeadPort:
            self.undeliverable += 1

    def _import(self, kind: int, name: int, after: After) -> Right:
        """The right that a wire form means here."""
        entry = self.imports.get(name)
        if kind == RightKind.SEND and entry is not None and not entry.once:
            entry.received += 1
            return entry.receive.make_send()
        if kind == RightKind.HOME:
            export = self.exports.get(name)
            if export is None or not isinstance(export.right, SendRight):
                raise ProtocolViolation(f"the peer sends back a right ({name}) that it was not given")
            return export.right.copy()
        if name % 2 == self.initiator or name == CARRIER:
            raise ProtocolViolation(f"the peer names a port ({name}) with a name that is not its own to give")
        if entry is not None or name in self.exports:
            raise ProtocolViolation(f"the peer uses the name {name} twice")
        receive = self.ipc.allocate(f"peer's port {name}")
        receive.port.peer, receive.port.line = self.peer, self.line
        if kind == RightKind.RECEIVE:
            receive.port.flow = self.flow
            self._keep(name, receive.make_send(), after)
            return receive
        receive.become_kobject(partial(self._forward, name))
        self.imports[name] = Import(receive, 1, once=kind == RightKind.SEND_ONCE)
        self._import_names[receive.port] = name
        if kind == RightKind.SEND_ONCE:
            return receive.make_send_once()
        right = receive.make_send()
        receive.request_no_senders(receive.make_send_once())
        return right

    def _carrier_message(self, codec: Codec, packet: Packet) -> None:
        if packet.destination != CARRIER:
            raise ProtocolViolation("a carrier's message to a port")
        if codec.cls not in CARRIER_MESSAGES:
            raise ProtocolViolation(f"{codec.cls.__name__} is sent to the carrier")
        message = codec.decode(memoryview(packet.body), packet.data, _no_right)
        after: After = []
        with self.lock:
            if isinstance(message, PortReleased):
                self._port_released(message, after)
            elif isinstance(message, PagesFreed):
                after += [pages.deallocate for pages in self._loans.returned(message.number, message.count)]
            else:
                entry = self.imports.pop(message.name, None)
                if entry is not None:
                    del self._import_names[entry.receive.port]
                    after.append(entry.receive.destroy)
        _perform(after)

    def _port_released(self, message: PortReleased, after: After) -> None:
        export = self.exports.get(message.name)
        if export is None:
            return  # it died meanwhile
        export.sent -= message.count
        if export.sent < 0:
            raise ProtocolViolation(f"the peer releases the port {message.name} more often than it was sent")
        if export.sent == 0:
            self._remove_export(message.name)
            after.append(export.right.drop)

    # -- the lives of rights -----------------------------------------------------------------------------------

    def _no_senders(self, name: int) -> None:
        """Nobody here holds a send right to the peer's port any more."""
        after: After = []
        with self.lock:
            entry = self.imports.get(name)
            if entry is None or self.closed:
                return
            if entry.receive.port.send_rights:  # a new one came in meanwhile
                after.append(lambda: entry.receive.request_no_senders(entry.receive.make_send_once()))
            else:
                del self.imports[name], self._import_names[entry.receive.port]
                self._tell_peer(PortReleased(name, entry.received), after)
                after.append(entry.receive.destroy)
        _perform(after)

    def _forget_once(self, name: int) -> None:
        after: After = []
        with self.lock:
            entry = self.imports.pop(name, None)
            if entry is None or self.closed:
                return
            del self._import_names[entry.receive.port]
            self._tell_peer(PortReleased(name, 1), after)
            after.append(entry.receive.destroy)
        _perform(after)

    def _freed(self, number: int) -> None:
        """A receiver here has freed a page list of the peer's."""
        with self.lock:
            untold = self._loans.freed(number)
        if untold >= FREED_AT_ONCE or not self._carrier.may_put_off(self):
            self.tell_freed()

    def tell_freed(self) -> None:
        after: After = []
        with self.lock:
            for first, count in self._loans.tell():
                if not self.closed:
                    self._tell_peer(PagesFreed(first, count), after)
        _perform(after)

    def _port_died(self, message: Message) -> None:
        """The kobject of `obituaries`: a port that the peer may send to is dead."""
        if not isinstance(message, DeadName) or not isinstance(message.token, int):
            return
        after: After = []
        with self.lock:
            export = self._remove_export(message.token)
            if export is None or self.closed:
                return
            self._tell_peer(PortDied(message.token), after)
            after.append(export.right.drop)
        _perform(after)

    def _remove_export(self, name: int) -> Export | None:
        export = self.exports.pop(name, None)
        if export is not None:
            self._export_names.pop(export.right.port, None)
        return export

    def close(self) -> None:
        """The peer is gone: all that stood for it here dies, all that it held is dropped (INV-3)."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            exports, self.exports = list(self.exports.values()), {}
            imports, self.imports = list(self.imports.values()), {}
            self._export_names.clear()
            self._import_names.clear()
            lent = self._loans.recall()
            self._outbox.clear()
            self._room.broadcast()
            if self.line is not None:
                self.line.close()
        self.sock.close()
        for entry in imports:
            entry.receive.destroy()
        for export in exports:
            export.right.drop()
        for pages in lent:
            pages.deallocate()


def _perform(after: After) -> None:
    for action in after:
        action()


def _no_right(kind: int, name: int) -> Right:
    raise ProtocolViolation("a carrier's message carries a right")
