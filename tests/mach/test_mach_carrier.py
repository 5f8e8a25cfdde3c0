"""Ports across a socket: rights become names and come back, the dead are noticed, garbage costs only its sender."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mach.default_pager import DefaultPagerObjectRead, DefaultPagerObjectReadReply
from mach.kern_return import KernReturn
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataSupply,
    MemoryObjectDataWrite,
    MemoryObjectTerminate,
    VmProt,
)
from mach.mqueue import Flow
from mach.notify import DeadName, NoSenders
from mach.ports import DeadPort, Ipc, ReceiveRight
from mach.rpc import call
from mach.socket_carrier import Network, NobodyThere, SocketInUse
from mach.threads import NativeRuntime
from mach.wire import HEADER, MAGIC


class Party:
    """One side; both live in this process, and are polled by hand, so that nothing happens unseen."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ipc = Ipc(NativeRuntime())
        self.network = Network(self.ipc, self.said.append)
        self.service: ReceiveRight = self.ipc.allocate("service", limit=1000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Party]:
    party = Party()
    party.network.listen(str(tmp_path / "socket"), party.service)
    yield party
    party.network.close()


@pytest.fixture
def client(server: Party, tmp_path: Path) -> Iterator[Party]:
    party = Party()
    party.right = party.network.connect(str(tmp_path / "socket"))
    yield party
    party.network.close()


def settle(*parties: Party) -> None:
    """Poll until nothing moves any more."""
    for _ in range(60):
        for party in parties:
            party.network.poll(0)


def create(party: Party) -> tuple[MemoryObjectCreate, ReceiveRight, ReceiveRight]:
    pager, control = party.ipc.allocate("pager"), party.ipc.allocate("control")
    right = pager.make_send()
    name = party.ipc.allocate("name")
    message = MemoryObjectCreate(pager, 65536, control.make_send(), name.make_send(), 4096)
    party.memory_object = right
    return message, control, name


def test_a_receive_right_moves_and_messages_follow_it_in_order(server: Party, client: Party) -> None:
    message, control, _ = create(client)
    client.memory_object.send(MemoryObjectDataWrite(control.make_send(), 0, b"before"))
    client.right.send(message)
    client.memory_object.send(MemoryObjectDataWrite(control.make_send(), 4096, b"after"))
    settle(server, client)
    received = server.service.receive(timeout=0)
    assert received is not None
    created = received.message
    assert isinstance(created, MemoryObjectCreate)
    assert created.size == 65536
    writes = [created.new_pager.receive(timeout=0) for _ in range(2)]
    assert [w.message.data for w in writes if w] == [b"before", b"after"]

    created.control.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, None, b"page"))
    settle(server, client)
    answer = control.receive(timeout=0)
    assert answer is not None
    assert answer.message.data == b"page"


def test_rights_that_go_home_are_the_ports_themselves(server: Party, client: Party) -> None:
    message, control, name = create(client)
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    # The pager sends the kernel its own control port back.
    created.control.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, created.control.copy(), b""))
    settle(server, client)
    answer = control.receive(timeout=0).message
    assert answer.reply.port is control.port
    assert name.port.send_rights == 1


def test_dropping_the_last_right_far_away_is_heard_here(server: Party, client: Party) -> None:
    message, control, _ = create(client)
    control.request_no_senders(control.make_send_once())
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    created.new_pager.request_no_senders(created.new_pager.make_send_once())
    created.control.drop()
    client.memory_object.drop()
    settle(server, client)
    assert isinstance(control.receive(timeout=0).message, NoSenders)
    assert isinstance(created.new_pager.receive(timeout=0).message, NoSenders)


def test_a_right_in_flight_keeps_its_port_alive(server: Party, client: Party) -> None:
    message, control, _ = create(client)
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    client.memory_object.send(MemoryObjectDataWrite(control.make_send(), 0, b""))
    created.control.drop()
    settle(server, client)
    written = created.new_pager.receive(timeout=0).message
    written.control.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, None, b"still there"))
    settle(server, client)
    assert control.receive(timeout=0).message.data == b"still there"


def test_the_death_of_a_port_is_heard_by_who_watches_it_far_away(server: Party, client: Party) -> None:
    message, control, _ = create(client)
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    listener = server.ipc.allocate("listener")
    created.control.watch(listener.make_send_once(), "control")
    control.destroy()
    settle(server, client)
    assert listener.receive(timeout=0).message == DeadName("control")


def test_the_death_of_a_process_is_the_death_of_its_rights(server: Party, client: Party) -> None:
    message, _, _ = create(client)
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    created.new_pager.request_no_senders(created.new_pager.make_send_once())
    client.network.close()
    client.__init__()
    settle(server)
    assert isinstance(created.new_pager.receive(timeout=0).message, NoSenders)
    with pytest.raises(DeadPort):
        created.control.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, None, b""))
    assert server.network.connections == {}


