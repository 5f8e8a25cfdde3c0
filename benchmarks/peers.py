"""Other readers of FFS disks, installed on demand into an environment of their own, which shares nothing with ours.

    peers() -> the names of those that can be had here: pytsk3, dissect
    PYTHON     the interpreter that has them
    python -m benchmarks.peers    installs them (make peers)

(dissect.ffs is under the AGPL: it is run, and nothing of it is linked or copied.)
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
PYTHON = CACHE / "peers" / "bin" / "python"
PACKAGES = {"pytsk3": ("pytsk3", "pytsk3"), "dissect": ("dissect.ffs", "dissect.ffs")}  # package, module


def peers() -> list[str]:
    """Install what is missing, and say what can be used."""
    if not PYTHON.exists():
        print(f"installing the peers into {CACHE / 'peers'} ...", file=sys.stderr)
        venv.create(CACHE / "peers", with_pip=True)
    found = []
    for name, (package, module) in PACKAGES.items():
        if not _has(module):
            subprocess.run(
                [PYTHON, "-m", "pip", "install", "--quiet", package],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        if _has(module):
            found.append(name)
        else:
            print(f"{package} cannot be installed here: it is left out", file=sys.stderr)
    return found


def _has(module: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    peers()
