"""The one simulated processor: the kernel mutex, and events that threads in the kernel sleep on.

Interface:
    Processor(runtime, calls_itself=False)
        .lock             the kernel mutex: `with processor.lock:` is being in the kernel
        .unlocked         `with processor.unlocked:` leaves the kernel for the length of a message send
        .wait(event, why, timeout, line) -> bool    assert_wait + thread_block: sleep, out of the kernel, until
                          wakeup(event)
        .wakeup(event)    thread_wakeup: all who sleep on the event
        .condition(name)  a condition of the kernel mutex, for the few events that are waited for with a timeout

The machine is a uniprocessor whose kernel is not preemptible, as the one that the paper measured (§7.2): between two
waits the kernel is one thread's alone, so nothing inside it needs a lock of its own.

Invariants:
    1. No message is sent while the mutex is held: a message to a kobject port runs in its sender's context, and one
       over a socket may block.  paging_in_progress and busy pages guard the objects meanwhile, as in Mach.
    2. Whoever has slept must look again: what was awaited may have gone since.
    3. Of the threads that wait for one event at most one attends a line (mach/attendant.py).  It takes the messages of
       who owes it as a thread of a real machine takes interrupts: most of the time its page is the next.

Not here: what the events mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType

from mach.feeder import Line
from mach.threads import Condition, LockRank, Mutex, Runtime, Thread


class KernelPanic(Exception):
    """The machine stops: what Mach would call panic() for.  The text says which rule was broken."""


class KernelLock(AbstractContextManager["KernelLock"]):
    """The kernel mutex of a kernel that calls itself, as one with a pager inside does: its holder may take it again."""

    def __init__(self, mutex: Mutex, current: Callable[[], Thread]) -> None:
        self.name = mutex.name
        self.rank = mutex.rank
        self.mutex = mutex
        self._current = current
        self._again: Counter[Thread] = Counter()  # how often its holder has taken it beyond the first time

    def __enter__(self) -> KernelLock:
        if self.mutex.locked_by_me():
            self._again[self._current()] += 1
        else:
            self.mutex.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        me = self._current()
        if self._again[me]:
            self._again[me] -= 1
        else:
            self.mutex.__exit__(kind, error, tb)

    def locked_by_me(self) -> bool:
        return self.mutex.locked_by_me()


class Unlocked(AbstractContextManager[None]):
    """Out of the kernel and back in: the inverse of `with lock:`."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Mutex) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.__exit__(None, None, None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.__enter__()


class _Attending:
    """One wait at a line."""

    __slots__ = ("line",)

    def __init__(self, line: Line) -> None:
        self.line = line


class Processor:
    """See the head of the module."""

    def __init__(self, runtime: Runtime, calls_itself: bool = False) -> None:
        self.runtime = runtime
        self._mutex = runtime.mutex("kernel", LockRank.KERNEL)
        self.lock: Mutex = KernelLock(self._mutex, runtime.current) if calls_itself else self._mutex
        self.unlocked = Unlocked(self.lock)
        self._sleepers: dict[Hashable, Condition] = {}  # events that somebody sleeps on
        self._spare: list[Condition] = []
        self._attending: dict[Hashable, _Attending] = {}  # events that somebody waits for at a line
        self._may_attend = not calls_itself  # who attends must hold nothing, and may have taken the mutex twice
        self.owers: Callable[[Hashable], Iterable[Thread]] = lambda event: ()  # for reports: kernel/debts.py

    def condition(self, name: str) -> Condition:
        return self.runtime.condition(self._mutex, name)

    def wait(
        self, event: Hashable, why: str | Callable[[], str], timeout: float | None = None, line: Line | None = None
    ) -> bool:
        """Sleep until wakeup(event), or less long (INV-2); False if `timeout` seconds passed first.  The mutex is
        released meanwhile; `why` is told in a deadlock report.  `line`: of the process that owes it, if another does.
        """
        if line is not None and self._may_attend and event not in self._attending and line.take():
            return self._attend(event, why, timeout, line)
        condition = self._sleepers.get(event)
        if condition is None:
            condition = self._spare.pop() if self._spare else self.condition("kernel event")
            self._sleepers[event] = condition
        return condition.wait(why, timeout, owed_by=lambda: self.owers(event))

    def _attend(self, event: Hashable, why: str | Callable[[], str], timeout: float | None, line: Line) -> bool:
        attending = self._attending[event] = _Attending(line)
        try:
            with self.unlocked:
                return line.attend(why, timeout)
        finally:
            if self._attending.get(event) is attending:  # else wakeup() has been here, and perhaps the next who waits
                del self._attending[event]

    def wakeup(self, event: Hashable) -> None:
        """Wake all who sleep on `event`; nothing if nobody does."""
        attending = self._attending.pop(event, None)
        if attending is not None:
            attending.line.end()
        condition = self._sleepers.pop(event, None)
        if condition is not None:
            condition.broadcast()
            self._spare.append(condition)
