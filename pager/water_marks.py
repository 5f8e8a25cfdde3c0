"""Who is to be told when paging space runs short, or is plenty again (XNU's default_pager_triggers).

Interface:
    WaterMarks(runtime, report)
        .watch(high_water, low_water, alert)    one DefaultPagerSpaceAlert to `alert`, then it is forgotten
        .check(free_bytes, total_bytes)         after every change of what is free

People are told by `report`, in words: once when less than a tenth is free, and once when more than a fifth is again, so
that a pager that hovers at a mark does not chatter.

Invariants:
    1. An alert is sent once.  Who wants another asks again.
    2. No alert is sent while the mutex is held.

Not here: what is free (backing_store.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mach.default_pager import DefaultPagerSpaceAlert, SpaceAlert
from mach.ports import DeadPort, SendOnceRight
from mach.threads import LockRank, Runtime
from pager.log import event

SHORT_PART = 10  # less than this part is free: say so
PLENTY_PART = 5  # more than this part is free: say that it is over
NEVER = 1 << 64


@dataclass(frozen=True, slots=True)
class _Watch:
    high_water: int  # alert below; 0: never
    low_water: int  # alert above; NEVER: never
    alert: SendOnceRight

    def passed(self, free_bytes: int) -> SpaceAlert | None:
        if free_bytes < self.high_water:
            return SpaceAlert.SHORT
        return SpaceAlert.PLENTY if free_bytes > self.low_water else None


class WaterMarks:
    """See the head of the module."""

    def __init__(self, runtime: Runtime, report: Callable[[str], None]) -> None:
        self._lock = runtime.mutex("water marks", LockRank.PARTITIONS)
        self._report = report
        self._watches: list[_Watch] = []
        self._is_short = False

    def watch(self, high_water: int, low_water: int, alert: SendOnceRight) -> None:
        with self._lock:
            self._watches.append(_Watch(high_water, low_water or NEVER, alert))

    def check(self, free_bytes: int, total_bytes: int) -> None:
        """Cheap when nothing has been passed: every pageout calls it."""
        low = free_bytes * (PLENTY_PART if self._is_short else SHORT_PART) < total_bytes
        if low == self._is_short and not any(watch.passed(free_bytes) for watch in self._watches):
            return
        with self._lock:
            changed = low != self._is_short
            self._is_short = low
            due = [(watch, kind) for watch in self._watches if (kind := watch.passed(free_bytes)) is not None]
            self._watches = [watch for watch in self._watches if watch.passed(free_bytes) is None]
        if changed:
            what = "paging space runs short" if low else "paging space is plenty again"
            words = f"{what}: {free_bytes >> 10} KiB of {total_bytes >> 10} KiB are free"
            what = "space_short" if low else "space_plenty"
            self._report(event(what, words, free_bytes=free_bytes, total_bytes=total_bytes))
        for watch, passed in due:
            try:
                watch.alert.send(DefaultPagerSpaceAlert(passed, free_bytes))
            except DeadPort:
                pass  # who asked has gone
