"""Memory as a program may expect it: a cell for each page, cells shared where memory is.

A cell holds what the page may contain: one content, or several where an operation has failed half-way or a reader runs
beside a writer.  `may_fail` is set where a pager has died or a disk has errors: then an error is right, too; wrong
bytes never are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from mach.memory_object import VmProt

PAGE = 4096
ZEROS = bytes(PAGE)
Inherit = Literal["share", "copy", "none"]


@dataclass(eq=False)
class Cell:
    """One page of memory, as many names as it may have."""

    possible: tuple[bytes, ...] = (ZEROS,)
    may_fail: bool = False

    def set(self, content: bytes) -> None:
        self.possible = (content,)

    def maybe(self, content: Iterable[bytes]) -> None:
        """It may hold this now, or what it held."""
        self.possible = tuple(dict.fromkeys((*self.possible, *content)))

    def copy(self) -> Cell:
        return Cell(self.possible, self.may_fail)


@dataclass
class Place:
    """A page of a task's address map."""

    cell: Cell
    protection: VmProt = VmProt.DEFAULT
    inherit: Inherit = "copy"
    wired: int = 0
    private: bool = True  # else it is a user pager's object itself: shared with all who map it


@dataclass
class TaskModel:
    """The address map of a task, page by page."""

    places: dict[int, Place] = field(default_factory=dict)

    def run(self, page: int, limit: int) -> int:
        """How many places follow each other from `page` on, up to `limit`."""
        count = 0
        while count < limit and page + count in self.places:
            count += 1
        return count

    def child(self) -> TaskModel:
        made = TaskModel()
        for page, place in self.places.items():
            if place.inherit == "none":
                continue
            share = place.inherit == "share"
            cell = place.cell if share else place.cell.copy()
            made.places[page] = Place(cell, place.protection, place.inherit, 0, place.private or not share)
        return made
