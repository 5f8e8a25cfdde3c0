"""A client's side of the default pager's service: typed calls over its socket.

Interface:
    PagerClient(path)    info, objects, pages, partitions, partition_map, statistics, latencies, clients,
                         wired, read,
                         object_create, object_set_size, object_name, object_lookup,
                         add_storage, grow_storage, remove_storage, await_space, close
    StorageRefused
    PagerUnavailable     nobody serves there, or it has gone

Not here: paging against it (a kernel does that with the port, see kernel/); printing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from bootfs.blocklist import BlockList
from mach.default_pager import (
    DefaultPagerInfo,
    DefaultPagerInfoReply,
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectLookup,
    DefaultPagerObjectLookupReply,
    DefaultPagerObjectName,
    DefaultPagerObjectNameReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerObjects,
    DefaultPagerObjectSetSize,
    DefaultPagerObjectSetSizeReply,
    DefaultPagerObjectsReply,
    DefaultPagerPagingStorage,
    DefaultPagerPagingStorageReply,
    DefaultPagerPartitionMap,
    DefaultPagerPartitionMapReply,
    DefaultPagerPartitions,
    DefaultPagerPartitionsReply,
    DefaultPagerSpaceAlert,
    DefaultPagerTriggers,
    DefaultPagerTriggersReply,
    ObjectRecord,
    PageRecord,
    PartitionRecord,
    RunRecord,
    StorageAction,
)
from mach.default_pager_figures import (
    DefaultPagerClients,
    DefaultPagerClientsReply,
    DefaultPagerLatencies,
    DefaultPagerLatenciesReply,
    DefaultPagerStatistics,
    DefaultPagerStatisticsReply,
    DefaultPagerWired,
    DefaultPagerWiredReply,
    LatencyRecord,
)
from mach.kern_return import KernReturn
from mach.ports import Ipc, SendRight
from mach.service_client import ServiceClient

READ_BYTES = 256 * 1024


class PagerUnavailable(Exception):
    """No pager serves at the path, or it has died; the text says what to do."""


class StorageRefused(Exception):
    """Paging storage was not added or not removed; nothing has changed.  The text says why, `result` is the code."""

    def __init__(self, result: KernReturn, words: str) -> None:
        super().__init__(words)
        self.result = result


class PagerClient:
    """A connection to the pager at `path`.  For one thread at a time.

    Each call raises PagerUnavailable if the pager has gone, MachError if it says no.
    """

    def __init__(self, path: str) -> None:
        self._service = ServiceClient(path, "pager", f"start it with: pagerd IMAGE --socket {path}", PagerUnavailable)
        self._call = self._service.call

    def close(self) -> None:
        self._service.close()

    def __enter__(self) -> PagerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ipc(self) -> Ipc:
        """The ports of this connection, for who pages over it (paged_memory.py, a kernel)."""
        return self._service.ipc

    @property
    def service(self) -> SendRight:
        """The default pager's own port: what a kernel makes its default memory manager."""
        return self._service.service

    def gone(self) -> PagerUnavailable:
        """What to raise when the pager turns out to have died."""
        return PagerUnavailable(f"{self._service.name} has gone")

    def info(self) -> DefaultPagerInfoReply:
        return self._call(DefaultPagerInfo, DefaultPagerInfoReply, "default_pager_info")

    def objects(self) -> list[ObjectRecord]:
        """All memory objects, in the order of their numbers."""
        found: list[ObjectRecord] = []
        while True:
            after = found[-1].object_id if found else 0
            reply = self._call(DefaultPagerObjects, DefaultPagerObjectsReply, "default_pager_objects", after)
            if not reply.objects:
                return found
            found.extend(reply.objects)

    def pages(self, object_id: int) -> list[PageRecord]:
        """The pages of one object on backing store, by offset."""
        found: list[PageRecord] = []
        while True:
            offset = found[-1].offset + 1 if found else 0
            words = f"there is no object {object_id}"
            reply = self._call(DefaultPagerObjectPages, DefaultPagerObjectPagesReply, words, object_id, offset)
            if not reply.pages:
                return found
            found.extend(reply.pages)

    def partitions(self) -> list[PartitionRecord]:
        reply = self._call(DefaultPagerPartitions, DefaultPagerPartitionsReply, "default_pager_partitions")
        return list(reply.partitions)

    def partition_map(self, index: int) -> bytes:
        """One character a slot: "." free, "#" used, "x" bad."""
        found = bytearray()
        while True:
            words = f"there is no partition {index}"
            reply = self._call(DefaultPagerPartitionMap, DefaultPagerPartitionMapReply, words, index, len(found))
            if not reply.data:
                return bytes(found)
            found += reply.data

    def statistics(self) -> dict[str, int]:
        reply = self._call(DefaultPagerStatistics, DefaultPagerStatisticsReply, "default_pager_statistics")
        return {counter.name: counter.value for counter in reply.counters}

    def latencies(self) -> list[LatencyRecord]:
        """How long messages took, by their kind."""
        return list(self._call(DefaultPagerLatencies, DefaultPagerLatenciesReply, "default_pager_latencies").latencies)

    def clients(self) -> DefaultPagerClientsReply:
        """Who has objects there, and the limits of each."""
        return self._call(DefaultPagerClients, DefaultPagerClientsReply, "default_pager_clients")

    def wired(self) -> DefaultPagerWiredReply:
        """The pager's own memory, and what keeps it there."""
        return self._call(DefaultPagerWired, DefaultPagerWiredReply, "default_pager_wired")

    def read(self, object_id: int, offset: int, length: int) -> bytes:
        """`length` bytes of what the object has on backing store, zeros where nothing is."""
        parts = []
        while length > 0:
            count = min(length, READ_BYTES)
            words = f"object {object_id} cannot be read at {offset}"
            reply = self._call(DefaultPagerObjectRead, DefaultPagerObjectReadReply, words, object_id, offset, count)
            parts.append(reply.data)
            offset += count
            length -= count
        return b"".join(parts)

    def add_storage(self, name: str, device: str, blocks: BlockList, priority: int | None = None) -> None:
        """Let the pager page on these blocks of that device too.  StorageRefused."""
        self._storage(StorageAction.ADD, name, os.path.realpath(device), blocks, priority)

    def grow_storage(self, name: str, blocks: BlockList) -> None:
        """These are the blocks that the partition has now.  StorageRefused."""
        self._storage(StorageAction.GROW, name, "", blocks, None)

    def remove_storage(self, name: str, tick: Callable[[], None] = lambda: None) -> None:
        """Have everything moved out of a partition, and it forgotten; `tick` is called meanwhile.  StorageRefused.

        If we die or give up before it is done, the partition stays.
        """
        self._storage(StorageAction.REMOVE, name, "", BlockList((), 0, 1), None, tick)

    def _storage(
        self,
        action: StorageAction,
        name: str,
        device: str,
        blocks: BlockList,
        priority: int | None,
        tick: Callable[[], None] | None = None,
    ) -> None:
        runs = tuple(RunRecord(run.file_offset, run.device_offset, run.length) for run in blocks.runs)
        order = -1 if priority is None else priority
        reply = self._service.ask(
            DefaultPagerPagingStorage,
            DefaultPagerPagingStorageReply,
            action,
            order,
            name,
            device,
            runs,
            tick=tick,
        )
        if reply.result != KernReturn.KERN_SUCCESS:
            raise StorageRefused(reply.result, reply.words)

    def await_space(
        self, below: int = 0, above: int = 0, timeout: float | None = None
    ) -> DefaultPagerSpaceAlert | None:
        """Wait until fewer than `below` bytes of paging space are free, or more than `above` (0: not for that).

        None if `timeout` seconds passed first.
        """
        with self._service.message_port() as (right, receive):
            self._call(DefaultPagerTriggers, DefaultPagerTriggersReply, "default_pager_triggers", below, above, right)
            message = receive(timeout)
        assert message is None or isinstance(message, DefaultPagerSpaceAlert)
        return message

    def object_create(self, size: int) -> SendRight:
        """A new memory object of `size` bytes, to be mapped (shared memory, paper §6.1)."""
        reply = self._call(DefaultPagerObjectCreate, DefaultPagerObjectCreateReply, "object_create", size)
        assert reply.memory_object is not None
        return reply.memory_object

    def object_set_size(self, right: SendRight, size: int) -> None:
        """The shared object ends at `size` bytes from now on."""
        self._service.call_on(right, DefaultPagerObjectSetSize, DefaultPagerObjectSetSizeReply, "object_set_size", size)

    def object_name(self, right: SendRight) -> bytes:
        """A secret name of the object: whoever is told it can look the object up."""
        return self._service.call_on(right, DefaultPagerObjectName, DefaultPagerObjectNameReply, "object_name").name

    def object_lookup(self, name: bytes) -> SendRight:
        """The right to the object of that secret name."""
        words = "there is no object of that name"
        reply = self._call(DefaultPagerObjectLookup, DefaultPagerObjectLookupReply, words, name)
        assert reply.memory_object is not None
        return reply.memory_object
