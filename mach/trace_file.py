"""Reading traces back: those of several processes as one, with every event's cause and its consequences.

Interface:
    read_trace(paths) -> Trace     BadTrace: what is wrong with which line of which file; OSError
    Event                          number, time (seconds since the first), party, thread, kind, cause, values
    Trace                          .events, by number from 1;  .consequences(event), .end_of(span), .duration(span)
                                   .causes(event): what led to it, nearest first
                                   .within(event): all that it led to, in order

A packet that came in was sent by the packet_out of the same number of the same connection in another file.

Invariants:
    1. Events of one file keep their order; those of several are ordered by time (one machine has one clock).
    2. A cause has a smaller number than its event: there is no circle.

Not here: what events mean.
"""

from __future__ import annotations

import gzip
import heapq
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mach.trace import VERSION

OWN = ("n", "t", "thread", "kind", "cause")


class BadTrace(Exception):
    """A file that is no trace, or is broken."""


@dataclass(slots=True)
class Event:
    """See mach/trace.py."""

    number: int
    time: float
    party: str
    thread: str
    kind: str
    cause: int
    values: dict[str, Any]


class Trace:
    """See the head of the module."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self._consequences: dict[int, list[int]] = {}
        self._ends: dict[int, int] = {}
        for event in events:
            if event.cause:
                self._consequences.setdefault(event.cause, []).append(event.number)
                if event.kind == f"{self[event.cause].kind}_end":
                    self._ends[event.cause] = event.number

    def __getitem__(self, number: int) -> Event:
        return self.events[number - 1]

    def of_kind(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    def consequences(self, event: Event) -> list[Event]:
        """What it led to at once."""
        return [self[number] for number in self._consequences.get(event.number, ())]

    def causes(self, event: Event) -> Iterator[Event]:
        while event.cause:
            event = self[event.cause]
            yield event

    def within(self, event: Event) -> Iterator[Event]:
        """All that it led to, in the order of their numbers."""
        heap = list(self._consequences.get(event.number, ()))
        while heap:
            number = heapq.heappop(heap)
            yield self[number]
            for consequence in self._consequences.get(number, ()):
                heapq.heappush(heap, consequence)

    def end_of(self, span: Event) -> Event | None:
        number = self._ends.get(span.number)
        return None if number is None else self[number]

    def duration(self, span: Event) -> float | None:
        """Seconds, or None if the trace does not have its end."""
        end = self.end_of(span)
        return None if end is None else end.time - span.time


def read_trace(paths: Iterable[str]) -> Trace:
    """All the files as one trace."""
    files = [_read_file(path) for path in paths]
    merged = heapq.merge(*(_in_order(at, events) for at, events in enumerate(files)))
    order = [(at, files[at][index]) for _, at, index in merged]
    numbers: dict[tuple[int, int], int] = {}
    for number, (at, event) in enumerate(order, 1):
        numbers[at, event.number] = number
    start = min((event.time for _, event in order), default=0.0)
    sent = {
        _packet(event): (at, number)
        for number, (at, event) in enumerate(order, 1)
        if event.kind == "packet_out" and event.values.get("connection")
    }
    for number, (at, event) in enumerate(order, 1):
        event.cause = numbers.get((at, event.cause), 0)
        if event.kind == "packet_in":
            sender, cause = sent.get(_packet(event), (at, 0))
            event.cause = cause if sender != at else 0
        if event.cause >= number:  # INV-2; clocks are not perfect
            event.cause = 0
        by = event.values.get("by")
        if by:
            event.values["by"] = numbers.get((at, by), 0)
        event.number = number
        event.time -= start
    return Trace([event for _, event in order])


def _packet(event: Event) -> tuple[object, object, object]:
    return event.values.get("connection"), event.values.get("from_initiator"), event.values.get("packet")


def _in_order(at: int, events: list[Event]) -> Iterator[tuple[float, int, int]]:
    """By number; the time is that of the latest before it, should threads have been told out of order."""
    latest = 0.0
    for index, event in enumerate(events):
        latest = max(latest, event.time)
        yield latest, at, index


def _read_file(path: str) -> list[Event]:
    with Path(path).open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        lines = iter(gzip.GzipFile(fileobj=file) if zipped else file)
        try:
            head = json.loads(next(lines, b"null"))
            if not isinstance(head, dict) or head.get("trace") != VERSION:
                raise BadTrace(f"{path} is no trace of ours; make one with: machsim run --trace {path}")
            party = str(head.get("party", "?"))
            events = [_event(json.loads(line), party) for line in lines]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadTrace(f"{path} is no trace of ours, or is cut short: {error}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise BadTrace(f"{path} is cut short; was its machine killed?") from None
    return sorted(events, key=lambda event: event.number)


def _event(fields: dict[str, Any], party: str) -> Event:
    values = {name: value for name, value in fields.items() if name not in OWN}
    return Event(
        int(fields["n"]),
        float(fields["t"]),
        party,
        str(fields["thread"]),
        str(fields["kind"]),
        int(fields["cause"]),
        values,
    )
