"""Tracing: causes, spans, waits, and that it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mach.kern_return import KernReturn
from mach.memory_object import MemoryObjectDataError, MemoryObjectReady
from mach.ports import Ipc
from mach.threads import LockRank
from mach.threads.simulated import SimulatedRuntime
from mach.threads.traced import TracedRuntime
from mach.trace import Tracer, open_trace, span
from mach.trace_file import read_trace

Event = dict[str, Any]


def traced(body: Callable[[TracedRuntime], None], seed: int = 0) -> tuple[list[Event], int]:
    """Run `body` traced; its events, and how many steps the scheduler took."""
    lines: list[bytes] = []
    simulated = SimulatedRuntime(seed)
    runtime = TracedRuntime(simulated)
    runtime.tracer = Tracer(runtime, lines.append, "test", page_size=4096)
    simulated.run(lambda: body(runtime))
    head, *events = [json.loads(line) for line in lines]
    assert head["party"] == "test"
    assert head["page_size"] == 4096
    for event in events:
        assert 0 <= event["cause"] < event["n"], "INV-1"
    return events, simulated.steps


def of_kind(events: list[Event], *kinds: str) -> list[Event]:
    return [event for event in events if event["kind"] in kinds]


def chain(events: list[Event], event: Event) -> list[str]:
    """The kinds from an event back to what led to it."""
    by_number = {event["n"]: event for event in events}
    kinds = [event["kind"]]
    while event["cause"]:
        event = by_number[event["cause"]]
        kinds.append(event["kind"])
    return kinds


def conversation(runtime: TracedRuntime) -> None:
    """A server that works on each message, and a client that sends it two."""
    ipc = Ipc(runtime)
    port = ipc.allocate("work")

    def serve() -> None:
        for _ in range(2):
            port.receive()
            with span(runtime, "device_read", offset=0):
                runtime.sleep(0.5, "the disk")

    runtime.fork(serve, "server")
    right = port.make_send()
    with span(runtime, "fault", address=4096) as end:
        right.send(MemoryObjectDataError(8192, 4096, KernReturn.KERN_MEMORY_ERROR))
        end["result"] = "done"
    right.send(MemoryObjectReady(1, 2))


def test_what_a_receiver_does_is_caused_by_the_message_and_that_by_its_sender() -> None:
    events, _ = traced(conversation)
    first, second = of_kind(events, "device_read")
    assert chain(events, first) == ["device_read", "receive", "send", "fault"]
    assert chain(events, second) == ["device_read", "receive", "send"]


def test_a_message_is_told_by_what_it_says_in_numbers_and_words() -> None:
    events, _ = traced(conversation)
    sent = of_kind(events, "send")[0]
    assert (sent["message"], sent["port"]) == ("MemoryObjectDataError", "work")
    assert (sent["offset"], sent["size"], sent["error_value"]) == (8192, 4096, "KERN_MEMORY_ERROR")
    received = of_kind(events, "receive")
    assert [event["seqno"] for event in received] == [0, 1]


def test_a_span_tells_its_end_and_what_came_of_it() -> None:
    events, _ = traced(conversation)
    (fault,), (end,) = of_kind(events, "fault"), of_kind(events, "fault_end")
    assert end["cause"] == fault["n"]
    assert end["result"] == "done"


def test_a_message_to_a_kernel_port_is_the_cause_of_what_its_sender_then_does() -> None:
    def body(runtime: TracedRuntime) -> None:
        port = Ipc(runtime).allocate("control")

        def page_in(message: object) -> None:
            assert runtime.tracer is not None
            runtime.tracer.event("page_in")

        port.become_kobject(page_in)
        with span(runtime, "fault"):
            port.make_send().send(MemoryObjectReady(1, 2))
        assert runtime.tracer is not None
        runtime.tracer.event("afterwards")

    events, _ = traced(body)
    assert chain(events, of_kind(events, "page_in")[0]) == ["page_in", "send", "fault"]
    assert of_kind(events, "afterwards")[0]["cause"] == 0


def contention(runtime: TracedRuntime) -> None:
    """Two threads that want one lock, and one that waits for an event."""
    mutex = runtime.mutex("lock", LockRank.KERNEL)
    happened = runtime.condition(mutex, "it")

    def hold() -> None:
        with mutex:
            runtime.sleep(1.0, "work")

    def wait() -> None:
        with mutex, span(runtime, "fault"):
            happened.wait("it to happen")

    def wake() -> None:
        runtime.sleep(5.0)
        with span(runtime, "page_free"), mutex:
            happened.signal()

    for body in (hold, wait, wake):
        runtime.fork(body, body.__name__)


def test_a_wait_names_who_held_the_lock_and_who_woke_it() -> None:
    for seed in range(20):  # whichever is first
        events, _ = traced(contention, seed)
        (wait,) = of_kind(events, "wait")
        (end,) = of_kind(events, "wait_end")
        assert wait["why"] == "it to happen"
        assert chain(events, wait) == ["wait", "fault"]
        assert end["by"] == of_kind(events, "page_free")[0]["n"]
        for lock_wait in of_kind(events, "lock_wait"):
            assert lock_wait["mutex"] == "lock"
            assert {lock_wait["thread"], lock_wait["holder"]} <= {"hold", "wait", "wake"}
            assert lock_wait["thread"] != lock_wait["holder"]
    assert any(of_kind(traced(contention, seed)[0], "lock_wait") for seed in range(20))


def test_a_traced_run_takes_the_schedule_of_an_untraced_one() -> None:
    for seed in range(10):
        plain = SimulatedRuntime(seed)
        plain.run(lambda plain=plain: contention(plain))  # type: ignore[misc]
        assert traced(contention, seed)[1] == plain.steps


def test_a_packet_is_sent_before_it_arrives_although_a_thread_was_late_to_read_the_clock(tmp_path: Path) -> None:
    """INV-3.  The clock of `late` stands still while another thread sends a packet, which arrives elsewhere."""
    times = {"send": 1.0, "arrive": 2.0, "late": 3.0}

    class Clock(SimulatedRuntime):
        preempted: Callable[[], object] | None = None

        def now(self) -> float:
            preempted, self.preempted = self.preempted, None
            if preempted is not None:
                preempted()
                return times["late"]
            return times[moment]

    sender, receiver = Clock(0), Clock(0)
    here = open_trace(sender, str(tmp_path / "here"), "machine")
    there = open_trace(receiver, str(tmp_path / "there"), "pager")
    moment = "send"
    sender.preempted = lambda: here.crossed("a connection", initiator=True, outwards=True)
    sender.run(lambda: here.event("late"))
    moment = "arrive"
    receiver.run(lambda: there.crossed("a connection", initiator=False, outwards=False))
    here.close()
    there.close()
    trace = read_trace([str(tmp_path / "here"), str(tmp_path / "there")])
    (packet,) = trace.of_kind("packet_in")
    assert [cause.kind for cause in trace.causes(packet)] == ["packet_out"]


def test_a_thread_that_goes_on_after_the_trace_is_closed_does_not_notice(tmp_path: Path) -> None:
    runtime = SimulatedRuntime(0)
    tracer = open_trace(runtime, str(tmp_path / "trace"), "machine")

    def body() -> None:
        tracer.event("before")
        write = tracer._write

        def interrupted(line: bytes) -> object:
            tracer.close()  # by another thread, when this one was about to write
            return write(line)

        tracer._write = interrupted
        tracer.event("after")

    runtime.run(body)
    assert [event.kind for event in read_trace([str(tmp_path / "trace")]).events] == ["before"]
