"""What a server that is built into the kernel stands on, as MK63's default pager was: null locks, direct calls (§7.2).

Interface:
    InKernel(runtime, processor)    a Runtime for the server: its mutexes are null, its conditions are the kernel's
        .enter(routine)             call into the server: with the kernel mutex, which is all the locking there is
    Driver(processor, device)       a BlockDevice called directly; the kernel is left while it works

The kernel is not preemptible, so between two waits the server has the processor to itself, and its locks need not be.
Its messages to kernel ports are calls, and so are those to its own ports: there is no thread of the server, whoever
sends does the work.

Invariants:
    1. Code of the server runs with the kernel mutex held.
    2. The mutex is released at waits, pauses and device operations, however often its holder has taken it.

Not here: which server that is (kernel/machsim/machine.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from bootfs.device import BlockDevice, Bytes
from kernel.processor import Processor
from mach.threads import Condition, LockRank, Mutex, OwedBy, Runtime, Thread


class NullMutex:
    """Mutual exclusion that the kernel gives already: it compiles into nothing."""

    def __init__(self, name: str, rank: LockRank | None, processor: Processor) -> None:
        self.name = name
        self.rank = rank
        self._processor = processor

    def __enter__(self) -> NullMutex:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing was taken."""

    def locked_by_me(self) -> bool:
        return self._processor.lock.locked_by_me()


class InKernel:
    """See the head of the module.  A Runtime."""

    def __init__(self, runtime: Runtime, processor: Processor) -> None:
        self.tracer = runtime.tracer
        self.reports = runtime.reports
        self._runtime = runtime
        self._processor = processor

    def enter(self, routine: Callable[[], None]) -> None:
        with self._processor.lock:
            routine()

    def fork(self, body: Callable[[], None], name: str, *, daemon: bool = False) -> Thread:
        return self._runtime.fork(lambda: self.enter(body), name, daemon=daemon)

    def mutex(self, name: str, rank: LockRank | None) -> Mutex:
        return NullMutex(name, rank, self._processor)

    def condition(self, mutex: Mutex, name: str) -> Condition:
        return self._processor.condition(name)

    def sleep(self, seconds: float, why: str = "a pause", *, owed_by: OwedBy | None = None) -> None:
        with self._processor.unlocked:
            self._runtime.sleep(seconds, why, owed_by=owed_by)

    def now(self) -> float:
        return self._runtime.now()

    def checkpoint(self, what: str, about: object = "") -> None:
        """Nothing: the kernel is not preemptible."""

    def may_block(self) -> None:
        """Nothing: the kernel's threads have no duty to give up."""

    def current(self) -> Thread:
        return self._runtime.current()

    def task(self) -> object:
        return self._runtime.task()

    def lock_pairs(self) -> Mapping[str, int]:
        """None were taken."""
        return {}


class Driver:
    """See the head of the module."""

    def __init__(self, processor: Processor, device: BlockDevice) -> None:
        self._processor = processor
        self._device = device

    @property
    def size(self) -> int:
        return self._device.size

    def read(self, offset: int, length: int) -> bytes:
        with self._processor.unlocked:
            return self._device.read(offset, length)

    def write(self, offset: int, data: Bytes) -> None:
        with self._processor.unlocked:
            self._device.write(offset, data)

    def sync(self) -> None:
        with self._processor.unlocked:
            self._device.sync()

    def close(self) -> None:
        self._device.close()
