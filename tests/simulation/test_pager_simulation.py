"""The pager's own code under every kind of trouble at once, 500 worlds of it.

`make simulate-pager SEEDS=20000` searches more.
"""

from __future__ import annotations

import os

import pytest
from pager_world import run

SEEDS = int(os.environ.get("PAGER_SEEDS", "500"))
BLOCKS = 10  # the seeds are run in this many tests, for the sake of parallel runs


@pytest.mark.timeout(max(120, SEEDS))
@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_trouble_loses_mixes_or_leaks_a_page_or_stops_the_pager(block: int) -> None:
    """P1 - P4, P7; mach.md 8.14 - 8.20, 22 - 27, 45 - 47, 52; weaknesses 3, 8, 9, 13."""
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        run(seed)
