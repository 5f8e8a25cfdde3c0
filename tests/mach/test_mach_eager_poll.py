"""A poll that stays awake as long as that pays: by a clock that goes on by what each look, and each sleep, takes."""

from __future__ import annotations

import os
import select

import pytest

from mach.eager_poll import LOOK_SECONDS, SOON_SECONDS, EagerPoll
from mach.threads import NativeRuntime

ONE_LOOK = LOOK_SECONDS / 10


class Clocked(NativeRuntime):
    clock = 1000.0

    def now(self) -> float:
        return self.clock


class Peer:
    """Where select.poll is expected: something comes at a time of the clock, or never."""

    def __init__(self, runtime: Clocked) -> None:
        self.runtime = runtime
        self.comes_at: float | None = None
        self.looks = self.sleeps = self.yields = 0
        self.descriptors: list[int] = []

    def register(self, descriptor: int, events: int) -> None:
        assert events == select.POLLIN
        self.descriptors.append(descriptor)

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        runtime = self.runtime
        self.looks += milliseconds == 0
        self.sleeps += milliseconds != 0
        end = float("inf") if milliseconds is None else runtime.clock + (milliseconds / 1000 or ONE_LOOK)
        if self.comes_at is None or self.comes_at > end:
            assert end < float("inf"), "it sleeps for ever"
            runtime.clock = end
            return []
        runtime.clock = max(runtime.clock, self.comes_at)
        return [(descriptor, select.POLLIN) for descriptor in self.descriptors[:1]]


class Waiting:
    def __init__(self, peer: Peer, poll: EagerPoll) -> None:
        self.peer, self.eager = peer, poll
        poll.register(7)
        poll.register(8)

    def wait(self, after: float | None, timeout: float | None = None) -> tuple[list[int], int, int]:
        """What a poll gives if something comes `after` seconds; how often it looked, and slept."""
        peer = self.peer
        peer.looks = peer.sleeps = 0
        peer.comes_at = None if after is None else peer.runtime.clock + after
        return self.eager.poll(timeout), peer.looks, peer.sleeps


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    return _waiting(monkeypatch, processors=2)


def _waiting(monkeypatch: pytest.MonkeyPatch, processors: int) -> Waiting:
    runtime = Clocked()
    peer = Peer(runtime)
    monkeypatch.setattr(select, "poll", lambda: peer)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)

    def sched_yield() -> None:
        peer.yields += 1

    monkeypatch.setattr(os, "sched_yield", sched_yield)
    return Waiting(peer, EagerPoll(runtime))


def test_it_sleeps_until_something_has_come_soon(waiting: Waiting) -> None:
    assert waiting.wait(SOON_SECONDS * 0.9) == ([7], 0, 1)
    ready, looks, sleeps = waiting.wait(LOOK_SECONDS * 0.9)
    assert (ready, sleeps) == ([7], 0), "it was awake"
    assert looks > 1


def test_who_looks_lets_others_run_in_between(waiting: Waiting) -> None:
    waiting.wait(0.0)
    waiting.peer.yields = 0
    _, looks, _ = waiting.wait(LOOK_SECONDS * 0.9)
    assert waiting.peer.yields == looks - 1


def test_a_slow_peer_is_slept_for_from_the_second_time_on(waiting: Waiting) -> None:
    waiting.wait(0.0)
    began = waiting.peer.runtime.clock
    ready, looks, sleeps = waiting.wait(0.020)
    assert (ready, sleeps) == ([7], 1), "nothing came while it looked: then it slept"
    assert looks * ONE_LOOK <= LOOK_SECONDS + 2 * ONE_LOOK
    assert waiting.peer.runtime.clock == pytest.approx(began + 0.020), "and no longer than until it came"
    for _ in range(3):
        assert waiting.wait(0.020) == ([7], 0, 1)


def test_its_time_is_over_when_it_is_over_whether_it_looks_or_sleeps(waiting: Waiting) -> None:
    clock = waiting.peer.runtime
    for timeout in (LOOK_SECONDS / 2, LOOK_SECONDS * 4):
        waiting.wait(0.0)
        began = clock.clock
        ready, looks, _ = waiting.wait(None, timeout)
        assert ready == []
        assert looks
        assert timeout <= clock.clock - began <= timeout + 2 * ONE_LOOK


def test_what_is_there_already_is_taken_even_by_who_has_no_time(waiting: Waiting) -> None:
    assert waiting.wait(0.0, 0.0)[0] == [7]
    assert waiting.wait(0.0, 0.0)[0] == [7]
    assert waiting.wait(None, 0.0)[0] == []


def test_with_one_processor_it_never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = _waiting(monkeypatch, processors=1)
    for _ in range(3):
        assert waiting.wait(LOOK_SECONDS / 3) == ([7], 0, 1)


def test_it_is_told_of_real_descriptors() -> None:
    poll = EagerPoll(NativeRuntime())
    reader, writer = os.pipe()
    try:
        poll.register(reader)
        assert poll.poll(0) == []
        for _ in range(3):
            os.write(writer, b"!")
            assert poll.poll(10) == [reader]
            os.read(reader, 1)
        assert poll.poll(0.001) == []
    finally:
        os.close(reader)
        os.close(writer)
