"""Mach's policy: FIFO with a second chance, over an active and an inactive queue (mach.md 5.6).

Interface:
    Replacement, as kernel/replacement/policy.py says
    inactive_target(active, inactive)     Mach's formula (mach.md 4.4)

Pages move from the head of the active queue to the tail of the inactive one, losing their reference bit, until two
thirds are inactive.  At the head of the inactive queue a page that was used meanwhile goes back; any other is the
victim."""

from __future__ import annotations

from kernel.page import Page
from kernel.replacement.policy import Policy


def inactive_target(active: int, inactive: int) -> int:
    """How many pages should be inactive: two thirds of those that are on the two queues."""
    return (active + inactive) * 2 // 3


class Replacement(Policy):
    name = "second-chance"

    def deactivate(self, page: Page) -> None:
        page.reference = False
        self.inactive.append(page)

    def next_to_go(self, page: Page) -> None:
        page.reference = False
        self.inactive.prepend(page)

    def victim(self) -> Page | None:
        while True:
            self._refill()
            page = self.inactive.first()
            if page is None or not page.reference or page.busy:
                return page
            self.inactive.remove(page)
            self.active.append(page)
            self.reactivations += 1

    def _refill(self) -> None:
        while self.runs_short() or not self.inactive:  # of one page alone, two thirds are none
            page = self.active.first()
            if page is None:
                return
            self.active.remove(page)
            self.deactivate(page)

    @property
    def candidates(self) -> int:
        return len(self.inactive)

    def runs_short(self) -> bool:
        return len(self.inactive) < inactive_target(len(self.active), len(self.inactive))
