"""Removing a partition while everything runs: its pages are moved to the others, in the order of the disk.

Interface:
    drain(pager, partition, cancelled) -> None    the partition is empty and forgotten; CannotRemove: it is as it was

Two phases.  The partition is marked as going away: as long as there is room elsewhere no slot of it is given out, and a
page that is written again leaves it.  Then page after page is read, checked and written to another partition, and its
slot freed.  Whatever goes wrong (no room, a page that cannot be read, cancelled), the mark is taken off again; pages
that were moved are as good where they are now, and the partition serves on.  Mach leaves its lock held there
(weakness 3).

Invariants:
    1. A page is in the map of its object, with content that passes its check, at every moment of its move.
    2. While it is moved a page counts as being written: later messages about it wait.
    3. No lock is held across a device operation.

Not here: who asks for it (service.py); opening and closing devices (pagerd.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pager.integrity import page_digest
from pager.memory_object import MemoryObject
from pager.page_map import Entry
from pager.partition import BackingStoreError, NoPagingSpace, PagingPartition

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

STILL_WRITTEN_SECONDS = 0.01  # how long to let writes end that hold the last slots


class CannotRemove(Exception):
    """The partition stays; the text says why.  `for_want_of_room`: adding space would help."""

    def __init__(self, words: str, for_want_of_room: bool = False) -> None:
        super().__init__(words)
        self.for_want_of_room = for_want_of_room


def drain(pager: DefaultPager, partition: PagingPartition, cancelled: Callable[[], bool]) -> None:
    """Empty `partition`, and forget it."""
    if not partition.begin_going_away():
        raise CannotRemove(f"{partition.name} is being removed already")
    try:
        while not _is_empty(partition):
            moves = _pages_in(pager, partition)
            if len(moves) > pager.store.free_pages:
                words = (
                    f"{partition.name} holds {len(moves)} pages, and {pager.store.free_pages} slots are free elsewhere"
                )
                raise CannotRemove(words, for_want_of_room=True)
            for _, obj, page in moves:
                if cancelled():
                    raise CannotRemove("the removal was cancelled")
                _move(pager, partition, obj, page)
            if not moves:
                pager.runtime.sleep(STILL_WRITTEN_SECONDS, "writes to end that hold the last slots")
    except BaseException:
        partition.stay()
        raise
    pager.store.remove(partition)


def _is_empty(partition: PagingPartition) -> bool:
    return partition.free + partition.bad == partition.total


def _pages_in(pager: DefaultPager, partition: PagingPartition) -> list[tuple[int, MemoryObject, int]]:
    """(slot, object, page) of all pages in the partition, in the order of the disk."""
    found = []
    for obj in pager.objects():
        with obj.lock:
            entries = list(obj.map.pages(0))
        found += [(e.slot, obj, page) for page, e in entries if e.stored and e.partition == partition.index]
    return sorted(found, key=lambda move: move[0])


def _move(pager: DefaultPager, partition: PagingPartition, obj: MemoryObject, page: int) -> None:
    """Move one page, unless something else has become of it meanwhile."""
    pages = range(page, page + 1)
    with obj.lock:
        obj.await_written(pages)
        entry = None if obj.dead else obj.map.entry(page)
        if entry is None or not entry.stored or entry.partition != partition.index:
            return
        obj.begin_write(pages)
    try:
        moved = _copy(pager, partition, obj, page, entry)
    except BaseException:
        with obj.lock:
            obj.end_write(pages)
        raise
    with obj.lock:
        obj.map.store(page, moved)
        obj.end_write(pages)
    partition.free_slot(entry.slot)


def _copy(pager: DefaultPager, partition: PagingPartition, obj: MemoryObject, page: int, entry: Entry) -> Entry:
    """The page's content in a slot of another partition.  CannotRemove."""
    try:
        content = memoryview(partition.read(entry.slot, 1))
    except BackingStoreError as error:
        raise CannotRemove(f"a page of {obj!r} cannot be read: {error}") from None
    if page_digest(obj.object_id, page, entry.generation, content) != entry.digest:
        raise CannotRemove(f"page {page} of {obj!r} in slot {entry.slot} fails its check")
    while True:
        try:
            index, slot, _ = pager.store.allocate(1)
        except NoPagingSpace:
            raise CannotRemove("the other partitions became full", for_want_of_room=True) from None
        if index == partition.index:
            partition.free_slot(slot)
            raise CannotRemove("the other partitions became full", for_want_of_room=True)
        try:
            pager.store.partition(index).write(slot, content)
        except BackingStoreError:
            pager.store.partition(index).retire(slot)  # P3: and another is tried
            continue
        return Entry(index, slot, entry.generation, entry.digest)
