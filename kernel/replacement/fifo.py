"""First in, first out, whatever was used meanwhile: the baseline, and the one with Belady's anomaly.

Interface:
    Replacement, as kernel/replacement/policy.py says
"""

from __future__ import annotations

from kernel.page import Page
from kernel.replacement.policy import Policy


class Replacement(Policy):
    name = "fifo"

    def victim(self) -> Page | None:
        return self.active.first()
