"""Moving pages of an object between memory and backing store, checked and with every failure kept to its page.

Interface:
    read_pages(store, object, pages, entries)   -> a list of Piece, in order, covering the pages
    write_pages(store, object, pages, old, data, base)    -> Written: their new entries, and slots that they left
    give_away(store, object, pages, entries)    -> whether their slots were freed, the kernel having the only copies
    Piece    first page, count, and either data, or why there is none: Missing

Rules:
    - A page comes back exactly as it was last written, or as Failed (P2): each is checked against its digest.
    - A page is overwritten in place; pages that have no slot get slots in a row, so that one device operation does.
    - What fails in a row is tried again page by page, so that a bad block costs one page (P3); a block that cannot be
      written is retired and the page goes to another.
    - A page whose write failed for good is lost, and says so: its older content is not given out as if it were new.

Invariants:
    1. The object's lock is taken twice per call at the most, and never held across a device operation (the paper
       counts four lock pairs per page read after tuning, §7.2; here it is two).

Not here: whose turn it is (memory_object.py); replies (handlers.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pager.backing_store import BackingStore
from pager.integrity import page_digest
from pager.memory_object import MemoryObject
from pager.page_map import Entry, Fate, homeless_entry
from pager.partition import BackingStoreError, NoPagingSpace
from pager.slots import slot_owner

WRITE_TRIES = 4  # how many blocks may turn out bad before a page is given up
READ_TRIES = 8  # how often a page may be overwritten while it is read


class Missing(enum.Enum):
    """Why there is no data."""

    ABSENT = "never written"
    FAILED = "lost or unreadable"
    GIVEN = "precious: the kernel has the only copy"


@dataclass(slots=True)
class Piece:
    """A row of pages with one fate."""

    page: int
    count: int
    content: bytes | memoryview | Missing


# -- in ----------------------------------------------------------------------------------------------------------------


def read_pages(store: BackingStore, obj: MemoryObject, pages: range, entries: list[Entry | None]) -> list[Piece]:
    """The content of `pages`, whose map entries were `entries` when it was their turn.

    The caller has called begin_read, and calls end_read.
    """
    pieces: list[Piece] = []
    for first, row in _rows(pages, entries):
        head = row[0]
        if head is None:
            pieces.append(Piece(first, len(row), Missing.ABSENT))
        elif not head.stored:
            pieces.append(Piece(first, len(row), Missing.GIVEN if head.fate is Fate.GIVEN else Missing.FAILED))
        else:
            pieces.extend(_read_row(store, obj, first, [entry for entry in row if entry is not None]))
    return pieces


def _read_row(store: BackingStore, obj: MemoryObject, first: int, row: list[Entry]) -> list[Piece]:
    """Pages whose slots lie in a row: one operation if all is well, page by page if not."""
    size, head = store.page_size, row[0]
    try:
        raw = store.partition(head.partition).read(head.slot, len(row))
    except BackingStoreError:
        if len(row) == 1:
            return [_reread(store, obj, first, head)]
        return [piece for at, entry in enumerate(row) for piece in _read_row(store, obj, first + at, [entry])]
    data = memoryview(raw)
    bad = [
        at
        for at, (_, _, generation, digest, _) in enumerate(row)
        if page_digest(obj.object_id, first + at, generation, data[at * size : (at + 1) * size]) != digest
    ]
    if not bad:
        return [Piece(first, len(row), raw)]
    return [
        _reread(store, obj, first + at, entry) if at in bad else Piece(first + at, 1, data[at * size : (at + 1) * size])
        for at, entry in enumerate(row)
    ]


def _reread(store: BackingStore, obj: MemoryObject, page: int, entry: Entry) -> Piece:
    """A page that could not be read or failed its check: wrong, unless a later message has overwritten it meanwhile, or
    it was moved to another partition; then read that."""
    for _ in range(READ_TRIES):
        with obj.lock:
            obj.await_written(range(page, page + 1))
            now = obj.map.entry(page)
        if now is not None and now.fate is Fate.GIVEN:
            return Piece(page, 1, Missing.GIVEN)
        if now is None or not now.stored or now == entry:
            break
        entry = now
        try:
            data = memoryview(store.partition(entry.partition).read(entry.slot, 1))
        except BackingStoreError:
            break
        if page_digest(obj.object_id, page, entry.generation, data) == entry.digest:
            return Piece(page, 1, data)
    return Piece(page, 1, Missing.FAILED)


def _rows(pages: range, entries: list[Entry | None]) -> Iterator[tuple[int, list[Entry | None]]]:
    """Cut the pages into rows that one operation, or one reply, can serve."""
    start = 0
    for at in range(1, len(entries) + 1):
        if at == len(entries) or not _adjoin(entries[at - 1], entries[at]):
            yield pages[start], entries[start:at]
            start = at


def _adjoin(one: Entry | None, other: Entry | None) -> bool:
    if one is None or other is None:
        return one is other
    if not (one.stored and other.stored):
        return one.fate is other.fate
    return one.partition == other.partition and one.slot + 1 == other.slot


def give_away(store: BackingStore, obj: MemoryObject, pages: range, entries: list[Entry | None]) -> bool:
    """Free the slots of pages that are about to be supplied as precious; False if a later message has changed one.

    From here on the kernel has the only copies.  The map remembers that, so that the pages are never taken for pages
    that were never written: Mach forgets them, and loses a page whose fault is then abandoned (weakness 8).
    """
    with obj.lock:
        if obj.dead or not obj.writing.isdisjoint(pages) or obj.map.entries(pages) != entries:
            return False
        for page, entry in zip(pages, entries, strict=True):
            assert entry is not None
            obj.map.store(page, homeless_entry(Fate.GIVEN, entry.generation))
    for entry in entries:
        assert entry is not None
        store.partition(entry.partition).free_slot(entry.slot)
    return True


# -- out ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to."""

    entries: dict[int, Entry]  # by page, to be stored in the map; LOST for what could not be written
    vacated: list[tuple[int, int]]  # (partition, slot), to be freed once that is done


