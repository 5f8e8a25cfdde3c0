"""pagerd on an ext2: the pager sees a block list, and does not know what file system gave it (the paper, 6.1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from daemons import end, pagerd, refused, run, started
from ext2_disks import consistent, debugfs, mke2fs, mount, needs_e2fsprogs

from bootfs.blocklist import BlockList
from bootfs.device import FileDevice
from bootfs.lookup import resolve
from bootfs.probe import open_any

pytestmark = [needs_e2fsprogs, pytest.mark.timeout(180)]
PAGING_FILE = "/mach_servers/paging_file"
SIZE = 6 << 20
small_blocks = pytest.mark.parametrize("disk", ["1024"], indirect=True)  # once is enough


@pytest.fixture(params=["1024", "2048", "4096"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An ext2 of several groups, with files around a paging file that is there to its last block.

    debugfs makes holes of zeros, so the paging file is written full of something else.
    """
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "neighbour").write_bytes(b"before" * 50_000)
    image = mke2fs(tmp_path / "image", "16M", "-t", "ext2", "-b", request.param, "-g", "4096", tree=tmp_path / "tree")
    (tmp_path / "full").write_bytes(b"\xa5" * SIZE)
    debugfs(
        image,
        "mkdir /mach_servers",
        f"write {tmp_path / 'full'} {PAGING_FILE}",
        f"write {tmp_path / 'tree' / 'neighbour'} /mach_servers/after",
        write=True,
    )
    consistent(image)
    return image


def blocks_of(image: Path) -> BlockList:
    fs = mount(image)
    blocks = fs.block_list(fs.lookup(PAGING_FILE))
    assert blocks.size == SIZE
    return blocks


def outside(image: Path, blocks: BlockList) -> bytes:
    """The disk, the bytes of the paging file made zeros."""
    rest = bytearray(image.read_bytes())
    for block_run in blocks.runs:
        rest[block_run.device_offset : block_run.device_offset + block_run.length] = bytes(block_run.length)
    return bytes(rest)


def test_a_machine_pages_on_an_ext2_and_nothing_else_of_the_disk_is_touched(disk: Path, tmp_path: Path) -> None:
    """P1 and P2."""
    blocks, socket = blocks_of(disk), tmp_path / "pager"
    before = outside(disk, blocks)
    with pagerd(disk, socket) as daemon:
        done = run(
            *("machsim", "run", "--socket", socket, "--memory", "512K", "--virtual", "5M", "--seed", "7", "--json")
        )
        assert json.loads(done.stdout)["statistics"]["pageouts"] > 1000
        assert end(daemon) == 0
    assert outside(disk, blocks) == before
    assert any(disk.read_bytes()[at.device_offset] != 0xA5 for at in blocks.runs), "the pages were on the disk"
    consistent(disk)
    fs = mount(disk)
    for path in ("/neighbour", "/mach_servers/after"):
        assert fs.read(fs.lookup(path), 0, 300_000) == b"before" * 50_000


@small_blocks
def test_the_partition_has_every_page_of_the_file(disk: Path, tmp_path: Path) -> None:
    with started("pagerd", disk, "--socket", tmp_path / "pager", "--no-wire", ready="6 MiB in 1 partition"):
        (partition,) = json.loads(run("pagerctl", "--socket", tmp_path / "pager", "partitions", "--json").stdout)
        assert partition["total"] == SIZE // 4096


@small_blocks
def test_an_ext2_and_an_ffs_are_two_partitions_of_one_pager(disk: Path, tmp_path: Path) -> None:
    ffs = tmp_path / "ffs.img"
    run("mkpagingfile", ffs, "--size", "8M", "--paging-size", "4M")
    with FileDevice(ffs) as device:
        fs = open_any(device)
        assert resolve(fs, PAGING_FILE).size == 4 << 20
    socket = tmp_path / "pager"
    with started("pagerd", disk, ffs, "--socket", socket, "--no-wire", ready="10 MiB in 2 partitions"):
        run("machsim", "run", "--socket", socket, "--memory", "512K", "--virtual", "8M")


@small_blocks
def test_a_paging_file_with_a_hole_is_refused_by_name(disk: Path, tmp_path: Path) -> None:
    debugfs(disk, f"rm {PAGING_FILE}", write=True)
    with open(tmp_path / "holed", "wb") as file:
        file.write(b"x" * 8192)
        file.truncate(1 << 20)
    debugfs(disk, f"write {tmp_path / 'holed'} {PAGING_FILE}", write=True)
    refused("pagerd", disk, "--socket", tmp_path / "pager", words="a hole of 1040384 bytes at file offset 8192")


def test_an_ext4_is_refused_by_its_features(tmp_path: Path) -> None:
    image = mke2fs(tmp_path / "image", "8M", "-t", "ext4")
    refused("pagerd", image, "--socket", tmp_path / "pager", words="INCOMPAT feature 64bit, flex_bg is not ext2's")
