"""docs/formats.md is that of the definitions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_the_formats_is_that_of_the_definitions() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "make_formats.py", "--check"], capture_output=True, cwd=ROOT)
    assert done.returncode == 0, f"run: python docs/make_formats.py {done.stderr.decode()}"


def test_the_page_draws_every_byte_of_an_inode() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    inode = page.partition("### struct dinode")[2].partition("###")[0]
    assert "128 bytes" in inode
    for field in ("  0  ", "di_mode", "di_size", "di_db", "di_ib", "104  0x68"):
        assert field in inode
