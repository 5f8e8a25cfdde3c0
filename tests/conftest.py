"""What holds for all tests: mutexes keep their order and are counted, in this process and in those that it starts.

The fixture `linux_ufs` is a judge of disks that none of us wrote: the driver of Linux.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mach.threads.native import CHECK_LOCKS

os.environ[CHECK_LOCKS] = "1"
LINUX_UFS = Path(__file__).resolve().parents[2] / "shared" / "oracles" / "linux_ufs" / "judge.py"


@pytest.fixture(scope="session")
def linux_ufs() -> Callable[[str, Path], dict[str, Any]]:
    """What Linux sees on an image, by path; given the type of UFS to mount it as (`44bsd@5`: partition 5)."""
    if not LINUX_UFS.exists():
        pytest.skip("no judges beside this tree (../shared/oracles)")
    if shutil.which("cpio") is None:
        pytest.skip("Linux cannot be run as a judge here: cpio is not installed (Debian package cpio)")

    def seen(kind: str, image: Path) -> dict[str, Any]:
        done = subprocess.run([sys.executable, LINUX_UFS, kind, image], capture_output=True, text=True)
        if done.returncode and "Error" in done.stderr:
            pytest.skip(f"Linux cannot be run as a judge here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return seen
