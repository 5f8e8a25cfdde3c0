"""The port names of one task: small numbers, each standing for rights that the task holds (<mach/port.h>).

Interface:
    IpcSpace(ipc, runtime, name)
        .allocate(kind, name=None) -> name     mach_port_allocate(_name): a receive right, a port set, a dead name
        .insert(right, name=None) -> name      what a received right is called; the space owns it from then on
        .first_free() -> name                  the lowest name: how a kernel names the first rights of a task (KB:330)
        .take(name, disposition) -> right      a right to put into a message, as its sender says
        .send_right(name), .receiver(name)     looked at, not taken
        .type, .refs, .mod_refs, .deallocate, .destroy, .move_member, .request_notification
        .terminate()                           the task is gone, and every right of it
    PortRight, PORT_TYPE                       mach_port_right_t, mach_port_type_t

Errors are MachError: KERN_INVALID_NAME, KERN_INVALID_RIGHT, KERN_NAME_EXISTS, KERN_INVALID_VALUE ...

Invariants:
    1. A task has one name for all its receive and send rights of one port; each send-once right has its own.
    2. A name with `send` or `send_once` has at least one user reference; it goes with the last.
    3. A name that is gone is not given again: who still uses it is told so.
    4. No right is dropped, and no notification sent, while the lock is held.

Not here: what is sent to the ports; marshalling (kernel/ipc_kmsg.py).
"""

from __future__ import annotations

import enum

from mach.kern_return import KernReturn, MachError
from mach.notify import DeadName, NoSenders
from mach.ports import Ipc, Port, PortSet, ReceiveRight, Right, SendOnceRight, SendRight
from mach.threads import LockRank, Runtime
from mach.typed import Disposition

FIRST_NAME = 0x100  # below: what a kernel gives to a new task
MAX_UREFS = 0xFFFF


class PortRight(enum.IntEnum):
    """mach_port_right_t."""

    SEND = 0
    RECEIVE = 1
    SEND_ONCE = 2
    PORT_SET = 3
    DEAD_NAME = 4


def port_type(right: PortRight) -> int:
    """MACH_PORT_TYPE(right)."""
    return 1 << (right + 16)


class _Entry:
    """What one name stands for."""

    __slots__ = ("members", "port_set", "receive", "send", "send_once", "set_name", "urefs")

    def __init__(self) -> None:
        self.receive: ReceiveRight | None = None
        self.send: SendRight | None = None
        self.send_once: SendOnceRight | None = None
        self.port_set: PortSet | None = None
        self.members: set[int] = set()  # names, of a port set
        self.set_name = 0  # the set that a receive right is in
        self.urefs = 0

    @property
    def dead(self) -> bool:
        """A dead name: its port has died, or it never stood for one."""
        if self.receive is not None or self.port_set is not None:
            return False
        right = self.send or self.send_once
        return right is None or right.port.dead

    def rights(self) -> list[Right]:
        return [right for right in (self.send, self.send_once, self.receive) if right is not None]


