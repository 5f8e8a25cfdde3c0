"""Garbage on the socket costs its sender the connection, and nobody else anything."""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path

import pytest
from parties import Party, create, settle

from mach.memory_object import MemoryObjectDataWrite, MemoryObjectTerminate
from mach.wire import HEADER, MAGIC


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
    "pages freed that were not sent": packet(3, 0, struct.pack("<II", 0, 1)),
    "more pages freed than there are": packet(3, 0, struct.pack("<II", 0, 0xFFFFFFFF)),
    "a page list in a message that has no data": packet(2276, 2, struct.pack("<BI", 2, 1), b"pages", flags=2),
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


def test_a_port_that_is_sent_to_itself_is_gone_and_nothing_waits_for_it(server: Party, tmp_path: Path) -> None:
    """Mach's ipc_port_check_circularity: nobody could ever receive it; it would count as waiting for ever."""
    with raw(tmp_path / "socket") as hostile:
        settle(server)
        (connection,) = server.network.connections.values()
        names = (1, 3), (5, 7)
        for control, name in names:  # odd: the sender's to give
            hostile.send(packet(MemoryObjectTerminate.msgh_id, control, struct.pack("<BIBI", 3, control, 3, name)))
        settle(server)
        assert connection.undeliverable == len(names)
        assert connection.rights.flow.queued == 0
        assert server.network.violations == 0


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
