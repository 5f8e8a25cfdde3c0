"""Both runtimes, and what only the simulated one can do: replay and report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mach.threads import Deadlock, LockOrderError, LockRank, NativeRuntime, Runtime, Thread, Wait, WaitGraph
from mach.threads.simulated import SimulatedRuntime


def on_native(body: Callable[[Runtime], None]) -> None:
    body(NativeRuntime())


def on_simulated(body: Callable[[Runtime], None]) -> None:
    for seed in range(20):
        runtime = SimulatedRuntime(seed)
        runtime.run(lambda runtime=runtime: body(runtime))


both = pytest.mark.parametrize("on", [on_native, on_simulated])
On = Callable[[Callable[[Runtime], None]], None]


@both
def test_a_mutex_keeps_two_threads_apart(on: On) -> None:
    def body(runtime: Runtime) -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        inside = [0]

        def work() -> None:
            for _ in range(20):
                with mutex:
                    inside[0] += 1
                    runtime.checkpoint("inside")
                    assert inside[0] == 1
                    inside[0] -= 1

        threads = [runtime.fork(work, f"t{n}") for n in range(3)]
        for thread in threads:
            thread.join()
        assert runtime.lock_pairs()["m"] == 60

    on(body)


@both
def test_a_condition_hands_over_from_one_thread_to_another(on: On) -> None:
    def body(runtime: Runtime) -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        changed = runtime.condition(mutex, "changed")
        box: list[int] = []
        got: list[int] = []

        def consume() -> None:
            with mutex:
                while len(got) < 10:
                    while not box:
                        changed.wait("something in the box")
                    got.append(box.pop())
                    changed.broadcast()

        consumer = runtime.fork(consume, "consumer")
        for number in range(10):
            with mutex:
                while box:
                    changed.wait("room in the box")
                box.append(number)
                changed.broadcast()
        consumer.join()
        assert got == list(range(10))

    on(body)


@both
def test_a_wait_with_a_timeout_says_whether_it_was_woken(on: On) -> None:
    def body(runtime: Runtime) -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        changed = runtime.condition(mutex, "changed")
        before = runtime.now()
        with mutex:
            assert not changed.wait("nothing", timeout=0.01)
        assert runtime.now() - before >= 0.01
        # A signal after a wait that timed out goes to the next waiter, not to the one that left.
        woken: list[bool] = []

        def sleeper() -> None:
            with mutex:
                woken.append(changed.wait("the signal", timeout=30))

        thread = runtime.fork(sleeper, "sleeper")
        while not woken:
            with mutex:
                changed.signal()
            runtime.sleep(0.001)
        thread.join()
        assert woken == [True]

    on(body)


@both
def test_a_mutex_out_of_order_is_an_error_at_once(on: On) -> None:
    def body(runtime: Runtime) -> None:
        outer = runtime.mutex("outer", LockRank.PAGER)
        inner = runtime.mutex("inner", LockRank.IPC)
        with outer, inner:
            pass
        with pytest.raises(LockOrderError, match=r"outer .* is taken inside inner"), inner, outer:
            pass
        with pytest.raises(LockOrderError, match="twice"), outer, outer:
            pass

    on(body)


@both
def test_what_a_thread_raises_reaches_who_joins_it(on: On) -> None:
    def body(runtime: Runtime) -> None:
        def fail() -> None:
            raise KeyError("why")

        thread = runtime.fork(fail, "failing")
        with pytest.raises(KeyError, match="why"):
            thread.join()
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        on(body)


def two_unordered_mutexes(runtime: SimulatedRuntime) -> None:
    one, other = runtime.mutex("one", None), runtime.mutex("other", None)

    def forth() -> None:
        with one:
            runtime.checkpoint("between")
            with other:
                pass

    def back() -> None:
        with other:
            runtime.checkpoint("between")
            with one:
                pass

    threads = [runtime.fork(forth, "forth"), runtime.fork(back, "back")]
    for thread in threads:
        thread.join()


def test_an_unordered_pair_of_mutexes_is_told_as_a_deadlock() -> None:
    reports = []
    for seed in range(50):
        runtime = SimulatedRuntime(seed)
        try:
            runtime.run(lambda runtime=runtime: two_unordered_mutexes(runtime))
        except Deadlock as deadlock:
            reports.append((seed, str(deadlock)))
    assert 0 < len(reports) < 50, "some schedules deadlock, some do not"
    seed, words = reports[0]
    assert f"seed {seed}" in words
    assert "the circle: forth -> back -> forth" in words
    assert "forth waits for mutex other, held by back; it holds one" in words
    assert "back waits for mutex one, held by forth; it holds other" in words


def test_a_run_is_a_pure_function_of_its_seed() -> None:
    def trace(seed: int) -> list[str]:
        runtime = SimulatedRuntime(seed)
        seen: list[str] = []

        def work(name: str) -> None:
            for _ in range(5):
                runtime.checkpoint("step")
                seen.append(name)

        def body() -> None:
            for name in "abc":
                runtime.fork(lambda name=name: work(name), name)

        runtime.run(body)
        return seen

    assert trace(7) == trace(7)
    assert len({tuple(trace(seed)) for seed in range(20)}) > 10


def test_virtual_time_jumps_over_pauses() -> None:
    runtime = SimulatedRuntime(0)
    runtime.run(lambda: runtime.sleep(3600, "an hour"))
    assert 3600 <= runtime.clock < 3601


def test_a_wait_that_nobody_can_end_names_what_is_awaited() -> None:
    runtime = SimulatedRuntime(0)

    def body() -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        changed = runtime.condition(mutex, "changed")
        with mutex:
            changed.wait("page 3 of object 5")

    with pytest.raises(Deadlock, match="main waits for page 3 of object 5"):
        runtime.run(body)


def test_a_daemon_that_wakes_for_ever_does_not_hide_that_nothing_else_can_run() -> None:
    runtime = SimulatedRuntime(0)

    def tick() -> None:
        while True:
            runtime.sleep(1, "a tick")

    def body() -> None:
        runtime.fork(tick, "clock", daemon=True)
        mutex = runtime.mutex("m", LockRank.PAGER)
        with mutex:
            runtime.condition(mutex, "changed").wait("what never comes")

    with pytest.raises(Deadlock, match="main waits for what never comes"):
        runtime.run(body, stall_seconds=100)
    assert 100 < runtime.clock < 110


def test_a_long_pause_of_a_program_is_no_deadlock() -> None:
    """Neither while it sleeps, nor right after, when only a server's timer will wake it."""
    runtime = SimulatedRuntime(0)

    def body() -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        changed = runtime.condition(mutex, "changed")

        def serve() -> None:
            runtime.sleep(1050, "a slow disk")
            with mutex:
                changed.signal()

        runtime.fork(serve, "server", daemon=True)
        runtime.sleep(1000)
        with mutex:
            changed.wait("the server")

    runtime.run(body, stall_seconds=100)
    assert runtime.clock >= 1050


