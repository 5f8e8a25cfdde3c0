"""The shape of new disks: what the mkfs of June 1986 makes of the same disk, and what cannot be."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disktools.errors import Refusal
from disktools.geometry_plan import DiskGeometry, choose_geometry, superblock_fields

# From disks made by the genuine 4.3BSD mkfs: sectors, tracks of, cylinders of, block, fragment; then its superblock.
FIELDS = "sblkno cblkno iblkno dblkno cgoffset cgmask size ncg fsbtodb sbsize csmask cssize cgsize ncyl ipg fpg cpc"
GENUINE = [
    (131072, 32, 16, 8192, 1024, (16, 24, 32, 272, 16, -16, 65536, 16, 1, 2048, -512, 1024, 2048, 256, 1920, 4096, 1)),
    (40000, 32, 10, 4096, 512, (32, 48, 56, 336, 32, -16, 40000, 8, 0, 1536, -256, 512, 2048, 125, 1120, 5120, 1)),
    (20000, 16, 4, 4096, 1024, (16, 24, 28, 44, 8, -4, 10000, 20, 1, 2048, -256, 1024, 2048, 313, 128, 512, 1)),
    (60001, 17, 7, 8192, 8192, (2, 3, 4, 6, 2, -8, 3750, 32, 4, 8192, -512, 8192, 8192, 505, 128, 119, 16)),
]  # fmt: skip


@pytest.mark.parametrize(("sectors", "nsect", "ntrak", "bsize", "fsize", "wanted"), GENUINE)
def test_the_superblock_is_the_one_that_the_mkfs_of_1986_makes(
    sectors: int, nsect: int, ntrak: int, bsize: int, fsize: int, wanted: tuple[int, ...]
) -> None:
    fields = superblock_fields(sectors * 512, bsize, fsize, DiskGeometry(nsect, ntrak, 16), 0)
    assert tuple(fields[f"fs_{name}"] for name in FIELDS.split()) == wanted


def test_the_rotational_tables_chain_every_block_of_a_cycle_once() -> None:
    fields = superblock_fields(60001 * 512, 8192, 8192, DiskGeometry(17, 7, 16), 0)
    seen = []
    for head in fields["fs_postbl"]:
        block = head
        while block >= 0:
            seen.append(block)
            step = fields["rotbl"][block]
            block = block + step if step else -1
    assert sorted(seen) == list(range(17 * 7))
    assert hashlib.sha256(fields["rotbl"]).hexdigest()[:16] == ROTBL_OF_1986


ROTBL_OF_1986 = "89ed187ba39d26b8"


def test_a_disk_with_one_track_a_cylinder_has_no_rotational_tables() -> None:
    fields = superblock_fields(8 << 20, 8192, 1024, DiskGeometry(64, 1, 32), 0)
    assert fields["fs_cpc"] == 0


SIZES = st.integers(1 << 20, 400 << 20)
FRAGMENTS = st.sampled_from([(4096, 512), (4096, 1024), (4096, 4096), (8192, 1024), (8192, 4096), (8192, 8192)])


@given(SIZES, FRAGMENTS)
def test_any_size_from_1_mib_gets_a_geometry_and_loses_little(size: int, sizes: tuple[int, int]) -> None:
    fields = superblock_fields(size, *sizes, choose_geometry(size, *sizes), 0)
    lost = size - fields["fs_size"] * sizes[1]
    assert 0 <= lost < max(sizes[1], size // 16)
    assert fields["fs_ncg"] * fields["fs_ipg"] >= 128


@pytest.mark.parametrize(
    ("size", "block", "fragment", "why"),
    [
        (0, 8192, 1024, "too small"),
        ((1 << 20) - 1, 8192, 1024, "too small"),
        (1 << 41, 8192, 1024, "too large"),
        (600 << 30, 4096, 512, "cannot count so many cylinder groups"),
        (8 << 20, 2048, 512, "block size must be 4096 or 8192"),
        (8 << 20, 16384, 2048, "block size must be 4096 or 8192"),
        (8 << 20, 5000, 1000, "power of two"),
        (8 << 20, 8192, 512, "fragment size must be 1024 to 8192"),
        (8 << 20, 4096, 8192, "fragment size must be 512 to 4096"),
        (8 << 20, 8192, 0, "power of two"),
    ],
)
def test_what_the_format_cannot_have_is_refused_with_what_it_can(
    size: int, block: int, fragment: int, why: str
) -> None:
    with pytest.raises(Refusal, match=why):
        superblock_fields(size, block, fragment, choose_geometry(size, block, fragment), 0)


@pytest.mark.parametrize("geometry", [DiskGeometry(0, 1, 1), DiskGeometry(32, 16, 33), DiskGeometry(512, 64, 32)])
def test_an_impossible_geometry_is_refused(geometry: DiskGeometry) -> None:
    with pytest.raises(Refusal):
        superblock_fields(64 << 20, 8192, 1024, geometry, 0)


def test_groups_smaller_than_their_metadata_are_refused() -> None:
    with pytest.raises(Refusal, match="smaller than their own metadata"):
        superblock_fields(64 << 20, 8192, 1024, DiskGeometry(32, 16, 1), 0)
