"""The page map of one memory object: which slot holds each page, in which generation, with which digest.

Interface:
    PageMap().rows(pages) -> the Rows that they make up       .store(row)
             .entry(page) -> Entry | None
             .remove_all(), .truncate(first), .forget(pages) -> the slots that they named
             .pages(first) -> (page, Entry) in order          len(): pages on backing store
    Row      adjoining pages with one fate, in adjoining slots: what one device operation and one message can move
    Entry    partition, slot, generation, digest, fate of one page
    Fate     STORED: the slot has the page. LOST: its last write failed. GIVEN: precious, the kernel has the only copy
    joined(rows)    the same pages in as few rows as can be

Two levels, as in Mach, the second made at the first write to its 256 pages: 8 bytes a page and 20 of digest.  What a
cluster needs is taken out and put back as a whole: a page of it costs next to nothing here.

Invariants:
    1. A page has at most one slot; two pages never share one (PagingPartition hands each out once).
    2. A second-level block exists only if one of its pages has been stored; the first level never shrinks while pages
       are in it (Mach's could, under two growing threads: reference weakness "extend shrinks the table").
    3. len(self) is the number of entries that hold a slot, which are the STORED ones.
    4. A page that has an entry keeps one, whatever becomes of it but truncation: it is never taken for one that was
       never written.

Not here: locks (the memory object's guards it); devices; what a slot is.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pager.integrity import DIGEST_BYTES

LEAF_PAGES = 256
PARTITION_BITS = 8
SLOT_BITS = 32
GENERATION_BITS = 22
_PLACE_BITS = PARTITION_BITS + SLOT_BITS
_FATE_SHIFT = _PLACE_BITS + GENERATION_BITS  # two bits; 0: never written
_PARTITION_MASK, _SLOT_MASK, _PLACE_MASK, _GENERATION_MASK = (
    (1 << bits) - 1 for bits in (PARTITION_BITS, SLOT_BITS, _PLACE_BITS, GENERATION_BITS)
)


class Fate(enum.IntEnum):
    """What became of a page that was written."""

    STORED = 1
    LOST = 2
    GIVEN = 3


class Entry(NamedTuple):
    """What is known of one page.  Only a stored page has a slot; the generation of any goes on counting."""

    partition: int
    slot: int
    generation: int
    digest: bytes
    fate: Fate = Fate.STORED

    @property
    def stored(self) -> bool:
        return self.fate is Fate.STORED


_FATES = (None, *Fate)  # by number
NEVER_WRITTEN = -1  # the generation before the first


class Row(NamedTuple):
    """Pages from `page` on, one generation and one digest each.  Only a stored row has slots: from `slot` on."""

    page: int
    fate: Fate | None  # None: never written
    partition: int
    slot: int
    generations: list[int]
    digests: bytes

    @property
    def page_count(self) -> int:
        return len(self.generations)

    @property
    def pages(self) -> range:
        return range(self.page, self.page + len(self.generations))

    @property
    def slots(self) -> range:
        return range(self.slot, self.slot + len(self.generations))

    @property
    def stored(self) -> bool:
        return self.fate is Fate.STORED

    def next_generations(self) -> list[int]:
        return [(generation + 1) & _GENERATION_MASK for generation in self.generations]

    def part(self, start: int, stop: int) -> Row:
        """So many of its pages, counted from its first."""
        if start == 0 and stop == len(self.generations):
            return self
        slot = self.slot + start if self.fate is Fate.STORED else 0
        digests = self.digests[start * DIGEST_BYTES : stop * DIGEST_BYTES]
        return Row(self.page + start, self.fate, self.partition, slot, self.generations[start:stop], digests)

    def placed(self, partition: int, slot: int) -> Row:
        """The same pages, in those slots."""
        return Row(self.page, Fate.STORED, partition, slot, self.generations, self.digests)

    def homeless(self, fate: Fate) -> Row:
        """The same pages, in no slots: neither new content nor any older one will be given out."""
        return Row(self.page, fate, 0, 0, self.generations, bytes(len(self.generations) * DIGEST_BYTES))


def absent(pages: range) -> Row:
    """Pages that were never written."""
    return Row(pages.start, None, 0, 0, [NEVER_WRITTEN] * len(pages), bytes(len(pages) * DIGEST_BYTES))


def joined(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of their pages, with those that adjoin in pages and in slots made one."""
    made: list[Row] = []
    for row in rows:
        last = made[-1] if made else None
        if last is not None and _adjoin(last, row):
            generations, digests = last.generations + row.generations, last.digests + row.digests
            made[-1] = last._replace(generations=generations, digests=digests)
        else:
            made.append(row)
    return made