class IpcSpace:
    """See the head of the module."""

    def __init__(self, ipc: Ipc, runtime: Runtime, name: str) -> None:
        self.name = name
        self._ipc = ipc
        self._lock = runtime.mutex(f"space of {name}", LockRank.SPACE)
        self._entries: dict[int, _Entry] = {}
        self._names: dict[Port, int] = {}  # of ports with a receive or send right
        self._next = FIRST_NAME

    # -- names -------------------------------------------------------------------------------------------------

    def _entry(self, name: int) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise MachError(KernReturn.KERN_INVALID_NAME, f"task {self.name} has no name {name:#x}")
        return entry

    def _new(self, entry: _Entry, name: int | None) -> int:
        if name is None:
            name, self._next = self._next, self._next + 1
        elif name in self._entries:
            raise MachError(KernReturn.KERN_NAME_EXISTS, f"task {self.name} has a name {name:#x} already")
        elif not name:
            raise MachError(KernReturn.KERN_INVALID_VALUE, "0 is no name")
        self._next = max(self._next, name + 1)
        self._entries[name] = entry
        return name

    def first_free(self) -> int:
        with self._lock:
            return next(name for name in range(1, len(self._entries) + 2) if name not in self._entries)

    def allocate(self, kind: int, name: int | None = None) -> int:
        entry = _Entry()
        with self._lock:
            made = self._new(entry, name)
            if kind == PortRight.RECEIVE:
                entry.receive = self._ipc.allocate(f"port {made:#x} of {self.name}", payload=made)
                self._names[entry.receive.port] = made
            elif kind == PortRight.PORT_SET:
                entry.port_set = self._ipc.port_set(f"port set {made:#x} of {self.name}")
            elif kind == PortRight.DEAD_NAME:
                entry.urefs = 1
            else:
                del self._entries[made]
                raise MachError(KernReturn.KERN_INVALID_VALUE, f"a right of kind {kind} cannot be allocated")
        return made

    def insert(self, right: Right, name: int | None = None) -> int:
        """KERN_RIGHT_EXISTS: the task has another name for the port; KERN_NAME_EXISTS: that name is another's."""
        surplus: Right | None = None
        with self._lock:
            if isinstance(right, SendOnceRight):
                entry = _Entry()
                entry.send_once, entry.urefs = right, 1
                return self._new(entry, name)
            known = self._names.get(right.port)
            if known is None:
                known = self._new(_Entry(), name)
                self._names[right.port] = known
            elif name not in (None, known):
                raise MachError(KernReturn.KERN_RIGHT_EXISTS, f"task {self.name} calls that port {known:#x}")
            entry = self._entries[known]
            if isinstance(right, ReceiveRight):
                entry.receive, right.payload = right, known
            else:
                assert isinstance(right, SendRight)
                entry.urefs = min(entry.urefs + 1, MAX_UREFS)
                if entry.send is None:
                    entry.send = right
                else:
                    surplus = right
        if surplus is not None:
            surplus.drop()  # INV-4
        return known

    # -- looked at ---------------------------------------------------------------------------------------------

    def type(self, name: int) -> int:
        """MACH_PORT_TYPE_* bits."""
        with self._lock:
            entry = self._entry(name)
            if entry.dead:
                return port_type(PortRight.DEAD_NAME)
            held = {
                PortRight.SEND: entry.send,
                PortRight.RECEIVE: entry.receive,
                PortRight.SEND_ONCE: entry.send_once,
                PortRight.PORT_SET: entry.port_set,
            }
            return sum(port_type(kind) for kind, right in held.items() if right is not None)

    def refs(self, name: int, kind: int) -> int:
        return self._entry(name).urefs if self._is(name, kind) and self._counted(kind) else int(self._is(name, kind))

    def _is(self, name: int, kind: int) -> bool:
        return kind in tuple(PortRight) and bool(self.type(name) & port_type(PortRight(kind)))

    @staticmethod
    def _counted(kind: int) -> bool:
        return kind in (PortRight.SEND, PortRight.DEAD_NAME)

    def send_right(self, name: int) -> SendRight | None:
        """The task's own right, not a copy; None if it has none."""
        with self._lock:
            entry = self._entries.get(name)
            return entry.send if entry is not None else None

    def send_rights(self) -> dict[int, SendRight]:
        with self._lock:
            return {name: entry.send for name, entry in self._entries.items() if entry.send is not None}

    def port_named(self, name: int) -> Port | None:
        """The port of a send or receive right."""
        with self._lock:
            entry = self._entries.get(name)
            right = (entry.send or entry.receive) if entry is not None else None
            return right.port if right is not None else None

    def receiver(self, name: int) -> ReceiveRight | PortSet | None:
        """What a message can be received from; None if nothing, or only by its set (MACH_RCV_IN_SET)."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.set_name:
                return None
            return entry.receive or entry.port_set

    def holds(self, name: int, disposition: int) -> bool:
        """Whether take() would find such a right."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return False
            needed = {
                Disposition.MOVE_RECEIVE: entry.receive,
                Disposition.MAKE_SEND: entry.receive,
                Disposition.MAKE_SEND_ONCE: entry.receive,
                Disposition.COPY_SEND: entry.send,
                Disposition.MOVE_SEND: entry.send,
                Disposition.MOVE_SEND_ONCE: entry.send_once,
            }
            return needed.get(disposition) is not None  # type: ignore[call-overload]

    # -- taken -------------------------------------------------------------------------------------------------

    def take(self, name: int, disposition: int) -> Right:
        """A right for a message, and what it leaves of the sender's."""
        if disposition == Disposition.MOVE_RECEIVE:
            return self._take_receive(name)
        with self._lock:
            entry = self._entry(name)
            if disposition in (Disposition.MAKE_SEND, Disposition.MAKE_SEND_ONCE) and entry.receive is not None:
                made = entry.receive
                return made.make_send() if disposition == Disposition.MAKE_SEND else made.make_send_once()
            if disposition == Disposition.COPY_SEND and entry.send is not None:
                return entry.send.copy()
            if disposition == Disposition.MOVE_SEND and entry.send is not None:
                copy = entry.send.copy()
            elif disposition == Disposition.MOVE_SEND_ONCE and entry.send_once is not None:
                once = entry.send_once
                del self._entries[name]
                return once
            else:
                raise MachError(KernReturn.KERN_INVALID_RIGHT, f"{name:#x} of {self.name} is no such right")
        self.mod_refs(name, PortRight.SEND, -1)
        return copy

    def _take_receive(self, name: int) -> ReceiveRight:
        with self._lock:
            entry = self._entry(name)
            right = entry.receive
            if right is None:
                raise MachError(KernReturn.KERN_INVALID_RIGHT, f"{name:#x} of {self.name} is no receive right")
            self._leave_set(name, entry)
            entry.receive = None
            if entry.send is None:
                self._forget(name, right.port)
            return right

    def _forget(self, name: int, port: Port | None) -> None:
        del self._entries[name]
        if port is not None:
            self._names.pop(port, None)

    # -- given up ----------------------------------------------------------------------------------------------

    def deallocate(self, name: int) -> None:
        """One user reference less of a send, send-once or dead name.  KERN_INVALID_RIGHT for others."""
        with self._lock:
            entry = self._entry(name)
            kind = PortRight.SEND_ONCE if entry.send_once is not None else PortRight.SEND
            if entry.dead:
                kind = PortRight.DEAD_NAME
        self.mod_refs(name, kind, -1)

    def mod_refs(self, name: int, kind: int, delta: int) -> None:
        """KERN_INVALID_VALUE if there are not so many; a receive right that loses its one reference dies."""
        gone: list[Right] = []
        with self._lock:
            entry = self._entry(name)
            if kind == PortRight.RECEIVE and entry.receive is not None and delta == -1:
                gone = self._drop_receive(name, entry)
            elif kind == PortRight.PORT_SET and entry.port_set is not None and delta == -1:
                self._drop_set(name, entry)
            elif kind in (PortRight.SEND, PortRight.SEND_ONCE, PortRight.DEAD_NAME) and entry.urefs:
                if entry.urefs + delta < 0:
                    raise MachError(KernReturn.KERN_INVALID_VALUE, f"{name:#x} has but {entry.urefs} references")
                entry.urefs = min(entry.urefs + delta, MAX_UREFS)
                if not entry.urefs:
                    gone = self._drop_send(name, entry)
            else:
                raise MachError(KernReturn.KERN_INVALID_RIGHT, f"{name:#x} of {self.name} is no such right")
        for right in gone:
            right.drop()

    def _drop_send(self, name: int, entry: _Entry) -> list[Right]:
        gone: list[Right] = [right for right in (entry.send, entry.send_once) if right is not None]
        port = entry.send.port if entry.send is not None else None
        entry.send = entry.send_once = None
        if entry.receive is None:
            self._forget(name, port)
        return gone

    def _drop_receive(self, name: int, entry: _Entry) -> list[Right]:
        right = entry.receive
        assert right is not None
        self._leave_set(name, entry)
        entry.receive = None
        if entry.send is None:
            self._forget(name, right.port)
        return [right]

    def _drop_set(self, name: int, entry: _Entry) -> None:
        assert entry.port_set is not None
        for member in list(entry.members):
            self._leave_set(member, self._entries[member])
        entry.port_set.destroy()
        self._forget(name, None)

    def destroy(self, name: int) -> None:
        """Everything that the name stands for."""
        with self._lock:
            entry = self._entry(name)
            gone = entry.rights()
            if entry.port_set is not None:
                self._drop_set(name, entry)
            else:
                self._leave_set(name, entry)
                self._forget(name, gone[0].port if gone else None)
        for right in gone:
            right.drop()

    def terminate(self) -> None:
        with self._lock:
            names = list(self._entries)
        for name in names:
            try:
                self.destroy(name)
            except MachError:  # a thread of the task was faster
                pass

    # -- port sets, notifications ------------------------------------------------------------------------------

    def move_member(self, member: int, after: int) -> None:
        """Into the set `after`, or with 0 out of the one that it is in (KERN_NOT_IN_SET)."""
        with self._lock:
            entry = self._entry(member)
            target = self._entry(after) if after else None
            if entry.receive is None or (target is not None and target.port_set is None):
                raise MachError(KernReturn.KERN_INVALID_RIGHT, f"{member:#x} or {after:#x} of {self.name}")
            if target is None and not entry.set_name:
                raise MachError(KernReturn.KERN_NOT_IN_SET, f"{member:#x} of {self.name}")
            self._leave_set(member, entry)
            if target is not None:
                assert target.port_set is not None
                target.port_set.add(entry.receive)
                target.members.add(member)
                entry.set_name = after

    def _leave_set(self, name: int, entry: _Entry) -> None:
        if entry.set_name:
            home = self._entries[entry.set_name]
            home.members.discard(name)
            entry.set_name = 0
            if home.port_set is not None and entry.receive is not None:
                home.port_set.remove(entry.receive)

    def request_notification(self, name: int, identity: int, notify: SendOnceRight) -> None:
        """MACH_NOTIFY_DEAD_NAME of a send right, MACH_NOTIFY_NO_SENDERS of a receive right."""
        entry = self._entry(name)
        if identity == DeadName.msgh_id and entry.send is not None:
            entry.send.watch(notify, name)
        elif identity == NoSenders.msgh_id and entry.receive is not None:
            entry.receive.request_no_senders(notify)
        else:
            raise MachError(KernReturn.KERN_INVALID_RIGHT, f"no notification {identity} of {name:#x}")
