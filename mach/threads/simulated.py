"""The runtime on green threads: a run is a pure function of its seed, and a deadlock is an exception.

Interface:
    SimulatedRuntime(seed).run(body)   runs body and all that it forks; returns when every thread but daemons has ended
    .steps, .clock                     scheduling decisions so far, virtual seconds

At every lock, wait, message and device operation the scheduler draws who runs next from a generator seeded with
`seed`.  Time passes only here: a microsecond a step, and a jump to the next timer when nobody can run.

Invariants:
    1. Exactly one green thread runs; it gives the processor up only at a scheduling point.
    2. A thread is in exactly one of: running, ready, blocked (it then says on what), ended.
    3. If no thread is ready and no timer is set while a thread that is no daemon lives, `Deadlock` is raised, with the
       wait-for graph: what each blocked thread waits for, and who owes it that.  So it is when threads that only pause
       and look again are all that has run for STALL_SECONDS.

Not here: real time, real threads, real randomness.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from greenlet import GreenletExit, getcurrent, greenlet

from mach.threads.runtime import Condition, Deadlock, LockRank, Mutex, OwedBy, Thread, check_order
from mach.threads.waiting import Wait, WaitGraph

if TYPE_CHECKING:
    from mach.trace import Tracer

STEP_SECONDS = 1e-6  # what one scheduling step costs in virtual time
HISTORY_STEPS = 40  # the last steps told in a deadlock report
STALL_SECONDS = 10_000.0  # pauses of so many seconds, and nothing else, are a deadlock with a watchman


class SimulatedThread:
    """A green thread.  `blocked_on` is None while it is ready or running."""

    def __init__(self, name: str, daemon: bool) -> None:
        self.name = name
        self.daemon = daemon
        self.vm_privilege = False
        self.task: object = None
        self.duty: Callable[[], None] | None = None
        self.handles = ""
        self.waits_for: str | Callable[[], str] = ""
        self.held: list[Mutex] = []
        self.blocked_on: Callable[[], str] | None = None
        self.owed_by: OwedBy | None = None  # while it is blocked
        self.ended = False
        self.error: BaseException | None = None
        self.timer = 0  # number of the wait that a pending timer belongs to
        self.timed_out = False
        self.cancel_wait: Callable[[], None] | None = None  # takes it off its condition when the timer wins
        self.greenlet: greenlet | None = None
        self.joiners: list[SimulatedThread] = []
        self.runtime: SimulatedRuntime | None = None

    def join(self) -> None:
        assert self.runtime is not None
        me = self.runtime.current()
        while not self.ended:
            self.joiners.append(me)
            self.runtime.block(lambda: f"the end of thread {self.name}", owed_by=lambda: [self])
        if self.error is not None:
            raise self.error


class SimulatedMutex:
    def __init__(self, runtime: SimulatedRuntime, name: str, rank: LockRank | None) -> None:
        self.name = name
        self.rank = rank
        self.owner: SimulatedThread | None = None
        self._runtime = runtime
        self._waiters: deque[SimulatedThread] = deque()

    def __enter__(self) -> SimulatedMutex:
        runtime = self._runtime
        me = runtime.current()
        check_order(self, me.held)
        runtime.checkpoint(self.name)
        self.acquire(me)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if not self._runtime.over:
            self.release(self._runtime.current())

    def acquire(self, me: SimulatedThread) -> None:
        while self.owner is not None:
            self._waiters.append(me)
            self._runtime.block(
                lambda: f"mutex {self.name}, held by {self.owner.name if self.owner else 'nobody'}",
                owed_by=lambda: [self.owner] if self.owner else [],
            )
        self.owner = me
        me.held.append(self)
        self._runtime.pairs[self.name] += 1

    def release(self, me: SimulatedThread) -> None:
        assert self.owner is me, f"{me.name} releases {self.name} that it does not hold"
        me.held.remove(self)
        self.owner = None
        while self._waiters:  # all are woken and race for it: each order is a schedule worth searching
            self._runtime.make_ready(self._waiters.popleft())

    def locked_by_me(self) -> bool:
        return self.owner is self._runtime.current()


class SimulatedCondition:
    def __init__(self, runtime: SimulatedRuntime, mutex: SimulatedMutex, name: str) -> None:
        self.name = name
        self._runtime = runtime
        self._mutex = mutex
        self._waiters: list[SimulatedThread] = []

    def wait(
        self, why: str | Callable[[], str], timeout: float | None = None, *, owed_by: OwedBy | None = None
    ) -> bool:
        runtime = self._runtime
        me = runtime.current()
        assert self._mutex.owner is me, f"{me.name} waits for {self.name} without its mutex"
        self._mutex.release(me)
        self._waiters.append(me)
        words = why if callable(why) else lambda: why
        me.cancel_wait = lambda: self._waiters.remove(me)
        woken = runtime.block(words, timeout, owed_by)
        me.cancel_wait = None
        self._mutex.acquire(me)
        return woken

    def signal(self) -> None:
        assert self._mutex.locked_by_me(), f"{self.name} is signalled without its mutex"
        if self._waiters:
            self._runtime.make_ready(self._waiters.pop(self._runtime.choose(len(self._waiters))))

    def broadcast(self) -> None:
        assert self._mutex.locked_by_me(), f"{self.name} is signalled without its mutex"
        waiters, self._waiters = self._waiters, []
        for thread in waiters:
            self._runtime.make_ready(thread)


class SimulatedRuntime:
    """A Runtime whose every choice comes from `seed`."""

    reports = True
    tracer: Tracer | None = None  # a traced.TracedRuntime has one

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.clock = 0.0
        self.steps = 0
        self.pairs: Counter[str] = Counter()
        self.over = False  # the run has ended: threads are being unwound
        self._random = random.Random(seed)
        self._hub: greenlet | None = None
        self._running: SimulatedThread | None = None
        self._drawn: SimulatedThread | None = None  # who is to run next, if that is decided
        self._living = 0  # threads that are no daemons and have not ended
        self._limit = 0.0
        self._stall = 0.0
        self._last_wakeup = 0.0  # when somebody was last woken by another thread rather than by a timer
        self._ready: list[SimulatedThread] = []
        self._threads: list[SimulatedThread] = []
        self._timers: list[tuple[float, int, SimulatedThread, int]] = []
        self._numbers = itertools.count(1)
        self._history: deque[tuple[str, str, object]] = deque(maxlen=HISTORY_STEPS)

    # -- what blocking code calls ------------------------------------------------------------------------------

    def fork(self, body: Callable[[], None], name: str, *, daemon: bool = False) -> Thread:
        thread = SimulatedThread(name, daemon)
        thread.runtime = self
        thread.task = self.task()
        thread.greenlet = greenlet(lambda: self._thread_main(thread, body), self._hub)
        self._threads.append(thread)
        self._ready.append(thread)
        self._living += not daemon
        return thread

    def mutex(self, name: str, rank: LockRank | None) -> Mutex:
        return SimulatedMutex(self, name, rank)

    def condition(self, mutex: Mutex, name: str) -> Condition:
        assert isinstance(mutex, SimulatedMutex)
        return SimulatedCondition(self, mutex, name)

    def sleep(self, seconds: float, why: str = "a pause", *, owed_by: OwedBy | None = None) -> None:
        self.block(lambda: f"{why} (a pause of {seconds:g} s)", seconds, owed_by)

    def now(self) -> float:
        return self.clock

    def may_block(self) -> None:
        """Nothing: nobody has a duty here."""

    def checkpoint(self, what: str, about: object = "") -> None:
        if self.over:
            raise GreenletExit
        me = self.current()
        self._history.append((me.name, what, about))
        self._fire_timers()
        self._ready.append(me)
        if self._draw() is not me:
            self._switch()
        else:
            self._drawn = None

    def current(self) -> SimulatedThread:
        if self._running is None:
            raise RuntimeError("a simulated runtime is used from outside its run()")
        return self._running

    def task(self) -> object:
        return None if self._running is None else self._running.task

    def lock_pairs(self) -> Mapping[str, int]:
        return self.pairs

    # -- scheduling --------------------------------------------------------------------------------------------

    def run(self, body: Callable[[], None], limit_seconds: float = 1e7, stall_seconds: float = STALL_SECONDS) -> None:
        """Run `body` as thread "main" and all that it forks.

        Raises the first error of any thread; Deadlock if nobody can run, or if daemons that pause and look again are
        all that has run for `stall_seconds` (one that wakes for ever would otherwise hide a deadlock of all the
        others), or if the run goes on past the limit.
        """
        self._hub = getcurrent()
        self._limit = limit_seconds
        self._stall = stall_seconds
        self.fork(body, "main")
        try:
            while self._living:
                self._step()
        finally:
            self._unwind()

    def choose(self, count: int) -> int:
        """A number below `count`, from the seed."""
        return self._random.randrange(count) if count > 1 else 0

    def block(self, why: Callable[[], str], timeout: float | None = None, owed_by: OwedBy | None = None) -> bool:
        """Take the current thread off the processor until make_ready; False if `timeout` seconds passed first."""
        if self.over:
            raise GreenletExit
        me = self.current()
        me.blocked_on = why
        me.owed_by = owed_by
        me.timed_out = False
        me.timer = next(self._numbers)
        if timeout is not None:
            heapq.heappush(self._timers, (self.clock + timeout, me.timer, me, me.timer))
        self._history.append((me.name, "waits", ""))
        self._switch()
        return not me.timed_out

    def make_ready(self, thread: SimulatedThread) -> None:
        if thread.blocked_on is not None:
            thread.blocked_on = None
            self._ready.append(thread)
            self._last_wakeup = self.clock

    def _step(self) -> None:
        thread, self._drawn = self._drawn, None
        if thread is None:
            self._fire_timers()
            if not self._ready:
                self._pass_time()
                return
            thread = self._draw()
            self._drawn = None
        self._running = thread
        assert thread.greenlet is not None
        thread.greenlet.switch()
        self._running = None
        if thread.ended and thread.error is not None:
            raise thread.error

    def _draw(self) -> SimulatedThread:
        """Take the next thread to run out of the ready ones."""
        thread = self._drawn = self._ready.pop(self.choose(len(self._ready)))
        self.steps += 1
        self.clock += STEP_SECONDS
        return thread

    def _pass_time(self) -> None:
        """Nobody is ready: go to the next timer that somebody still waits for (INV-3)."""
        pending = [thread for _, _, thread, number in self._timers if thread.blocked_on and thread.timer == number]
        if not pending:
            raise self._deadlock("deadlock: nobody can run")
        self.clock = self._timers[0][0]
        if self.clock > self._limit:
            raise self._deadlock("no end: the run has used up its time")
        if self.clock - self._last_wakeup > self._stall and all(thread.daemon for thread in pending):
            raise self._deadlock("deadlock: nobody can run but those who pause and look again")

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.clock:
            _, _, thread, number = heapq.heappop(self._timers)
            if thread.blocked_on is not None and thread.timer == number:
                thread.timed_out = True
                if thread.cancel_wait is not None:
                    thread.cancel_wait()
                thread.blocked_on = None
                self._ready.append(thread)
                if not thread.daemon:
                    self._last_wakeup = self.clock

    def _switch(self) -> None:
        assert self._hub is not None
        self._hub.switch()
        if self.over:
            raise GreenletExit

    def _thread_main(self, thread: SimulatedThread, body: Callable[[], None]) -> None:
        try:
            body()
        except GreenletExit:
            pass
        except BaseException as error:
            error.add_note(f"in thread {thread.name}, seed {self.seed}, step {self.steps}")
            thread.error = error
        thread.ended = True
        self._living -= not thread.daemon
        for joiner in thread.joiners:
            self.make_ready(joiner)

    def _unwind(self) -> None:
        """End every thread that is left, so that nothing of this run outlives it."""
        self.over = True
        for thread in self._threads:
            if not thread.ended and thread.greenlet is not None:
                self._running = thread
                thread.greenlet.throw(GreenletExit)
        self._running = None

    # -- telling -----------------------------------------------------------------------------------------------

    def waits(self) -> tuple[Wait, ...]:
        """The wait-for graph: every blocked thread, in the order in which they were forked."""
        return tuple(
            Wait(
                thread.name,
                thread.blocked_on(),
                tuple(owing.name for owing in (thread.owed_by() if thread.owed_by is not None else ())),
                tuple(mutex.name for mutex in thread.held),
                thread.handles,
            )
            for thread in self._threads
            if not thread.ended and thread.blocked_on is not None
        )

    def _deadlock(self, what: str) -> Deadlock:
        """The wait-for graph in words, a circle first if there is one, then the last steps."""
        waits = self.waits()
        graph = WaitGraph(waits)
        lines = [f"{what} (seed {self.seed}, step {self.steps}, {self.clock:.6f} s)"]
        circle = graph.circle()
        if circle:
            names = [wait.thread for wait in circle]
            lines.append("  the circle: " + " -> ".join([*names, names[0]]))
        lines += [f"  {words}" for words in graph.words()]
        steps = (f"{who}: {what} {about}".rstrip() for who, what, about in self._history)
        lines.append("  the last steps: " + "; ".join(steps))
        return Deadlock("\n".join(lines), waits, self._last_wakeup)
