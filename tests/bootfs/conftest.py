"""What several tests of bootfs share: the genuine disk, and builders of every kind of image."""

from __future__ import annotations

import gzip

import pytest
from ffs_builder import SHARED, Builder


@pytest.fixture(params=["little-4.3", "big-4.3", "little-4.4", "big-4.4", "little-ufs2", "big-ufs2"])
def builder(request: pytest.FixtureRequest) -> Builder:
    """A builder in each byte order and variant."""
    order, variant = request.param.split("-")
    return Builder(order, variant)


@pytest.fixture(scope="session")
def miniroot() -> bytes:
    """The genuine 4.3BSD miniroot."""
    packed = SHARED / "disks" / "43bsd-miniroot.img.gz"
    if not packed.exists():
        pytest.skip("the genuine miniroot is not beside this tree (../shared/disks)")
    return gzip.decompress(packed.read_bytes())
