"""Who owes what in the kernel: which threads could end a wait, for the wait-for graph of a deadlock report.

Interface:
    Debts(host).owers(event) -> threads    put into Processor.owers by the host

A page that was asked for is owed by whoever serves its object's pager; memory, by the pageout daemon; the pageout
daemon's pause is for whoever has its laundry in hand, or should take it.  Nothing here is remembered: all is read from
ports and queues when a report is made.

Not here: the graph and its circle (mach/threads/waiting.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from kernel.vm_map import VmMap
from kernel.vm_object import VmObject
from mach.servers import servers
from mach.threads import Thread

if TYPE_CHECKING:
    from kernel.host import Host


class Debts:
    """See the head of the module."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def owers(self, event: Hashable) -> Iterable[Thread]:
        pageout = self._host.pageout
        if isinstance(event, tuple) and isinstance(event[0], VmObject):  # a page, by its offset; or the pager's word
            object, what = event
            page = object.pages.get(what) if isinstance(what, int) else None
            return self._of_pageout() if page is not None and not page.absent else self._servers(object)
        if isinstance(event, tuple) and isinstance(event[0], VmMap):
            holder = event[0].holder
            return [holder] if holder is not None else []
        if isinstance(event, VmObject):  # its termination waits for its paging
            return [*self._servers(event), *self._of_pageout()]
        if event is self._host.resident:
            return self._of_pageout()
        if event in self._host.device_memory.collecting:
            return [self._host.device_memory.collecting[0]]
        if event is pageout:
            objects = self._host.objects.by_id.values()
            return dict.fromkeys(thread for object in objects for thread in self._servers(object))
        return ()

    def _of_pageout(self) -> list[Thread]:
        thread = self._host.pageout.thread
        return [thread] if thread is not None else []

    @staticmethod
    def _servers(object: VmObject) -> list[Thread]:
        return servers(object.pager.port) if object.pager is not None else []
