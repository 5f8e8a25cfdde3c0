"""The kernel's debugging service: answers the calls of mach/mach_debug.py, one function for each, named as it is.

Interface:
    DebugServer(host)
        .port                the receive right of the service: to be offered by a carrier
        .start(threads)      fork the threads that serve: more than one, so that not every hanging pager stops all

Invariants:
    1. No call changes anything: no page becomes resident, none leaves, no queue and no reference bit changes.
    2. Whatever a caller sends, it gets an answer or nothing, and nobody else notices (P7).

Not here: how a page is read in place (kernel/coherent.py); sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from kernel.coherent import CoherentReader
from kernel.page import Page
from kernel.vm_object import VmObject
from mach.default_pager_figures import CounterRecord
from mach.kern_return import KernReturn, MachError
from mach.mach_debug import (
    MachTasks,
    MachTasksReply,
    MachVmObjectPages,
    MachVmObjectPagesReply,
    MachVmObjectRead,
    MachVmObjectReadReply,
    MachVmObjects,
    MachVmObjectsReply,
    MachVmQueues,
    MachVmQueuesReply,
    MachVmRead,
    MachVmReadReply,
    MachVmRegions,
    MachVmRegionsReply,
    QueueRecord,
    RegionRecord,
    TaskRecord,
    VmObjectRecord,
    VmPageRecord,
    VmStatistics,
    VmStatisticsReply,
)
from mach.message import Message
from mach.ports import DeadPort, drop_rights

if TYPE_CHECKING:
    from kernel.host import Host

READ_BYTES = 256 * 1024  # the most that one call reads
RECORDS = 1024  # the most that one call lists
HEAD_PAGES = 8  # pages that a queue's head shows

SUCCESS = KernReturn.KERN_SUCCESS
INVALID = KernReturn.KERN_INVALID_ARGUMENT


class DebugServer:
    """See the head of the module."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.port = host.ipc.allocate("host (debugging)", limit=64)
        self._reader = CoherentReader(host.processor, host.ipc, host.resident)
        self._calls: dict[type[Message], Callable[[Any], Message]] = {
            VmStatistics: self.vm_statistics,
            MachVmQueues: self.mach_vm_queues,
            MachTasks: self.mach_tasks,
            MachVmRegions: self.mach_vm_regions,
            MachVmObjects: self.mach_vm_objects,
            MachVmObjectPages: self.mach_vm_object_pages,
            MachVmObjectRead: self.mach_vm_object_read,
            MachVmRead: self.mach_vm_read,
        }

    def start(self, threads: int = 2) -> None:
        for number in range(threads):
            self.host.runtime.fork(self._serve, f"debug server {number}", daemon=True)

    def _serve(self) -> None:
        while True:
            received = self.port.receive()
            if received is not None:
                self._handle(received.message)

    def _handle(self, message: Message) -> None:
        call = self._calls.get(type(message))
        if call is None:
            drop_rights(message)
            return
        answer = call(message)
        try:
            message.reply.send(answer)  # type: ignore[attr-defined]
        except DeadPort:
            pass  # who asked has gone

    # -- the calls ---------------------------------------------------------------------------------------------

    def vm_statistics(self, message: VmStatistics) -> VmStatisticsReply:
        counters = self.host.vm_statistics()
        records = tuple(CounterRecord(name, value) for name, value in counters.items())
        return VmStatisticsReply(SUCCESS, self.host.page_size, records)

    def mach_vm_queues(self, message: MachVmQueues) -> MachVmQueuesReply:
        resident = self.host.resident
        with self.host.processor.lock:
            pages = [page for object in self.host.objects.by_id.values() for page in object.pages.values()]
            return MachVmQueuesReply(
                SUCCESS,
                (
                    QueueRecord("free", resident.free_count, ""),
                    _queue("active", len(resident.active), resident.active),
                    _queue("inactive", len(resident.inactive), resident.inactive),
                    _queue("wired", resident.wire_count, (page for page in pages if page.wire_count)),
                    _queue("laundry", resident.laundry_count, (page for page in pages if page.laundry)),
                ),
            )

    def mach_tasks(self, message: MachTasks) -> MachTasksReply:
        with self.host.processor.lock:
            return MachTasksReply(
                SUCCESS,
                tuple(
                    TaskRecord(
                        task.task_id,
                        len(task.pmap),
                        sum(entry.end - entry.start for entry in task.map.entries),
                        task.faults,
                        task.name,
                    )
                    for task in self.host.tasks.values()
                ),
            )

    def mach_vm_regions(self, message: MachVmRegions) -> MachVmRegionsReply:
        with self.host.processor.lock:
            task = self.host.tasks.get(message.task_id)
            if task is None:
                return MachVmRegionsReply(KernReturn.KERN_INVALID_TASK, ())
            return MachVmRegionsReply(
                SUCCESS,
                tuple(
                    RegionRecord(
                        entry.start,
                        entry.end,
                        entry.protection,
                        entry.max_protection,
                        entry.inheritance,
                        entry.wired_count,
                        entry.object.object_id if entry.object is not None else 0,
                        entry.offset,
                    )
                    for entry in task.map.entries
                ),
            )

    def mach_vm_objects(self, message: MachVmObjects) -> MachVmObjectsReply:
        with self.host.processor.lock:
            later = (object for number, object in self.host.objects.by_id.items() if number > message.after)
            return MachVmObjectsReply(SUCCESS, tuple(_object_record(object) for object in islice(later, RECORDS)))

    def mach_vm_object_pages(self, message: MachVmObjectPages) -> MachVmObjectPagesReply:
        with self.host.processor.lock:
            object = self.host.objects.by_id.get(message.object_id)
            if object is None:
                return MachVmObjectPagesReply(INVALID, ())
            later = [offset for offset, _ in islice(object.pages.items(message.offset), RECORDS)]
            return MachVmObjectPagesReply(SUCCESS, tuple(self._page_record(object.pages[offset]) for offset in later))

    def mach_vm_object_read(self, message: MachVmObjectRead) -> MachVmObjectReadReply:
        with self.host.processor.lock:
            object = self.host.objects.by_id.get(message.object_id)
        if object is None or message.length > READ_BYTES:
            return MachVmObjectReadReply(INVALID, b"")
        try:
            return MachVmObjectReadReply(SUCCESS, self._reader.read_object(object, message.offset, message.length))
        except MachError as error:
            return MachVmObjectReadReply(error.code, b"")

    def mach_vm_read(self, message: MachVmRead) -> MachVmReadReply:
        with self.host.processor.lock:
            task = self.host.tasks.get(message.task_id)
        if task is None:
            return MachVmReadReply(KernReturn.KERN_INVALID_TASK, b"")
        if message.length > READ_BYTES:
            return MachVmReadReply(INVALID, b"")
        try:
            return MachVmReadReply(SUCCESS, self._reader.read_map(task.map, message.address, message.length))
        except MachError as error:
            return MachVmReadReply(error.code, b"")

    def _page_record(self, page: Page) -> VmPageRecord:
        return VmPageRecord(page.offset, page.frame, page.wire_count, " ".join(self._states(page)))

    def _states(self, page: Page) -> Iterator[str]:
        if page.queue is not None:
            yield page.queue.name
        for state in ("busy", "absent", "error", "laundry", "precious"):
            if getattr(page, state):
                yield state
        if page.reference:
            yield "referenced"
        if page.dirty or page.modified:
            yield "dirty"


def _queue(name: str, count: int, pages: Iterable[Page]) -> QueueRecord:
    return QueueRecord(name, count, " ".join(repr(page) for page in islice(pages, HEAD_PAGES)))


def _object_record(object: VmObject) -> VmObjectRecord:
    if object.pager is not None:
        pager = object.pager.port.name
    else:
        pager = f"dead: {len(object.lost)} pages lost" if object.lost else ""
    return VmObjectRecord(
        object.object_id,
        object.size,
        len(object.pages),
        object.references,
        object.internal,
        object.shadow.object_id if object.shadow is not None else 0,
        object.shadow_offset,
        object.paging_offset,
        pager,
        object.existence.count if object.existence is not None else 0,
    )
