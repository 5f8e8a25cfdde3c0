"""How long things take, counted as they happen: histograms by powers of two of a microsecond.

Interface:
    Histogram()      .add(seconds), .counts, .seconds, .count
    merged(histograms) -> Histogram
    quantile(counts, part) -> microseconds: the bound below which that part of all lies
    BOUNDS_US        the upper bound of each bucket, the last one of all that is longer

A histogram is written by one thread alone, so that counting costs no lock; who asks adds them up.

Not here: what is measured (default_pager.py: each message by its kind), who shows it (pagerctl, prometheus.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BUCKETS = 26
BOUNDS_US = tuple(1 << k for k in range(BUCKETS))  # 1 us to 33 s


class Histogram:
    """See the head of the module."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[min(int(seconds * 1e6).bit_length(), BUCKETS - 1)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for one in histograms:
        total.counts = [a + b for a, b in zip(total.counts, one.counts, strict=True)]
        total.seconds += one.seconds
    return total


def quantile(counts: Sequence[int], part: float) -> int:
    """0 if nothing was counted."""
    wanted = part * sum(counts)
    seen = 0
    for bound, count in zip(BOUNDS_US, counts, strict=True):
        seen += count
        if count and seen >= wanted:
            return bound
    return 0
