"""What the daemon tells people and programs about itself: one line an event, on stderr.

Interface:
    event(kind, words, **facts) -> Event      words as a str, which also carries its kind and its facts
    Log(now, wall_clock, form)                called with words or an Event; form "text" or "json"
    describe_bug(error) -> Event

As JSON a line has time (seconds since 1970), event, message, and the facts by their names.  A client that makes us
talk cannot make us flood: what is beyond LINES_PER_SECOND is counted, and the count is told.

Not here: when to say what.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any, Literal

import click

LINES_PER_SECOND = 5
LINE_BYTES = 4000  # a pipe that is ready takes so many without waiting (PIPE_BUF)


class Event(str):
    """See the head of the module."""

    __slots__ = ("facts", "kind")
    kind: str
    facts: dict[str, Any]


def event(kind: str, words: str, **facts: Any) -> Event:
    made = Event(words)
    made.kind, made.facts = kind, facts
    return made


def describe_bug(error: Exception) -> Event:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return event("bug", f"a bug, please report it: {error!r} at {place}", error=repr(error), place=place)


class Log:
    """See the head of the module."""

    def __init__(
        self, now: Callable[[], float], wall_clock: Callable[[], float], form: Literal["text", "json"] = "text"
    ) -> None:
        self._now = now
        self._wall_clock = wall_clock
        self._form = form
        self._second = 0
        self._lines = 0

    def __call__(self, words: str) -> None:
        second = int(self._now())
        if second != self._second:
            more = self._lines - LINES_PER_SECOND
            self._second, self._lines = second, 0
            if more > 0:
                self._write(event("flood", f"and {more} events more", events=more))
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            self._write(words)

    def all(self, lines: list[str]) -> None:
        """What somebody has asked for, whole."""
        for line in lines:
            self._write(line)

    def _write(self, words: str) -> None:
        if not _has_room():
            return
        if self._form == "text":
            click.echo(f"pagerd: {words}"[:LINE_BYTES], err=True)
            return
        kind, facts = (words.kind, words.facts) if isinstance(words, Event) else ("note", {})
        record = {"time": round(self._wall_clock(), 6), "event": kind, "message": str(words)} | facts
        click.echo(json.dumps(record), err=True)


def _has_room() -> bool:
    """Whether a line can be written without waiting.  A reader that has stopped loses lines, and stops nobody (P7)."""
    try:
        poll = select.poll()
        poll.register(sys.stderr.fileno(), select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # no file behind it
        return True
