"""How many page faults a row of references is: by replacement policy and number of frames.

Interface:
    POLICIES                        name -> function(trace, frames) -> faults
    PageTrace(pages)                the references, ready to be counted: pages numbered from 0, useless ones left out
    lru_faults(trace) -> array      faults of LRU with 0, 1, 2 ... frames, all at once (Mattson's stack distances)

Policies: fifo; clock (one hand, a reference bit); second chance (Mach's: an active and an inactive queue, where a page
that is found referenced at the head of the inactive queue goes back to the active one, mach.md 5.6); lru; opt
(Belady's: evicts the page that is wanted last).  Each counts demand faults on an empty memory, first touches included.
What a policy is, kernel/replacement/ says; here the same is done over rows of numbers, for traces of ten million
references, and a test holds each to the policy of its name.

What may be left out of a trace: while only two pages alternate, both are there after the first few references, and all
that those in the middle could do, setting reference bits, has been done (test: counts with and without are the same).

Not here: files (lackey.py); the machine's own pageout, with its reserve and its daemon (kernel/pageout.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernel.replacement.second_chance import inactive_target

KEPT_BEFORE, KEPT_AFTER = 6, 2  # of a row in which two pages alternate

Numbers = NDArray[np.int64]


class PageTrace:
    """See the head of the module."""

    def __init__(self, pages: Numbers, strip: bool = True) -> None:
        pages, numbered = np.unique(_strip(pages) if strip else pages, return_inverse=True)
        self.distinct = len(pages)
        self.numbers: Numbers = numbered.astype(np.int64)
        self.references: list[int] = self.numbers.tolist()
        self.previous = _previous(self.numbers)
        self._next: list[int] | None = None

    @property
    def next(self) -> list[int]:
        """When the page of each reference is referenced again; never: the length of the trace, and more."""
        if self._next is None:
            count = len(self.numbers)
            following = np.full(count, 2 * count, dtype=np.int64)
            again = np.flatnonzero(self.previous >= 0)
            following[self.previous[again]] = again
            self._next = following.tolist()
        return self._next


def _strip(numbers: Numbers) -> Numbers:
    """Leave out the middle of rows in which two pages alternate."""
    if len(numbers) <= KEPT_BEFORE + KEPT_AFTER:
        return numbers
    same = np.zeros(len(numbers), dtype=bool)  # as the reference before the last
    np.equal(numbers[2:], numbers[:-2], out=same[2:])
    drop = same.copy()
    for shift in range(1, KEPT_BEFORE):
        drop[shift:] &= same[:-shift]
    for shift in range(1, KEPT_AFTER + 1):
        drop[:-shift] &= same[shift:]
    drop[:KEPT_BEFORE] = False
    drop[-KEPT_AFTER:] = False
    return numbers[~drop]


def _previous(numbers: Numbers) -> Numbers:
    """Where the page of each reference was referenced before; -1: nowhere."""
    order = np.argsort(numbers, kind="stable")
    previous = np.full(len(numbers), -1, dtype=np.int64)
    same = numbers[order[1:]] == numbers[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def lru_faults(trace: PageTrace) -> Numbers:
    """faults[m] with m frames, m from 0 to as many as there are pages.

    The stack distance of a reference is how many pages were referenced since its own was last, itself counted: with so
    many frames or more it is no fault.  Those are the earlier references whose own previous one lies no later than
    ours: counted for all at once, by the bits of the previous positions (a wavelet tree that is not kept).
    """
    previous = trace.previous
    first = previous < 0
    seen_before = _smaller_before(np.argsort(np.argsort(previous, kind="stable"), kind="stable").astype(np.int64))
    # among those before it are all up to its previous reference, that one included
    distances = (seen_before - previous)[~first]
    hits = np.bincount(distances, minlength=trace.distinct + 1)
    return len(previous) - np.cumsum(hits)


def _smaller_before(ranks: Numbers) -> Numbers:
    """For each element of a permutation, how many smaller ones stand before it."""
    count = len(ranks)
    smaller = np.zeros(count, dtype=np.int64)  # by rank
    row = ranks  # stably sorted by ever more high bits: groups of 2^(bit+1) ranks lie together
    places = np.arange(count, dtype=np.int64)
    for bit in range(max(count - 1, 1).bit_length() - 1, -1, -1):
        ones = (row >> bit & 1).astype(bool)
        group = row >> (bit + 1) << (bit + 1)
        zeros = np.empty(count + 1, dtype=np.int64)
        zeros[0] = 0
        np.cumsum(~ones, out=zeros[1:])
        zeros_before = zeros[:-1] - zeros[group]
        smaller[row[ones]] += zeros_before[ones]
        zeros_here = np.minimum(1 << bit, count - group)
        target = group + np.where(ones, zeros_here + (places - group - zeros_before), zeros_before)
        after = np.empty_like(row)
        after[target] = row
        row = after
    return smaller[ranks]


def lru(trace: PageTrace, frames: int) -> int:
    return int(lru_faults(trace)[min(frames, trace.distinct)])


def fifo(trace: PageTrace, frames: int) -> int:
    """A page is there until `frames` others have come after it."""
    loaded = [-frames] * trace.distinct  # how many faults there had been when it had come
    faults = 0
    for page in trace.references:
        if faults - loaded[page] >= frames:
            faults += 1
            loaded[page] = faults
    return faults


def clock(trace: PageTrace, frames: int) -> int:
    """The hand passes over pages that were referenced, once; the first that was not since goes."""
    referenced = [-1] * trace.distinct  # -1: not there
    ring: list[int] = []
    hand = faults = 0
    for page in trace.references:
        if referenced[page] >= 0:
            referenced[page] = 1
            continue
        faults += 1
        if len(ring) < frames:
            ring.append(page)
        else:
            while referenced[ring[hand]]:
                referenced[ring[hand]] = 0
                hand = hand + 1 if hand + 1 < frames else 0
            referenced[ring[hand]] = -1
            ring[hand] = page
            hand = hand + 1 if hand + 1 < frames else 0
        referenced[page] = 1
    return faults


def second_chance(trace: PageTrace, frames: int) -> int:
    """Mach's queues: the oldest active pages become inactive, unreferenced; the head of the inactive queue goes, or
    back to the active queue if it was referenced there."""
    referenced = [-1] * trace.distinct
    active: OrderedDict[int, None] = OrderedDict()
    inactive: OrderedDict[int, None] = OrderedDict()
    target = max(1, inactive_target(frames, 0))
    faults = 0
    for page in trace.references:
        if referenced[page] >= 0:
            referenced[page] = 1
            continue
        faults += 1
        if len(active) + len(inactive) == frames:
            while True:
                while active and len(inactive) < target:
                    oldest, _ = active.popitem(last=False)
                    referenced[oldest] = 0
                    inactive[oldest] = None
                head, _ = inactive.popitem(last=False)
                if not referenced[head]:
                    break
                active[head] = None
            referenced[head] = -1
        active[page] = None
        referenced[page] = 1
    return faults


def opt(trace: PageTrace, frames: int) -> int:
    """Belady's: nothing does better.  `wanted` holds when each page that is there is referenced next."""
    wanted: dict[int, int] = {}
    faults = 0
    for page, again in zip(trace.references, trace.next, strict=True):
        if page not in wanted:
            faults += 1
            if len(wanted) == frames:
                del wanted[max(wanted, key=wanted.__getitem__)]
        wanted[page] = again
    return faults


POLICIES: dict[str, Callable[[PageTrace, int], int]] = {
    "fifo": fifo,
    "clock": clock,
    "second chance": second_chance,
    "lru": lru,
    "opt": opt,
}
