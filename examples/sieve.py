"""Primes by Eratosthenes in more memory than we keep: the table lies with the default pager, and one page is here.

Interface: python examples/sieve.py SOCKET LIMIT

    mkpagingfile disk.img && pagerd disk.img --socket /tmp/pager.sock &
    python examples/sieve.py /tmp/pager.sock 200000

Not here: anything clever. A kernel would keep many pages, and choose which to give up.
"""

from __future__ import annotations

import sys

from pager.client import PagerClient
from pager.paged_memory import PagedMemory


class Table:
    """A byte a number, 0 until it is struck out."""

    def __init__(self, memory: PagedMemory) -> None:
        self.memory = memory
        self.at = 0  # the page that is here
        self.page = bytearray(memory.page_size)
        self.dirty = False

    def seek(self, number: int) -> int:
        """Have the number's page here; returns the number's place in it."""
        start = number - number % self.memory.page_size
        if start != self.at:
            if self.dirty:
                self.memory.write(self.at, self.page)  # page out
            self.page = bytearray(self.memory.read(start, self.memory.page_size))  # page in
            self.at, self.dirty = start, False
        return number - start

    def strike_out(self, number: int) -> None:
        at = self.seek(number)
        self.page[at] = 1
        self.dirty = True

    def is_struck_out(self, number: int) -> bool:
        at = self.seek(number)
        return self.page[at] == 1


def main(socket: str, limit: int) -> None:
    with PagerClient(socket) as pager, PagedMemory(pager, limit) as memory:
        table = Table(memory)
        for number in range(2, int(limit**0.5) + 1):
            if not table.is_struck_out(number):
                for multiple in range(number * number, limit, number):
                    table.strike_out(multiple)
        primes = sum(not table.is_struck_out(number) for number in range(2, limit))
        print(f"{primes} primes below {limit}, in {memory.size // memory.page_size} pages with one of them here")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
