"""One fault's story in words, from the store instruction to the disk block and back.

Interface:
    Fault                       a fault of a trace: .number (from 1), .how ("paged in", "zero-filled" ...), .seconds
    faults_of(trace) -> list of Fault
    story(trace, fault) -> lines
    snake(name)                 of a message: as Mach writes it
    time_span(seconds)          with three digits that mean something

A story goes in the order of causes: what a thread did, and under it, further to the right, what that made others do.
Where the fault had to wait for something that it did not cause itself (a page of memory), what ended the wait is told
there, under "meanwhile".

Not here: how traces are read (mach/trace_file.py); what a command prints around a story (kernel/machsim/explain.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mach.trace_file import Event, Trace

IDLE = "a message at "  # how the wait of a server that has nothing to do begins (mach/ports.py)
MEANWHILE = "page_out"  # what a wait for memory is ended by, told as a whole


@dataclass(frozen=True, slots=True)
class Fault:
    """See the head of the module."""

    number: int
    event: Event
    how: str
    seconds: float | None  # None: it had not ended when the trace did
    waits: Counter[str]


HOW = {
    "page_error": "failed",
    "page_in": "paged in",
    "copy": "copied on write",
    "zero_fill": "zero-filled",
}


def faults_of(trace: Trace) -> list[Fault]:
    """In the order in which they began."""
    return [_fault(trace, number, event) for number, event in enumerate(trace.of_kind("fault"), 1)]


def _fault(trace: Trace, number: int, event: Event) -> Fault:
    kinds: set[str] = set()
    waits: Counter[str] = Counter()
    for consequence in trace.within(event):
        kinds.add(consequence.kind)
        if consequence.kind in ("wait", "lock_wait") and consequence.thread == event.thread:
            waits[consequence.values.get("why") or f"lock {consequence.values['mutex']}"] += 1
    end = trace.end_of(event)
    if end is not None and end.values.get("result") not in (None, "KERN_SUCCESS"):
        how = str(end.values["result"])
    else:
        how = next((words for kind, words in HOW.items() if kind in kinds), "found in memory")
    return Fault(number, event, how, trace.duration(event), waits)


def story(trace: Trace, fault: Fault) -> list[str]:
    """The lines of a fault's story."""
    return list(_Teller(trace, fault).lines())


class _Teller:
    """Tells one fault.  Columns: time since the fault, who, what."""

    def __init__(self, trace: Trace, fault: Fault) -> None:
        self.trace = trace
        self.fault = fault
        self.start = fault.event.time
        self.told: set[int] = set()
        self.own = {event.number for event in trace.within(fault.event)}
        parties = {event.party for event in trace.events}
        names = [self._who(event, len(parties) > 1) for event in self._all()]
        self.with_party = len(parties) > 1
        self.width = max(map(len, names), default=0)

    def _all(self) -> Iterator[Event]:
        yield self.fault.event
        for event in self.trace.within(self.fault.event):
            yield event
            block = self._meanwhile(event)
            if block is not None:
                yield block
                yield from self.trace.within(block)

    def lines(self) -> Iterator[str]:
        yield from self._tell(self.fault.event, 0)

    def _tell(self, event: Event, depth: int, until: int | None = None) -> Iterator[str]:
        """An event and what it led to; in what happened meanwhile, `until` the event that ended the wait."""
        if event.number in self.told or (until is not None and event.number > until):
            return
        self.told.add(event.number)
        block = self._meanwhile(event) if until is None else None
        if block is not None and block.number not in self.told:
            yield self._line(block.time, "", depth, "meanwhile:")
            yield from self._tell(block, depth + 1, event.number)
        words = self._words(event)
        if words is not None:
            yield self._line(event.time, self._who(event, self.with_party), depth, words)
        if event.kind == "wait" and str(event.values["why"]).startswith(IDLE):
            return
        opens = event.kind in ("fault", "page_out", "send", "receive", "pageout_scan", "operation")
        for consequence in self.trace.consequences(event):
            yield from self._tell(consequence, depth + (opens and words is not None), until)

    def _meanwhile(self, event: Event) -> Event | None:
        """What ended a wait, if the fault did not cause that itself."""
        by = event.values.get("by") if event.kind == "wait_end" else None
        if not by or by in self.own:
            return None
        waker = self.trace[by]
        if event.cause and str(self.trace[event.cause].values.get("why", "")).startswith(IDLE):
            return None
        return next((cause for cause in (waker, *self.trace.causes(waker)) if cause.kind == MEANWHILE), None)

    def _line(self, time: float, who: str, depth: int, words: str) -> str:
        return f"{time_span(time - self.start):>10}  {who:<{self.width}}  {'  ' * depth}{words}"

    @staticmethod
    def _who(event: Event, with_party: bool) -> str:
        return f"{event.party}: {event.thread}" if with_party else event.thread

    def _words(self, event: Event) -> str | None:
        if event.kind == "fault":
            return self._fault_words(event)
        if event.kind == "fault_end":
            return self._end_words(event)
        tell = WORDS.get(event.kind)
        return None if tell is None else tell(self.trace, event)

    def _fault_words(self, event: Event) -> str:
        verb = "stores to" if event.values["access"] == "write" else "loads from"
        return f"{verb} {event.values['address']:#x}: no page may be used so, fault {self.fault.number}"

    def _end_words(self, event: Event) -> str:
        verb = "store" if self.fault.event.values["access"] == "write" else "load"
        result = event.values.get("result")
        if result == "KERN_SUCCESS":
            return f"the {verb} is done again, and succeeds"
        return f"the {verb} fails: {result}"


