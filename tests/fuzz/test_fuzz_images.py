"""P8 by numbers: thousands of broken disks; each gives results or the one exception, soon and in little memory.

FUZZ=20000 in the environment runs so many instead of 2,000; `python -m tests.fuzz` runs any number and replays one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for fixtures.disks and tests.fuzz, which are not installed

from tests.fuzz.atheris_bootfs import one_input  # noqa: E402
from tests.fuzz.campaign import Failure, attempt  # noqa: E402
from tests.fuzz.mutate import Mutant, bases, mutate  # noqa: E402

COUNT = int(os.environ.get("FUZZ", "2000"))
SHARES = 4


def test_the_disks_that_are_broken_are_sound_before() -> None:
    for name, base in bases().items():
        mutant = Mutant(name, base, bytearray(base.data), ())
        assert attempt(mutant) == (True, None)


def test_a_mutant_follows_from_its_seed_alone() -> None:
    base = bases()["ufs1-big"]
    one, two = mutate(base, 3, 17), mutate(base, 3, 17)
    assert (one.data, one.edits) == (two.data, two.edits)
    assert mutate(base, 4, 17).edits != one.edits


@pytest.mark.parametrize("share", range(SHARES))
def test_every_broken_disk_gives_results_or_the_one_exception(share: int) -> None:
    """In a process of its own, whose memory is bounded; the bound of time is the process's own work."""
    names = list(bases())[share::SHARES]
    words = [word for name in names for word in ("--base", name)]
    count = str(COUNT // SHARES)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--jobs", "1", "--json", "--count", count, "--seed", str(share), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == [], f"replay with python -m tests.fuzz --replay {report['failures'][0]['mutant']}"
    assert report["mutants"] == COUNT // SHARES
    assert report["opened"] > report["mutants"] // 2  # else the mutants are too broken to show anything


def test_a_failure_would_be_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fs: object) -> None:
        raise KeyError("fs_bsize")

    monkeypatch.setattr("bootfs.filesystem.FileSystem.info", broken)
    _, failure = attempt(mutate(bases()["4.3bsd-little"], 1, 1))
    assert isinstance(failure, Failure)
    assert failure.fault.startswith("KeyError")


def test_the_coverage_guided_driver_edits_a_sound_disk() -> None:
    """Without atheris: its inputs are bytes, and every one stands for a disk."""
    one_input(b"")
    for first in range(len(bases())):
        one_input(bytes([first]) + bytes(range(200)))