def _adjoin(one: Row, other: Row) -> bool:
    if one.page + one.page_count != other.page or one.fate is not other.fate:
        return False
    return not one.stored or (one.partition, one.slot + one.page_count) == (other.partition, other.slot)


class _Leaf:
    """Entries of LEAF_PAGES pages, packed: fate, generation, partition, slot."""

    __slots__ = ("digests", "words")

    def __init__(self) -> None:
        self.words = array("Q", bytes(8 * LEAF_PAGES))
        self.digests = bytearray(DIGEST_BYTES * LEAF_PAGES)

    def rows(self, page: int, at: int, stop: int) -> list[Row]:
        """Those of the entries from `at` up to `stop`, of which the first is `page`'s."""
        words = self.words[at:stop].tolist()
        first = words[0]
        if first >> _FATE_SHIFT == Fate.STORED and words == list(range(first, first + len(words))):
            generations = [first >> _PLACE_BITS & _GENERATION_MASK] * len(words)  # a cluster that was written as one
            return [self._row(page, at, words, generations)]
        found, start = [], 0
        for end in range(1, len(words) + 1):
            if end == len(words) or not _words_adjoin(words[end - 1], words[end]):
                row = words[start:end]
                generations = [word >> _PLACE_BITS & _GENERATION_MASK if word else NEVER_WRITTEN for word in row]
                found.append(self._row(page + start, at + start, row, generations))
                start = end
        return found

    def _row(self, page: int, at: int, words: list[int], generations: list[int]) -> Row:
        place = words[0]
        digests = bytes(self.digests[at * DIGEST_BYTES : (at + len(words)) * DIGEST_BYTES])
        partition, slot = place >> SLOT_BITS & _PARTITION_MASK, place & _SLOT_MASK
        return Row(page, _FATES[place >> _FATE_SHIFT], partition, slot, generations, digests)

    def store(self, at: int, row: Row) -> int:
        """The row's entries from `at` on; returns how many more of them are stored than were."""
        assert row.fate is not None
        stop, stored = at + row.page_count, row.fate is Fate.STORED
        before = [word >> _FATE_SHIFT for word in self.words[at:stop]].count(Fate.STORED)
        place = row.fate << _FATE_SHIFT | row.partition << SLOT_BITS | row.slot
        places = range(place, place + row.page_count) if stored else [place] * row.page_count
        words = [place | number << _PLACE_BITS for place, number in zip(places, row.generations, strict=True)]
        self.words[at:stop] = array("Q", words)
        self.digests[at * DIGEST_BYTES : stop * DIGEST_BYTES] = row.digests
        return (row.page_count if stored else 0) - before


def _words_adjoin(one: int, other: int) -> bool:
    if one >> _FATE_SHIFT != other >> _FATE_SHIFT:
        return False
    return one >> _FATE_SHIFT != Fate.STORED or (one & _PLACE_MASK) + 1 == other & _PLACE_MASK


