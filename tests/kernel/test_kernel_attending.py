"""A fault on a page of another process: the thread that faults takes the page in itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from kernel.host import Host
from kernel.processor import Processor
from kernel.task import Task
from kernel.vm_object import VmObject
from mach.attendant import Attendant
from mach.kern_return import MachError
from mach.message import Message
from mach.ports import Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime, Thread
from pager.default_pager import DefaultPager

pytestmark = pytest.mark.timeout(60)
PAGE = 4096
MEMORY = 96 * PAGE
PAGES = 200
BACKING = 4 << 20


class SlowDevice(MemoryDevice):
    """A disk that reads when somebody attends, or after a while, and not while `gate` is shut."""

    gate: threading.Event
    attended: Callable[[], bool]

    def read(self, offset: int, length: int) -> bytes:
        deadline = time.monotonic() + 0.1
        while not self.attended() and time.monotonic() < deadline:
            time.sleep(0.0001)
        self.gate.wait()
        return bytes(super().read(offset, length))


@dataclass
class Machine:
    host: Host
    network: Network
    pager: Network
    device: SlowDevice
    supplied_by: list[str] = field(default_factory=list)  # the names of the threads that put pages in their frames

    @property
    def line(self) -> Attendant:
        (connection,) = self.network.connections.values()
        assert connection.rights.line is not None
        return connection.rights.line

    def memory(self) -> tuple[Task, int]:
        """A task that has written more than there is memory for."""
        task = self.host.task_create("program")
        address = task.vm_allocate(PAGES * PAGE)
        for page in range(PAGES):
            task.write(address + page * PAGE, content(page))
        return task, address


def content(page: int) -> bytes:
    return page.to_bytes(4, "little") * (PAGE // 4)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A kernel and a pager, each a party of its own, with a socket between them."""
    runtime = NativeRuntime()
    device = SlowDevice(bytearray(BACKING))
    device.gate = threading.Event()
    device.gate.set()
    pager_ipc, kernel_ipc = Ipc(runtime), Ipc(runtime)
    pager = DefaultPager(runtime, pager_ipc, PAGE)
    pager.store.add("paging_file", device, BlockList((Run(0, 0, BACKING),), BACKING, 8192))
    pager_network, network = Network(pager_ipc), Network(kernel_ipc)
    pager_network.listen(str(tmp_path / "socket"), pager.port)
    pager.start()
    manager = network.connect(str(tmp_path / "socket"))
    host = Host(runtime, kernel_ipc, MEMORY, PAGE, pageout_time_scale=0.001)
    nobody_sends_here = kernel_ipc.allocate("network")
    runtime.fork(lambda: [nobody_sends_here.receive() for _ in iter(int, 1)], "network", daemon=True)
    host.start()
    host.vm_set_default_memory_manager(host.host_priv, manager)
    made = Machine(host, network, pager_network, device)
    line = made.line  # looked up now: the disk may ask once the connection has gone
    device.attended = lambda: line.attends
    dispatch = host.pagers.dispatch

    def noted(object: VmObject, message: Message) -> None:
        made.supplied_by.append(runtime.current().name)
        dispatch(object, message)

    host.pagers.dispatch = noted
    yield made
    device.gate.set()
    for connection in list(network.connections.values()):
        network.trouble(connection, "the test is over")
    pager_network.stop_listening()


def test_a_page_is_put_in_its_frame_by_the_thread_that_faulted(machine: Machine) -> None:
    task, address = machine.memory()
    machine.supplied_by.clear()
    for page in range(PAGES):
        assert task.read(address + page * PAGE, PAGE) == content(page)
    by_others = [name for name in machine.supplied_by if name != threading.current_thread().name]
    assert len(machine.supplied_by) >= PAGES - MEMORY // PAGE
    assert len(by_others) < 10, "those that came before the thread that faulted was there"


def test_threads_that_fault_at_once_all_get_their_pages(machine: Machine) -> None:
    """One attends; the others are woken by it, and by the poll once it has gone."""
    task, address = machine.memory()
    failures: list[str] = []

    def read(first: int) -> None:
        for page in [*range(first, PAGES, 4), *range(first, PAGES, 4)]:
            if task.read(address + page * PAGE, PAGE) != content(page):
                failures.append(f"page {page}")

    threads = [machine.host.runtime.fork(lambda first=first: read(first), f"reader {first}") for first in range(4)]
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set(machine.supplied_by)) > 1
    machine.host.check()


def test_the_death_of_the_pager_is_an_error_to_the_thread_that_attends(machine: Machine) -> None:
    """P5."""
    task, address = machine.memory()
    machine.device.gate.clear()
    errors: list[MachError] = []

    def read() -> None:
        try:
            for page in range(PAGES):
                task.read(address + page * PAGE, PAGE)
        except MachError as error:
            errors.append(error)

    thread = machine.host.runtime.fork(read, "reader")
    deadline = time.monotonic() + 10
    while not machine.line.attends and time.monotonic() < deadline:
        time.sleep(0.001)
    for theirs in list(machine.pager.connections.values()):
        machine.pager.trouble(theirs, "the pager dies")
    thread.join()
    assert [error.code.name for error in errors] == ["KERN_MEMORY_ERROR"]


def test_a_pager_that_does_not_answer_in_time_is_an_error_to_the_thread_that_attends(machine: Machine) -> None:
    """P5."""
    task, address = machine.memory()
    machine.host.vm_fault.pager_seconds = 0.05
    machine.device.gate.clear()
    attend, results = machine.line.attend, []

    def noted(why: object, timeout: float | None) -> bool:
        results.append(attend(why, timeout))
        return results[-1]

    machine.line.attend = noted
    with pytest.raises(MachError, match="KERN_MEMORY_ERROR"):
        task.read(address, PAGES * PAGE)
    assert machine.host.vm_fault.counts["pager_timeouts"] == 1
    assert results == [False]


class Line:
    """One whose attendants wait until somebody ends them, and then do as they are told."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.before_it_leaves: list[Callable[[], None]] = []

    def take(self) -> bool:
        return True

    def attend(self, why: str | Callable[[], str], timeout: float | None) -> bool:
        self.began.release()
        over = self.ended.acquire(timeout=10)
        if self.before_it_leaves:
            self.before_it_leaves.pop()()
        return over

    def end(self) -> None:
        self.ended.release()


def test_who_waits_next_for_the_same_event_is_not_forgotten_by_who_waited_before() -> None:
    """The page that it waited for has come and gone again before it is back in the kernel."""
    processor, line, results = Processor(NativeRuntime()), Line(), []

    def wait() -> None:
        with processor.lock:
            results.append(processor.wait("a page", "a test", None, line))

    def wakeup() -> None:
        with processor.lock:
            processor.wakeup("a page")

    def another_begins() -> None:
        others.append(processor.runtime.fork(wait, "the next"))
        assert line.began.acquire(timeout=10)

    others: list[Thread] = []
    line.before_it_leaves.append(another_begins)
    first = processor.runtime.fork(wait, "the first")
    assert line.began.acquire(timeout=10)
    wakeup()
    first.join()
    wakeup()
    others[0].join()
    assert results == [True, True]
