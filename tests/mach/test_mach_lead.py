"""The thread that has the lead: whom it keeps waiting, and for how long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mach.memory_object import MemoryObjectReady
from mach.message import Received
from mach.ports import Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime
from mach.threads.native import NativeThread

SOON = 5.0  # seconds, in which it has happened


class Server:
    """Two threads that serve one port.  The first message is one that takes until it `may_end`."""

    def __init__(self, socket: str) -> None:
        self.ipc = Ipc(NativeRuntime())
        self.network = Network(self.ipc)
        self.port = self.ipc.allocate("service", limit=100)
        self.network.listen(socket, self.port)
        self.began, self.may_end, self.next_came = threading.Event(), threading.Event(), threading.Event()
        self.handled: list[str] = []
        port_set = self.ipc.port_set("services")
        port_set.add(self.port)
        for number in range(2):
            self.ipc.runtime.fork(lambda: port_set.serve(self.handle), f"server {number}", daemon=True)

    def handle(self, received: Received) -> None:
        first = not self.handled
        self.handled.append(self.ipc.runtime.current().name)
        if not first:
            self.next_came.set()
            return
        self.began.set()
        self.may_end.wait()


@pytest.fixture
def stuck(tmp_path: Path) -> tuple[Server, Callable[[], None]]:
    """A server whose leader is stuck, and what sends it a message."""
    server = Server(str(tmp_path / "socket"))
    right = Network(Ipc(NativeRuntime())).connect(str(tmp_path / "socket"))

    def send() -> None:
        right.send(MemoryObjectReady(1, 2), always=True)

    send()
    assert server.began.wait(SOON)
    return server, send


@pytest.mark.timeout(30)
def test_a_leader_that_is_stuck_is_relieved_and_another_thread_serves(
    stuck: tuple[Server, Callable[[], None]],
) -> None:
    """A disk that was quick and hangs must not make the daemon deaf."""
    server, send = stuck
    send()
    assert not server.next_came.wait(0.1), "the leader keeps the lead while it handles a message"
    server.ipc.relieve()  # from here on it is watched
    assert not server.next_came.wait(0.1)
    server.ipc.relieve()
    assert server.next_came.wait(SOON)
    assert len(set(server.handled)) == 2, "by the other thread"
    server.may_end.set()
    server.next_came.clear()
    send()
    assert server.next_came.wait(SOON)
    server.network.stop_listening()


@pytest.mark.timeout(30)
def test_a_leader_that_gets_on_is_not_relieved(stuck: tuple[Server, Callable[[], None]]) -> None:
    server, send = stuck
    server.ipc.relieve()
    server.may_end.set()
    for _ in range(20):
        server.next_came.clear()
        send()
        assert server.next_came.wait(SOON)
        server.ipc.relieve()
    assert len(set(server.handled)) == 1, "it has kept the lead, message for message"
    server.network.stop_listening()


class Relieved(NativeThread):
    """One whose duty is taken away by another thread as soon as it has looked whether it has one."""

    looks = 0

    @property
    def duty(self) -> Callable[[], None] | None:
        self.looks += 1
        return (lambda: None) if self.looks == 1 else None

    @duty.setter
    def duty(self, duty: Callable[[], None] | None) -> None:
        pass


@pytest.mark.timeout(30)
def test_a_thread_that_is_relieved_while_it_goes_to_sleep_sleeps() -> None:
    runtime = NativeRuntime()
    mutex = runtime.mutex("lock", None)
    condition = runtime.condition(mutex, "it")
    thread = Relieved("relieved")

    def body() -> None:
        with mutex:
            assert not condition.wait("it", 0.01)

    thread.start(body, runtime._adopt, daemon=False)
    thread.join()
    assert thread.looks == 1
