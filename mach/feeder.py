"""Where a party's messages come from besides its own threads.

Interface:
    Feeder    what a carrier is to the ports (mach/ports.py)

Not here: carriers (mach/socket_carrier.py).
"""

from __future__ import annotations

from typing import Protocol


class Feeder(Protocol):
    """A carrier.  One thread polls at a time."""

    def poll(self, timeout: float | None) -> None:
        """Wait until something has arrived and has been sent on to its ports, or wake() was called."""

    def wake(self) -> None:
        """End another thread's poll()."""
