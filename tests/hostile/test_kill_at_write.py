"""kill -9 in the middle of device writes.  `make kill-pager` does it at every 100th write, 200 times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from daemons import run
from kill_at_write import Promised, clean, kill_at, next_start_serves

KILLS = int(os.environ.get("KILLS", "10"))
EACH = 100  # writes more before each death


@pytest.mark.timeout(max(120, 20 * KILLS))
def test_a_pager_killed_in_a_write_leaves_the_disk_clean_and_the_next_one_serves(tmp_path: Path) -> None:
    """P1, P5, P7: nothing but the paging file has changed, ffscheck finds nothing, what is new shows nothing old."""
    image = tmp_path / "disk.img"
    run("mkpagingfile", image, "--size", "16M", "--paging-size", "4M")
    promised = Promised(image)
    for number in range(1, KILLS + 1):
        kill_at(tmp_path, image, EACH * number)
        promised.check()
        if number % 5 == 0:  # these take longer than all the rest
            next_start_serves(tmp_path, image)
            clean(image)
    promised.check()
