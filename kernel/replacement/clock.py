"""The clock: a hand goes round the pages; one that was used since it last passed is spared.

Interface:
    Replacement, as kernel/replacement/policy.py says

The hand is the head of the queue: a page that it spares loses its bit and goes to the tail, a full turn behind.
"""

from __future__ import annotations

from kernel.page import Page
from kernel.replacement.policy import Policy


class Replacement(Policy):
    name = "clock"

    def victim(self) -> Page | None:
        for _ in range(len(self.active)):
            page = self.active.first()
            if page is None or not page.reference:
                return page
            page.reference = False
            self.active.remove(page)
            self.active.append(page)
            self.reactivations += 1
        return self.active.first()
