"""A trace in the format of Chrome's tracing, which Perfetto opens.

Interface:
    chrome_events(trace)    the entries of "traceEvents": dictionaries ready for JSON

Format: "Trace Event Format" (the document of the Chrome project).  Used of it: M (names of processes and threads),
X (complete events, ts and dur in microseconds), i (instants, of a thread), s and f (flows, from the sending of a
message to its receipt), C (counters: the pages on each queue).

A process is a party of the trace.  A thread that serves is shown as busy from the receipt of a message until the last
thing that it did for it.

Invariants:
    1. No two events have the same time: each comes a nanosecond after the one before it at the least.  In simulated
       time a thousand can happen at once, and a viewer that sees only times would take each for a part of the last.
    2. The slices of a thread nest: a viewer drops what overlaps.

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
    moments = _moments(trace)
    served = _served(trace)
    queues = _Queues()
    for event in trace.events:
        pid, tid = places.of(event)
        begin = moments[event.number]
        base = {"pid": pid, "tid": tid, "ts": begin / 1000, "cat": event.kind}
        arguments = event.values | {"event": event.number, "cause": event.cause}
        if event.kind in SPANS:
            end = trace.end_of(event)
            yield from _span(event, base, arguments, moments[end.number] - begin if end is not None else None)
        elif event.kind == "receive":
            name = event.values["message"]
            nanoseconds = moments[served[event.number]] - begin
            yield base | {"ph": "X", "name": name, "dur": nanoseconds / 1000, "args": arguments}
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


def _moments(trace: Trace) -> list[int]:
    """By number of an event, from 1: when it was, in nanoseconds; each later than the one before (INV-1)."""
    moments = [-1]
    for event in trace.events:
        moments.append(max(moments[-1] + 1, round(event.time * 1e9)))
    return moments


def _span(event: Event, base: ChromeEvent, arguments: dict[str, Any], nanoseconds: int | None) -> Iterator[ChromeEvent]:
    if event.kind == "wait" and str(event.values["why"]).startswith(IDLE):
        return
    if nanoseconds is None:  # it was still going on: B without E is what the format has for it
        yield base | {"ph": "B", "name": _title(event), "args": arguments}
    else:
        yield base | {"ph": "X", "name": _title(event), "dur": nanoseconds / 1000, "args": arguments}


def _title(event: Event) -> str:
    if event.kind == "fault":
        return f"fault {event.values['access']} {event.values['address']:#x}"
    if event.kind == "lock_wait":
        return f"waits for lock {event.values['mutex']}"
    if event.kind in ("wait", "sleep"):
        return str(event.values["why"])
    return event.kind


def _served(trace: Trace) -> dict[int, int]:
    """By number of a receipt: the number of the last thing that the thread did because of it.

    What it receives within a span, the answer to a call say, is over when that is (INV-2).
    """
    last: dict[int, int] = {}
    open_by_thread: dict[tuple[str, str], list[int]] = {}  # spans, and receipts that are being worked on
    for event in trace.events:
        still_open = open_by_thread.setdefault((event.party, event.thread), [])
        is_idle = event.kind == "wait" and str(event.values["why"]).startswith(IDLE)
        if event.kind in ("receive", "packet_in") or is_idle:
            while still_open and still_open[-1] in last:  # what was received before is done
                still_open.pop()
        elif event.kind.endswith("_end") and event.cause in still_open:
            del still_open[still_open.index(event.cause) :]
        for number in still_open:
            if number in last:
                last[number] = event.number
        if event.kind == "receive":
            last[event.number] = event.number
            still_open.append(event.number)
        elif event.kind in SPANS and trace.end_of(event) is not None and not is_idle:
            still_open.append(event.number)
    return last


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
