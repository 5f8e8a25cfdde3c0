"""pagerd, killed with SIGKILL in the middle of its N-th device write: half of it has reached the disk (P1, P5).

Interface:
    kill_at(place, image, at)          one life and death
    next_start_serves(place, image)    a sound daemon on the same disk
    Promised(image)                    every byte outside the paging file; .check() compares

Not here: how often (test_kill_at_write.py; `make kill-pager` does it 200 times).
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import SECONDS, pagerd, run

from benchmarks.pager_kernel import PAGE, PagingKernel
from bootfs.device import FileDevice
from mach.ports import DeadPort
from pager.storage import PAGING_FILE, find_paging_file

DYING = str(Path(__file__).parent / "dying_pagerd.py")
PAGES = 256  # of the object that is paged out over and over


class Promised:
    """Every byte of the disk but those of the paging file."""

    def __init__(self, image: Path) -> None:
        self.image = image
        with FileDevice(image) as device:
            self.runs = sorted(
                find_paging_file(device, str(image), PAGING_FILE).runs, key=lambda run: run.device_offset
            )
        self.digest = self._digest()

    def _digest(self) -> bytes:
        found, at = hashlib.sha256(), 0
        with self.image.open("rb") as disk:
            for run_ in self.runs:
                disk.seek(at)
                found.update(disk.read(run_.device_offset - at))
                at = run_.device_offset + run_.length
            disk.seek(at)
            found.update(disk.read())
        return found.digest()

    def check(self) -> None:
        assert self._digest() == self.digest, "P1: a byte outside the paging file has changed"


def kill_at(place: Path, image: Path, at: int) -> None:
    """One life: page out until the daemon dies in its write number `at`."""
    path = place / "pager"
    command = [sys.executable, DYING, str(at), str(image), "--socket", str(path), "--no-wire", "--io", "buffered"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            assert "ready" in daemon.stdout.readline()
            kernel = PagingKernel(str(path), PAGES)
            pages_out_until_death(kernel, at)
            kernel.close()
            assert daemon.wait(SECONDS) == -signal.SIGKILL
        finally:
            daemon.kill()


def pages_out_until_death(kernel: PagingKernel, at: int) -> None:
    """A client hears of the death, and gets no page that it did not write."""
    try:
        for number in range(10 * at + 1000):
            page = number % PAGES
            kernel.page_out(page, number.to_bytes(8, "little") * (PAGE // 8))
            if number % 64 == 63:
                assert kernel.page_in(page) == number.to_bytes(8, "little") * (PAGE // 8)
    except DeadPort:
        return
    raise AssertionError("the daemon has not died")


def next_start_serves(place: Path, image: Path) -> None:
    """And a new object shows nothing of what the dead one left."""
    with pagerd(image, place / "pager", "--io", "buffered"):
        kernel = PagingKernel(str(place / "pager"), PAGES)
        with pytest.raises(LookupError, match="Unavailable"):
            kernel.page_in(0)
        kernel.page_out(1, b"new!" * (PAGE // 4))
        assert kernel.page_in(1) == b"new!" * (PAGE // 4)
        kernel.close()


def clean(image: Path) -> None:
    run("ffscheck", image)
