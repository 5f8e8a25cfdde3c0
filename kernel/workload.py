"""A program to run on the machine: more memory than there is, written, partly rewritten, and read back byte for byte.

Interface:
    Pattern(seed)                    .page(task, page, generation) -> bytes: what that page must hold
                                     .final(task, pages): the pages of a task's memory as the workload leaves them
    Workload(host, virtual_bytes, tasks, seed)
        .run()                       all tasks, each in a thread of its own, until the last has ended
        .failures                    one line for each task that did not verify
        .pages, .verified
    WrongBytes                       a page did not come back as it was written

Each page's content depends on seed, task, page and generation, so that zeros, another page's bytes and an older version
of the same page are all told apart (P2).

Not here: the machine; what a command prints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from kernel.host import Host
from kernel.task import Task
from mach.kern_return import KernReturn, MachError

BATCH_PAGES = 16  # pages in one store or load


def next_generation(generation: int) -> int:
    """Generations of a page go from 1 to 255 and around; 0 is a page never written."""
    return generation % 255 + 1


class WrongBytes(Exception):
    """Memory does not hold what was stored there."""


class Pattern:
    """The content of pages, and draws, as pure functions of the seed."""

    def __init__(self, seed: int, page_size: int) -> None:
        self.seed = seed
        self.page_size = page_size

    def page(self, task: int, page: int, generation: int) -> bytes:
        key = f"{self.seed} {task} {page} {generation}".encode()
        return hashlib.shake_128(key).digest(self.page_size)

    def draws(self, what: str, below: int) -> Iterator[int]:
        """An endless row of numbers below `below`."""
        number = 0
        while True:
            block = hashlib.shake_128(f"{self.seed} {what} {number}".encode()).digest(800)
            for start in range(0, len(block), 8):
                yield int.from_bytes(block[start : start + 8], "little") % below
            number += 1

    def rewritten(self, task: int, pages: int) -> Iterator[int]:
        """The pages that a task writes again after it has written all: half as many, at random."""
        return islice(self.draws(f"task {task}, rewritten", pages), pages // 2)

    def final(self, task: int, pages: int) -> Iterator[bytes]:
        """What a task's memory holds, page by page, once the workload has run: a function of the seed alone."""
        generations = bytearray(b"\1" * pages)
        for page in self.rewritten(task, pages):
            generations[page] = next_generation(generations[page])
        return (self.page(task, page, generation) for page, generation in enumerate(generations))

    def explain(self, found: bytes, task: int, page: int, generation: int) -> str:
        """In words, what a wrong page is."""
        if not any(found):
            return "all zeros"
        for older in range(generation):
            if found == self.page(task, page, older):
                return f"its version {older}, older than {generation}"
        return "bytes that were never written there"


def pages_each(virtual_bytes: int, tasks: int, page_size: int) -> int:
    """Pages of one of the tasks that use `virtual_bytes` together."""
    return max(1, virtual_bytes // tasks // page_size)


class Workload:
    """See the head of the module."""

    def __init__(self, host: Host, virtual_bytes: int, tasks: int, seed: int) -> None:
        self.host = host
        self.pattern = Pattern(seed, host.page_size)
        self.tasks = [host.task_create(f"workload {number}") for number in range(1, tasks + 1)]
        self.pages_each = pages_each(virtual_bytes, tasks, host.page_size)
        self.addresses: dict[int, int] = {}  # of each task's memory, by task number
        self.failures: list[tuple[KernReturn | None, str]] = []
        self.verified = 0  # pages

    @property
    def pages(self) -> int:
        return self.pages_each * len(self.tasks)

    def run(self) -> None:
        """Returns when every task has ended, well or not."""
        threads = [
            self.host.runtime.fork(lambda task=task: self._body(task), task.name)  # type: ignore[misc]
            for task in self.tasks
        ]
        for thread in threads:
            thread.join()

    def _body(self, task: Task) -> None:
        try:
            _Program(self, task).run()
        except MachError as error:
            self.failures.append((error.code, str(error)))
        except WrongBytes as error:
            self.failures.append((None, str(error)))


class _Program:
    """What one task does."""

    def __init__(self, workload: Workload, task: Task) -> None:
        self.workload = workload
        self.task = task
        self.page_size = workload.pattern.page_size
        self.pages = workload.pages_each
        self.generations = bytearray(self.pages)
        self.address = task.vm_allocate(self.pages * self.page_size)
        workload.addresses[task.task_id] = self.address

    def run(self) -> None:
        """Write all in order, rewrite half at random, verify a quarter at random, then all in order."""
        pattern, task = self.workload.pattern, self.task.task_id
        for first in range(0, self.pages, BATCH_PAGES):
            self._write(first, min(BATCH_PAGES, self.pages - first))
        for page in pattern.rewritten(task, self.pages):
            self._write(page, 1)
        for page in islice(pattern.draws(f"task {task}, looked at", self.pages), self.pages // 4):
            self._verify(page, 1)
        for first in range(0, self.pages, BATCH_PAGES):
            count = min(BATCH_PAGES, self.pages - first)
            self._verify(first, count)
            self.workload.verified += count

    def _expected(self, page: int) -> bytes:
        return self.workload.pattern.page(self.task.task_id, page, self.generations[page])

    def _write(self, first: int, count: int) -> None:
        for page in range(first, first + count):
            self.generations[page] = next_generation(self.generations[page])
        data = b"".join(self._expected(page) for page in range(first, first + count))
        self.task.write(self.address + first * self.page_size, data)

    def _verify(self, first: int, count: int) -> None:
        data = self.task.read(self.address + first * self.page_size, count * self.page_size)
        for index in range(count):
            page = first + index
            found = data[index * self.page_size : (index + 1) * self.page_size]
            if found != self._expected(page):
                what = self.workload.pattern.explain(found, self.task.task_id, page, self.generations[page])
                raise WrongBytes(
                    f"{self.task.name}: page {page} at {self.address + page * self.page_size:#x} is {what}"
                )
