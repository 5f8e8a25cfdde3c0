"""Locking the pager into memory (paper §4, §5.4), as far as this machine lets us; and the account of it (table 7-3).

Interface:
    wire() -> what was tried, as MeasureRecords: granted or not, and why
    not_wired() -> the same, if nothing was tried
    in_words(measures) -> for people, one line
    wired_bytes(measures) -> bytes of this process that are locked down
    own_memory() -> MemoryRecords: what the memory is for, how much of it is resident, and locked

What is tried, and what for: mlockall: no page of ours, present or future, is ever to be read from a disk; IO_FLUSHER
(prctl, for the privileged): the kernel does not wait for writeback on our behalf, since we may be what writes; OOM: we
are not what is killed for want of memory; buffers: page data passes through memory that is there; frozen heap: garbage
collection does not walk, and so reference, what start-up has made.

Not here: who decides to (pagerd's --wire); direct I/O (direct_io.py).
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
from collections.abc import Iterable

from mach.default_pager_figures import MeasureRecord, MemoryRecord
from pager.direct_io import reserve_buffers

LOCKED = "memory locked"
MCL_CURRENT = 1
MCL_FUTURE = 2
PR_SET_IO_FLUSHER = 57
BUFFERS = 4  # of 1 MiB: more than threads that read and write large clusters at one time


def wire(buffers: int = BUFFERS) -> tuple[MeasureRecord, ...]:
    """Lock all memory, and see to all else."""
    libc = ctypes.CDLL(None, use_errno=True)
    reserve_buffers(buffers)
    gc.collect()
    gc.freeze()
    return (
        _measure(LOCKED, "mlockall", libc.mlockall(MCL_CURRENT | MCL_FUTURE)),
        _measure("I/O flusher", "PR_SET_IO_FLUSHER", libc.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0)),
        _spared_by_the_oom_killer(),
        MeasureRecord("buffers reserved", 1, f"{buffers} of 1 MiB"),
        MeasureRecord("heap frozen", 1, f"{gc.get_freeze_count()} objects"),
    )


def not_wired() -> tuple[MeasureRecord, ...]:
    return (MeasureRecord(LOCKED, 0, "not asked for (--no-wire)"),)


def _measure(name: str, call: str, result: int) -> MeasureRecord:
    if result == 0:
        return MeasureRecord(name, 1, call)
    return MeasureRecord(name, 0, f"{call}: {os.strerror(ctypes.get_errno()).lower()}")


def _spared_by_the_oom_killer() -> MeasureRecord:
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("-1000")
    except OSError as error:
        return MeasureRecord("spared by the OOM killer", 0, f"oom_score_adj: {(error.strerror or '').lower()}")
    return MeasureRecord("spared by the OOM killer", 1, "oom_score_adj -1000")


def in_words(measures: Iterable[MeasureRecord]) -> str:
    locked, *others = measures
    missed = [one.name for one in others if not one.granted]
    words = locked.name if locked.granted else f"not {locked.name}: {locked.words}"
    return words + (f"; not granted: {', '.join(missed)} (pagerctl wired)" if missed else "")


def wired_bytes(measures: Iterable[MeasureRecord]) -> int:
    """Bytes of this process that are locked down in memory: all that is resident, or nothing.

    The kernel's own sum of it (smaps_rollup) walks every page: tens of milliseconds, which a call may not take.
    """
    if not any(one.granted and one.name == LOCKED for one in measures):
        return 0
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \d+ *(.*)")


def own_memory() -> tuple[MemoryRecord, ...]:
    """The mappings of this process, added up by what they are, the largest first."""
    sums: dict[str, list[int]] = {}
    try:
        with open("/proc/self/smaps") as smaps:
            part = [0, 0]
            for line in smaps:
                mapping = _MAPPING.match(line)
                if mapping is not None:
                    part = sums.setdefault(_purpose(mapping[1], mapping[2]), [0, 0])
                elif line.startswith("Rss:"):
                    part[0] += int(line.split()[1]) * 1024
                elif line.startswith("Locked:"):
                    part[1] += int(line.split()[1]) * 1024
    except OSError:
        return ()
    found = [MemoryRecord(name, resident, locked) for name, (resident, locked) in sums.items() if resident]
    return tuple(sorted(found, key=lambda record: -record.resident))


def _purpose(permissions: str, name: str) -> str:
    """As table 7-3 has it: text, data, stacks, temporary storage."""
    if name.startswith("[stack"):
        return "stack of the main thread"
    if name == "[heap]" or (not name and "w" in permissions):
        return "objects, tables, threads' stacks, buffers"
    if name.startswith("["):
        return "of the system"
    if "x" in permissions:
        return "text"
    if "w" in permissions:
        return "initialised data"
    return "constants and other file pages"
