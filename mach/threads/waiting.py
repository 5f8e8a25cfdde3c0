"""Who waits for whom: the wait-for graph of threads that are all blocked, and the circle in it.

Interface:
    Wait              one blocked thread: on what, who could end that, which mutexes it holds
    WaitGraph(waits)
        .circle() -> list[Wait]         a shortest circle: each waits for the next, the last for the first; or nothing
        .way(start, goals) -> list[Wait]  a shortest chain from a thread to one of `goals`, both ends included
        .words() -> list[str]           one line a thread

A wait whose owers are known is an edge to each of them: any one might end it.  An idle server, who waits for work that
nobody owes it, has none, and is on no circle.

Not here: how it is found that nobody can run (mach/threads/simulated.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """One blocked thread.  Threads are named; names of threads are unique in a report."""

    thread: str
    what: str  # what is awaited, and who owes it, in words
    owed_by: tuple[str, ...]  # the threads that could end the wait, as far as is known
    holds: tuple[str, ...] = ()  # mutexes
    handles: str = ""  # the message that it has in hand

    def words(self) -> str:
        holds = f"; it holds {', '.join(self.holds)}" if self.holds else ""
        return f"{self.thread} waits for {self.what}{holds}"


class WaitGraph:
    """See the head of the module."""

    def __init__(self, waits: Collection[Wait]) -> None:
        self.waits = {wait.thread: wait for wait in waits}

    def circle(self) -> list[Wait]:
        found: list[Wait] = []
        for start in self.waits:
            for first in self.waits[start].owed_by:
                way = [self.waits[start]] if first == start else [self.waits[start], *self.way(first, (start,))[:-1]]
                closed = first == start or len(way) > 1
                if closed and (not found or len(way) < len(found)):
                    found = way
        return found

    def way(self, start: str, goals: Collection[str]) -> list[Wait]:
        came_from: dict[str, str | None] = {start: None}
        queue = deque([start] if start in self.waits else [])
        while queue:
            at = queue.popleft()
            if at in goals:
                way: list[Wait] = []
                step: str | None = at
                while step is not None:
                    way.append(self.waits[step])
                    step = came_from[step]
                return way[::-1]
            for owing in self.waits[at].owed_by:
                if owing in self.waits and owing not in came_from:
                    came_from[owing] = at
                    queue.append(owing)
        return []

    def words(self) -> list[str]:
        return [wait.words() for wait in self.waits.values()]
