"""The machine of the paper's table 7-1: a program that pages, with the default pager in its kernel or out of it.

    pager_inside(processors, disk, memory), pager_outside(process, disk, memory)    contexts: a Stand
    PagerProcess(disk, socket, processors)
    Processors                                                          who runs where
    PagingBenchmark(host, references, seed).run(), MachineCode(host, references, seed).run() -> seconds
    python -m benchmarks.paper_machine SOCKET DISK    the pager's process, until its standard input ends

In the kernel means what it meant in MK63 (§7.2): the pager has threads of its own and talks to the kernel in messages,
but there is no border between them.  Both kinds stand on real threads and real time, and on the same disk: `Disk` is a
modelled one of 1991, with real waits, or a file of this machine's that is read and written past the page cache.

Who runs where matters as much as the border.  Linux wakes who waits at a Unix socket on the processor of who sends, on
the understanding that the sender is about to sleep; to wake a processor that sleeps takes 0.1 ms; and the threads of a
Python process, of which one runs at a time, lose by changing processors.  Hence Processors.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SHUT_RDWR

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice, FileDevice, MemoryDevice
from kernel.disk import ModelledDisk
from kernel.host import Host
from kernel.machsim.exec import ProgramMachine
from mach.ports import Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime, Runtime
from pager.default_pager import DefaultPager
from pager.direct_io import DirectDevice

PAGE = 4096
SERVERS = Path(__file__).resolve().parent.parent / "fixtures" / "servers"
VIRTUAL_BYTES = 7 << 20
SPACE_BYTES = 8 << 20
SPACE_AT = 1 << 20  # where the paging file begins on the disk
FAST_DISK_PAUSES = 0.001  # Mach's pauses between bursts of pageouts, for a disk that takes microseconds


@dataclass(frozen=True, slots=True)
class Disk:
    """`path`: a file to be paged on with O_DIRECT; empty: a modelled disk, so many times as slow as that of 1991."""

    path: str = ""
    time_scale: float = 1.0

    def open(self, runtime: Runtime) -> BlockDevice:
        if self.path:
            return DirectDevice(FileDevice(self.path, writable=True))
        return ModelledDisk(runtime, MemoryDevice(bytearray(SPACE_AT + SPACE_BYTES)), self.time_scale)

    @property
    def pauses(self) -> float:
        return FAST_DISK_PAUSES if self.path else self.time_scale


@dataclass(frozen=True, slots=True)
class Processors:
    """Those of the machine's kernel and those of the pager, if it has a process of its own."""

    kernel: frozenset[int]
    pager: frozenset[int]

    @classmethod
    def apart(cls) -> Processors:
        """One each; the same if there is no second."""
        every = os.sched_getaffinity(0)
        return cls(frozenset({min(every)}), frozenset({max(every)}))

    @classmethod
    def unbound(cls) -> Processors:
        """All for both: the system says who runs where."""
        every = frozenset(os.sched_getaffinity(0))
        return cls(every, every)

    @classmethod
    def one(cls) -> Processors:
        """The same one for both."""
        only = frozenset({max(os.sched_getaffinity(0))})
        return cls(only, only)


@contextmanager
def running_on(processors: frozenset[int]) -> Iterator[None]:
    """This thread, and those and the processes that it begins meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def add_paging_file(pager: DefaultPager, device: BlockDevice) -> None:
    pager.store.add("paging_file", device, BlockList((Run(0, SPACE_AT, SPACE_BYTES),), SPACE_BYTES, 8192))


@dataclass(slots=True)
class Stand:
    """A machine that pages.  Once its context has ended: what the processor spent on it, in both processes."""

    host: Host
    processor_seconds: float = 0.0


class PagerProcess:
    """A process that is a pager for one machine after another: warm, as a daemon is and as the process with the kernel
    is, but with a new paging file for each, as the pager in the kernel has."""

    def __init__(self, disk: Disk, socket: str, processors: Processors) -> None:
        Path(socket).unlink(missing_ok=True)
        self.socket = socket
        self.processors = processors
        command = [sys.executable, "-m", "benchmarks.paper_machine", socket, disk.path, str(disk.time_scale)]
        with running_on(processors.pager):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def begin(self) -> float:
        """Be a pager at the socket; processor seconds spent so far."""
        return self._ask(b"begin\n")

    def end(self) -> float:
        """Be one no more, once the machine has no page with it; processor seconds spent so far."""
        return self._ask(b"end\n")

    def close(self) -> None:
        self._process.communicate(b"")

    def _ask(self, what: bytes) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what)
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def pager_inside(processors: Processors, disk: Disk, memory: int) -> Iterator[Stand]:
    """A machine of `memory` bytes with the pager in its kernel, on the kernel's processors."""
    with running_on(processors.kernel):
        runtime = NativeRuntime()
        ipc = Ipc(runtime)
        host = Host(runtime, ipc, memory, PAGE, pageout_time_scale=disk.pauses)
        pager = DefaultPager(runtime, ipc, PAGE)
        device = disk.open(runtime)
        add_paging_file(pager, device)
        pager.start()
        host.start()
        host.vm_set_default_memory_manager(host.host_priv, pager.port.make_send())
        stand = Stand(host)
        start = time.process_time()
        yield stand
        stand.processor_seconds = time.process_time() - start
        device.close()


