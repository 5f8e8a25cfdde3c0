"""The fsck and kernel of June 1986 on disks of many geometries: ours, and their own with a paging file put in.

A run takes some ten seconds, so `make test` has a few of them; `make judges` (JUDGES=all) has all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_disktools_judges import ORACLE, genuine, judged, same_by_name
from whole_disk import manifest_of

from bootfs.device import FileDevice
from bootfs.filesystem import FileSystem
from bootfs.layout import NDADDR
from disktools.geometry_plan import DiskGeometry
from disktools.newfs import NewFileSystem
from fixtures.disks import KIB, MIB, RECIPES, add_paging_file, make_disk

__all__ = ["genuine"]  # a fixture
pytestmark = pytest.mark.judge

ALL = os.environ.get("JUDGES") == "all"

# Block and fragment size; one group and many; sizes that are no multiple of anything; tracks of other lengths.
NEW = {
    "4096-512-one-group": (NewFileSystem(3 * MIB, 4096, 512, geometry=DiskGeometry(32, 8, 32)), MIB),
    "4096-512-many-groups": (NewFileSystem(40 * MIB, 4096, 512, geometry=DiskGeometry(16, 8, 16)), 11 * MIB),
    "4096-1024-odd-tracks": (NewFileSystem(21 * MIB + 3 * 512, 4096, 1024, geometry=DiskGeometry(31, 5, 16)), 7 * MIB),
    "4096-2048": (NewFileSystem(16 * MIB, 4096, 2048), 5 * MIB),
    "4096-4096": (NewFileSystem(16 * MIB, 4096, 4096), 5 * MIB),
    "8192-1024-one-group": (NewFileSystem(8 * MIB, 8192, 1024, geometry=DiskGeometry(32, 16, 32)), 4 * MIB),
    "8192-1024-200M": (NewFileSystem(200 * MIB), 64 * MIB),
    "8192-2048-many-groups": (NewFileSystem(48 * MIB, 8192, 2048, geometry=DiskGeometry(32, 4, 16)), 20 * MIB),
    "8192-4096": (NewFileSystem(24 * MIB, 8192, 4096, geometry=DiskGeometry(25, 9, 16)), 9 * MIB),
    "8192-8192-many-groups": (NewFileSystem(30 * MIB + 512, 8192, 8192, geometry=DiskGeometry(17, 7, 16)), 9 * MIB),
}
BY_RECIPE = ("many_groups", "odd_geometry", "partial_last_group", "added_later")
# What mkref.sh is asked for: sectors, sectors a track, tracks a cylinder, block and fragment size.
GENUINE = {"4096-512": (24000, 32, 16, 4096, 512), "8192-1024": (40000, 31, 14, 8192, 1024)}


@pytest.mark.parametrize("recipe", BY_RECIPE if ALL else BY_RECIPE[:1])
def test_disks_by_recipe(genuine: None, tmp_path: Path, recipe: str) -> None:
    image = tmp_path / f"{recipe}.img"
    RECIPES[recipe](image)
    same_by_name(image, judged(image, "--write-test"))


@pytest.mark.parametrize("name", NEW if ALL else ("4096-2048",))
def test_new_disks_with_a_paging_file_and_another_added(genuine: None, tmp_path: Path, tree: Path, name: str) -> None:
    image = tmp_path / "disk.img"
    new, paging = NEW[name]
    make_disk(image, new, paging, tree)
    add_paging_file(image, 512 * KIB, "/second/paging_file")
    same_by_name(image, judged(image, "--write-test"))


@pytest.mark.parametrize("sizes", ((4096, 512), (8192, 1024)) if ALL else ((8192, 1024),))
def test_a_disk_that_is_full_to_the_last_block(
    genuine: None, tmp_path: Path, tree: Path, sizes: tuple[int, int]
) -> None:
    """The genuine kernel frees all that was taken; it panics on a block that is free already."""
    image = tmp_path / "disk.img"
    plan = make_disk(image, NewFileSystem(8 * MIB, *sizes), MIB, tree)
    free = plan.allocator.free_blocks()
    indirect = 1 if free - 1 <= NDADDR + sizes[0] // 4 else 3  # one level, or two that need one block each
    add_paging_file(image, (free - indirect) * sizes[0], "/mach_servers/second_file")
    with FileDevice(image) as device:
        assert FileSystem.open(device).superblock.cs_nbfree == 0
    same_by_name(image, judged(image, "--rm", "/mach_servers/second_file"))


@pytest.mark.parametrize("name", GENUINE if ALL else ())
def test_disks_of_the_genuine_mkfs_with_a_paging_file(genuine: None, tmp_path: Path, name: str) -> None:
    image = tmp_path / "disk.img"
    words = [ORACLE / "mkref.sh", image, *GENUINE[name]]
    subprocess.run(list(map(str, words)), capture_output=True)  # it ends with checks older than fsck, which misjudge
    add_paging_file(image, 2 * MIB)
    guest = judged(image, "--write-test")
    compared = subprocess.run(
        [sys.executable, ORACLE / "compare.py", image, image.with_suffix(".json")], capture_output=True, text=True
    )
    *differences, told = compared.stdout.splitlines()
    assert int(told.split()[0]) == len(manifest_of(image)) - 1 >= 200, told
    # Its tar cannot carry out two files whose names have more than 100 bytes; the listing has them.
    assert [line.split(" /")[0] for line in differences] == ["content differs/missing in guest tar"] * 2
    assert all(len(line.split(" /")[1]) > 100 for line in differences)
    contents = {one["path"]: one["sha256"] for one in guest["files"] if one["type"] == "file"}
    ours = manifest_of(image)
    assert {path: ours[path]["sha256"] for path in contents} == contents
