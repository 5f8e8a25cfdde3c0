"""Port names: one for all rights of a port, with references; and what a program's messages do to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kernel.ipc_space import IpcSpace, PortRight, port_type
from mach.kern_return import KernReturn, MachError
from mach.message import Message
from mach.notify import DeadName, NoSenders
from mach.ports import DeadPort, Ipc, SendOnceRight, SendRight
from mach.threads import NativeRuntime
from mach.typed import Disposition

RUNTIME = NativeRuntime()
IPC = Ipc(RUNTIME)
SEND, RECEIVE = port_type(PortRight.SEND), port_type(PortRight.RECEIVE)


@contextmanager
def refused(code: KernReturn) -> Iterator[None]:
    with pytest.raises(MachError) as caught:
        yield
    assert caught.value.code == code


@pytest.fixture
def space() -> IpcSpace:
    return IpcSpace(IPC, RUNTIME, "a task")


def test_send_and_receive_rights_of_a_port_have_one_name(space: IpcSpace) -> None:
    name = space.allocate(PortRight.RECEIVE)
    assert space.type(name) == RECEIVE
    right = space.take(name, Disposition.MAKE_SEND)
    assert space.insert(right) == name
    assert space.type(name) == SEND | RECEIVE
    assert space.insert(space.take(name, Disposition.COPY_SEND)) == name
    assert space.refs(name, PortRight.SEND) == 2
    space.deallocate(name)
    space.deallocate(name)
    assert space.type(name) == RECEIVE, "the receive right is what is left"


def test_each_send_once_right_has_a_name_of_its_own(space: IpcSpace) -> None:
    name = space.allocate(PortRight.RECEIVE)
    names = [space.insert(space.take(name, Disposition.MAKE_SEND_ONCE)) for _ in range(3)]
    assert len({name, *names}) == 4
    once = space.take(names[0], Disposition.MOVE_SEND_ONCE)
    assert isinstance(once, SendOnceRight)
    with refused(KernReturn.KERN_INVALID_NAME):
        space.type(names[0])


def test_a_name_is_not_given_twice(space: IpcSpace) -> None:
    """Who keeps a name too long is told so, and does not reach another port."""
    name = space.allocate(PortRight.RECEIVE)
    space.destroy(name)
    assert space.allocate(PortRight.RECEIVE) != name
    with refused(KernReturn.KERN_INVALID_NAME):
        space.deallocate(name)


def test_a_send_right_of_a_dead_port_is_a_dead_name(space: IpcSpace) -> None:
    port = IPC.allocate("dies")
    name = space.insert(port.make_send())
    port.destroy()
    assert space.type(name) == port_type(PortRight.DEAD_NAME)
    space.deallocate(name)
    with refused(KernReturn.KERN_INVALID_NAME):
        space.type(name)


def test_a_right_is_refused_under_a_second_name(space: IpcSpace) -> None:
    port = IPC.allocate("known")
    name = space.insert(port.make_send())
    other = space.allocate(PortRight.RECEIVE)
    with refused(KernReturn.KERN_RIGHT_EXISTS):
        space.insert(port.make_send(), name + 100)
    with refused(KernReturn.KERN_NAME_EXISTS):
        space.insert(IPC.allocate("unknown").make_send(), other)


@pytest.mark.parametrize(
    ("kind", "disposition"),
    [
        (PortRight.RECEIVE, Disposition.COPY_SEND),
        (PortRight.RECEIVE, Disposition.MOVE_SEND_ONCE),
        (PortRight.PORT_SET, Disposition.MAKE_SEND),
        (PortRight.DEAD_NAME, Disposition.MOVE_RECEIVE),
    ],
)
def test_a_right_that_is_not_there_cannot_be_sent(space: IpcSpace, kind: PortRight, disposition: int) -> None:
    name = space.allocate(kind)
    assert not space.holds(name, disposition)
    with refused(KernReturn.KERN_INVALID_RIGHT):
        space.take(name, disposition)


def test_the_last_send_right_is_told_to_the_ports_owner(space: IpcSpace) -> None:
    heard: list[Message] = []
    notify = IPC.allocate("notify", kobject=heard.append)
    name = space.allocate(PortRight.RECEIVE)
    space.insert(space.take(name, Disposition.MAKE_SEND))
    space.request_notification(name, NoSenders.msgh_id, notify.make_send_once())
    space.deallocate(name)
    assert heard == [NoSenders(1)]


def test_a_death_is_told_by_the_name_that_was_watched(space: IpcSpace) -> None:
    heard: list[Message] = []
    notify = IPC.allocate("notify", kobject=heard.append)
    port = IPC.allocate("dies")
    name = space.insert(port.make_send())
    space.request_notification(name, DeadName.msgh_id, notify.make_send_once())
    port.destroy()
    assert heard == [DeadName(name)]


def test_members_of_a_set_are_received_from_by_it_alone(space: IpcSpace) -> None:
    member, home = space.allocate(PortRight.RECEIVE), space.allocate(PortRight.PORT_SET)
    right = space.take(member, Disposition.MAKE_SEND)
    assert isinstance(right, SendRight)
    right.send(NoSenders(1))
    space.move_member(member, home)
    assert space.receiver(member) is None, "MACH_RCV_IN_SET"
    receiver = space.receiver(home)
    assert receiver is not None
    received = receiver.receive(0.0)
    assert received is not None
    assert (received.payload, received.message) == (member, NoSenders(1))
    right.send(NoSenders(2))
    space.move_member(member, 0)
    with refused(KernReturn.KERN_NOT_IN_SET):
        space.move_member(member, 0)
    mine = space.receiver(member)
    assert mine is not None
    again = mine.receive(0.0)
    assert again is not None
    assert again.message == NoSenders(2), "what was queued came along"


def test_who_waits_at_a_set_that_is_destroyed_is_told(space: IpcSpace) -> None:
    home = space.allocate(PortRight.PORT_SET)
    receiver = space.receiver(home)
    assert receiver is not None
    space.destroy(home)
    with pytest.raises(DeadPort):
        receiver.receive()


class Spaces(RuleBasedStateMachine):
    """Rights go to and fro between two tasks; the ports' own counts must agree with what the spaces say."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = [IpcSpace(IPC, RUNTIME, f"task {number}") for number in range(2)]
        self.names: list[set[int]] = [set(), set()]
        self.ports = {}  # type: ignore[var-annotated]

    @rule(who=st.integers(0, 1))
    def allocate(self, who: int) -> None:
        name = self.spaces[who].allocate(PortRight.RECEIVE)
        self.names[who].add(name)
        port = self.spaces[who].port_named(name)
        assert port is not None
        self.ports[id(port)] = port

    @precondition(lambda self: any(self.names))
    @rule(data=st.data(), disposition=st.sampled_from(sorted(Disposition)))
    def move(self, data: st.DataObject, disposition: Disposition) -> None:
        who = data.draw(st.sampled_from([who for who in range(2) if self.names[who]]))
        name = data.draw(st.sampled_from(sorted(self.names[who])))
        if not self.spaces[who].holds(name, disposition):
            with pytest.raises(MachError):
                self.spaces[who].take(name, disposition)
            return
        right = self.spaces[who].take(name, disposition)
        self.names[1 - who].add(self.spaces[1 - who].insert(right))

    @precondition(lambda self: any(self.names))
    @rule(data=st.data(), whole=st.booleans())
    def give_up(self, data: st.DataObject, whole: bool) -> None:
        who = data.draw(st.sampled_from([who for who in range(2) if self.names[who]]))
        name = data.draw(st.sampled_from(sorted(self.names[who])))
        with suppress(MachError):  # the name is gone, or is no right that is counted
            (self.spaces[who].destroy if whole else self.spaces[who].deallocate)(name)

    @invariant()
    def the_ports_count_what_the_spaces_hold(self) -> None:
        held: dict[int, int] = {}
        receivers: dict[int, int] = {}
        for space in self.spaces:
            for name in list(space._entries):
                entry = space._entries[name]
                for right in (entry.send, entry.receive):
                    if right is not None:
                        counts = held if right is entry.send else receivers
                        counts[id(right.port)] = counts.get(id(right.port), 0) + 1
                assert entry.send is None or entry.urefs > 0, "INV-2"
        for key, port in self.ports.items():
            assert port.send_rights == held.get(key, 0), "a send right has leaked, or was dropped twice"
            assert receivers.get(key, 0) == (0 if port.dead else 1), "a port has one receiver, or is dead"

    def teardown(self) -> None:
        for space in self.spaces:
            space.terminate()
            assert not space._entries
        assert all(port.dead and not port.send_rights for port in self.ports.values())


TestSpaces = Spaces.TestCase
TestSpaces.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
