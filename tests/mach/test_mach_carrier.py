"""Ports across a socket: rights become names and come back, the dead are noticed, garbage costs only its sender."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest
from parties import Party, create, settle

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
from mach.ports import DeadPort
from mach.rpc import call
from mach.socket_carrier import NobodyThere, SocketInUse


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


def test_a_right_goes_home_though_it_was_given_before_its_port_was(server: Party, client: Party) -> None:
    """A control port: the pager has rights to it, and at last it is moved to the pager."""
    message, _, _ = create(client)
    client.right.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, message.new_pager.make_send(), b""))
    client.right.send(message)
    client.right.send(MemoryObjectDataSupply(0, VmProt.NONE, 0, client.memory_object.copy(), b""))
    settle(server, client)
    first, created, last = (server.service.receive(timeout=0).message for _ in range(3))
    assert last.reply.port is created.new_pager.port
    assert first.reply.port is not last.reply.port


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


def test_what_waits_of_a_process_is_bounded_over_all_its_connections(
    server: Party, client: Party, tmp_path: Path
) -> None:
    """P7: more connections are not more room."""
    others = [Party() for _ in range(3)]
    try:
        objects = []
        for party in (client, *others):
            if party is not client:
                party.right = party.network.connect(str(tmp_path / "socket"))
            message, control, _ = create(party)
            party.right.send(message)
            settle(server, party)
            objects.append(server.service.receive(timeout=0).message.new_pager)
            for number in range(100):
                party.memory_object.send(MemoryObjectDataWrite(control.make_send(), number, b""))
        settle(server, client, *others)
        assert Flow.LIMIT < sum(one.port.queued for one in objects) <= Flow.LIMIT + len(objects) + 1
        got = [[] for _ in objects]
        for _ in range(100):
            for memory_object, its in zip(objects, got, strict=True):
                while (received := memory_object.receive(timeout=0)) is not None:
                    its.append(received.message.offset)
            settle(server, client, *others)
            assert sum(one.port.queued for one in objects) <= Flow.LIMIT + len(objects) + 1
        assert got == [list(range(100))] * len(objects), "nobody is held back for ever"
    finally:
        for party in others:
            party.network.close()


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
