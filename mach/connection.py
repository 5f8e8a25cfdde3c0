"""One end of a connection between two parties: rights become names and names become rights, as in Mach's netmsgserver.

Interface:
    Connection(ipc, sock, initiator, carrier)
        .service(right)     make `right` the one port that the peer may reach from the start
        .to_service()       a send right to the peer's service port
        .receiving          the mutex in which packets are received, and arrived() is called
        .arrived(packet)    deliver what has been received
        .flush()            send what could not be sent before; True if nothing is left
        .tell_freed()       tell the peer which of its page lists have been freed here
        .close()            the peer is gone
        .rights             (mach/connection_rights.py): who the peer is, what it holds, who attends

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

Not here: which name is whose (mach/connection_rights.py); sockets' readiness (mach/socket_carrier.py); what messages
mean.
"""

from __future__ import annotations

import socket
from functools import partial

from mach.carrier_messages import CARRIER, PagesFreed, PortDied, PortReleased
from mach.codec import Codec, ProtocolViolation, RightKind, codec_at, codec_of
from mach.connection_rights import SERVICE_NAME, After, Rights
from mach.feeder import Carrier
from mach.message import Message
from mach.mqueue import Flow
from mach.notify import DeadName, NoSenders, SendOnce
from mach.outbox import Outbox
from mach.page_list import PageList
from mach.page_loans import PageLoans
from mach.ports import DeadPort, Ipc, Port, Right, SendOnceRight, SendRight, drop_rights
from mach.threads import LockRank
from mach.wire import Packet

OUTBOX_BYTES = 4 * 1024 * 1024  # unread messages that are kept for a slow peer
FREED_AT_ONCE = 4  # page lists that the peer hears of in one packet, if that can be put off; Mach bounds them by ten

_FROM_PORTS = frozenset(cls.msgh_id for cls in (NoSenders, SendOnce, DeadName))

CARRIER_MESSAGES = (PortReleased, PortDied, PagesFreed)


class Connection:
    """See the head of the module."""

    def __init__(self, ipc: Ipc, sock: socket.socket, initiator: bool, carrier: Carrier) -> None:
        self.ipc = ipc
        self.sock = sock
        self.initiator = initiator
        self.lock = ipc.runtime.mutex("connection", LockRank.CARRIER)
        self.receiving = ipc.runtime.mutex("incoming", LockRank.RECEIVING)
        self.closed = False
        self.trace_name = ""  # both ends know it, if the initiating one is traced
        self.undeliverable = 0
        self.held_back = False  # nothing more is received from it for the moment
        self._carrier = carrier
        self._outbox = Outbox(sock)
        self._room = ipc.runtime.condition(self.lock, "connection.room")
        self._loans = PageLoans()
        self.rights = Rights(ipc, initiator, self._forward, ipc.allocate("obituaries", kobject=self._port_died))

    # -- the first right ---------------------------------------------------------------------------------------

    def service(self, right: SendRight) -> None:
        """Offer `right` (which becomes ours) as the service of this, the accepting, end."""
        after: After = []
        with self.lock:
            kind, name = self.rights.export(after, right)
            assert (kind, name) == (RightKind.SEND, SERVICE_NAME)
        _perform(after)

    def to_service(self) -> SendRight:
        """A send right to what the accepting peer offers."""
        with self.lock:
            right = self.rights.import_([], RightKind.SEND, SERVICE_NAME)
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
            entry = self.rights.imports.get(name)
            gone = self.closed or entry is None
            if entry is not None and not gone:
                body, data = codec.encode(message, partial(self.rights.export, after))
                if isinstance(data, PageList):
                    self._loans.lend(data)
                self._put(Packet(message.msgh_id, name, body, data), after)
                if entry.once:
                    self.rights.remove_import(after, name)
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
        body, _ = codec_of(type(message)).encode(message, partial(self.rights.export, after))
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

    # -- in ----------------------------------------------------------------------------------------------------

    def arrived(self, packet: Packet) -> Flow | None:
        """Deliver a packet, or raise ProtocolViolation.  The flow that it went into, if there is one."""
        if (tracer := self.ipc.runtime.tracer) is not None:
            tracer.crossed(self.trace_name, self.initiator, outwards=False)
        msgh_id, destination, body, data = packet
        codec = codec_at(msgh_id)
        if destination == CARRIER or codec.cls in CARRIER_MESSAGES:
            self._carrier_message(codec, packet)
            return None
        if isinstance(data, PageList):
            self._loans.borrow(data, self._freed)
        after: After = []
        with self.lock:
            export = self.rights.exports.get(destination)  # not among the rights that the message brings (INV-5)
            message = codec.decode(memoryview(body), data, partial(self.rights.import_, after))
            if export is not None and isinstance(export.right, SendOnceRight):
                del self.rights.exports[destination]
                after.append(export.right.discard)  # used up by this very message
        _perform(after)
        if export is None:  # it died, and the peer does not know yet
            self.undeliverable += 1
            drop_rights(message)
            return None
        target = export.right.port
        self._deliver(target, message)
        return target.flow

    def _deliver(self, target: Port, message: Message) -> None:
        line = self.rights.line
        try:
            if line is not None and line.is_current:
                self.ipc.send(target, message, always=True)
            else:
                self.ipc.deliver(target, message)
        except DeadPort:
            self.undeliverable += 1

    def _carrier_message(self, codec: Codec, packet: Packet) -> None:
        if packet.destination != CARRIER:
            raise ProtocolViolation("a carrier's message to a port")
        if codec.cls not in CARRIER_MESSAGES:
            raise ProtocolViolation(f"{codec.cls.__name__} is sent to the carrier")
        message = codec.decode(memoryview(packet.body), packet.data, _no_right)
        after: After = []
        with self.lock:
            if isinstance(message, PortReleased):
                self.rights.released(after, message)
            elif isinstance(message, PagesFreed):
                after += [pages.deallocate for pages in self._loans.returned(message.number, message.count)]
            else:
                self.rights.remove_import(after, message.name)
        _perform(after)

    # -- the lives of rights -----------------------------------------------------------------------------------

    def _no_senders(self, name: int) -> None:
        """Nobody here holds a send right to the peer's port any more."""
        after: After = []
        with self.lock:
            entry = self.rights.imports.get(name)
            if entry is None or self.closed:
                return
            if entry.receive.port.send_rights:  # a new one came in meanwhile
                after.append(lambda: entry.receive.request_no_senders(entry.receive.make_send_once()))
            else:
                self._tell_peer(PortReleased(name, entry.received), after)
                self.rights.remove_import(after, name)
        _perform(after)

    def _forget_once(self, name: int) -> None:
        after: After = []
        with self.lock:
            if name not in self.rights.imports or self.closed:
                return
            self._tell_peer(PortReleased(name, 1), after)
            self.rights.remove_import(after, name)
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
            export = self.rights.remove_export(message.token)
            if export is None or self.closed:
                return
            self._tell_peer(PortDied(message.token), after)
            after.append(export.right.drop)
        _perform(after)

    def close(self) -> None:
        """The peer is gone: all that stood for it here dies, all that it held is dropped (INV-3)."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            exports, imports = self.rights.clear()
            lent = self._loans.recall()
            self._outbox.clear()
            self._room.broadcast()
            if self.rights.line is not None:
                self.rights.line.close()
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
