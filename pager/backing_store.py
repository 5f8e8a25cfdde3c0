"""All paging partitions together: where a page goes, and where it is.

Interface:
    BackingStore(runtime, page_size)
        .add(name, device, blocks) -> PagingPartition     BackingStoreError: unfit, or there already
        .find(name), .remove(partition)                   only an empty partition that is going away
        .allocate(count) -> (partition index, first slot, how many)     NoPagingSpace
        .partition(index), .partitions(), .total_pages, .free_pages, .is_short

Invariants:
    1. No two partitions overlap on one device (the same file twice is silent corruption in Mach, weakness 7).
    2. A partition keeps its index for life; entries of page maps name it by that.  An index is used again only when
       its partition was removed, and so named by no entry.
    3. What is going away counts neither as space nor as free.

Not here: objects; I/O (partition.py).
"""

from __future__ import annotations

import itertools

from bootfs.blocklist import BlockList
from bootfs.device import BlockDevice
from mach.threads import LockRank, Runtime
from pager.page_map import PARTITION_BITS
from pager.partition import BackingStoreError, NoPagingSpace, PagingPartition


class BackingStore:
    """See the head of the module."""

    def __init__(self, runtime: Runtime, page_size: int) -> None:
        self._runtime = runtime
        self.page_size = page_size
        self._lock = runtime.mutex("partitions", LockRank.PARTITIONS)
        self._partitions: list[PagingPartition | None] = []  # by index

    def add(self, name: str, device: BlockDevice, blocks: BlockList) -> PagingPartition:
        """Take a block list as a partition."""
        with self._lock:
            index = self._partitions.index(None) if None in self._partitions else len(self._partitions)
            if index >= 1 << PARTITION_BITS:
                raise BackingStoreError(f"{name}: there are {index} partitions already, the most there can be")
            partition = PagingPartition(self._runtime, index, name, device, blocks, self.page_size)
            if partition.total == 0:
                raise BackingStoreError(f"{name}: it is smaller than a page; make a larger one with mkpagingfile")
            for other in self.partitions():
                if other.name == name or (other.device is device and _overlap(other, partition)):
                    raise BackingStoreError(f"{name}: {other.name} already pages on these blocks")
            self._partitions[index : index + 1] = [partition]
            return partition

    def remove(self, partition: PagingPartition) -> None:
        """Forget a partition that drain.py has emptied."""
        with self._lock:
            assert partition.going_away, f"{partition.name} is removed while it is in use"
            assert partition.free + partition.bad == partition.total, f"{partition.name} is removed with pages in it"
            self._partitions[partition.index] = None

    def partition(self, index: int) -> PagingPartition:
        """The partition that an entry names.  BackingStoreError if it has been removed since the entry was read."""
        partition = self._partitions[index]
        if partition is None:
            raise BackingStoreError(f"partition {index} has been removed")
        return partition

    def find(self, name: str) -> PagingPartition | None:
        """By its whole name: Mach's hashes collide (weakness 10)."""
        return next((partition for partition in self.partitions() if partition.name == name), None)

    def partitions(self) -> list[PagingPartition]:
        return [partition for partition in self._partitions if partition is not None]

    @property
    def total_pages(self) -> int:
        return sum(partition.total - partition.bad for partition in self.partitions() if not partition.going_away)

    @property
    def free_pages(self) -> int:
        return sum(partition.free for partition in self.partitions() if not partition.going_away)

    @property
    def is_short(self) -> bool:
        """Less than half is free: slots are worth more than what rewriting a page costs (as Linux's swap cache)."""
        return 2 * self.free_pages < self.total_pages

    def allocate(self, count: int) -> tuple[int, int, int]:
        """Slots in a row in the first partition that has room, as many of `count` as it can give.

        One that is going away is asked last: rather that it cannot go than that a page is lost.
        """
        for partition in sorted(self.partitions(), key=lambda partition: partition.going_away):
            try:
                first, given = partition.allocate(count)
            except NoPagingSpace:
                continue
            return partition.index, first, given
        raise NoPagingSpace("all partitions are full")


def _overlap(one: PagingPartition, other: PagingPartition) -> bool:
    spans = sorted((run.device_offset, run.device_offset + run.length) for run in (*one.runs, *other.runs))
    return any(start < end for (_, end), (start, _) in itertools.pairwise(spans))
