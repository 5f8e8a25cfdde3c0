"""How soon a device answers: whether a thread that asks it should hand its duty on first.

Interface:
    ResponseTime(runtime)     of one kind of operation on one device
        .before(length) -> when it begins      gives up the thread's duty (mach/threads), unless it will soon be back
        .after(length, began)                  whether it was done or failed

To hand on the lead (mach/mqueue.py) costs two switches between threads: more than a fast disk, or the page cache, takes
for a page.  So the duty is kept while short operations have lately been quick.  One that is not keeps the lead as long
as it lasts, or until somebody relieves the thread (Receivers.relieve); those after it do not.

Not here: devices (partition.py).
"""

from __future__ import annotations

from mach.threads import Runtime

QUICK_SECONDS = 0.0003  # about what two switches between threads take
SHORT_BYTES = 64 * 1024  # more takes longer, and says nothing of what less takes
WEIGHT = 1 / 8  # of the latest operation in the average


class ResponseTime:
    """See the head of the module.  No lock: an operation that goes missing in the average does no harm."""

    __slots__ = ("_now", "_runtime", "_seconds")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._now = runtime.now
        self._seconds = 2 * QUICK_SECONDS / WEIGHT  # slow, until it has shown that it is not

    def before(self, length: int) -> float:
        if self._seconds >= QUICK_SECONDS or length > SHORT_BYTES:
            self._runtime.may_block()
        return self._now()

    def after(self, length: int, began: float) -> None:
        if length <= SHORT_BYTES:
            self._seconds += (self._now() - began - self._seconds) * WEIGHT
