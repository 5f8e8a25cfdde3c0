"""A queue of pages that tells what is put on it.

Interface:
    TracedQueue(frames, name, runtime)    a PageQueue; its events are "queue", with the frame and the queue's name

Whoever moves a page between queues, the kernel or a replacement policy, is so told without knowing of it.

Not here: why a page is moved.
"""

from __future__ import annotations

from kernel.page import Frames, Page, PageQueue
from mach.threads import Runtime


class TracedQueue(PageQueue):
    """See the head of the module."""

    __slots__ = ("_runtime",)

    def __init__(self, frames: Frames, name: str, runtime: Runtime) -> None:
        super().__init__(frames, name)
        self._runtime = runtime

    def append(self, page: Page) -> None:
        super().append(page)
        self._tell(page)

    def prepend(self, page: Page) -> None:
        super().prepend(page)
        self._tell(page)

    def _tell(self, page: Page) -> None:
        if self._runtime.tracer is not None:
            self._runtime.tracer.event("queue", frame=page.frame, queue=self.name)
