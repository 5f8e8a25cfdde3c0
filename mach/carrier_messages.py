"""What the two ends of a connection say to each other: about the names between them, and the pages in its messages.

Interface:
    CARRIER                   their destination
    PortReleased, PortDied, PagesFreed

Not here: what is done about them (mach/connection.py).
"""

from __future__ import annotations

from mach.message import U32, Message, message

CARRIER = 0  # a name that no port has


@message(1)
class PortReleased(Message):
    """`count` references to a port of yours are gone."""

    name: U32
    count: U32


@message(2)
class PortDied(Message):
    """A port of mine that you could send to has died."""

    name: U32


@message(3)
class PagesFreed(Message):
    """The receiver has freed `count` page lists, from number `number` on, of those that you sent, counted from 0."""

    number: U32
    count: U32
