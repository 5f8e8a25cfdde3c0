"""All paging partitions together: where a page goes, and where it is.

Interface:
    BackingStore(runtime, page_size)
        .add(name, device, blocks, priority) -> PagingPartition     BackingStoreError: unfit, or there already
        .grow(partition, blocks) -> more slots                      BackingStoreError, and nothing has changed
        .find(name), .remove(partition)                             only an empty partition that is going away
        .allocate(count, owner) -> (partition index, first slot, how many)     NoPagingSpace
        .partition(index), .partitions(), .total_pages, .free_pages, .is_short

Invariants:
    1. No two partitions overlap on one device (the same file twice is silent corruption in Mach, weakness 7).
    2. A partition keeps its index for life; entries of page maps name it by that.  An index is used again only when
       its partition was removed, and so named by no entry.
    3. What is going away counts neither as space nor as free.

Which partition: as swapon has it (mach.md, appendix B; swapon(8)).  The one with the highest priority that has room;
those of equal priority in turn, STRIDE_PAGES each, so that disks share the work and neighbours stay neighbours.  Who
names no priority gets one below all others: the first partition is filled first.

Not here: objects; I/O (partition.py).
"""

from __future__ import annotations

import itertools

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from mach.threads import LockRank, Runtime
from pager.page_map import PARTITION_BITS
from pager.partition import BackingStoreError, NoPagingSpace, PagingPartition

STRIDE_PAGES = 256  # what one partition is given before the next of its priority has its turn


class BackingStore:
    """See the head of the module."""

    def __init__(self, runtime: Runtime, page_size: int) -> None:
        self._runtime = runtime
        self.page_size = page_size
        self._lock = runtime.mutex("partitions", LockRank.PARTITIONS)
        self._partitions: list[PagingPartition | None] = []  # by index
        self._order: list[list[PagingPartition]] = []  # by falling priority; whose turn it is first; the leaving last
        self._stride = STRIDE_PAGES  # pages that the first of its priority still gets

    def add(self, name: str, device: BlockDevice, blocks: BlockList, priority: int | None = None) -> PagingPartition:
        """Take a block list as a partition."""
        with self._lock:
            index = self._partitions.index(None) if None in self._partitions else len(self._partitions)
            if index >= 1 << PARTITION_BITS:
                raise BackingStoreError(f"{name}: there are {index} partitions already, the most there can be")
            if priority is None:
                priority = min((0, *(other.priority for other in self.partitions()))) - 1
            partition = PagingPartition(self._runtime, index, name, device, blocks, self.page_size, priority)
            if partition.total == 0:
                raise BackingStoreError(f"{name}: it is smaller than a page; make a larger one with mkpagingfile")
            if self.find(name) is not None:
                raise BackingStoreError(f"{name}: {name} already pages on these blocks")
            self._check_alone(name, device, blocks, None)
            self._partitions[index : index + 1] = [partition]
            if (tracer := self._runtime.tracer) is not None:
                tracer.event("partition", partition=index, name=name, slots=partition.total)
            self._arrange()
            return partition

    def grow(self, partition: PagingPartition, blocks: BlockList) -> int:
        with self._lock:
            if partition.going_away:
                raise BackingStoreError(f"{partition.name} is being removed")
            self._check_alone(partition.name, partition.device, blocks, partition)
            return partition.grow(blocks)

    def _check_alone(self, name: str, device: BlockDevice, blocks: BlockList, itself: PagingPartition | None) -> None:
        """INV-1."""
        for other in self.partitions():
            if other is not itself and disk_of(other.device) is disk_of(device) and _overlap(other.runs, blocks.runs):
                raise BackingStoreError(f"{name}: {other.name} already pages on these blocks")

    def rearrange(self) -> None:
        """A partition has begun, or ceased, to be going away."""
        with self._lock:
            self._arrange()

    def _arrange(self) -> None:
        ranks: dict[tuple[bool, int], list[PagingPartition]] = {}
        for partition in self.partitions():
            ranks.setdefault((partition.going_away, -partition.priority), []).append(partition)
        self._order = [ranks[rank] for rank in sorted(ranks)]
        self._stride = STRIDE_PAGES

    def remove(self, partition: PagingPartition) -> None:
        """Forget a partition that drain.py has emptied."""
        with self._lock:
            assert partition.going_away, f"{partition.name} is removed while it is in use"
            assert partition.free + partition.bad == partition.total, f"{partition.name} is removed with pages in it"
            self._partitions[partition.index] = None
            self._arrange()

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

    def allocate(self, count: int, owner: int = 0) -> tuple[int, int, int]:
        """Slots in a row, as many of `count` as the partition whose turn it is can give, for `owner` and its followers.

        One that is going away is asked last, one whose disk fails last of all: rather that than that a page is lost.
        """
        failing: list[PagingPartition] = []
        for rank in self._order:
            for partition in tuple(rank):
                if partition.is_failing:
                    failing.append(partition)
                    continue
                try:
                    first, given = partition.allocate(count, owner)
                except NoPagingSpace:
                    continue
                if len(rank) > 1:
                    self._took(rank, partition, given)
                return partition.index, first, given
        for partition in failing:
            if partition.free:
                return partition.index, *partition.allocate(count, owner)
        raise NoPagingSpace("all partitions are full")

    def _took(self, rank: list[PagingPartition], partition: PagingPartition, pages: int) -> None:
        """Those before it are full; once its stride is used up the next one has its turn."""
        with self._lock:
            if partition not in rank:
                return  # it began to leave meanwhile
            at = rank.index(partition)
            self._stride = (self._stride if at == 0 else STRIDE_PAGES) - pages
            if self._stride <= 0:
                at, self._stride = at + 1, STRIDE_PAGES
            rank[:] = rank[at:] + rank[:at]  # at once: others look without the lock


def disk_of(device: BlockDevice) -> BlockDevice:
    """The disk below, of a device that is another way to the same one."""
    return getattr(device, "disk", device)


def _overlap(one: tuple[Run, ...], other: tuple[Run, ...]) -> bool:
    spans = sorted((run.device_offset, run.device_offset + run.length) for run in (*one, *other))
    return any(start < end for (_, end), (start, _) in itertools.pairwise(spans))
