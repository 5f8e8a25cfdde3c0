"""Who waits at a connection takes its messages itself: alone, in order, and without holding up anybody else."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
from parties import Party, create, settle

from mach.attendant import Attendant
from mach.default_pager import DefaultPagerInfo, DefaultPagerInfoReply
from mach.kern_return import KernReturn
from mach.memory_object import MemoryObjectDataSupply, MemoryObjectDataWrite, VmProt
from mach.message import Message
from mach.mqueue import Flow
from mach.ports import DeadPort, SendRight
from mach.rpc import call
from mach.threads import Thread
from mach.threads.native import NativeThread
from mach.wire import Packet

pytestmark = pytest.mark.timeout(60)
SOON = 10.0  # seconds, in which it has happened
A_MOMENT = 0.05


def await_attended(line: Attendant) -> None:
    deadline = time.monotonic() + SOON
    while not line.attends and time.monotonic() < deadline:
        time.sleep(0.0005)
    assert line.attends


class Waiting:
    """The client's end: a port whose messages are noted, with the thread that delivers them, and who may attend."""

    def __init__(self, client: Party, server: Party) -> None:
        self.party, self.server = client, server
        self.noted: list[tuple[int, Thread]] = []
        self.on_message: Callable[[], None] = lambda: None
        (self.connection,) = client.network.connections.values()
        assert self.connection.rights.line is not None
        self.line: Attendant = self.connection.rights.line
        self.port = client.ipc.allocate("control", kobject=self._note)
        client.right.send(DefaultPagerInfo(client.ipc.allocate("unused").make_send_once()))
        client.right.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, self.port.make_send(), b""))
        settle(server)
        service = server.service
        service.receive(0).message.reply.discard()
        self.control: SendRight = service.receive(0).message.reply

    def _note(self, message: Message) -> None:
        self.noted.append((message.offset, self.party.ipc.runtime.current()))
        self.on_message()

    def send(self, number: int) -> None:
        """From the server's end."""
        self.control.send(MemoryObjectDataSupply(number, VmProt.NONE, 0, None, b""), always=True)

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.noted]

    def attend_in_a_thread(self, timeout: float | None = None) -> tuple[Thread, list[bool]]:
        """A thread that attends; what attend() gave it, once it is joined."""
        results: list[bool] = []
        taken = threading.Event()

        def body() -> None:
            assert self.line.take()
            taken.set()
            results.append(self.line.attend("a test", timeout))

        thread = self.party.ipc.runtime.fork(body, "attendant")
        assert taken.wait(SOON)
        return thread, results

    def await_noted(self, count: int) -> None:
        deadline = time.monotonic() + SOON
        while len(self.noted) < count and time.monotonic() < deadline:
            time.sleep(0.0005)
        assert len(self.noted) >= count


@pytest.fixture
def waiting(client: Party, server: Party) -> Waiting:
    return Waiting(client, server)


def test_who_attends_delivers_what_comes_itself_until_what_it_waits_for_is_there(waiting: Waiting) -> None:
    waiting.on_message = lambda: waiting.line.end() if waiting.numbers[-1] == 2 else None
    waiting.send(1)
    waiting.send(2)
    waiting.send(3)
    assert waiting.line.take()
    assert waiting.line.attend("a test", SOON)
    me = waiting.party.ipc.runtime.current()
    assert waiting.noted == [(1, me), (2, me)]
    waiting.party.network.poll(SOON)
    assert waiting.numbers == [1, 2, 3], "the rest is the poll's again"


def test_another_thread_can_end_it(waiting: Waiting) -> None:
    thread, results = waiting.attend_in_a_thread()
    time.sleep(A_MOMENT)
    waiting.line.end()
    thread.join()
    assert results == [True]


def test_it_ends_when_its_time_is_over(waiting: Waiting) -> None:
    assert waiting.line.take()
    began = time.monotonic()
    assert not waiting.line.attend("a test", A_MOMENT)
    assert time.monotonic() - began >= A_MOMENT
    assert waiting.line.take(), "and may begin again"
    waiting.line.end()
    assert waiting.line.attend("a test", 0)


