"""Removing a partition while everything runs: its pages are moved to the others, in the order of the disk.

Interface:
    drain(pager, partition, cancelled) -> pages moved    the partition is empty and forgotten; CannotRemove: it stays

Two phases.  The partition is marked as going away: as long as there is room elsewhere no slot of it is given out, and a
page that is written again leaves it.  Then row after row of its slots is read, checked and written to another
partition, and freed.  Whatever goes wrong (no room, a page that cannot be read, cancelled), the mark is taken off
again; pages that were moved are as good where they are now, and the partition serves on.  Mach leaves its lock held
there (weakness 3).

Whose a slot is, its partition's owners say (slots.py), so that nothing is listed and sorted beforehand, and a removal
takes no memory but for the row that it moves (P6).

Invariants:
    1. A page is in the map of its object, with content that passes its check, at every moment of its move.
    2. While it is moved a page counts as being written: later messages about it wait.
    3. No lock is held across a device operation.

Not here: who asks for it (paging_files.py); opening and closing devices (pagerd.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pager.integrity import page_digests
from pager.memory_object import MemoryObject
from pager.page_map import Row
from pager.partition import BackingStoreError, NoPagingSpace, PagingPartition
from pager.slots import owner_object, owner_page, slot_owner

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

STILL_WRITTEN_SECONDS = 0.01  # how long to let writes end that hold the last slots
ROW_PAGES = 128  # moved with one read and one write; later messages about these pages wait as long


class CannotRemove(Exception):
    """The partition stays; the text says why.  `for_want_of_room`: adding space would help."""

    def __init__(self, words: str, for_want_of_room: bool = False) -> None:
        super().__init__(words)
        self.for_want_of_room = for_want_of_room


def drain(pager: DefaultPager, partition: PagingPartition, cancelled: Callable[[], bool]) -> int:
    """Empty `partition`, and forget it."""
    if not partition.begin_going_away():
        raise CannotRemove(f"{partition.name} is being removed already")
    moved = 0
    try:
        pager.store.rearrange()
        while not partition.close():
            used = partition.total - partition.free - partition.bad
            if used > pager.store.free_pages:
                words = f"{partition.name} holds {used} pages, and {pager.store.free_pages} slots are free elsewhere"
                raise CannotRemove(words, for_want_of_room=True)
            round_moved = _sweep(pager, partition, cancelled)
            moved += round_moved
            if not round_moved:
                pager.runtime.sleep(STILL_WRITTEN_SECONDS, "writes to end that hold the last slots")
                _go_on(cancelled)
    except BaseException:
        partition.stay()
        pager.store.rearrange()
        raise
    pager.store.remove(partition)
    return moved


def _go_on(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise CannotRemove("the removal was cancelled")


def _sweep(pager: DefaultPager, partition: PagingPartition, cancelled: Callable[[], bool]) -> int:
    """Once over the partition; returns how many pages were moved.  Slots that are just being written stay for the next
    time."""
    moved = 0
    slot, count, owner = partition.used_row(0, ROW_PAGES)
    while slot >= 0:
        _go_on(cancelled)
        obj = pager.object_of(owner_object(owner))
        done = 0 if obj is None else _move(pager, partition, obj, owner_page(owner), slot, count)
        moved += done
        slot, count, owner = partition.used_row(slot + max(done, 1), ROW_PAGES)
    return moved


def _move(pager: DefaultPager, partition: PagingPartition, obj: MemoryObject, page: int, slot: int, count: int) -> int:
    """Move the pages that should be in these slots, up to the first that something else has become of meanwhile."""
    pages = range(page, page + count)
    with obj.lock:
        obj.await_written(pages)
        row = obj.map.rows(pages)[0]
        if obj.dead or not row.stored or (row.partition, row.slot) != (partition.index, slot):
            return 0  # freed, or allocated and still being written
        obj.begin_write(row.pages)
    moved: list[Row] = []
    try:
        _copy(pager, partition, obj, row, moved)
    finally:
        with obj.lock:
            for new in moved:
                obj.map.store(new)
            obj.end_write(row.pages)
        done = sum(new.page_count for new in moved)
        for left in row.slots[:done]:
            partition.free_slot(left)
    return done


def _copy(pager: DefaultPager, partition: PagingPartition, obj: MemoryObject, row: Row, moved: list[Row]) -> None:
    """The content of the row in slots of other partitions: adds its new rows to `moved`, in order.  CannotRemove with
    those that could be."""
    content = _read(partition, obj, row)
    if content is None:  # something of it cannot be had: move what comes before that, and say so
        for at in range(row.page_count):
            _copy(pager, partition, obj, row.part(at, at + 1), moved)
        return
    size = pager.page_size
    at = 0
    while at < row.page_count:
        rest = row.part(at, row.page_count)
        index, first, given = _allocate(pager, partition, obj, rest)
        target = pager.store.partition(index)
        hopeless = target.is_failing  # asked for want of others; its slots are not used up by failing
        given = _write(target, first, content[at * size : (at + given) * size])
        if hopeless and not given:
            raise CannotRemove(f"{target.name}, where the pages would go, cannot be written to")
        if given:
            moved.append(rest.part(0, given).placed(index, first))
        at += given


def _read(partition: PagingPartition, obj: MemoryObject, row: Row) -> memoryview | None:
    """What is in the row's slots, each page checked; None if it is not all good.  CannotRemove if that is one page."""
    try:
        content = partition.read(row.slot, row.page_count)
    except BackingStoreError as error:
        if row.page_count == 1:
            raise CannotRemove(f"a page of {obj!r} cannot be read: {error}") from None
        return None
    if page_digests(obj.object_id, row.page, row.generations, content, partition.page_size) == row.digests:
        return memoryview(content)
    if row.page_count == 1:
        raise CannotRemove(f"page {row.page} of {obj!r} in slot {row.slot} fails its check")
    return None


def _allocate(pager: DefaultPager, partition: PagingPartition, obj: MemoryObject, row: Row) -> tuple[int, int, int]:
    """Slots elsewhere for as much of the row as is to be had in one piece.  CannotRemove."""
    full = CannotRemove("the other partitions became full", for_want_of_room=True)
    try:
        index, first, given = pager.store.allocate(row.page_count, slot_owner(obj.object_id, row.page))
    except NoPagingSpace:
        raise full from None
    if index == partition.index:
        for slot in range(first, first + given):
            partition.free_slot(slot)
        raise full
    return index, first, given


def _write(target: PagingPartition, first: int, content: memoryview) -> int:
    """Write to these slots of ours; returns how many pages are there.  What is not used of them is free again, but for
    a block that turned out to be bad, which is retired (P3)."""
    size = target.page_size
    count = len(content) // size
    try:
        target.write(first, content)
        return count
    except BackingStoreError:
        pass
    for at in range(count):
        try:
            target.write(first + at, content[at * size : (at + 1) * size])
        except BackingStoreError:
            target.retire(first + at)
            for slot in range(first + at + 1, first + count):
                target.free_slot(slot)
            return at
    return count
