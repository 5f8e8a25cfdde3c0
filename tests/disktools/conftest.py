"""What the tests of disktools share: the genuine disk, and a filled tree."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest
from places import ROOT, SHARED

sys.path.insert(0, str(ROOT))  # for fixtures.disks, which is not installed


@pytest.fixture(scope="session")
def miniroot() -> bytes:
    """The genuine 4.3BSD miniroot."""
    packed = SHARED / "disks" / "43bsd-miniroot.img.gz"
    if not packed.exists():
        pytest.skip("the genuine miniroot is not beside this tree (../shared/disks)")
    return gzip.decompress(packed.read_bytes())


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fixtures/tree, completed."""
    from fixtures.disks import fill_tree

    return fill_tree(tmp_path_factory.mktemp("source") / "tree")
