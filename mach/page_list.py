"""Pages in transit: page data in a message that still occupies its sender's memory (mach.md 4.6; the paper's §5.5).

Interface:
    PageList(pages, freed)    the bytes of whole pages, and what is to happen once their receiver has freed them
        .when_freed(freed)    say only now what
        .deallocate()         the receiver's vm_deallocate: calls `freed` the first time, does nothing afterwards
    vm_deallocate(data)       frees the data of a message: a PageList, or plain bytes, which occupy nothing

A kernel that pages out sends its pages themselves, not a copy: Mach's page list.  The frames stay taken until the
receiver has put the data where it belongs and frees it; so the laundry is bounded by what its pager has done, and a
pager that needs memory to do it can be seen to need it.  Whoever receives page data frees it, holding no lock: the
kernel may run right there.  It is so between processes too: a carrier tells the sender's when the receiver has freed it
(mach/connection.py), or has died.  A message that nobody receives takes its data with it.

Not here: whose frames they are (kernel/); what the pages hold.
"""

from __future__ import annotations

from collections.abc import Callable


class PageList(bytes):
    """See the head of the module.  To everybody but its sender it is bytes."""

    _freed: Callable[[], None] | None

    def __new__(cls, pages: bytes | memoryview, freed: Callable[[], None] | None = None) -> PageList:
        made = super().__new__(cls, pages)
        made._freed = freed
        return made

    def when_freed(self, freed: Callable[[], None]) -> None:
        self._freed = freed

    def deallocate(self) -> None:
        freed, self._freed = self._freed, None
        if freed is not None:
            freed()


def vm_deallocate(data: bytes) -> None:
    """Free the page data of a received message."""
    if isinstance(data, PageList):
        data.deallocate()
