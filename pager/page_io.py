"""Moving pages of an object between memory and backing store, checked and with every failure kept to its page.

Interface:
    read_pages(store, object, rows)    -> a list of Piece, in order, covering the rows
    write_pages(store, object, rows, data, base, room)    -> Written: their new rows, and slots that they left
    give_away(store, object, row)      -> whether its slots were freed, the kernel having the only copies
    Piece    a row and either its data, or why there is none: Missing

Rules:
    - A page comes back exactly as it was last written, or as Failed (P2): each is checked against its digest.
    - A page is overwritten in place; pages that have no slot get slots in a row, so that one device operation does.
    - What fails in a row is tried again page by page, so that a bad block costs one page (P3); a block that cannot be
      written is retired and the page goes to another.
    - A page whose write failed for good is lost, and says so: its older content is not given out as if it were new.

Invariants:
    1. The object's lock is taken twice per call at the most, and never held across a device operation (the paper
       counts four lock pairs per page read after tuning, §7.2; here it is two).
    2. What is done for each page of a row is the digest: all else is done once for the row.

Not here: whose turn it is (memory_object.py); replies (handlers.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pager.backing_store import BackingStore
from pager.integrity import DIGEST_BYTES, page_digests
from pager.memory_object import MemoryObject
from pager.page_map import Fate, Row, joined
from pager.partition import BackingStoreError, NoPagingSpace
from pager.slots import slot_owner

WRITE_TRIES = 4  # how many blocks may turn out bad before a page is given up
READ_TRIES = 8  # how often a page may be overwritten while it is read


class Missing(enum.Enum):
    """Why there is no data."""

    ABSENT = "never written"
    FAILED = "lost or unreadable"
    GIVEN = "precious: the kernel has the only copy"


class Piece(NamedTuple):
    """A row of pages, and what there is of it."""

    row: Row
    content: bytes | memoryview | Missing


# -- in ----------------------------------------------------------------------------------------------------------------


def read_pages(store: BackingStore, obj: MemoryObject, rows: Iterable[Row]) -> list[Piece]:
    """The content of pages, of which `rows` was known when it was their turn.

    The caller has called begin_read, and calls end_read.
    """
    pieces: list[Piece] = []
    for row in rows:
        if row.fate is Fate.STORED:
            pieces += _read_row(store, obj, row)
        elif row.fate is None:
            pieces.append(Piece(row, Missing.ABSENT))
        else:
            pieces.append(Piece(row, Missing.GIVEN if row.fate is Fate.GIVEN else Missing.FAILED))
    return pieces


def _read_row(store: BackingStore, obj: MemoryObject, row: Row) -> list[Piece]:
    """One device operation if all is well, page by page if not."""
    size, count = store.page_size, len(row.generations)
    try:
        raw = store.partition(row.partition).read(row.slot, count)
    except BackingStoreError:
        if count == 1:
            return [_reread(store, obj, row)]
        return [piece for at in range(count) for piece in _read_row(store, obj, row.part(at, at + 1))]
    digests = page_digests(obj.object_id, row.page, row.generations, raw, size)
    if digests == row.digests:
        return [Piece(row, raw)]
    data, pieces = memoryview(raw), []
    for at in range(count):
        page, its = row.part(at, at + 1), slice(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES)
        good = digests[its] == row.digests[its]
        pieces.append(Piece(page, data[at * size : (at + 1) * size]) if good else _reread(store, obj, page))
    return pieces


def _reread(store: BackingStore, obj: MemoryObject, row: Row) -> Piece:
    """A page that could not be read or failed its check: wrong, unless a later message has overwritten it meanwhile, or
    it was moved to another partition; then read that."""
    for _ in range(READ_TRIES):
        with obj.lock:
            obj.await_written(row.pages)
            (now,) = obj.map.rows(row.pages)
        if now.fate is Fate.GIVEN:
            return Piece(now, Missing.GIVEN)
        if not now.stored or now == row:
            break
        row = now
        try:
            data = memoryview(store.partition(row.partition).read(row.slot, 1))
        except BackingStoreError:
            break
        if page_digests(obj.object_id, row.page, row.generations, data, store.page_size) == row.digests:
            return Piece(row, data)
    return Piece(row, Missing.FAILED)


def give_away(store: BackingStore, obj: MemoryObject, row: Row) -> bool:
    """Free the slots of pages that are about to be supplied as precious; False if a later message has changed one.

    From here on the kernel has the only copies.  The map remembers that, so that the pages are never taken for pages
    that were never written: Mach forgets them, and loses a page whose fault is then abandoned (weakness 8).
    """
    pages = row.pages
    with obj.lock:
        if obj.dead or not obj.writing.isdisjoint(pages) or obj.map.rows(pages) != [row]:
            return False
        obj.map.store(row.homeless(Fate.GIVEN))
    partition = store.partition(row.partition)
    for slot in row.slots:
        partition.free_slot(slot)
    return True


# -- out ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to."""

    rows: list[Row]  # to be stored in the map; LOST what could not be written
    vacated: list[tuple[int, int]]  # (partition, slot), to be freed once that is done

    @property
    def lost(self) -> int:
        return sum(row.page_count for row in self.rows if row.fate is not Fate.STORED)


