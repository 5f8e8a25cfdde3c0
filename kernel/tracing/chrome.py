"""A trace in the format of Chrome's tracing, which Perfetto opens.

Interface:
    chrome_events(trace)    the entries of "traceEvents": dictionaries ready for JSON

Format: "Trace Event Format" (the document of the Chrome project).  Used of it: M (names of processes and threads),
X (complete events, ts and dur in microseconds), i (instants, of a thread), s and f (flows, from the sending of a
message to its receipt), C (counters: the pages on each queue).

A process is a party of the trace.  A thread that serves is shown as busy from the receipt of a message until the last
thing that it did for it.

Not here: reading traces (mach/trace_file.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from kernel.tracing.story import IDLE
from mach.trace_file import Event, Trace

ChromeEvent = dict[str, Any]
SPANS = (
    "fault",
    "page_out",
    "pageout_scan",
    "wait",
    "lock_wait",
    "sleep",
    "device_read",
    "device_write",
    "operation",
    "io_done",
)
QUEUES = {"page_alloc": "in transit", "page_out": "in transit", "wire": "wired", "page_free": "free"}
COUNTED = ("in transit", "active", "inactive", "wired")


def chrome_events(trace: Trace) -> Iterator[ChromeEvent]:
    """In the order of the trace; the names first."""
    places = _Places()
    for event in trace.events:
        places.of(event)
    yield from places.names()
    served = _served(trace)
    queues = _Queues()
    for event in trace.events:
        pid, tid = places.of(event)
        base = {"pid": pid, "tid": tid, "ts": _microseconds(event.time), "cat": event.kind}
        arguments = event.values | {"event": event.number, "cause": event.cause}
        if event.kind in SPANS:
            yield from _span(trace, event, base, arguments)
        elif event.kind == "receive":
            name = event.values["message"]
            yield base | {"ph": "X", "name": name, "dur": _microseconds(served[event.number]), "args": arguments}
            yield base | {"ph": "f", "bp": "e", "id": event.cause, "name": name, "cat": "message"}
        elif event.kind == "send":
            name = event.values["message"]
            yield base | {"ph": "i", "s": "t", "name": f"send {name}", "args": arguments}
            if any(consequence.kind == "receive" for consequence in trace.consequences(event)):
                yield base | {"ph": "s", "id": event.number, "name": name, "cat": "message"}
        elif not event.kind.endswith("_end"):
            yield base | {"ph": "i", "s": "t", "name": event.kind, "args": arguments}
        if event.kind in QUEUES or event.kind == "queue":
            yield {"ph": "C", "pid": pid, "ts": base["ts"], "name": "pages", "args": queues.after(event)}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _span(trace: Trace, event: Event, base: ChromeEvent, arguments: dict[str, Any]) -> Iterator[ChromeEvent]:
    if event.kind == "wait" and str(event.values["why"]).startswith(IDLE):
        return
    seconds = trace.duration(event)
    if seconds is None:  # it was still going on: B without E is what the format has for it
        yield base | {"ph": "B", "name": _title(event), "args": arguments}
    else:
        yield base | {"ph": "X", "name": _title(event), "dur": _microseconds(seconds), "args": arguments}


def _title(event: Event) -> str:
    if event.kind == "fault":
        return f"fault {event.values['access']} {event.values['address']:#x}"
    if event.kind == "lock_wait":
        return f"waits for lock {event.values['mutex']}"
    if event.kind in ("wait", "sleep"):
        return str(event.values["why"])
    return event.kind


def _served(trace: Trace) -> dict[int, float]:
    """By number of a receipt: seconds until the last thing that the thread did because of it."""
    seconds: dict[int, float] = {}
    serving: dict[tuple[str, str], Event] = {}
    for event in trace.events:
        thread = (event.party, event.thread)
        if event.kind in ("receive", "packet_in"):
            serving.pop(thread, None)
            if event.kind == "receive":
                serving[thread] = event
                seconds[event.number] = 0.0
        elif event.kind == "wait" and str(event.values["why"]).startswith(IDLE):
            serving.pop(thread, None)
        elif thread in serving:
            seconds[serving[thread].number] = event.time - serving[thread].time
    return seconds


class _Places:
    """Numbers for parties and their threads."""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}
        self._threads: dict[tuple[str, str], int] = {}

    def of(self, event: Event) -> tuple[int, int]:
        pid = self._processes.setdefault(event.party, len(self._processes) + 1)
        return pid, self._threads.setdefault((event.party, event.thread), len(self._threads) + 1)

    def names(self) -> Iterator[ChromeEvent]:
        for party, pid in self._processes.items():
            yield {"ph": "M", "pid": pid, "tid": 0, "ts": 0, "name": "process_name", "args": {"name": party}}
        for (party, thread), tid in self._threads.items():
            name = {"name": "thread_name", "args": {"name": thread}}
            yield {"ph": "M", "pid": self._processes[party], "tid": tid, "ts": 0} | name


class _Queues:
    """How many pages are where."""

    def __init__(self) -> None:
        self._where: dict[int, str] = {}
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))

    def after(self, event: Event) -> dict[str, int]:
        frame, where = event.values["frame"], event.values.get("queue") or QUEUES[event.kind]
        before = self._where.pop(frame, None)
        if before is not None:
            self._counts[before] -= 1
        if where != "free":
            self._where[frame] = where
            self._counts[where] += 1
        return dict(self._counts)
