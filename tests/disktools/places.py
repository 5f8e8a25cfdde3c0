"""Where the tests find things: this tree, and the disks and judges beside it, which may not be there."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
