"""The disk of most boots."""

from __future__ import annotations

from pathlib import Path

import pytest
from booting import disk, server_executable

from bootfs.device import MemoryDevice


@pytest.fixture
def device(tmp_path: Path) -> MemoryDevice:
    """A 4.3BSD disk with a first server and a paging file of 4 MiB."""
    return disk(tmp_path, {"startup": server_executable()})
