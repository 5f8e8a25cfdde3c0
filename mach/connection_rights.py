"""What one end of a connection keeps of the rights that the two ends have given each other, and how they are named.

Interface:
    Rights(ipc, initiator, forward, obituaries)
        .export(after, right) -> WireRight          a right of ours becomes a name; it is the peer's from now on
        .import_(after, kind, name) -> Right        a name becomes a right; ProtocolViolation
        .released(after, message)                   the peer gives references back; ProtocolViolation
        .remove_export(name), .remove_import(after, name)
        .clear() -> (exports, imports)              the peer is gone
        .exports, .imports                          by name
        .peer, .flow, .line                         who the peer is, what of its waits here, and who waits for it (or
                                                    None): the carrier sets them, and every port of the peer's is given
                                                    them
    Export    a right of ours that the peer may name
    Import    the proxy of a port of the peer's

`after` collects what is to be done once the connection's lock, which is held here, is released: no right is dropped and
nobody is told of anything before.

Invariants:
    1. Those of mach/connection.py about names and references, its first and second.
    2. The two ends give names of their own: one odd ones, the other even ones.

Not here: locks, packets, messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mach.carrier_messages import CARRIER, PortReleased
from mach.codec import ProtocolViolation, RightKind, WireRight
from mach.message import Message
from mach.mqueue import Flow
from mach.peer import Peer
from mach.ports import Ipc, Port, ReceiveRight, Right, SendOnceRight, SendRight

if TYPE_CHECKING:
    from mach.attendant import Attendant

SERVICE_NAME = 2  # the accepting end's service port

After = list[Callable[[], object]]


@dataclass(slots=True)
class Export:
    """See the head of the module."""

    right: SendRight | SendOnceRight
    sent: int  # references that the peer holds or is about to receive


@dataclass(slots=True)
class Import:
    """See the head of the module."""

    receive: ReceiveRight  # of the proxy
    received: int
    once: bool = False


class Rights:
    """See the head of the module.  `forward(name, message)` is what proxies do; who hears of the deaths of our ports
    receives at `obituaries`."""

    def __init__(
        self, ipc: Ipc, initiator: bool, forward: Callable[[int, Message], None], obituaries: ReceiveRight
    ) -> None:
        self.peer: Peer | None = None  # who is at the other end, if it is known
        self.flow = Flow()  # what the peer's process has sent to objects of its own, and nobody has received yet
        self.line: Attendant | None = None
        self.exports: dict[int, Export] = {}
        self.imports: dict[int, Import] = {}
        self._export_names: dict[Port, int] = {}
        self._import_names: dict[Port, int] = {}
        self._ipc = ipc
        self._initiator = initiator
        self._forward = forward
        self._obituaries = obituaries
        self._next_name = 1 if initiator else SERVICE_NAME

    # -- out ---------------------------------------------------------------------------------------------------

    def export(self, after: After, right: Right) -> WireRight:
        port = right.port
        if isinstance(right, SendRight):
            return self._export_send(after, right, port)
        name = self._new_name()
        if isinstance(right, SendOnceRight):
            self.exports[name] = Export(right, 1)
            return RightKind.SEND_ONCE, name
        assert isinstance(right, ReceiveRight)
        self.imports[name] = Import(right, 1)
        self._import_names[port] = name
        port.line = self.line
        after.append(lambda: right.become_kobject(partial(self._forward, name)))
        after.append(lambda: right.request_no_senders(right.make_send_once()))
        return RightKind.RECEIVE, name

    def _export_send(self, after: After, right: SendRight, port: Port) -> WireRight:
        name = self._import_names.get(port)
        if name is not None:  # it goes home; also if it was exported before the receive right was moved
            after.append(right.drop)
            return RightKind.HOME, name
        name = self._export_names.get(port)
        if name is not None:
            self.exports[name].sent += 1
            after.append(right.drop)
            return RightKind.SEND, name
        name = self._new_name()
        self._keep(after, name, right)
        return RightKind.SEND, name

    def _keep(self, after: After, name: int, right: SendRight) -> None:
        self.exports[name] = Export(right, 1)
        self._export_names[right.port] = name
        after.append(lambda: right.watch(self._obituaries.make_send_once(), name))

    def _new_name(self) -> int:
        name = self._next_name
        self._next_name += 2  # the two ends count in odd and in even numbers
        return name

    # -- in ----------------------------------------------------------------------------------------------------

    def import_(self, after: After, kind: int, name: int) -> Right:
        entry = self.imports.get(name)
        if kind == RightKind.SEND and entry is not None and not entry.once:
            entry.received += 1
            return entry.receive.make_send()
        if kind == RightKind.HOME:
            export = self.exports.get(name)
            if export is None or not isinstance(export.right, SendRight):
                raise ProtocolViolation(f"the peer sends back a right ({name}) that it was not given")
            return export.right.copy()
        if name % 2 == self._initiator or name == CARRIER:
            raise ProtocolViolation(f"the peer names a port ({name}) with a name that is not its own to give")
        if entry is not None or name in self.exports:
            raise ProtocolViolation(f"the peer uses the name {name} twice")
        receive = self._ipc.allocate(f"peer's port {name}")
        receive.port.peer, receive.port.line = self.peer, self.line
        if kind == RightKind.RECEIVE:
            receive.port.flow = self.flow
            self._keep(after, name, receive.make_send())
            return receive
        receive.become_kobject(partial(self._forward, name))
        self.imports[name] = Import(receive, 1, once=kind == RightKind.SEND_ONCE)
        self._import_names[receive.port] = name
        if kind == RightKind.SEND_ONCE:
            return receive.make_send_once()
        right = receive.make_send()
        receive.request_no_senders(receive.make_send_once())
        return right

    # -- the ends ----------------------------------------------------------------------------------------------

    def released(self, after: After, message: PortReleased) -> None:
        export = self.exports.get(message.name)
        if export is None:
            return  # it died meanwhile
        export.sent -= message.count
        if export.sent < 0:
            raise ProtocolViolation(f"the peer releases the port {message.name} more often than it was sent")
        if export.sent == 0:
            self.remove_export(message.name)
            after.append(export.right.drop)

    def remove_export(self, name: int) -> Export | None:
        export = self.exports.pop(name, None)
        if export is not None:
            self._export_names.pop(export.right.port, None)
        return export

    def remove_import(self, after: After, name: int) -> None:
        entry = self.imports.pop(name, None)
        if entry is not None:
            del self._import_names[entry.receive.port]
            after.append(entry.receive.destroy)

    def clear(self) -> tuple[list[Export], list[Import]]:
        exports, self.exports = list(self.exports.values()), {}
        imports, self.imports = list(self.imports.values()), {}
        self._export_names.clear()
        self._import_names.clear()
        return exports, imports
