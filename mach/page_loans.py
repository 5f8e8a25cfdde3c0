"""What one end of a connection knows of the page lists in messages that the two ends have sent each other.

Interface:
    PageLoans
        .lend(data)           a page list goes out
        .borrow(data, freed)  one has come in: freed(number) once its receiver here frees it
        .freed(number)        note that it has, for the peer to be told; how many it has not been told of
        .tell()               rows (first number, count) of those, which it is told now
        .returned(number, count)    some of ours that the peer has freed; ProtocolViolation if it does not have them
        .recall()             all of ours that it has: it is gone
Invariants:
    1. Both ends number the page lists of each direction alike: from 0, in the order of the packets.
Not here: locks, packets (mach/connection.py); the pages (mach/page_list.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mach.codec import ProtocolViolation
from mach.page_list import PageList


class PageLoans:
    """See the head of the module."""

    def __init__(self) -> None:
        self._lent: dict[int, PageList] = {}
        self._lent_total = 0
        self._borrowed_total = 0
        self._untold: list[int] = []

    def lend(self, data: PageList) -> None:
        self._lent[self._lent_total] = data
        self._lent_total += 1

    def borrow(self, data: PageList, freed: Callable[[int], None]) -> None:
        data.when_freed(partial(freed, self._borrowed_total))
        self._borrowed_total += 1

    def freed(self, number: int) -> int:
        self._untold.append(number)
        return len(self._untold)

    def tell(self) -> list[tuple[int, int]]:
        numbers, self._untold = sorted(self._untold), []
        rows: list[tuple[int, int]] = []
        for number in numbers:
            if rows and number == sum(rows[-1]):
                rows[-1] = rows[-1][0], rows[-1][1] + 1
            else:
                rows.append((number, 1))
        return rows

    def returned(self, number: int, count: int) -> list[PageList]:
        numbers = range(number, number + count)
        if count > len(self._lent) or not self._lent.keys() >= set(numbers):
            raise ProtocolViolation(f"the peer frees page lists ({count} from {number}) that it does not have")
        return [self._lent.pop(number) for number in numbers]

    def recall(self) -> list[PageList]:
        lent, self._lent = list(self._lent.values()), {}
        return lent
