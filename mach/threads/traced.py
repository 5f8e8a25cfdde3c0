"""A runtime whose waits are told: who waited for which lock or event, how long, and who woke it.

Interface:
    TracedRuntime(runtime)    a Runtime over another; its .tracer is to be set before anything is built on it
    traced(runtime, path, party) -> Runtime    the runtime itself without a path, else one that is traced into that file

Told (mach/trace.py):
    lock_wait   mutex, holder      a mutex that somebody held when it was wanted
    wait        why                a condition; its end has `by`: what the thread that woke it was doing

Invariants:
    1. It adds no scheduling point: a traced run of the simulated runtime takes the schedule of an untraced one.

Not here: the waiting itself (native.py, simulated.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from mach.threads.runtime import Condition, LockRank, Mutex, OwedBy, Runtime, Thread
from mach.trace import Tracer, open_trace


class TracedMutex:
    """`holder` is who has it, as far as those who want it need to know for their story."""

    def __init__(self, runtime: TracedRuntime, mutex: Mutex) -> None:
        self.name = mutex.name
        self.rank = mutex.rank
        self.mutex = mutex
        self.holder: Thread | None = None
        self._runtime = runtime

    def __enter__(self) -> TracedMutex:
        holder, tracer = self.holder, self._runtime.tracer
        if holder is None or tracer is None:
            self.mutex.__enter__()
        else:
            with tracer.span("lock_wait", mutex=self.name, holder=holder.name):
                self.mutex.__enter__()
        self.holder = self._runtime.current()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.holder = None
        self.mutex.__exit__(kind, error, tb)

    def locked_by_me(self) -> bool:
        return self.mutex.locked_by_me()


class TracedCondition:
    def __init__(self, runtime: TracedRuntime, mutex: TracedMutex, name: str) -> None:
        self._runtime = runtime
        self._mutex = mutex
        self._condition = runtime.runtime.condition(mutex.mutex, name)
        self._woken_by = 0

    def wait(
        self, why: str | Callable[[], str], timeout: float | None = None, *, owed_by: OwedBy | None = None
    ) -> bool:
        tracer, self._mutex.holder = self._runtime.tracer, None
        try:
            if tracer is None:
                return self._condition.wait(why, timeout, owed_by=owed_by)
            with tracer.span("wait", why=why() if callable(why) else why) as end:
                woken = self._condition.wait(why, timeout, owed_by=owed_by)
                end["by"] = self._woken_by if woken else 0
                return woken
        finally:
            self._mutex.holder = self._runtime.current()

    def signal(self) -> None:
        self._note()
        self._condition.signal()

    def broadcast(self) -> None:
        self._note()
        self._condition.broadcast()

    def _note(self) -> None:
        if self._runtime.tracer is not None:
            self._woken_by = self._runtime.tracer.current()


class TracedRuntime:
    """See the head of the module.  What it does not change it takes from the other."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.reports = runtime.reports
        self.tracer: Tracer | None = None
        self.current = runtime.current
        self.now = runtime.now
        self.checkpoint = runtime.checkpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runtime, name)

    def fork(self, body: Callable[[], None], name: str, *, daemon: bool = False) -> Thread:
        return self.runtime.fork(body, name, daemon=daemon)

    def mutex(self, name: str, rank: LockRank | None) -> Mutex:
        return TracedMutex(self, self.runtime.mutex(name, rank))

    def condition(self, mutex: Mutex, name: str) -> Condition:
        assert isinstance(mutex, TracedMutex)
        return TracedCondition(self, mutex, name)

    def sleep(self, seconds: float, why: str = "a pause", *, owed_by: OwedBy | None = None) -> None:
        if self.tracer is None:
            return self.runtime.sleep(seconds, why, owed_by=owed_by)
        with self.tracer.span("sleep", why=why, seconds=seconds):
            return self.runtime.sleep(seconds, why, owed_by=owed_by)

    def lock_pairs(self) -> Mapping[str, int]:
        return self.runtime.lock_pairs()


def traced(runtime: Runtime, path: str | None, party: str, **facts: str | int) -> Runtime:
    """OSError if the file cannot be made.  Whoever ends the run closes the tracer."""
    if path is None:
        return runtime
    over = TracedRuntime(runtime)
    over.tracer = open_trace(over, path, party, **facts)
    return over
