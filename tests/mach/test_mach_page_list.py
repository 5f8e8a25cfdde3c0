"""Page data in transit: it is bytes to everybody, and is freed exactly once by whoever ends up with it."""

from __future__ import annotations

from functools import partial

import pytest
from parties import Party, create, settle

from mach.codec import ProtocolViolation
from mach.connection import FREED_AT_ONCE
from mach.memory_object import MemoryObjectDataWrite
from mach.page_list import PageList, vm_deallocate
from mach.ports import DeadPort, Ipc
from mach.socket_carrier import PUT_OFF_POLLS
from mach.threads.simulated import SimulatedRuntime


def test_a_page_list_is_bytes_and_is_freed_once() -> None:
    freed: list[str] = []
    pages = PageList(b"abc" * 100, lambda: freed.append("freed"))
    assert pages == b"abc" * 100
    assert memoryview(pages)[3:6] == b"abc"
    vm_deallocate(pages)
    vm_deallocate(pages)
    vm_deallocate(b"plain bytes occupy nothing")
    assert freed == ["freed"]


@pytest.mark.parametrize("queued_first", [True, False])
def test_page_data_that_nobody_receives_is_freed_with_its_message(queued_first: bool) -> None:
    freed: list[str] = []

    def body() -> None:
        ipc = Ipc(runtime)
        port, control = ipc.allocate("dying pager"), ipc.allocate("control")
        right = port.make_send()
        message = MemoryObjectDataWrite(control.make_send(), 0, PageList(b"x" * 4096, lambda: freed.append("freed")))
        if queued_first:
            right.send(message)
            assert not freed
        port.destroy()
        if not queued_first:
            with pytest.raises(DeadPort):
                right.send(message)

    runtime = SimulatedRuntime(0)
    runtime.run(body)
    assert freed == ["freed"]


class Lent:
    """Page lists that a client has sent to an object of the server's, and those of them that have been freed."""

    def __init__(self, server: Party, client: Party, sizes: list[int]) -> None:
        self.freed: list[int] = []
        message, self.control, _ = create(client)
        client.right.send(message)
        for number, size in enumerate(sizes):
            data = PageList(bytes(size), partial(self.freed.append, number))
            client.memory_object.send(MemoryObjectDataWrite(self.control.make_send(), 0, data))
            client.memory_object.send(MemoryObjectDataWrite(self.control.make_send(), 0, b"plain, between them"))
        settle(server, client)
        self.object = server.service.receive(timeout=0).message.new_pager

    def receive(self) -> bytes:
        data = self.object.receive(timeout=0).message.data
        self.object.receive(timeout=0)
        return data


@pytest.mark.parametrize("size", [4096, 64 * 4096, 2 << 20], ids=["a page", "a cluster", "in shared memory"])
def test_a_page_list_is_its_senders_until_a_receiver_in_another_process_frees_it(
    server: Party, client: Party, size: int
) -> None:
    """The paper's §5.5, mach.md 4.6: or the laundry of a pager that is a process would bound nothing."""
    lent = Lent(server, client, [size] * 3)
    first, second, _ = lent.receive(), lent.receive(), lent.receive()
    assert not lent.freed, "they have arrived, and are still being worked on"
    for data in (second, second, first):
        vm_deallocate(data)
        settle(server, client)
    assert lent.freed == [1, 0]


def free_with_the_lead(server: Party, pages: list[bytes]) -> None:
    """As a thread does that handles what it has polled."""
    thread = server.ipc.runtime.current()
    thread.duty = lambda: None
    for data in pages:
        vm_deallocate(data)
    thread.duty = None


def test_pages_freed_by_the_leader_are_told_of_together_before_it_polls_again(server: Party, client: Party) -> None:
    lent = Lent(server, client, [4096] * 3)
    free_with_the_lead(server, [lent.receive() for _ in range(3)])
    settle(client)
    assert not lent.freed
    server.network.poll(0)
    client.network.poll(0)  # one poll takes one packet
    assert lent.freed == [0, 1, 2]


def test_so_many_pages_freed_are_told_of_at_once(server: Party, client: Party) -> None:
    lent = Lent(server, client, [4096] * (FREED_AT_ONCE + 1))
    free_with_the_lead(server, [lent.receive() for _ in range(FREED_AT_ONCE + 1)])
    client.network.poll(0)
    assert lent.freed == list(range(FREED_AT_ONCE))


def test_pages_freed_are_told_of_though_their_sender_goes_on_sending(server: Party, client: Party) -> None:
    """Or a kernel that sends requests, and waits for memory meanwhile, would wait for ever."""
    lent = Lent(server, client, [4096] * 2)
    free_with_the_lead(server, [lent.receive()])
    for _ in range(PUT_OFF_POLLS):
        client.memory_object.send(MemoryObjectDataWrite(lent.control.make_send(), 0, b"plain"))
        server.network.poll(0)
    settle(client)
    assert lent.freed == [0]


def test_a_violation_frees_no_page_list_twice_and_none_never(server: Party, client: Party) -> None:
    lent = Lent(server, client, [4096] * 2)
    (connection,) = client.network.connections.values()
    with pytest.raises(ProtocolViolation):
        connection._loans.returned(1, 2)
    client.network.close()
    client.__init__()
    assert lent.freed == [0, 1]


def test_page_lists_that_the_peer_took_with_it_are_free(server: Party, client: Party) -> None:
    lent = Lent(server, client, [4096] * 3)
    vm_deallocate(lent.receive())
    settle(server, client)
    kept = lent.receive()
    server.network.close()
    server.__init__()
    settle(client)
    vm_deallocate(kept)
    assert lent.freed == [0, 1, 2]


def test_page_lists_that_nobody_receives_over_there_are_free(server: Party, client: Party) -> None:
    lent = Lent(server, client, [4096] * 3)
    lent.object.destroy()
    settle(server, client)
    assert lent.freed == [0, 1, 2]