def test_an_end_that_comes_before_the_thread_attends_is_not_missed(waiting: Waiting) -> None:
    assert waiting.line.take()
    ended = waiting.party.ipc.runtime.fork(waiting.line.end, "another")
    ended.join()
    assert waiting.line.attend("a test", SOON)


def test_one_thread_attends_at_a_time(waiting: Waiting) -> None:
    thread, _ = waiting.attend_in_a_thread()
    assert not waiting.line.take()
    waiting.line.end()
    thread.join()
    assert waiting.line.take()
    waiting.line.end()
    waiting.line.attend("a test", 0)


def test_the_poll_is_not_told_of_what_comes_while_somebody_attends(waiting: Waiting) -> None:
    """Not even to wait until who attends is done with the message before."""
    may_go_on, polled = threading.Event(), threading.Event()
    waiting.on_message = lambda: (may_go_on.wait(SOON), waiting.line.end())
    thread, _ = waiting.attend_in_a_thread()
    waiting.send(1)
    waiting.await_noted(1)
    waiting.send(2)
    poller = waiting.party.ipc.runtime.fork(
        lambda: (waiting.party.network.poll(A_MOMENT), polled.set()), "who polls", daemon=True
    )
    in_time = polled.wait(SOON)
    numbers = waiting.numbers
    may_go_on.set()
    thread.join()
    poller.join()
    assert in_time
    assert numbers == [1]


def test_what_comes_is_handled_without_the_task_and_the_privilege_of_who_attends(waiting: Waiting) -> None:
    """Else a message of anybody could be handled with the memory that is set aside for few."""
    seen: list[tuple[bool, object]] = []
    me = waiting.party.ipc.runtime.current()
    waiting.on_message = lambda: (seen.append((me.vm_privilege, me.task)), waiting.line.end())
    me.vm_privilege, me.task = True, "a task"
    try:
        waiting.send(1)
        assert waiting.line.take()
        assert waiting.line.attend("a test", SOON)
        assert (me.vm_privilege, me.task) == (True, "a task"), "afterwards it has them again"
    finally:
        me.vm_privilege, me.task = False, None
    assert seen == [(False, None)]


def test_its_time_is_over_though_the_peer_sends_all_the_while(waiting: Waiting) -> None:
    """P5: a pager that sends anything but the page does not keep a fault waiting."""
    for number in range(1000):
        waiting.send(number)
    waiting.on_message = lambda: time.sleep(0.001)
    assert waiting.line.take()
    assert not waiting.line.attend("a test", 0.02)
    assert 0 < len(waiting.noted) < 1000


def test_messages_are_delivered_in_order_whoever_takes_them(waiting: Waiting) -> None:
    """While another thread polls all the time, this one attends for a hundred messages and leaves the next to it."""
    burst, bursts = 200, 20
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            waiting.party.network.poll(0.01)

    def send() -> None:
        for number in range(burst * bursts):
            if number % burst == 0:
                waiting.await_noted(number)
                await_attended(waiting.line)
            waiting.send(number)
            settle(waiting.server)  # what found the socket full

    waiting.on_message = lambda: waiting.line.end() if len(waiting.noted) % burst == burst // 2 else None
    threads = [waiting.party.ipc.runtime.fork(body, body.__name__) for body in (poll, send)]
    for number in range(bursts):
        waiting.await_noted(number * burst)
        assert waiting.line.take()
        assert waiting.line.attend("a test", SOON)
    waiting.await_noted(burst * bursts)
    stop.set()
    for thread in threads:
        thread.join()
    assert waiting.numbers == list(range(burst * bursts))
    assert len({thread for _, thread in waiting.noted}) == 2, "each has delivered some"


def test_who_attends_does_not_overtake_a_message_that_the_poll_has_taken(waiting: Waiting) -> None:
    taken = threading.Event()
    buffer = waiting.party.network._buffer
    receive = buffer.receive

    def slowly(sock: socket.socket) -> Packet | None:
        packet = receive(sock)
        taken.set()
        time.sleep(A_MOMENT)
        return packet

    buffer.receive = slowly
    waiting.send(1)
    poller = waiting.party.ipc.runtime.fork(lambda: waiting.party.network.poll(SOON), "who polls")
    assert taken.wait(SOON)
    waiting.send(2)
    waiting.on_message = lambda: waiting.line.end() if len(waiting.noted) == 2 else None
    assert waiting.line.take()
    assert waiting.line.attend("a test", SOON)
    poller.join()
    assert waiting.numbers == [1, 2]


