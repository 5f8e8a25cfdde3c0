"""The page map of one memory object: which slot holds each page, in which generation, with which digest.

Interface:
    PageMap().entry(page) -> Entry | None     .entries(pages) -> one for each
             .store(page, entry)
             .remove_all(), .truncate(first) -> the slots that they named
             .pages(first) -> (page, Entry) in order     len(): pages on backing store
    Entry    partition, slot, generation, digest, fate
    Fate     STORED: the slot has the page. LOST: its last write failed. GIVEN: precious, the kernel has the only copy
    homeless_entry(fate, generation)

Two levels, as in Mach, the second made at the first write to its 256 pages: 8 bytes a page and 20 of digest.

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
from collections.abc import Iterator
from typing import NamedTuple

from pager.integrity import DIGEST_BYTES

LEAF_PAGES = 256
PARTITION_BITS = 8
SLOT_BITS = 32
GENERATION_BITS = 22
_FATE_SHIFT = PARTITION_BITS + SLOT_BITS + GENERATION_BITS  # two bits; 0: never written
_PARTITION_MASK, _SLOT_MASK, _GENERATION_MASK = (
    (1 << bits) - 1 for bits in (PARTITION_BITS, SLOT_BITS, GENERATION_BITS)
)
_NO_DIGEST = bytes(DIGEST_BYTES)


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

    def next_generation(self) -> int:
        return (self.generation + 1) % (1 << GENERATION_BITS)


_FATES = (Fate.STORED, *Fate)  # by number; 0 does not occur


class _Leaf:
    """Entries of LEAF_PAGES pages, packed: fate, generation, partition, slot."""

    __slots__ = ("digests", "words")

    def __init__(self) -> None:
        self.words = array("Q", bytes(8 * LEAF_PAGES))
        self.digests = bytearray(DIGEST_BYTES * LEAF_PAGES)


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

    def entries(self, pages: range) -> list[Entry | None]:
        """The entries of a row of pages."""
        if len(pages) == 1:
            return [self.entry(pages.start)]
        found: list[Entry | None] = []
        for number in range(pages.start // LEAF_PAGES, (pages.stop - 1) // LEAF_PAGES + 1):
            leaf, base = self._leaves.get(number), number * LEAF_PAGES
            start, stop = max(pages.start - base, 0), min(pages.stop - base, LEAF_PAGES)
            found += [self._unpack(leaf, at) for at in range(start, stop)] if leaf else [None] * (stop - start)
        return found

    def store(self, page: int, entry: Entry) -> None:
        leaf = self._leaves.get(page // LEAF_PAGES)
        if leaf is None:
            leaf = self._leaves[page // LEAF_PAGES] = _Leaf()
        at = page % LEAF_PAGES
        self._stored += entry.stored - (leaf.words[at] >> _FATE_SHIFT == Fate.STORED)
        leaf.words[at] = (
            entry.fate << _FATE_SHIFT
            | entry.generation << (PARTITION_BITS + SLOT_BITS)
            | entry.partition << SLOT_BITS
            | entry.slot
        )
        leaf.digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES] = entry.digest

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
            word >> (PARTITION_BITS + SLOT_BITS) & _GENERATION_MASK,
            bytes(leaf.digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]),
            _FATES[word >> _FATE_SHIFT],
        )


def homeless_entry(fate: Fate, generation: int) -> Entry:
    """The entry of a page that no slot holds: neither new content nor any older one will be given out."""
    return Entry(0, 0, generation, _NO_DIGEST, fate)