def write_pages(
    store: BackingStore, obj: MemoryObject, rows: Iterable[Row], data: memoryview, base: int, room: int
) -> Written:
    """Write the pages of `rows`, which is what was known of them when it was their turn; page p's content is `data` at
    (p - base) pages.  Of pages that have no slot only the first `room` get one: the rest is lost, as without space
    (P4).

    The caller has called begin_write; it stores the new rows, frees the slots, and calls end_write.
    """
    new: list[Row] = []
    vacated: list[tuple[int, int]] = []
    for old in rows:
        generations = old.next_generations()
        content = _content(store, old, data, base)
        digests = page_digests(obj.object_id, old.page, generations, content, store.page_size)
        if old.fate is Fate.STORED and not store.partition(old.partition).going_away:
            new.append(old._replace(generations=generations, digests=digests))
            continue
        row = Row(old.page, Fate.LOST, 0, 0, generations, digests)
        allowed = row.page_count if old.stored else min(room, row.page_count)
        if allowed:
            new += _with_slots(store, obj, row.part(0, allowed), old, vacated)
        if allowed < row.page_count:
            new.append(row.part(allowed, row.page_count).homeless(Fate.LOST))
        room -= 0 if old.stored else allowed
    done: list[Row] = []
    for row in new if len(new) == 1 else joined(new):
        done += _write_row(store, obj, row, _content(store, row, data, base)) if row.stored else [row]
    return Written(done, vacated)


def _content(store: BackingStore, row: Row, data: memoryview, base: int) -> memoryview:
    start = (row.page - base) * store.page_size
    return data[start : start + row.page_count * store.page_size]


def _with_slots(
    store: BackingStore, obj: MemoryObject, row: Row, old: Row, vacated: list[tuple[int, int]]
) -> Iterator[Row]:
    """The row in slots, as many in a row as can be.  When there are none left a page stays where it is, even if that
    partition is going away, and a page that is nowhere is lost (P4).  Adds to `vacated` the slots that pages have
    left."""
    at = 0
    while at < row.page_count:
        try:
            partition, first, given = store.allocate(row.page_count - at, slot_owner(obj.object_id, row.page + at))
        except NoPagingSpace:
            rest = row.part(at, row.page_count)
            yield rest.placed(old.partition, old.slot + at) if old.stored else rest.homeless(Fate.LOST)
            return
        yield row.part(at, at + given).placed(partition, first)
        if old.stored:
            vacated += [(old.partition, slot) for slot in old.slots[at : at + given]]
        at += given


def _write_row(store: BackingStore, obj: MemoryObject, row: Row, content: memoryview) -> list[Row]:
    """Write adjoining pages to adjoining slots; on failure each page by itself."""
    try:
        store.partition(row.partition).write(row.slot, content)
        return [row]
    except BackingStoreError:
        pages = [row.part(at, at + 1) for at in range(row.page_count)]
        return [_write_page(store, obj, page, _content(store, page, content, row.page)) for page in pages]


def _write_page(store: BackingStore, obj: MemoryObject, row: Row, content: memoryview) -> Row:
    """Write a page somewhere: its slot, or, as long as blocks turn out to be bad, another."""
    for _ in range(WRITE_TRIES):
        try:
            store.partition(row.partition).write(row.slot, content)
            return row
        except BackingStoreError:
            store.partition(row.partition).retire(row.slot)
        try:
            partition, slot, _ = store.allocate(1, slot_owner(obj.object_id, row.page))
        except NoPagingSpace:
            return row.homeless(Fate.LOST)
        row = row.placed(partition, slot)
    store.partition(row.partition).free_slot(row.slot)
    return row.homeless(Fate.LOST)
