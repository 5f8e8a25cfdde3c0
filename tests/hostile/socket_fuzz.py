"""Mutated messages for a live pagerd: it lives, its memory stays as it is, and its other clients notice nothing (P7).

Interface:
    python -m tests.hostile.socket_fuzz [--messages N] [--seed N]
    fuzz(socket, pid, messages, seed) -> Outcome

Each hostile connection begins as a kernel does, with a memory object of its own, so that the names in what follows are
good ones; then come messages of every kind that there is, with bytes changed, cut, grown, of other ids and to other
names, some with descriptors.  The daemon ends the connection at the first violation, and a new one is made.

Not here: messages that decode but break the protocol (tests/simulation).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import socket
import struct
import tempfile
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daemons import pagerd, run

from benchmarks.pager_kernel import PAGE, PagingKernel
from mach.codec import RightKind
from mach.message import MESSAGES
from mach.wire import HEADER, MAGIC

SERVICE, OBJECT, CONTROL, NAME = 2, 1, 3, 5  # the names of a new connection's ports
LOOK_EVERY = 500  # messages between two looks at the good client and at the daemon
GOOD_PAGES = 64


@dataclass
class Outcome:
    """What became of it."""

    messages: int
    connections: int
    resident_at_first: int  # bytes, once it has warmed up
    resident_at_last: int


def packet(msgh_id: int, destination: int, body: bytes, data: bytes = b"") -> bytes:
    return HEADER.pack(MAGIC, 0, msgh_id, destination, len(body), len(data)) + body + data


def right(kind: RightKind, name: int) -> bytes:
    return struct.pack("<BI", kind, name)


def seeds() -> list[bytes]:
    """Good messages of an own object, and a plausible one of every other id."""
    control = right(RightKind.SEND, CONTROL)
    good = [
        packet(2203, OBJECT, control + struct.pack("<QQI", 0, PAGE, 1)),
        packet(2203, OBJECT, control + struct.pack("<QQI", 0, 16 * PAGE, 3)),
        packet(2205, OBJECT, control + struct.pack("<Q", PAGE), bytes(PAGE)),
        packet(2208, OBJECT, control + struct.pack("<QBB", PAGE, 1, 0), bytes(PAGE)),
        packet(2251, OBJECT, control + struct.pack("<Q", 0), bytes(2 * PAGE)),
        packet(2201, OBJECT, right(RightKind.RECEIVE, 7) + right(RightKind.RECEIVE, 9)),
        packet(2275, SERVICE, right(RightKind.SEND_ONCE, 11) + struct.pack("<Q", 1 << 20)),
        packet(2277, SERVICE, right(RightKind.SEND_ONCE, 13) + struct.pack("<Q", 0)),
        packet(1, 0, struct.pack("<II", 2, 1)),
    ]
    others = [packet(number, SERVICE, right(RightKind.SEND_ONCE, 15) + bytes(40)) for number in MESSAGES]
    return good * 6 + others


def hello() -> bytes:
    """memory_object_create: from here on the connection has an object."""
    body = right(RightKind.RECEIVE, OBJECT) + struct.pack("<Q", 1 << 20)
    return packet(
        2250, SERVICE, body + right(RightKind.SEND, CONTROL) + right(RightKind.SEND, NAME) + struct.pack("<I", PAGE)
    )


def mutants(chance: random.Random) -> Iterator[bytes]:
    known = seeds()
    while True:
        message = bytearray(chance.choice(known))
        match chance.randrange(8):
            case 0:
                pass  # as it is
            case 1:
                del message[chance.randrange(len(message)) :]
            case 2:
                message += chance.randbytes(chance.randrange(1, 64))
            case 3:
                struct.pack_into("<I", message, 8, chance.choice([*MESSAGES, chance.getrandbits(32)]))
            case 4:
                struct.pack_into("<I", message, 12, chance.choice([0, 1, 2, 3, 4, 5, 7, chance.getrandbits(32)]))
            case _:
                for _ in range(chance.randrange(1, 4)):
                    at = chance.randrange(min(len(message), HEADER.size + 40)) if message else 0
                    message[at : at + 1] = bytes([chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])])
        yield bytes(message)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fuzz(path: str, pid: int, messages: int, seed: int) -> Outcome:
    """Send so many.  AssertionError if the good client sees anything of it."""
    chance = random.Random(seed)
    good = PagingKernel(path, GOOD_PAGES)
    content = [chance.randbytes(PAGE) for _ in range(GOOD_PAGES)]
    for page, data in enumerate(content):
        good.page_out(page, data)
    outcome = Outcome(0, 0, 0, 0)
    stream = mutants(chance)
    hostile: socket.socket | None = None
    while outcome.messages < messages:
        if hostile is None:
            hostile = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            hostile.connect(path)
            outcome.connections += 1
            hostile.send(hello())
        hostile = send_one(hostile, next(stream), chance)
        outcome.messages += 1
        if outcome.messages % 50_000 == 0:
            print(outcome, resident_bytes(pid), flush=True)
        if outcome.messages % LOOK_EVERY == 0:
            page = chance.randrange(GOOD_PAGES)
            assert good.page_in(page) == content[page], "another client's page has changed"
            content[page] = chance.randbytes(PAGE)
            good.page_out(page, content[page])
        if outcome.messages == messages // 5:
            outcome.resident_at_first = resident_bytes(pid)
    assert [good.page_in(page) for page in range(GOOD_PAGES)] == content
    outcome.resident_at_last = resident_bytes(pid)
    good.close()
    if hostile is not None:
        hostile.close()
    return outcome


def send_one(hostile: socket.socket, message: bytes, chance: random.Random) -> socket.socket | None:
    """Send, sometimes with a descriptor, let the daemon take it, read what there is; None once it has had enough."""
    try:
        if chance.random() < 0.01:
            with open(os.devnull) as null:
                socket.send_fds(hostile, [message or b"x"], [null.fileno()] * chance.randrange(1, 4))
        else:
            hostile.send(message or b"x")
        while unread_bytes(hostile):
            os.sched_yield()
        while chance.random() < 0.7:
            if not hostile.recv(1 << 17, socket.MSG_DONTWAIT):
                raise ConnectionResetError
    except BlockingIOError:
        return hostile
    except ConnectionError:
        hostile.close()
        return None
    return hostile


def unread_bytes(sock: socket.socket) -> int:
    """What the peer has not received yet."""
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, "little")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.socket_fuzz")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        image, path = Path(name) / "disk.img", Path(name) / "pager"
        run("mkpagingfile", image, "--size", "32M", "--paging-size", "16M")
        with pagerd(image, path) as daemon:
            outcome = fuzz(str(path), daemon.pid, options.messages, options.seed)
            assert daemon.poll() is None, "the daemon has died"
    print(outcome)


if __name__ == "__main__":
    main()