@contextmanager
def pager_outside(process: PagerProcess, disk: Disk, memory: int) -> Iterator[Stand]:
    """A machine of `memory` bytes with the pager in `process`."""
    before = process.begin()
    with running_on(process.processors.kernel):
        runtime = NativeRuntime()
        ipc = Ipc(runtime)
        network = Network(ipc)
        manager = network.connect(process.socket)
        host = Host(runtime, ipc, memory, PAGE, pageout_time_scale=disk.pauses)
        runtime.fork(lambda: _receive_for_ever(ipc), "network", daemon=True)
        host.start()
        host.vm_set_default_memory_manager(host.host_priv, manager)
        stand = Stand(host)
        start = time.process_time()
        try:
            yield stand
            spent = time.process_time() - start
        finally:  # the process waits until the machine is gone
            for connection in list(network.connections.values()):
                connection.sock.shutdown(SHUT_RDWR)
        stand.processor_seconds = spent + process.end() - before


def _receive_for_ever(ipc: Ipc) -> None:
    nobody_sends_here = ipc.allocate("network")
    while True:
        nobody_sends_here.receive()


class PagingBenchmark:
    """A program that fills its memory and then refers to pages of it at random, storing into every second; each page
    that it comes to must hold what was last stored there."""

    def __init__(self, host: Host, references: int, seed: int) -> None:
        self.host = host
        self.task = host.task_create("paging benchmark")
        self.pages = VIRTUAL_BYTES // PAGE
        self.address = self.task.vm_allocate(VIRTUAL_BYTES)
        self.versions = [0] * self.pages
        chooser = random.Random(seed)
        self.references = [chooser.randrange(self.pages) for _ in range(references)]

    def run(self) -> float:
        """Seconds from the first store to the last reference.  AssertionError if a page is not what it should be."""
        start = time.monotonic()
        for page in range(self.pages):
            self._store(page)
        for number, page in enumerate(self.references):
            found = self.task.read(self.address + page * PAGE, PAGE)
            assert found == self._content(page), f"page {page} did not come back as it was written"
            if number % 2:
                self._store(page)
        return time.monotonic() - start

    def _content(self, page: int) -> bytes:
        return (page << 32 | self.versions[page]).to_bytes(8, "little") * (PAGE // 8)

    def _store(self, page: int) -> None:
        self.versions[page] += 1
        self.task.write(self.address + page * PAGE, self._content(page))


class MachineCode:
    """The same as a program of i386 machine code (fixtures/servers/paging.c), which verifies and writes every word of a
    page; other pages at random."""

    def __init__(self, host: Host, references: int, seed: int) -> None:
        self.machine = ProgramMachine(host, self, SERVERS, 0.0)
        self.arguments = [str(VIRTUAL_BYTES // 1024), "random", str(references), str(seed)]
        self.said: list[str] = []

    def write(self, text: str) -> None:
        """Its console."""
        self.said.append(text)

    def read_line(self) -> str | None:
        return None

    def run(self) -> float:
        """Seconds.  AssertionError if a word was wrong."""
        start = time.monotonic()
        halted = self.machine.run("paging.aout", self.arguments)
        seconds = time.monotonic() - start
        assert not halted.failed, f"{halted.words}: {''.join(self.said)}"
        assert "every word is right" in "".join(self.said)
        return seconds


def serve(socket: str, disk: Disk) -> None:
    """Be the pager's process."""
    runtime = NativeRuntime()
    for _ in sys.stdin:  # "begin"
        ipc = Ipc(runtime)
        pager = DefaultPager(runtime, ipc, PAGE)
        add_paging_file(pager, disk.open(runtime))
        network = Network(ipc)
        network.listen(socket, pager.port)
        pager.start()
        print(time.process_time(), flush=True)
        sys.stdin.readline()  # "end"
        while pager.store.free_pages < pager.store.total_pages:
            time.sleep(0.01)
        network.stop_listening()
        print(time.process_time(), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Disk(sys.argv[2], float(sys.argv[3])))