def test_the_death_of_the_server_kills_what_it_served(server: Party, client: Party) -> None:
    message, _, _ = create(client)
    client.right.send(message)
    listener = client.ipc.allocate("listener")
    client.memory_object.watch(listener.make_send_once(), "memory object")
    settle(server, client)
    server.network.close()
    server.__init__()
    settle(client)
    assert listener.receive(timeout=0).message == DeadName("memory object")


def test_control_and_name_ports_travel_with_terminate(server: Party, client: Party) -> None:
    message, control, name = create(client)
    client.right.send(message)
    client.memory_object.send(MemoryObjectTerminate(control, name))
    settle(server, client)
    created = server.service.receive(timeout=0).message
    terminate = created.new_pager.receive(timeout=0).message
    terminate.control.destroy()
    terminate.name.destroy()
    settle(server, client)
    assert control.port.dead
    assert name.port.dead


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 69632, 262144, 1 << 20])
def test_pages_of_any_size_arrive_whole(server: Party, client: Party, size: int) -> None:
    content = random.Random(size).randbytes(size)
    _, control, _ = create(client)
    client.right.send(MemoryObjectDataWrite(control.make_send(), 0, content))
    settle(server, client)
    assert server.service.receive(timeout=0).message.data == content


def test_a_peer_that_reads_slowly_loses_nothing(server: Party, client: Party) -> None:
    _, control, _ = create(client)
    for number in range(300):  # far more than a socket holds
        client.right.send(MemoryObjectDataWrite(control.make_send(), number, bytes(4096)))
    got = []
    for _ in range(3000):
        settle_once = server.service.receive(timeout=0)
        client.network.poll(0)
        server.network.poll(0)
        if settle_once is not None:
            got.append(settle_once.message.offset)
    assert got == list(range(300))


def test_a_server_cuts_a_client_that_never_reads(server: Party, client: Party) -> None:
    message, _, _ = create(client)
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    page = MemoryObjectDataSupply(0, VmProt.NONE, 0, None, bytes(4096))
    for _ in range(3000):
        if created.control.dead:
            break
        created.control.send(page)
    with pytest.raises(DeadPort):
        created.control.send(page)
    assert server.said == ["a client is disconnected: it does not read its messages"]


def test_a_call_across_the_socket_is_answered_or_fails(server: Party, client: Party) -> None:
    def serve() -> None:
        for number in range(2):
            request = server.service.receive().message
            if number == 0:
                request.reply.send(DefaultPagerObjectReadReply(KernReturn.KERN_SUCCESS, b"yes"))
            else:
                request.reply.drop()

    thread = server.ipc.runtime.fork(serve, "server")

    def ask() -> DefaultPagerObjectReadReply:
        return call(
            client.ipc,
            client.right,
            lambda reply: DefaultPagerObjectRead(reply, 1, 0, 3),
            DefaultPagerObjectReadReply,
            timeout=20,
        )

    assert ask().data == b"yes"
    with pytest.raises(DeadPort):
        ask()
    thread.join()


def test_of_a_peer_that_floods_a_bounded_number_of_messages_waits_here(server: Party, client: Party) -> None:
    """P7: the rest stays in its socket, and comes in order once there is room."""
    message, control, _ = create(client)
    client.right.send(message)
    for number in range(200):
        client.memory_object.send(MemoryObjectDataWrite(control.make_send(), number, b""))
    settle(server, client)
    created = server.service.receive(timeout=0).message
    memory_object = created.new_pager
    assert Flow.LIMIT < memory_object.port.queued <= Flow.LIMIT + 2
    got = []
    while (received := memory_object.receive(timeout=0)) is not None:
        got.append(received.message.offset)
        assert memory_object.port.queued <= Flow.LIMIT + 2
        settle(server, client)
    assert got == list(range(200))
    for number in range(60):
        client.memory_object.send(MemoryObjectDataWrite(control.make_send(), number, b""))
    settle(server, client)
    memory_object.destroy()
    client.right.send(MemoryObjectDataWrite(control.make_send(), 0, b"to the service"))
    settle(server, client)
    assert server.service.receive(timeout=0).message.data == b"to the service", "a dead object holds nothing back"


def raw(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(path))
    return sock


def packet(msgh_id: int, destination: int, body: bytes = b"", data: bytes = b"", flags: int = 0) -> bytes:
    return HEADER.pack(MAGIC, flags, msgh_id, destination, len(body), len(data)) + body + data


