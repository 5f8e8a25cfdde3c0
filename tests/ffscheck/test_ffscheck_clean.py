"""What is sound is called sound: genuine disks, ours in many shapes, those of FreeBSD and of makefs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from sound_disks import DISKS, MIB, freebsd, grow_tree, pristine

from bootfs.device import FileDevice, MemoryDevice
from bootfs.errors import FileSystemError
from disktools.check_file_system import check_file_system
from disktools.check_sparse import SparseFileDevice
from disktools.geometry_plan import DiskGeometry
from disktools.newfs import NewFileSystem
from fixtures.disks import RECIPES, add_paging_file, make_disk

SHAPES = [
    NewFileSystem(MIB, 4096, 512),
    NewFileSystem(8 * MIB, 8192, 1024, geometry=DiskGeometry(32, 16, 4)),
    NewFileSystem(8 * MIB, 4096, 4096, "big", geometry=DiskGeometry(16, 8, 32)),
    NewFileSystem(5 * MIB, 4096, 1024, geometry=DiskGeometry(23, 7, 16)),
    NewFileSystem(8 * MIB, 16384, 2048, "big", format="ufs1"),
    NewFileSystem(8 * MIB, 4096, 512, "little", format="ufs1", group_blocks=300),
    NewFileSystem(16 * MIB, 65536, 8192, "little", format="ufs1"),
    NewFileSystem(16 * MIB, 32768, 4096, "big", format="ufs2"),
    NewFileSystem(8 * MIB, 8192, 8192, "little", format="ufs2", group_blocks=200),
]


def problems(path: Path) -> list[str]:
    with FileDevice(path) as device:
        checked = check_file_system(device)
    assert checked is not None
    return [str(problem) for problem in checked.report.problems]


@pytest.mark.parametrize("name", DISKS)
def test_a_sound_disk_has_no_problems(name: str) -> None:
    checked = check_file_system(MemoryDevice(bytearray(pristine(name))))
    assert checked is not None
    assert checked.report.problems == []
    assert checked.directories >= 7


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.format}-{s.byte_order}-{s.block_size}-{s.fragment_size}")
def test_a_new_disk_of_any_geometry_is_sound(shape: NewFileSystem, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    make_disk(image, shape, 128 << 10, grow_tree(tmp_path / "tree"))
    assert problems(image) == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_disk_by_recipe_is_sound(name: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    RECIPES[name](image)
    assert problems(image) == []


@pytest.mark.parametrize("name", DISKS)
def test_a_disk_stays_sound_when_a_paging_file_is_added(name: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(pristine(name))
    add_paging_file(image, 256 << 10, "/other/paging_file")
    assert problems(image) == []


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("sizes", ["bsize=8192,fsize=1024", "bsize=32768,fsize=4096", "bsize=16384,fsize=16384"])
def test_a_disk_made_by_makefs_is_sound(version: str, order: str, sizes: str, tmp_path: Path) -> None:
    makefs = shutil.which("makefs")
    if makefs is None:
        pytest.skip("makefs is not installed")
    image = tmp_path / "disk.img"
    tree = grow_tree(tmp_path / "tree")
    options = f"version={version},{sizes}"
    subprocess.run([makefs, "-t", "ffs", "-B", order, "-s", "8m", "-o", options, image, tree], check=True, stdout=-3)
    assert problems(image) == []


def test_a_disk_that_freebsd_made_is_sound() -> None:
    checked = check_file_system(MemoryDevice(bytearray(freebsd())))
    assert checked is not None
    assert checked.report.problems == []


def test_the_checker_writes_nothing(tmp_path: Path) -> None:
    data = bytearray(pristine("4.3bsd-little"))
    check_file_system(MemoryDevice(data, writable=False))
    assert data == pristine("4.3bsd-little")


def test_holes_of_the_image_read_as_zeros(tmp_path: Path) -> None:
    """Large ones are not even read; all else is as on any device."""
    image = tmp_path / "sparse"
    with image.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"data" * 4096)
    whole = image.read_bytes()
    with SparseFileDevice(image) as device:
        for offset in (0, MIB - 4096, MIB + 8192, 2 * MIB):
            assert device.read(offset, MIB) == whole[offset : offset + MIB]
        with pytest.raises(FileSystemError):
            device.read(3 * MIB + 1, MIB)
