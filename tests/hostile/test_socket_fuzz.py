"""A small part of `make fuzz-socket`, which sends a million."""

from __future__ import annotations

import os
from pathlib import Path

from daemons import pagerd, run
from socket_fuzz import fuzz

MESSAGES = int(os.environ.get("MESSAGES", "2000"))
GROWTH_BYTES = 8 << 20  # what the interpreter may take for itself meanwhile


def test_mutated_messages_neither_stop_the_daemon_nor_fill_it_nor_touch_others(tmp_path: Path) -> None:
    """P7; mach.md 8.47, weakness 13."""
    image, path = tmp_path / "disk.img", tmp_path / "pager"
    run("mkpagingfile", image, "--size", "32M", "--paging-size", "16M")
    with pagerd(image, path) as daemon:
        outcome = fuzz(str(path), daemon.pid, MESSAGES, seed=7)
        assert daemon.poll() is None
    assert outcome.connections > MESSAGES // 20, "too few were bad enough to be disconnected"
    assert outcome.resident_at_last - outcome.resident_at_first < GROWTH_BYTES