GARBAGE = {
    "noise": b"\xff" * 100,
    "one byte": b"x",
    "wrong magic": b"NOPE" + packet(2276, 2)[4:],
    "unknown message": packet(4242, 2),
    "forged notification": packet(70, 2, struct.pack("<I", 1)),
    "lengths that do not add up": packet(2205, 2, b"abc")[:-1],
    "cut body": packet(2203, 2, b"abc"),
    "a name that is the server's to give": packet(2276, 2, struct.pack("<BI", 2, 4)),
    "the right that was never given": packet(2205, 2, struct.pack("<BIQ", 4, 6, 0)),
    "wrong kind of right": packet(2205, 2, struct.pack("<BIQ", 3, 1, 0)),
    "release of what is not held": packet(1, 0, struct.pack("<II", 2, 5)),
    "a carrier's message to a port": packet(1, 2, struct.pack("<II", 2, 1)),
    "a port's message to the carrier": packet(2276, 0, struct.pack("<BI", 2, 1)),
    "memory promised and not passed": packet(2205, 2, b"", b"", flags=1),
    "unknown flags": packet(2276, 2, struct.pack("<BI", 2, 1), flags=8),
    "a packet too long": packet(2205, 2, struct.pack("<BIQ", 0, 0, 0), bytes(100_000)),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_costs_its_sender_the_connection_and_nobody_else_anything(
    server: Party, client: Party, tmp_path: Path, garbage: bytes
) -> None:
    with raw(tmp_path / "socket") as hostile:
        settle(server)
        assert len(server.network.connections) == 2
        hostile.send(garbage)
        settle(server)
        assert server.network.violations == 1, server.said
        assert len(server.network.connections) == 1
    _, control, _ = create(client)
    client.right.send(MemoryObjectDataWrite(control.make_send(), 0, b"still served"))
    settle(server, client)
    assert server.service.receive(timeout=0).message.data == b"still served"


def test_descriptors_that_nobody_asked_for_are_closed(server: Party, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for count in (1, 4, 20):
        with raw(tmp_path / "socket") as hostile, open(os.devnull) as null:
            socket.send_fds(hostile, [packet(2276, 2, struct.pack("<BI", 2, 1))], [null.fileno()] * count)
            settle(server)
    assert server.network.violations == 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_shared_memory_that_is_a_pipe_or_too_short_is_refused(server: Party, tmp_path: Path) -> None:
    head = HEADER.pack(MAGIC, 1, 2205, 2, 13, 100_000)
    short = os.memfd_create("short")
    os.write(short, bytes(50))
    reader, writer = os.pipe()
    for fd in (short, reader):
        with raw(tmp_path / "socket") as hostile:
            socket.send_fds(hostile, [head], [fd])
            settle(server)
    for fd in (short, reader, writer):
        os.close(fd)
    assert server.network.violations == 2


def test_a_message_to_a_port_that_died_is_dropped_with_its_rights(server: Party, client: Party) -> None:
    message, control, _ = create(client)
    client.right.send(message)
    settle(server, client)
    created = server.service.receive(timeout=0).message
    created.new_pager.destroy()
    client.memory_object.send(MemoryObjectDataWrite(control.make_send(), 0, b""))
    settle(server, client)
    assert server.network.violations == 0
    with pytest.raises(DeadPort):
        client.memory_object.send(MemoryObjectDataWrite(control.make_send(), 0, b""))


def test_a_socket_in_use_is_left_alone_and_a_stale_one_replaced(server: Party, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    other = Party()
    with pytest.raises(SocketInUse, match="in use by a running process"):
        other.network.listen(str(path), other.service)
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(stale))
    other.network.listen(str(stale), other.service)
    plain = tmp_path / "file"
    plain.write_text("mine")
    with pytest.raises(SocketInUse, match="is no socket"):
        other.network.listen(str(plain), other.service)
    assert plain.read_text() == "mine"
    other.network.close()
    assert not stale.exists()


def test_the_socket_is_its_owners_alone(server: Party, tmp_path: Path) -> None:
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o600


def test_nobody_there_is_said_in_words(tmp_path: Path) -> None:
    party = Party()
    with pytest.raises(NobodyThere, match="nobody listens at"):
        party.network.connect(str(tmp_path / "nothing"))
    party.network.close()


def test_three_thousand_messages_of_noise_leave_the_server_as_it_was(server: Party, tmp_path: Path) -> None:
    chance = random.Random(1)
    good = [packet(2276, 2, struct.pack("<BI", 2, 1)), packet(2205, 2, struct.pack("<BIQ", 1, 3, 0), bytes(512))]
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(300):
        with raw(tmp_path / "socket") as hostile:
            for _ in range(10):
                noise = bytearray(chance.choice(good))
                for _ in range(chance.randrange(4)):
                    noise[chance.randrange(len(noise))] = chance.randrange(256)
                try:
                    hostile.send(noise)
                except OSError:
                    break
                server.network.poll(0)
                while server.service.receive(timeout=0) is not None:
                    pass
        server.network.poll(0)
    settle(server)
    assert server.network.connections == {}
    assert len(os.listdir("/proc/self/fd")) == fds