def test_a_thread_that_waits_elsewhere_for_a_message_of_the_connection_gets_it_from_who_attends(
    waiting: Waiting,
) -> None:
    """The leader itself is woken from its poll: what it waits for is not brought by it."""
    answers: list[Message] = []

    def ask() -> None:
        answers.append(call(waiting.party.ipc, waiting.party.right, DefaultPagerInfo, DefaultPagerInfoReply, SOON))

    attendant, _ = waiting.attend_in_a_thread()
    asking = waiting.party.ipc.runtime.fork(ask, "who asks")
    received = None
    while received is None:
        settle(waiting.server)
        received = waiting.server.service.receive(0)
    time.sleep(A_MOMENT)  # who asks has the lead, and sleeps in its poll
    received.message.reply.send(DefaultPagerInfoReply(KernReturn.KERN_SUCCESS, 1, 2, 3, 4, 5))
    asking.join()
    assert answers == [DefaultPagerInfoReply(KernReturn.KERN_SUCCESS, 1, 2, 3, 4, 5)]
    waiting.line.end()
    attendant.join()


def test_the_death_of_the_peer_ends_it_and_is_the_death_of_its_rights(waiting: Waiting) -> None:
    thread, results = waiting.attend_in_a_thread()
    (theirs,) = waiting.server.network.connections.values()
    waiting.server.network.trouble(theirs, "its process dies")
    thread.join()
    assert results == [True]
    assert waiting.party.right.dead
    with pytest.raises(DeadPort):
        waiting.party.right.send(DefaultPagerInfo(waiting.party.ipc.allocate("unused").make_send_once()))
    assert not waiting.line.take()


def test_a_connection_that_another_thread_closes_is_left(waiting: Waiting) -> None:
    thread, results = waiting.attend_in_a_thread()
    time.sleep(A_MOMENT)
    waiting.party.network.trouble(waiting.connection, "a test ends it")
    thread.join()
    assert results == [True]


def test_no_descriptor_is_left_behind(waiting: Waiting) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what earlier tests have left to be closed
    before = descriptors()
    thread, _ = waiting.attend_in_a_thread()
    assert descriptors() == before + 1, "the bell"
    waiting.party.network.trouble(waiting.connection, "a test ends it")
    thread.join()
    assert descriptors() == before - 1, "the bell and the socket"
    assert waiting.party.network.connections == {}


def test_who_attends_may_not_sleep_for_room_in_a_socket(waiting: Waiting) -> None:
    """It holds up all that comes over the connection, and perhaps just what would make room."""
    network = waiting.party.network
    network._poller = NativeThread("another that polls")
    may_wait: list[bool] = []
    waiting.on_message = lambda: (may_wait.append(network.may_wait()), waiting.line.end())
    waiting.send(1)
    assert network.may_wait()
    assert waiting.line.take()
    assert waiting.line.attend("a test", SOON)
    assert may_wait == [False]
    assert network.may_wait()


def test_who_attends_takes_no_more_of_a_flood_than_the_poll_would(client: Party, server: Party) -> None:
    message, control, _ = create(client)
    client.right.send(message)
    settle(server)
    pager = server.service.receive(0).message.new_pager
    for number in range(3 * Flow.LIMIT):
        client.memory_object.send(MemoryObjectDataWrite(control.make_send(), number, b""), always=True)
    (connection,) = server.network.connections.values()
    line = connection.rights.line
    assert line is not None
    assert line.take()
    assert line.attend("a test", SOON), "over before anybody ends it"
    assert connection.rights.flow.queued == Flow.LIMIT + 1
    assert not line.take(), "as long as it is held back"
    for _ in range(Flow.LIMIT):
        pager.receive(0)
    assert line.take()
    assert not line.attend("a test", 0)