class PageMap:
    """See the head of the module."""

    __slots__ = ("_leaves", "_stored")

    def __init__(self) -> None:
        self._leaves: dict[int, _Leaf] = {}
        self._stored = 0

    def __len__(self) -> int:
        return self._stored

    def entry(self, page: int) -> Entry | None:
        """The entry of `page`, None if it has never been written."""
        leaf = self._leaves.get(page // LEAF_PAGES)
        if leaf is None:
            return None
        return self._unpack(leaf, page % LEAF_PAGES)

    def rows(self, pages: range) -> list[Row]:
        """What is known of a row of pages: rows that cover it, in order, as few as can be."""
        found: list[Row] = []
        page = pages.start
        while page < pages.stop:
            leaf, at = self._leaves.get(page // LEAF_PAGES), page % LEAF_PAGES
            stop = min(LEAF_PAGES, at + pages.stop - page)
            found += leaf.rows(page, at, stop) if leaf is not None else [absent(range(page, page + stop - at))]
            page += stop - at
        return found if len(found) == 1 else joined(found)

    def store(self, row: Row) -> None:
        """Its entries from now on."""
        start, at = 0, row.page % LEAF_PAGES
        while start < row.page_count:
            number = (row.page + start) // LEAF_PAGES
            leaf = self._leaves.get(number)
            if leaf is None:
                leaf = self._leaves[number] = _Leaf()
            stop = min(row.page_count, start + LEAF_PAGES - at)
            self._stored += leaf.store(at, row.part(start, stop))
            start, at = stop, 0

    def remove_all(self) -> list[tuple[int, int]]:
        """Forget everything.  Returns the (partition, slot) pairs that were held."""
        return self.truncate(0)

    def forget(self, pages: range) -> list[tuple[int, int]]:
        """Forget a row of pages.  Returns the (partition, slot) pairs that were held."""
        held = []
        for page, entry in list(self.pages(pages.start)):
            if page >= pages.stop:
                break
            self._leaves[page // LEAF_PAGES].words[page % LEAF_PAGES] = 0
            if entry.stored:
                held.append((entry.partition, entry.slot))
        self._stored -= len(held)
        return held

    def truncate(self, first: int) -> list[tuple[int, int]]:
        """Forget the pages from `first` on.  Returns the (partition, slot) pairs that were held."""
        held = [(entry.partition, entry.slot) for _, entry in self.pages(first) if entry.stored]
        for number in [number for number in self._leaves if number * LEAF_PAGES >= first]:
            del self._leaves[number]
        leaf = self._leaves.get(first // LEAF_PAGES)
        if leaf is not None:
            for at in range(first % LEAF_PAGES, LEAF_PAGES):
                leaf.words[at] = 0
        self._stored -= len(held)
        return held

    def pages(self, first: int) -> Iterator[tuple[int, Entry]]:
        """The pages from `first` on that have been written, in order."""
        for number in sorted(self._leaves):
            if number < first // LEAF_PAGES:
                continue
            leaf = self._leaves[number]
            start = max(first - number * LEAF_PAGES, 0)
            for at in range(start, LEAF_PAGES):
                entry = self._unpack(leaf, at)
                if entry is not None:
                    yield number * LEAF_PAGES + at, entry

    def last_page(self) -> int:
        """The highest page that has been written, -1 if none."""
        return max((page for page, _ in self.pages(LEAF_PAGES * max(self._leaves, default=0))), default=-1)

    def check(self) -> None:
        """INV-1 within the object, and INV-3."""
        slots = [(entry.partition, entry.slot) for _, entry in self.pages(0) if entry.stored]
        assert len(slots) == len(set(slots)), "INV-1: two pages share a slot"
        assert len(slots) == self._stored, "INV-3"

    @staticmethod
    def _unpack(leaf: _Leaf, at: int) -> Entry | None:
        word = leaf.words[at]
        if not word:
            return None
        return Entry(
            word >> SLOT_BITS & _PARTITION_MASK,
            word & _SLOT_MASK,
            word >> _PLACE_BITS & _GENERATION_MASK,
            bytes(leaf.digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]),
            Fate(word >> _FATE_SHIFT),
        )