def time_span(seconds: float) -> str:
    """A length of time with three digits that mean something."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if abs(seconds) * factor >= 1:
            return (
                f"{seconds * factor:.3g} {unit}" if abs(seconds) * factor < 1000 else f"{seconds * factor:.0f} {unit}"
            )
    return "0 us"


def snake(name: str) -> str:
    """MemoryObjectDataRequest -> memory_object_data_request."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _took(trace: Trace, event: Event) -> str:
    seconds = trace.duration(event)
    return "and the trace ends" if seconds is None else time_span(seconds)


def _page(event: Event) -> str:
    return f"page {event.values['offset']:#x} of object {event.values['object']}"


def _message(event: Event) -> str:
    values = event.values
    said = []
    if "offset" in values:
        said.append(f"offset {values['offset']:#x}")
    if "recnum" in values:
        said.append(f"block {values['recnum']}")
    for name in ("length", "size", "data_length", "bytes_wanted"):
        if name in values:
            said.append(f"{values[name]} bytes")
    said += [str(values[name]) for name in ("desired_access", "error_value") if name in values]
    if values.get("precious"):
        said.append("precious")
    return f"{snake(values['message'])}({', '.join(said)})"


def _send(trace: Trace, event: Event) -> str | None:
    if trace[event.cause].kind == "packet_in" if event.cause else False:
        return None  # a carrier hands on what came from the other process
    across = " over the socket" if any(e.kind == "packet_out" for e in trace.consequences(event)) else ""
    return f"sends {_message(event)} to {event.values['port']}{across}"


def _receive(trace: Trace, event: Event) -> str:
    sent = next((cause for cause in reversed(list(trace.causes(event))[:4]) if cause.kind == "send"), None)
    after = f", {time_span(event.time - sent.time)} later" if sent is not None else ""
    return f"receives {snake(event.values['message'])}, message {event.values['seqno']} of that port{after}"


def _wait(trace: Trace, event: Event) -> str | None:
    why = str(event.values["why"])
    return None if why.startswith(IDLE) else f"sleeps: waits for {why} ({_took(trace, event)})"


def _device(verb: str) -> Callable[[Trace, Event], str]:
    def words(trace: Trace, event: Event) -> str:
        values = event.values
        return f"{verb} {values['length']} bytes at byte {values['offset']} of the disk ({_took(trace, event)})"

    return words


WORDS: dict[str, Callable[[Trace, Event], str | None]] = {
    "page_alloc": lambda trace, event: f"takes frame {event.values['frame']} for {_page(event)}",
    "zero_fill": lambda trace, event: f"nobody has that page: fills frame {event.values['frame']} with zeros",
    "copy": lambda trace, event: (
        f"copies frame {event.values['source']} to frame {event.values['frame']}: the page is shared, and to be written"
    ),
    "enter": lambda trace, event: (
        f"maps frame {event.values['frame']}, " + ("to read and write" if event.values["writable"] else "to read")
    ),
    "page_in": lambda trace, event: f"frame {event.values['frame']} holds {_page(event)}",
    "page_error": lambda trace, event: f"{_page(event)} cannot be had: frame {event.values['frame']} is in error",
    "page_free": lambda trace, event: f"frame {event.values['frame']} is free",
    "page_out": lambda trace, event: f"pages out {_page(event)} from frame {event.values['frame']}: it is dirty",
    "send": _send,
    "receive": _receive,
    "wait": _wait,
    "lock_wait": lambda trace, event: (
        f"waits for the lock {event.values['mutex']!r}, which {event.values['holder']} holds ({_took(trace, event)})"
    ),
    "sleep": lambda trace, event: f"{event.values['why']}: {_took(trace, event)}",
    "slots_read": lambda trace, event: f"the page is in {_slots(event)}",
    "slots_write": lambda trace, event: f"the page goes to {_slots(event)}",
    "operation": lambda trace, event: (
        f"{event.values['device']}: {event.values['length']} bytes at byte {event.values['offset']}"
        f" ({_took(trace, event)})"
    ),
    "device_read": _device("reads"),
    "device_write": _device("writes"),
}


def _slots(event: Event) -> str:
    slot, count = event.values["slot"], event.values["count"]
    which = f"slot {slot}" if count == 1 else f"slots {slot} to {slot + count - 1}"
    return f"{which} of paging partition {event.values['partition']}"
