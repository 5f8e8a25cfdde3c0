"""A traced run as one page that plays it: frames, queues, messages and the paging file over time.

Interface:
    replay_page(trace, title, limit) -> the text of the HTML file; nothing of it comes from elsewhere

The page is replay.html with what happened put in, as rows of small numbers: [time in us, what, thread, ...].  The page
alone knows what a row looks like when it is drawn; what a row means stands beside each of _STEPS.

Not here: reading traces (mach/trace_file.py); how it is drawn (replay.html).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from kernel.tracing.story import IDLE, snake
from mach.trace_file import Event, Trace

MOST_STEPS = 120_000  # a page of some 5 MB, which a browser still opens at once
Step = list[Any]


class _Words:
    """Words that many rows share, as numbers."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}

    def __call__(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self.words)
            self.words.append(word)
        return number


class _Recorder:
    """Turns events into rows."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.words = _Words()
        self.threads = _Words()
        self.steps: list[Step] = []
        self.sent: dict[int, int] = {}  # row of a message's sending, by its event
        self.frames = 0
        self.page_size = 4096
        self.partitions: dict[int, dict[str, Any]] = {}
        parties = {event.party for event in trace.events}
        self._name = (lambda e: f"{e.party}: {e.thread}") if len(parties) > 1 else (lambda e: e.thread)

    def record(self, limit: int) -> None:
        for event in self.trace.events:
            if event.kind == "machine":
                self.frames, self.page_size = int(event.values["frames"]), int(event.values["page_size"])
            elif event.kind == "partition":
                values = event.values
                self.partitions[values["partition"]] = {"name": values["name"], "slots": values["slots"]}
            elif len(self.steps) < limit:
                self._step(event)

    def _step(self, event: Event) -> None:
        make = _STEPS.get(event.kind)
        rest = None if make is None else make(self, event)
        if rest is None:
            return
        if event.kind == "send":
            self.sent[event.number] = len(self.steps)
        thread = self.threads(self._name(event))
        self.steps.append([round(event.time * 1e6), *rest[:1], thread, *rest[1:]])


def _receive(recorder: _Recorder, event: Event) -> Step | None:
    """Joined to the row of its sending, also over a socket."""
    trace = recorder.trace
    sent = next((cause.number for cause in trace.causes(event) if cause.kind == "send"), 0)
    packets = [cause for cause in list(trace.causes(event))[:4] if cause.kind in ("send", "packet_in", "packet_out")]
    if any(cause.kind == "packet_in" for cause in packets):
        sent = next((cause.number for cause in reversed(packets) if cause.kind == "send"), sent)
    return ["r", recorder.words(snake(event.values["message"])), recorder.sent.get(sent, -1)]


def _send(recorder: _Recorder, event: Event) -> Step | None:
    if event.cause and recorder.trace[event.cause].kind == "packet_in":
        return None  # a carrier hands on what has been told as sent
    values = event.values
    words = recorder.words
    return ["s", words(snake(values["message"])), words(values["port"]), values.get("offset", -1)]


def _wait(recorder: _Recorder, event: Event) -> Step | None:
    why = str(event.values["why"])
    return None if why.startswith(IDLE) else ["w", recorder.words(why)]


def _frame(event: Event, *more: object) -> Step:
    values = event.values
    return [values["frame"], *more]


_STEPS: dict[str, Callable[[_Recorder, Event], Step | None]] = {
    "fault": lambda r, e: ["f", e.values["address"], int(e.values["access"] == "write")],
    "fault_end": lambda r, e: ["e", r.words(str(e.values.get("result")))],
    "page_alloc": lambda r, e: ["a", *_frame(e, e.values["object"], e.values["offset"])],
    "page_free": lambda r, e: ["x", *_frame(e)],
    "queue": lambda r, e: ["q", *_frame(e, r.words(e.values["queue"]))],
    "wire": lambda r, e: ["l", *_frame(e)],
    "zero_fill": lambda r, e: ["z", *_frame(e)],
    "page_in": lambda r, e: ["i", *_frame(e)],
    "copy": lambda r, e: ["c", *_frame(e, e.values["source"])],
    "page_error": lambda r, e: ["!", *_frame(e)],
    "page_out": lambda r, e: ["o", *_frame(e)],
    "slots_write": lambda r, e: ["W", e.values["partition"], e.values["slot"], e.values["count"]],
    "slots_read": lambda r, e: ["R", e.values["partition"], e.values["slot"], e.values["count"]],
    "slot_free": lambda r, e: ["F", e.values["partition"], e.values["slot"]],
    "send": _send,
    "receive": _receive,
    "wait": _wait,
    "lock_wait": lambda r, e: ["k", r.words(e.values["mutex"]), r.words(e.values["holder"])],
}


def replay_page(trace: Trace, title: str, limit: int = MOST_STEPS) -> str:
    """At most `limit` steps; the page says so if the trace has more."""
    recorder = _Recorder(trace)
    recorder.record(limit)
    data = {
        "title": title,
        "frames": recorder.frames,
        "page_size": recorder.page_size,
        "partitions": [recorder.partitions[number] for number in sorted(recorder.partitions)],
        "threads": recorder.threads.words,
        "words": recorder.words.words,
        "steps": recorder.steps,
        "cut": len(recorder.steps) >= limit,
    }
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")  # it stands within a script element
    page = files("kernel.tracing").joinpath("replay.html").read_text(encoding="utf-8")
    return page.replace('"DATA"', text, 1)
