"""Whom the view asks: a client that is made when it is first needed, and made anew once its other side has died.

Interface:
    Source(connect, lost)    source.ask(question) -> the answer; every failure is an OSError
    Source.open, close       connect now, and hear why not; hang up

A pager that is not there gives EIO for what it alone knows.  (ENOTCONN would say the same, but a reader could not tell
it from a dead mount, which is not what has happened.)  The next question after a restart finds the new pager.

Invariants:
    1. A question changes nothing, so it may be asked twice: once more, of a new connection, when an old one fails.
    2. At most one connection attempt a question: a pager that is gone costs a refused connect, never a wait.

Not here: what is asked; sockets.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fuse_mount.tree import error
from mach.kern_return import KernReturn, MachError


class Client(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Client)
T = TypeVar("T")

# What a refusal means to a reader of files.  Anything else is EIO.
ERRNO_OF = {
    KernReturn.KERN_INVALID_ARGUMENT: errno.ENOENT,  # an object that has gone
    KernReturn.KERN_INVALID_NAME: errno.ENOENT,
    KernReturn.KERN_INVALID_TASK: errno.ENOENT,
    KernReturn.KERN_NO_ACCESS: errno.EACCES,
    KernReturn.KERN_RESOURCE_SHORTAGE: errno.ENOMEM,
}


class Source(Generic[C]):
    """A client behind `connect`, which raises `lost` when nobody is there, as do the client's methods."""

    def __init__(self, connect: Callable[[], C], lost: type[Exception]) -> None:
        self._connect = connect
        self._lost = lost
        self._client: C | None = None

    def ask(self, question: Callable[[C], T]) -> T:
        """question(client).  OSError: EIO when nobody answers, ERRNO_OF a refusal."""
        try:
            return self._ask(question)
        except MachError as refusal:
            raise error(ERRNO_OF.get(refusal.code, errno.EIO)) from refusal
        except self._lost as death:
            self.close()
            raise error(errno.EIO) from death

    def open(self) -> None:
        """Connect now.  Raises what `connect` raises, whose words are for a person."""
        self._client = self._connect()

    def close(self) -> None:
        """Hang up; the next question connects again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, question: Callable[[C], T]) -> T:
        if self._client is not None:
            try:
                return question(self._client)
            except self._lost:
                self.close()  # INV-1
        self._client = self._connect()
        return question(self._client)
