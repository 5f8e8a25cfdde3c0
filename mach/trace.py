"""Events: what a machine does, each with what led to it: one fault can be followed to the disk and back.

Interface:
    Tracer(runtime, write, party, **facts)    writes one line of JSON an event; runtime.tracer = it turns tracing on
        .event(kind, **values) -> int         it happened; its cause is what this thread is doing
        .span(kind, because, **values)        a context: begins, ends; all that the thread does within is caused by it.
                                              Gives a dict: what is put into it is told at the end.  `because`: the
                                              event that led to it, if the thread does not know by itself
        .sending(port, message)               a context: a message, and what its receiver does in its sender's context
        .received(queue, port, seqno, message)    from here on the thread acts because of that message
        .crossed(connection, initiator, outwards)        a packet left for, or came from, another process
        .current() -> int                     number of the event that causes what this thread does; 0: none
        .close()
    span(runtime, kind, because, **values)    the same, or nothing, for a runtime that may be traced
    open_trace(runtime, path, party, **facts) -> Tracer    into a file; gzip if it ends in .gz

An event is `{"n": number, "t": seconds of the runtime, "thread": name, "kind": ..., "cause": number, ...values}`.  The
end of a span is an event `<kind>_end` with `cause` the span's number.  The first line of a trace is its head: party
("machine", "pager"), version, and the facts of who wrote it.

Tracing hangs on the runtime and is set before anything is built on it.  Where it is off, a place that could tell
something costs one attribute test: `if (tracer := runtime.tracer) is not None: ...`.

A packet between processes is told on both sides with the name of its connection and its number there, so that the
traces of two processes join to one (mach/trace_file.py) although nothing of this is on the wire.

Invariants:
    1. A cause is an event with a smaller number, or 0.
    2. A tracer waits for nothing and takes no lock of the runtime: a traced run takes the schedule of an untraced one.
    3. When an event has its number, its time and those of all smaller numbers have passed: so no event that it led to
       in another process is earlier than any of them, and traces can be merged by time.

Not here: what the events are used for (kernel/tracing).
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from enum import Enum
from io import BufferedWriter, FileIO
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mach.message import Message
    from mach.threads import Runtime, Thread

VERSION = 1
BUFFER_BYTES = 1 << 16
Value = str | int | float | bool | None

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class _Causes:
    """What one thread is doing: the spans that it is in, innermost last."""

    __slots__ = ("serving", "spans")

    def __init__(self) -> None:
        self.spans: list[int] = []
        self.serving = False  # whether the last of them is a message that it received, which the next one replaces

    def serve(self, number: int) -> None:
        if self.serving:
            self.spans[-1] = number
        else:
            self.spans.append(number)
            self.serving = True


class Tracer:
    """See the head of the module.  `write` takes whole lines, from any thread, and does not wait for the runtime."""

    def __init__(self, runtime: Runtime, write: Callable[[bytes], object], party: str, **facts: Value) -> None:
        self._runtime = runtime
        self._write = write
        self._numbers = itertools.count(1)
        self._causes: dict[Thread, _Causes] = {}
        self._in_flight: dict[int, int] = {}  # event of its sending, by id() of a message that a queue holds
        self._packets: Counter[tuple[str, bool]] = Counter()
        self._summaries: dict[type[Message], Callable[[Message], dict[str, Value]]] = {}
        self.closing: Callable[[], object] = lambda: None
        self._closed = False
        head = {"trace": VERSION, "party": party, "pid": os.getpid()} | facts
        write(_encode(head).encode() + b"\n")

    # -- events ------------------------------------------------------------------------------------------------

    def event(self, kind: str, **values: Value) -> int:
        thread = self._runtime.current()
        causes = self._causes.get(thread)
        return self._tell(thread, kind, causes.spans[-1] if causes and causes.spans else 0, values)

    def current(self) -> int:
        causes = self._causes.get(self._runtime.current())
        return causes.spans[-1] if causes and causes.spans else 0

    @contextmanager
    def span(self, kind: str, because: int | None = None, **values: Value) -> Iterator[dict[str, Value]]:
        thread = self._runtime.current()
        causes = self._of(thread)
        cause = because if because is not None else causes.spans[-1] if causes.spans else 0
        number = self._tell(thread, kind, cause, values)
        depth, serving = len(causes.spans), causes.serving
        causes.spans.append(number)
        causes.serving = False
        outcome: dict[str, Value] = {}
        try:
            yield outcome
        finally:
            del causes.spans[depth:]
            causes.serving = serving
            self._tell(thread, f"{kind}_end", number, outcome)

    def close(self) -> None:
        """Tell nothing any more, and see that all that was told is written.  Other threads may go on."""
        self._closed = True
        self._write = len
        self.closing()

    # -- messages ----------------------------------------------------------------------------------------------

    @contextmanager
    def sending(self, port: str, message: Message) -> Iterator[None]:
        thread = self._runtime.current()
        causes = self._of(thread)
        values = {"message": type(message).__name__, "port": port} | self._summary(message)
        number = self._tell(thread, "send", causes.spans[-1] if causes.spans else 0, values)
        self._in_flight[id(message)] = number
        depth, serving = len(causes.spans), causes.serving
        causes.spans.append(number)
        causes.serving = False
        try:
            yield
        finally:
            del causes.spans[depth:]
            causes.serving = serving

    def received(self, queue: str, port: str, seqno: int, message: Message) -> None:
        thread = self._runtime.current()
        causes = self._of(thread)
        values: dict[str, Value] = {"message": type(message).__name__, "port": port, "queue": queue, "seqno": seqno}
        sent = self._in_flight.pop(id(message), 0)
        causes.serve(self._tell(thread, "receive", sent, values | self._summary(message)))

    def crossed(self, connection: str, initiator: bool, outwards: bool) -> None:
        """A packet at the border of the process.  Called in the order of the packets of each direction."""
        self._packets[connection, outwards] += 1
        values: dict[str, Value] = {
            "connection": connection,
            "from_initiator": initiator == outwards,
            "packet": self._packets[connection, outwards],
        }
        if outwards:
            self.event("packet_out", **values)
        else:  # what led to it, the other process knows
            thread = self._runtime.current()
            self._of(thread).serve(self._tell(thread, "packet_in", 0, values))

    def _summary(self, message: Message) -> dict[str, Value]:
        """What a message says, as far as it is a number or a word; of data, how much it is."""
        summary = self._summaries.get(type(message))
        if summary is None:
            summary = self._summaries[type(message)] = _summary_of([field.name for field in fields(cast(Any, message))])
        return summary(message)

    # -- lines -------------------------------------------------------------------------------------------------

    def _of(self, thread: Thread) -> _Causes:
        causes = self._causes.get(thread)
        if causes is None:
            causes = self._causes[thread] = _Causes()
        return causes

    def _tell(self, thread: Thread, kind: str, cause: int, values: dict[str, Value]) -> int:
        time = round(self._runtime.now(), 7)  # before the number (INV-3): a thread may lose the processor between them
        number = next(self._numbers)
        event = {"n": number, "t": time, "thread": thread.name, "kind": kind, "cause": cause}
        line = _encode(event | values).encode() + b"\n"
        try:
            self._write(line)
        except ValueError:  # so says a closed file
            if not self._closed:
                raise
        return number


def _summary_of(names: list[str]) -> Callable[[Message], dict[str, Value]]:
    def summary(message: Message) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name in names:
            value = getattr(message, name)
            if isinstance(value, Enum):
                values[name] = str(value.name)
            elif isinstance(value, (int, float, str)):
                values[name] = value
            elif isinstance(value, (bytes, tuple)):
                values[f"{name}_length"] = len(value)
        return values

    return summary


def span(
    runtime: Runtime, kind: str, because: int | None = None, **values: Value
) -> AbstractContextManager[dict[str, Value]]:
    """Tracer.span of a runtime that may be traced or not; for what does not happen too often."""
    return nullcontext({}) if runtime.tracer is None else runtime.tracer.span(kind, because, **values)


def open_trace(runtime: Runtime, path: str, party: str, **facts: Value) -> Tracer:
    """Trace into a file.  OSError if it cannot be made."""
    raw: Any = gzip.GzipFile(path, "wb", compresslevel=3) if path.endswith(".gz") else FileIO(path, "wb")
    file = BufferedWriter(raw, BUFFER_BYTES)  # any thread may write to it
    tracer = Tracer(runtime, file.write, party, **facts)
    tracer.closing = file.close
    return tracer
