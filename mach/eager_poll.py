"""A poll that looks for a moment before it sleeps, as long as what it waits for has lately come soon.

Interface:
    EagerPoll(runtime)
        .register(descriptor)     it is ready when it can be read
        .poll(timeout)            the descriptors that are ready; none once `timeout` seconds have passed (None: never)

A thread that sleeps is woken on a processor that has gone to sleep as well, or on that of its waker, once that one has
nothing more to do.  Either takes as long as a disk of today takes for a page; so who waits for such a disk's page does
better to stay awake.  A disk that turns is slept for.

Invariants:
    1. What is looked for is looked for LOOK_SECONDS at the most, and only if the poll before was over within
       SOON_SECONDS: of a processor's time, what slow peers are waited for costs nothing.
    2. Who looks lets others run in between: what it waits for may have to be made on its own processor.

Not here: what the descriptors are (mach/attendant.py).
"""

from __future__ import annotations

import os
import select

from mach.threads import Runtime

LOOK_SECONDS = 0.0003  # four of five pages that a disk of today is asked for are there by then
SOON_SECONDS = 0.0005  # what comes so soon after the beginning of a sleep would have been seen by who looks


class EagerPoll:
    """See the head of the module.  For one thread at a time, of the native runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._now = runtime.now
        self._poll = select.poll()
        self._pays = (os.cpu_count() or 1) > 1  # with one, nothing happens while we look; the peer's need not be ours
        self._soon = False  # the last poll was over soon

    def register(self, descriptor: int) -> None:
        self._poll.register(descriptor, select.POLLIN)

    def poll(self, timeout: float | None) -> list[int]:
        began = self._now()
        ready = self._look(began, timeout) if self._soon else []
        if not ready:
            left = None if timeout is None else max(0.0, began + timeout - self._now())
            ready = self._poll.poll(None if left is None else left * 1000)
        self._soon = self._pays and self._now() - began < SOON_SECONDS
        return [descriptor for descriptor, _ in ready]

    def _look(self, began: float, timeout: float | None) -> list[tuple[int, int]]:
        end = began + (LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS))
        while not (ready := self._poll.poll(0)) and self._now() < end:
            os.sched_yield()
        return ready
