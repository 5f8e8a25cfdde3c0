"""What a replacement policy is asked: which of the pages that may go is to go next.

Interface:
    Policy(active, inactive)
        .activate(page)      the page may be paged out from now on, and has just been used
        .deactivate(page)    it is not expected to be used again soon
        .next_to_go(page)    it is to be the very next victim
        .remove(page)        it may not be paged out any more: freed, wired, or in transit
        .victim()            the page that should go next, left where it is; None if there is none to look at
        .candidates          how many pages could be a victim now
        .runs_short()        whether the daemon should be woken though enough is free
        .reactivations       pages that were spared because they had been used
        .touched(page)       one reference, if somebody can see each: a trace's replay can, a kernel only page.reference

A policy keeps its order in the two queues that it is given (kernel/page.py); it may use one of them only.  It sees what
the hardware tells a kernel: page.reference, set by each use, which it may clear.

Invariants (checked by tests/kernel/test_kernel_replacement.py of every policy):
    1. A page that was activated or deactivated, and not removed since, is on exactly one of the two queues.
    2. victim() returns such a page as long as there is one, and does not remove it.

Not here: dirty pages, busy pages, pagers (kernel/pageout.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from kernel.page import Page, PageQueue


class Policy(ABC):
    """A policy of one queue, `active`, in order of arrival, unless it says otherwise."""

    name: ClassVar[str]

    def __init__(self, active: PageQueue, inactive: PageQueue) -> None:
        self.active = active
        self.inactive = inactive
        self.reactivations = 0

    @abstractmethod
    def victim(self) -> Page | None: ...

    def activate(self, page: Page) -> None:
        self.active.append(page)

    def deactivate(self, page: Page) -> None:
        """At least: as if it had not been used since it came."""
        page.reference = False
        self.active.append(page)

    def next_to_go(self, page: Page) -> None:
        page.reference = False
        self.active.prepend(page)

    def remove(self, page: Page) -> None:
        queue = page.queue
        if queue is not None:
            queue.remove(page)

    def touched(self, page: Page) -> None:
        page.reference = True

    @property
    def candidates(self) -> int:
        return len(self.active) + len(self.inactive)

    def runs_short(self) -> bool:
        return True
