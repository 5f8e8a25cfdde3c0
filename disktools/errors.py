"""What these tools refuse, and why: one line each, that a command can show as it is.

Interface:
    Refusal    the caller asked for something that cannot be: a size, a path, a geometry
    NoRoom     the expected shortage: blocks, inodes or links do not suffice; nothing was written
The disk's fault is bootfs' FileSystemError. Nothing else leaves this room.
"""

from __future__ import annotations


class Refusal(Exception):
    """The request is at fault; its text says what to do instead."""


class NoRoom(Refusal):
    """The disk is sound and the request is too, but it does not fit."""
