"""What a check found: one line each, what and where, and never more of them than memory should hold.

Interface:
    Problem(what, where, ino)     ino: the inode that it is about, or 0; named() puts its path into `where`
    Report.add(where, what, ino)  keeps the first MAX_KEPT, counts all
    Interruption                  nothing more can be checked; the report says why
    Step                          called with (done, whole) as the work goes on
Not here: file systems, the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

MAX_KEPT = 10_000

Step = Callable[[int, int], None]


class Interruption(Exception):
    """The check cannot go on: what it would stand on is broken, and is in the report."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be. `what` says also what would be right, where that is known."""

    what: str
    where: str
    ino: int = 0

    def named(self, paths: Mapping[int, str]) -> Problem:
        """The same with the path of its inode, if that has one."""
        path = paths.get(self.ino)
        return self if path is None else replace(self, where=f"{self.where} {path}")

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Report:
    """The problems in the order they were found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.count = 0

    def add(self, where: str, what: str, ino: int = 0) -> None:
        """One more problem."""
        self.count += 1
        if len(self.problems) < MAX_KEPT:
            self.problems.append(Problem(what, where, ino))

    def inode(self, ino: int, what: str) -> None:
        """One more problem of an inode."""
        self.add(f"inode {ino}", what, ino)

    def expect(self, where: str, name: str, found: object, wanted: object) -> bool:
        """A problem unless a value is as wanted; whether it is."""
        if found != wanted:
            self.add(where, f"{name} is {found}, should be {wanted}")
        return found == wanted
