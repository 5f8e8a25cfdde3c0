"""A debugger's side of a kernel's host port: typed calls over its socket.  Nothing here changes the kernel.

Interface:
    KernelClient(path)    vm_statistics, queues, tasks, regions, objects, object_pages, read_object, read_task, close
    KernelUnavailable     no kernel serves there, or it has gone; one line that says what to do

Not here: the kernel; printing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
from mach.service_client import ServiceClient

READ_BYTES = 256 * 1024
R = TypeVar("R", bound=Message)


class KernelUnavailable(Exception):
    """No kernel serves at the path, or it has died; the text says what to do."""


class KernelClient:
    """A connection to the kernel at `path`.  For one thread at a time.

    Each call raises KernelUnavailable if the kernel has gone, MachError if it says no: KERN_INVALID_ARGUMENT for an
    object, KERN_INVALID_TASK for a task that is not there, KERN_MEMORY_ERROR for what cannot be read.
    """

    def __init__(self, path: str) -> None:
        advice = f"start it with: machsim run --kernel-socket {path} --hold ..."
        self._service = ServiceClient(path, "kernel", advice, KernelUnavailable)
        self._call = self._service.call

    def close(self) -> None:
        self._service.close()

    def vm_statistics(self) -> tuple[int, dict[str, int]]:
        """Page size in bytes, and the counters of the machine by name."""
        reply = self._call(VmStatistics, VmStatisticsReply, "vm_statistics")
        return reply.page_size, {counter.name: counter.value for counter in reply.counters}

    def queues(self) -> list[QueueRecord]:
        return list(self._call(MachVmQueues, MachVmQueuesReply, "mach_vm_queues").queues)

    def tasks(self) -> list[TaskRecord]:
        return list(self._call(MachTasks, MachTasksReply, "mach_tasks").tasks)

    def regions(self, task_id: int) -> list[RegionRecord]:
        """The address map of a task, by address."""
        return list(self._call(MachVmRegions, MachVmRegionsReply, f"there is no task {task_id}", task_id).regions)

    def objects(self) -> list[VmObjectRecord]:
        """All VM objects, in the order of their numbers."""
        found: list[VmObjectRecord] = []
        while True:
            after = found[-1].object_id if found else 0
            reply = self._call(MachVmObjects, MachVmObjectsReply, "mach_vm_objects", after)
            if not reply.objects:
                return found
            found.extend(reply.objects)

    def object_pages(self, object_id: int) -> list[VmPageRecord]:
        """The resident pages of an object, by offset."""
        found: list[VmPageRecord] = []
        while True:
            offset = found[-1].offset + 1 if found else 0
            words = f"there is no object {object_id}"
            reply = self._call(MachVmObjectPages, MachVmObjectPagesReply, words, object_id, offset)
            if not reply.pages:
                return found
            found.extend(reply.pages)

    def read_object(self, object_id: int, offset: int, length: int) -> bytes:
        """What an object holds, fewer bytes at its end."""
        words = f"object {object_id} cannot be read at {offset}"
        return self._read(MachVmObjectRead, MachVmObjectReadReply, words, object_id, offset, length)

    def read_task(self, task_id: int, address: int, length: int) -> bytes:
        """What a task sees, up to the first hole of its address map."""
        words = f"task {task_id} cannot be read at {address:#x}"
        return self._read(MachVmRead, MachVmReadReply, words, task_id, address, length)

    def _read(
        self, request: Callable[..., Message], reply_class: type[R], words: str, number: int, start: int, length: int
    ) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            count = min(length, READ_BYTES)
            try:
                data: bytes = self._call(request, reply_class, words, number, start, count).data  # type: ignore[attr-defined]
            except MachError as error:
                if error.code == KernReturn.KERN_INVALID_ADDRESS and parts:
                    break  # a hole, just where this piece begins
                raise
            parts.append(data)
            start += count
            length -= count
            if len(data) < count:
                break
        return b"".join(parts)