def write_pages(
    store: BackingStore,
    obj: MemoryObject,
    pages: Iterable[int],
    old: dict[int, Entry],
    data: memoryview,
    base: int,
    room: int | None = None,
) -> Written:
    """Write `pages`; page p's content is `data` at (p - base) pages.  `old`: their entries when it was their turn.
    Of pages that have no slot only the first `room` get one.

    The caller has called begin_write; it stores the entries, frees the slots, and calls end_write.
    """
    size = store.page_size
    new: dict[int, Entry] = {}
    homeless: list[int] = []
    for page in pages:
        before = old.get(page)
        generation = before.next_generation() if before is not None else 0
        content = data[(page - base) * size : (page - base + 1) * size]
        digest = page_digest(obj.object_id, page, generation, content)
        if before is None or not before.stored or store.partition(before.partition).going_away:
            homeless.append(page)
            new[page] = Entry(0, 0, generation, digest, Fate.LOST)
        else:
            new[page] = Entry(before.partition, before.slot, generation, digest)
    if room is not None and room < len(homeless):
        homeless = _within(room, homeless, old, new)
    vacated = _give_slots(store, obj, homeless, old, new)
    placed = [page for page in new if new[page].stored]
    for row in _write_rows(placed, new):
        _write_row(store, obj, row, new, data, base)
    return Written(new, vacated)


def _give_slots(
    store: BackingStore, obj: MemoryObject, homeless: list[int], old: dict[int, Entry], new: dict[int, Entry]
) -> list[tuple[int, int]]:
    """Find slots, in rows as long as can be; when there are none left a page stays where it is, even if that partition
    is going away, and a page that is nowhere is lost (P4).  Returns the slots that pages have left."""
    at = 0
    vacated = []
    while at < len(homeless):
        try:
            partition, first, given = store.allocate(_in_a_row(homeless, at), slot_owner(obj.object_id, homeless[at]))
        except NoPagingSpace:
            for page in homeless[at:]:
                before, entry = old.get(page), new[page]
                if before is not None and before.stored:
                    new[page] = Entry(before.partition, before.slot, entry.generation, entry.digest)
                else:
                    new[page] = homeless_entry(Fate.LOST, entry.generation)
            break
        for slot, page in enumerate(homeless[at : at + given], first):
            new[page] = Entry(partition, slot, new[page].generation, new[page].digest)
            before = old.get(page)
            if before is not None and before.stored:
                vacated.append((before.partition, before.slot))
        at += given
    return vacated


def _within(room: int, homeless: list[int], old: dict[int, Entry], new: dict[int, Entry]) -> list[int]:
    """Those that may have a slot: all that had one, and so many others.  The rest is lost, as without space (P4)."""
    kept = []
    for page in homeless:
        before = old.get(page)
        had = before is not None and before.stored
        if had or room > 0:
            kept.append(page)
            room -= not had
        else:
            new[page] = homeless_entry(Fate.LOST, new[page].generation)
    return kept


def _in_a_row(pages: list[int], at: int) -> int:
    """How many from `at` on follow each other."""
    end = at + 1
    while end < len(pages) and pages[end] == pages[end - 1] + 1:
        end += 1
    return end - at


def _write_rows(pages: list[int], new: dict[int, Entry]) -> Iterator[list[int]]:
    row: list[int] = []
    for page in sorted(pages):
        if row and not (page == row[-1] + 1 and _adjoin(new[row[-1]], new[page])):
            yield row
            row = []
        row.append(page)
    if row:
        yield row


def _write_row(
    store: BackingStore, obj: MemoryObject, row: list[int], new: dict[int, Entry], data: memoryview, base: int
) -> None:
    """Write adjoining pages to adjoining slots; on failure each page by itself."""
    size = store.page_size
    head = new[row[0]]
    try:
        store.partition(head.partition).write(
            head.slot, data[(row[0] - base) * size : (row[0] - base + len(row)) * size]
        )
    except BackingStoreError:
        for page in row:
            owner = slot_owner(obj.object_id, page)
            new[page] = _write_one(store, owner, new[page], data[(page - base) * size : (page - base + 1) * size])


def _write_one(store: BackingStore, owner: int, entry: Entry, content: memoryview) -> Entry:
    """Write a page somewhere: its slot, or, as long as blocks turn out to be bad, another."""
    for _ in range(WRITE_TRIES):
        try:
            store.partition(entry.partition).write(entry.slot, content)
            return entry
        except BackingStoreError:
            store.partition(entry.partition).retire(entry.slot)
        try:
            partition, slot, _ = store.allocate(1, owner)
        except NoPagingSpace:
            return homeless_entry(Fate.LOST, entry.generation)
        entry = Entry(partition, slot, entry.generation, entry.digest)
    store.partition(entry.partition).free_slot(entry.slot)
    return homeless_entry(Fate.LOST, entry.generation)