def test_a_deadlock_carries_the_graph_of_who_owes_whom() -> None:
    runtime = SimulatedRuntime(0)

    def body() -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        changed = runtime.condition(mutex, "changed")
        threads: list[Thread] = []

        def wait_for(number: int) -> None:
            with mutex:
                while True:
                    changed.wait(f"number {number}", owed_by=lambda: [threads[number]])

        for number in range(3):  # t0 waits for t1, t1 for t2, t2 for t1
            owing = 2 if number == 1 else 1
            threads.append(runtime.fork(lambda owing=owing: wait_for(owing), f"t{number}"))

    with pytest.raises(Deadlock, match=r"the circle: t1 -> t2 -> t1|the circle: t2 -> t1 -> t2") as caught:
        runtime.run(body)
    assert {wait.thread: wait.owed_by for wait in caught.value.waits}["t2"] == ("t1",)


def test_the_shortest_circle_is_found_and_idle_servers_are_on_none() -> None:
    waits = [
        Wait("program", "a page", ("pageout",)),
        Wait("pageout", "its laundry", ("server 1", "server 2")),
        Wait("server 1", "work", ()),
        Wait("server 2", "a frame", ("clerk",)),
        Wait("clerk", "a pause", ("pageout", "server 2")),
    ]
    graph = WaitGraph(waits)
    assert [wait.thread for wait in graph.circle()] == ["server 2", "clerk"]
    assert [wait.thread for wait in graph.way("program", ["clerk"])] == ["program", "pageout", "server 2", "clerk"]
    assert graph.way("server 1", ["clerk"]) == []
    assert WaitGraph(waits[:3]).circle() == []


def test_daemon_threads_do_not_keep_a_run_alive() -> None:
    runtime = SimulatedRuntime(0)
    unwound = []

    def serve() -> None:
        mutex = runtime.mutex("m", LockRank.PAGER)
        changed = runtime.condition(mutex, "changed")
        try:
            with mutex:
                changed.wait("work")
        finally:
            unwound.append(True)

    runtime.run(lambda: runtime.fork(serve, "server", daemon=True) and runtime.sleep(1))
    assert unwound == [True]
