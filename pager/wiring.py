"""Locking the pager into memory (paper §4, §5.4), as far as this machine lets us.

Interface:
    wire() -> a list of what was done and what was not, in words
    wired_bytes() -> bytes of this process that are locked down

Not here: who decides to (pagerd's --wire).
"""

from __future__ import annotations

import ctypes
import gc
import os

MCL_CURRENT = 1
MCL_FUTURE = 2


def wire() -> list[str]:
    """Lock all memory, present and future; ask not to be killed for lack of it; stop garbage collection's surprises."""
    said = []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0:
        said.append("memory locked")
    else:
        said.append(f"memory not locked: {os.strerror(ctypes.get_errno()).lower()}")
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("-1000")
    except OSError as error:
        said.append(f"not spared by the OOM killer: {(error.strerror or '').lower()}")
    gc.collect()
    gc.freeze()
    return said


def wired_bytes() -> int:
    """Bytes of this process that are locked down in memory: pages that are there, not address space set aside."""
    try:
        with open("/proc/self/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Locked:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
