"""A small part of `make fuzz-socket`, which sends a million."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest
from daemons import pagerd, run
from socket_fuzz import fuzz

from pager.log import Log

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


def test_a_reader_of_the_log_that_has_stopped_does_not_stop_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: found by the mutated messages, each of which is worth a line, after some minutes."""
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))
    with open(writing, "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log = Log(now=lambda: 0.0, wall_clock=lambda: 0.0)
        log("nobody reads this")
        os.read(reading, 1 << 20)
        log("but this")
        assert os.read(reading, 1 << 20) == b"pagerd: but this\n"
    os.close(reading)
