"""Least recently used: exact where each reference is seen, by sweeps of the reference bits where it is not.

Interface:
    Replacement, as kernel/replacement/policy.py says

A trace's replay tells of each reference (touched), and the queue is then in order of last use.  A kernel sees bits: all
pages that were used since the last victim was chosen go to the tail together, in their old order.
"""

from __future__ import annotations

from kernel.page import Page
from kernel.replacement.policy import Policy


class Replacement(Policy):
    name = "lru"

    def victim(self) -> Page | None:
        used = [page for page in self.active if page.reference]
        for page in used:
            self.touched(page)
        self.reactivations += len(used)
        return self.active.first()

    def touched(self, page: Page) -> None:
        page.reference = False
        self.active.remove(page)
        self.active.append(page)
