"""The runtime that all blocking code stands on: threads, mutexes, conditions, a clock (the paper's C Threads, §5.3).

Interface:
    Runtime     fork, mutex, condition, sleep, now, checkpoint, current
    Mutex       a context manager with a name and a rank
    Condition   wait(why), signal, broadcast; used with its mutex held
    Thread      what fork returns: name, vm_privilege, join
    LockRank    the one lock order of the whole system, outermost first
    OwedBy      tells, when asked, which threads could end a wait
    LockOrderError, Deadlock

Two implementations: `native` (real threads, real time) and `simulated` (green threads, a virtual clock, a seeded
scheduler).  The same pager and kernel run on both, so what the daemon runs is what the search has searched.

Invariants:
    1. A thread takes mutexes in strictly rising rank (a mutex of rank None is left out: tests only).
    2. Every wait carries words that say what is awaited, and, where that is known, who owes it; a deadlock report is
       made of them (mach/threads/waiting.py).
    3. Lock/unlock pairs are counted by mutex name (the paper counts them per page read, §7.2).
    4. A thread gives up its duty before it may sleep for long.

The first and the third cost more than a mutex does: the simulated runtime always keeps them, the native one where
CHECK_LOCKS says so, as in all tests.

Not here: what the threads do; anything of ports, pagers or kernels but their place in the lock order.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from mach.threads.waiting import Wait

if TYPE_CHECKING:
    from mach.trace import Tracer


class LockRank(enum.IntEnum):
    """The order in which mutexes nest, outermost first.  Written once, here, and checked on every acquisition."""

    RECEIVING = 5  # one connection's incoming side: messages are delivered one by one, kernels' too
    KERNEL = 10  # the simulated processor: who is in the kernel (kernel/)
    PAGER = 20  # the pager's list of memory objects
    MEMORY_OBJECT = 30  # one memory object: its turn, its page map
    PARTITIONS = 40  # the list of partitions
    PARTITION = 50  # one partition's slots
    DEVICE = 60  # a device queue
    CARRIER = 70  # one connection: its names, its outgoing side, who attends it
    SPACE = 75  # one task's names of rights
    IPC = 80  # rights and queues of all ports


class LockOrderError(Exception):
    """A mutex was taken out of order: a deadlock waiting for its schedule."""


class Deadlock(Exception):
    """Nobody can run.  The text is the wait-for graph in words, one thread a line; `waits` is the graph itself, `since`
    when a thread was last woken by another."""

    def __init__(self, words: str, waits: tuple[Wait, ...] = (), since: float = 0.0) -> None:
        super().__init__(words)
        self.waits = waits
        self.since = since


class Mutex(AbstractContextManager[object], Protocol):
    """Mutual exclusion.  `with mutex:`; not recursive."""

    name: str
    rank: LockRank | None

    def locked_by_me(self) -> bool:
        """True if the current thread holds it; for assertions."""


class Condition(Protocol):
    """A condition variable of one mutex, which the caller of each method holds."""

    def wait(
        self, why: str | Callable[[], str], timeout: float | None = None, *, owed_by: OwedBy | None = None
    ) -> bool:
        """Release the mutex, sleep until woken, take it again.  False if `timeout` seconds passed first.

        `why` says in words what is awaited and who owes it; it may be a function, called only for a report, as
        `owed_by` is.
        """

    def signal(self) -> None:
        """Wake one waiter, if there is one."""

    def broadcast(self) -> None:
        """Wake all waiters."""


class Thread(Protocol):
    """A thread of control."""

    name: str
    vm_privilege: bool  # thread_wire (§5.1): its requests for physical memory always succeed
    handles: str  # the message that it has in hand; for reports only
    waits_for: str | Callable[[], str]  # what it sleeps for, in words; for reports only
    task: object  # whose thread it is, None for nobody's in particular; what it forks is of the same task
    duty: Callable[[], None] | None  # called to pass on what others need of the thread, before it may sleep for long

    def __hash__(self) -> int: ...

    def join(self) -> None:
        """Wait until it has ended; raises what it raised."""


OwedBy = Callable[[], Iterable[Thread]]


class Runtime(Protocol):
    """Everything that blocking code may ask of the world.  Times are seconds."""

    tracer: Tracer | None  # who is told what happens (mach/trace.py); None: nobody
    reports: bool  # whether anybody will ask who owes what: the simulated runtime's deadlock report

    def fork(self, body: Callable[[], None], name: str, *, daemon: bool = False) -> Thread:
        """Start a thread.  A daemon thread serves others: the program may end while it waits."""

    def mutex(self, name: str, rank: LockRank | None) -> Mutex: ...

    def condition(self, mutex: Mutex, name: str) -> Condition: ...

    def sleep(self, seconds: float, why: str = "a pause", *, owed_by: OwedBy | None = None) -> None:
        """`owed_by`: whose work the pause is for, if it is for that."""

    def now(self) -> float: ...

    def checkpoint(self, what: str, about: object = "") -> None:
        """A place where another thread may run first: each message and each device operation calls it."""

    def may_block(self) -> None:
        """The thread is about to wait for a device: give up its duty (INV-4).  Waits on conditions do this alone."""

    def current(self) -> Thread: ...

    def task(self) -> object:
        """The current thread's task; None outside all threads too."""

    def lock_pairs(self) -> Mapping[str, int]:
        """Lock/unlock pairs so far, by mutex name."""


def check_order(wanted: Mutex, held: list[Mutex]) -> None:
    """Raise LockOrderError unless `wanted` ranks above all that the thread holds (INV-1)."""
    if wanted in held:
        raise LockOrderError(f"{wanted.name} is taken twice by one thread")
    if wanted.rank is None:
        return
    for mutex in held:
        if mutex.rank is not None and mutex.rank >= wanted.rank:
            raise LockOrderError(f"{wanted.name} (rank {wanted.rank}) is taken inside {mutex.name} (rank {mutex.rank})")
