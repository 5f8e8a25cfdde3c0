"""Where a party's messages come from besides its own threads.

Interface:
    Feeder     what a carrier is to the ports (mach/ports.py)
    Carrier    what it is to its connections (mach/connection.py)
    Line       what a connection is to who waits for what its peer owes (mach/attendant.py)

Not here: carriers (mach/socket_carrier.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mach.connection import Connection


class Feeder(Protocol):
    """One thread polls at a time."""

    def poll(self, timeout: float | None) -> None:
        """Wait until something has arrived and has been sent on to its ports, or wake() was called."""

    def wake(self) -> None:
        """End another thread's poll()."""

    def settle(self) -> None:
        """Send what was put off: the caller, who polls no more, says so first."""


class Carrier(Protocol):
    """Who has the sockets polled."""

    def trouble(self, connection: Connection, why: str) -> None:
        """It cannot send: now (`why` is empty: it is to be flushed once it can), or any more."""

    def may_wait(self) -> bool:
        """Whether a sender of the initiating end may sleep until the peer has read."""

    def may_put_off(self, connection: Connection) -> bool:
        """Whether tell_freed() will be called soon, by the time that the thread sleeps at the latest."""


class Line(Protocol):
    """One thread at a time takes its messages, and every other waits as if there was none."""

    def take(self) -> bool:
        """Whether the calling thread is to: then it calls attend(), holding no mutex, and others do not get in."""

    def attend(self, why: str | Callable[[], str], timeout: float | None) -> bool:
        """Deliver what comes until somebody calls end(), or nothing is to be taken from it any more: True; False if
        `timeout` seconds passed first.  `why` says what is awaited."""

    def end(self) -> None:
        """By any thread, who attends included: what it waited for has come."""
