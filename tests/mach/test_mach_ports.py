"""Ports and rights in one process: queues, sequence numbers, notifications, dead names, contexts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mach.memory_object import MemoryObjectDataUnavailable
from mach.message import Message, message
from mach.notify import DeadName, NoSenders, SendOnce
from mach.ports import DeadPort, Ipc, ReceiveRight, SendRight
from mach.rpc import call
from mach.threads import NativeRuntime
from mach.threads.simulated import SimulatedRuntime


def note(number: int) -> Message:
    return MemoryObjectDataUnavailable(number, 0)


@message(9001, local=True)
class Carrying(Message):
    right: SendRight


@pytest.fixture
def ipc() -> Ipc:
    return Ipc(NativeRuntime())


def simulated(body: Callable[[Ipc], None], seeds: int = 30) -> None:
    for seed in range(seeds):
        runtime = SimulatedRuntime(seed)
        runtime.run(lambda runtime=runtime: body(Ipc(runtime)))


def test_messages_come_in_order_with_sequence_numbers_from_0(ipc: Ipc) -> None:
    receive = ipc.allocate("port", payload="whose", limit=10)
    right = receive.make_send()
    for number in range(5):
        right.send(note(number))
    got = [receive.receive() for _ in range(5)]
    assert [(r.payload, r.seqno, r.message) for r in got if r] == [("whose", n, note(n)) for n in range(5)]
    assert receive.receive(timeout=0) is None


def test_a_port_set_receives_for_all_and_keeps_a_count_for_each(ipc: Ipc) -> None:
    ports = [ipc.allocate(f"port {n}", payload=n) for n in range(3)]
    rights = [port.make_send() for port in ports]
    rights[2].send(note(0))  # before it joins the set
    port_set = ipc.port_set("set")
    for port in ports:
        port_set.add(port)
    rights[0].send(note(1))
    rights[2].send(note(2))
    got = [port_set.receive() for _ in range(3)]
    assert [(r.payload, r.seqno) for r in got if r] == [(2, 0), (0, 0), (2, 1)]


def test_the_last_right_gone_tells_the_owner_once(ipc: Ipc) -> None:
    receive = ipc.allocate("port")
    one = receive.make_send()
    other = one.copy()
    receive.request_no_senders(receive.make_send_once())
    one.drop()
    assert receive.receive(timeout=0) is None
    other.drop()
    received = receive.receive(timeout=0)
    assert received is not None
    assert received.message == NoSenders(1)
    assert receive.receive(timeout=0) is None


def test_no_senders_comes_at_once_if_they_were_gone_before_it_was_asked_for(ipc: Ipc) -> None:
    receive = ipc.allocate("port")
    receive.request_no_senders(receive.make_send_once())
    assert receive.receive(timeout=0) is None, "no send right was ever made"
    receive.make_send().drop()
    assert receive.receive(timeout=0) is not None


def test_a_watched_right_tells_of_death_and_sending_to_the_dead_fails(ipc: Ipc) -> None:
    listener = ipc.allocate("listener")
    port = ipc.allocate("port")
    right = port.make_send()
    right.watch(listener.make_send_once(), token="it")
    port.destroy()
    received = listener.receive(timeout=0)
    assert received is not None
    assert received.message == DeadName("it")
    with pytest.raises(DeadPort):
        right.send(note(0))
    right.drop()
    again = port.make_send()
    again.watch(listener.make_send_once(), token="too late")
    received = listener.receive(timeout=0)
    assert received is not None
    assert received.message == DeadName("too late")


def test_a_dropped_right_is_no_longer_watched(ipc: Ipc) -> None:
    listener, port = ipc.allocate("listener"), ipc.allocate("port")
    right = port.make_send()
    right.watch(listener.make_send_once())
    right.drop()
    port.destroy()
    assert listener.receive(timeout=0) is None


def test_rights_in_a_message_that_nobody_receives_are_dropped_with_it(ipc: Ipc) -> None:
    carried = ipc.allocate("carried")
    carried_right = carried.make_send()
    carried.request_no_senders(carried.make_send_once())
    port = ipc.allocate("port")
    right = port.make_send()
    right.send(Carrying(carried_right))
    port.destroy()
    received = carried.receive(timeout=0)
    assert received is not None
    assert isinstance(received.message, NoSenders)
    with pytest.raises(DeadPort):
        right.send(Carrying(carried.make_send()))
    assert carried.port.send_rights == 0


def test_a_send_once_right_dropped_unused_says_so(ipc: Ipc) -> None:
    reply = ipc.allocate("reply")
    reply.make_send_once().drop()
    received = reply.receive(timeout=0)
    assert received is not None
    assert received.message == SendOnce()


def test_a_kernel_port_is_served_in_its_senders_context_first_what_was_queued(ipc: Ipc) -> None:
    served: list[Message] = []
    port = ipc.allocate("kernel port")
    right = port.make_send()
    right.send(note(0))
    port.become_kobject(served.append)
    right.send(note(1))
    assert served == [note(0), note(1)]
    port.resign_kobject()
    right.send(note(2))
    assert len(served) == 2
    assert port.receive(timeout=0) is not None


def test_a_full_queue_stops_its_senders_until_there_is_room() -> None:
    def body(ipc: Ipc) -> None:
        port = ipc.allocate("port", limit=2)
        sent: list[int] = []

        def produce() -> None:
            right = port.make_send()
            for number in range(10):
                right.send(note(number))
                sent.append(number)
                assert port.port.queued <= 2

        producer = ipc.runtime.fork(produce, "producer")
        for number in range(10):
            received = port.receive()
            assert received is not None
            assert received.message == note(number)
        producer.join()

    simulated(body)


def test_the_kernel_never_waits_for_a_full_queue(ipc: Ipc) -> None:
    port = ipc.allocate("port", limit=1)
    right = port.make_send()
    for number in range(20):
        right.send(note(number), always=True)
    assert port.port.queued == 20


def test_a_sender_that_waits_hears_of_the_ports_death() -> None:
    def body(ipc: Ipc) -> None:
        port = ipc.allocate("port", limit=1)
        right = port.make_send()
        right.send(note(0))

        def send() -> None:
            with pytest.raises(DeadPort):
                right.send(note(1))

        sender = ipc.runtime.fork(send, "sender")
        ipc.runtime.sleep(0.001)
        port.destroy()
        sender.join()

    simulated(body)


def test_several_threads_receive_each_message_once_in_all_schedules() -> None:
    def body(ipc: Ipc) -> None:
        port = ipc.allocate("port")
        got: list[tuple[int, Message]] = []

        def receive() -> None:
            while len(got) < 12:
                received = port.receive(timeout=0.01)
                if received is not None:
                    got.append((received.seqno, received.message))

        threads = [ipc.runtime.fork(receive, f"receiver {n}") for n in range(3)]
        right = port.make_send()
        for number in range(12):
            right.send(note(number))
        for thread in threads:
            thread.join()
        assert sorted(got, key=lambda entry: entry[0]) == [(n, note(n)) for n in range(12)]

    simulated(body)


def test_a_call_whose_server_drops_it_fails_instead_of_hanging() -> None:
    def body(ipc: Ipc) -> None:
        server = ipc.allocate("server")

        def serve() -> None:
            received = server.receive()
            assert received is not None
            received.message.right.drop()

        ipc.runtime.fork(serve, "server", daemon=True)
        with pytest.raises(DeadPort):
            call(ipc, server.make_send(), Carrying, MemoryObjectDataUnavailable)

    simulated(body)


class Rights(RuleBasedStateMachine):
    """The count of send rights, and who is told, against a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.ipc = Ipc(NativeRuntime())
        self.port: ReceiveRight = self.ipc.allocate("port")
        self.rights: list[SendRight] = []
        self.asked = False
        self.made = 0

    @rule()
    def make(self) -> None:
        self.rights.append(self.port.make_send())
        self.made += 1

    @rule(at=st.integers(0, 100))
    def copy(self, at: int) -> None:
        if self.rights:
            self.rights.append(self.rights[at % len(self.rights)].copy())

    @rule()
    def ask(self) -> None:
        if not self.asked:
            self.port.request_no_senders(self.port.make_send_once())
            self.asked = True
            self.expect(told=not self.rights and self.made > 0)

    @rule(at=st.integers(0, 100))
    def drop(self, at: int) -> None:
        if self.rights:
            self.rights.pop(at % len(self.rights)).drop()
            self.expect(told=self.asked and not self.rights)

    def expect(self, told: bool) -> None:
        received = self.port.receive(timeout=0)
        assert (received is not None) == told
        if told:
            self.asked = False

    @invariant()
    def the_port_knows_how_many_there_are(self) -> None:
        assert self.port.port.send_rights == len(self.rights)


TestRights = Rights.TestCase
TestRights.settings = settings(max_examples=50, deadline=None)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
@settings(deadline=None)
def test_each_port_of_a_set_counts_its_own_messages(order: list[int]) -> None:
    ipc = Ipc(NativeRuntime())
    ports = [ipc.allocate(f"port {n}", payload=n, limit=100) for n in range(3)]
    port_set = ipc.port_set("set")
    for port in ports:
        port_set.add(port)
    rights = [port.make_send() for port in ports]
    for at in order:
        rights[at].send(note(at))
    counts = [0, 0, 0]
    for at in order:
        received = port_set.receive(timeout=0)
        assert received is not None
        assert (received.payload, received.seqno) == (at, counts[at])
        counts[at] += 1
