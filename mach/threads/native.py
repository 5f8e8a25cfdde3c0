"""The runtime on real threads and real time: what the daemon runs on.

Interface:
    NativeRuntime(stack_bytes, check_locks)    a Runtime; .describe() says what each thread waits for
    wall_clock()                               seconds since 1970, for logs
    CHECK_LOCKS                                the environment variable that turns on what a mutex is too cheap for

Invariants: those of runtime.py.  The lock order is kept and the pairs are counted where `check_locks` says so: that
costs ten times what the mutex itself does, and a page-in takes a dozen.

Not here: scheduling decisions (the operating system makes them).
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mach.threads.runtime import Condition, LockRank, Mutex, OwedBy, Thread, check_order

if TYPE_CHECKING:
    from mach.trace import Tracer

SWITCH_SECONDS = 0.0002
CHECK_LOCKS = "MACH_CHECK_LOCKS"


def wall_clock() -> float:
    return time.time()


class NativeThread:
    """A thread of the operating system, and what this module keeps about it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.vm_privilege = False
        self.task: object = None
        self.duty: Callable[[], None] | None = None
        self.handles = ""
        self.waits_for: str | Callable[[], str] = ""
        self.ident = 0
        self.held: list[Mutex] = []
        self.pairs: Counter[str] = Counter()  # written by this thread alone
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, body: Callable[[], None], adopt: Callable[[NativeThread], None], daemon: bool) -> None:
        def run() -> None:
            adopt(self)
            try:
                body()
            except BaseException as error:
                self._error = error
                if daemon:  # nobody joins a server thread: its end must not pass unseen
                    raise

        self._thread = threading.Thread(target=run, name=self.name, daemon=daemon)
        self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error


_OwnedLock: Any = _thread.RLock  # a class, which its stub takes for a final one


class NativeMutex(_OwnedLock):  # type: ignore[misc]
    """A mutex that costs what the interpreter's own does.  (It is built on the one lock type that can be derived from;
    that it would let its owner in twice is what CheckedMutex finds out in the tests.)"""

    def __init__(self, runtime: NativeRuntime, name: str, rank: LockRank | None) -> None:
        self.name = name
        self.rank = rank

    def __new__(cls, runtime: NativeRuntime, name: str, rank: LockRank | None) -> NativeMutex:
        made: NativeMutex = super().__new__(cls)
        return made

    def locked_by_me(self) -> bool:
        return bool(self._is_owned())


class CheckedMutex(NativeMutex):
    """One that keeps the lock order and counts."""

    def __init__(self, runtime: NativeRuntime, name: str, rank: LockRank | None) -> None:
        super().__init__(runtime, name, rank)
        self._runtime = runtime

    def __enter__(self) -> bool:
        thread = self._runtime.current()
        if thread.held:
            check_order(self, thread.held)
        self.acquire()
        thread.held.append(self)
        thread.pairs[self.name] += 1
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._runtime.current().held.remove(self)
        self.release()


class NativeCondition:
    """A condition.  To signal one that nobody waits for costs next to nothing: it is the common case."""

    def __init__(self, runtime: NativeRuntime, mutex: NativeMutex) -> None:
        self._runtime = runtime
        self._mutex = mutex
        self._waiting = 0
        self._condition = threading.Condition(mutex)

    def wait(
        self, why: str | Callable[[], str], timeout: float | None = None, *, owed_by: OwedBy | None = None
    ) -> bool:
        thread = self._runtime.current()
        self._runtime.may_block()
        if thread.held:
            thread.held.remove(self._mutex)
        self._waiting += 1
        thread.waits_for = why
        try:
            return self._condition.wait(timeout)
        finally:
            self._waiting -= 1
            thread.waits_for = ""
            if isinstance(self._mutex, CheckedMutex):
                thread.held.append(self._mutex)

    def signal(self) -> None:
        if self._waiting:
            self._condition.notify()

    def broadcast(self) -> None:
        if self._waiting:
            self._condition.notify_all()


class NativeRuntime:
    """A Runtime on the operating system's threads and its monotonic clock."""

    reports = False
    tracer: Tracer | None = None  # a traced.TracedRuntime has one

    def __init__(self, stack_bytes: int = 0, check_locks: bool | None = None) -> None:
        """`stack_bytes` of stack for each thread forked; 0: what the system gives."""
        self._stack_bytes = stack_bytes
        check = CHECK_LOCKS in os.environ if check_locks is None else check_locks
        self._mutex_class = CheckedMutex if check else NativeMutex
        # A thread that wakes up waits this long for one that computes; a message takes a few tens of microseconds, so
        # the 5 ms of the interpreter would be what paging over a socket is made of.
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        self._local = threading.local()
        self._threads: list[NativeThread] = []
        self._threads_lock = threading.Lock()
        self._ended_pairs: Counter[str] = Counter()

    def fork(self, body: Callable[[], None], name: str, *, daemon: bool = False) -> Thread:
        thread = NativeThread(name)
        thread.task = self.task()

        def run() -> None:
            try:
                body()
            finally:
                self._retire(thread)

        before = threading.stack_size(self._stack_bytes)
        try:
            thread.start(run, self._adopt, daemon)
        finally:
            threading.stack_size(before)
        return thread

    def mutex(self, name: str, rank: LockRank | None) -> Mutex:
        return self._mutex_class(self, name, rank)

    def condition(self, mutex: Mutex, name: str) -> Condition:
        assert isinstance(mutex, NativeMutex)
        return NativeCondition(self, mutex)

    def sleep(self, seconds: float, why: str = "a pause", *, owed_by: OwedBy | None = None) -> None:
        self.may_block()
        time.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    def checkpoint(self, what: str, about: object = "") -> None:
        """Nothing: the operating system schedules."""

    def may_block(self) -> None:
        duty = self.current().duty  # looked at once: another thread may take it away (Receivers.relieve)
        if duty is not None:
            duty()

    def current(self) -> NativeThread:
        try:
            return self._local.thread  # type: ignore[no-any-return]
        except AttributeError:  # a thread that we did not fork: the main one, a test's
            thread = NativeThread(threading.current_thread().name)
            self._adopt(thread)
            return thread

    def task(self) -> object:
        return self.current().task

    def lock_pairs(self) -> Mapping[str, int]:
        with self._threads_lock:
            total = Counter(self._ended_pairs)
            for thread in self._threads:
                total.update(dict(thread.pairs))
        return total

    def describe(self) -> list[str]:
        """What each thread waits for, or where it runs; one line a thread."""
        frames = sys._current_frames()
        with self._threads_lock:
            threads = list(self._threads)
        lines = []
        for thread in threads:
            why, frame = thread.waits_for, frames.get(thread.ident)
            if why:
                what = f"waits for {why() if callable(why) else why}"
            elif frame is None:
                what = "has ended"
            else:
                code = frame.f_code
                what = f"is in {code.co_name} at {os.path.basename(code.co_filename)}:{frame.f_lineno}"
            held = ", ".join(mutex.name for mutex in thread.held)
            lines.append(f"{thread.name} {what}" + (f"; it holds {held}" if held else ""))
        return lines

    def _adopt(self, thread: NativeThread) -> None:
        self._local.thread = thread
        thread.ident = threading.get_ident()
        with self._threads_lock:
            self._threads.append(thread)

    def _retire(self, thread: NativeThread) -> None:
        with self._threads_lock:
            self._threads.remove(thread)
            self._ended_pairs.update(thread.pairs)
