"""Raw paging space as mkswap marks it: headers made here by hand, and by mkswap itself where it is."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfs.blocklist import Run
from bootfs.device import FileDevice, MemoryDevice
from bootfs.errors import FileSystemError, UnknownFormat
from bootfs.swap_space import swap_space


def disk(pages: int, bad: tuple[int, ...] = (), page: int = 4096, order: str = "<", version: int = 1) -> MemoryDevice:
    data = bytearray(pages * page)
    struct.pack_into(order + "III", data, 1024, version, pages - 1, len(bad))
    struct.pack_into(f"{order}{len(bad)}I", data, 1536, *bad)
    data[page - 10 : page] = b"SWAPSPACE2"
    return MemoryDevice(data)


@pytest.mark.parametrize("page", [4096, 8192, 65536])
@pytest.mark.parametrize("order", "<>")
def test_all_but_the_header_is_to_be_used(page: int, order: str) -> None:
    device = disk(10, page=page, order=order)
    blocks = swap_space(device, 0, device.size)
    assert blocks.runs == (Run(0, page, 9 * page),)
    assert (blocks.size, blocks.block_size) == (9 * page, page)


def test_bad_pages_are_left_out_and_nothing_else_is() -> None:
    device = disk(10, bad=(5, 1, 9, 6))
    runs = swap_space(device, 0, device.size).runs
    assert [(run.device_offset // 4096, run.length // 4096) for run in runs] == [(2, 3), (7, 2)]
    assert [run.file_offset for run in runs] == [0, 3 * 4096], "without holes, as a block list has to be"


def test_a_part_of_a_disk_is_measured_from_its_start() -> None:
    whole = MemoryDevice(bytearray(1 << 20) + disk(10).data + bytearray(1 << 16))
    assert swap_space(whole, 1 << 20, 10 * 4096).runs == (Run(0, (1 << 20) + 4096, 9 * 4096),)


@pytest.mark.parametrize(
    ("device", "size", "error", "words"),
    [
        (MemoryDevice(bytearray(1 << 16)), 1 << 16, UnknownFormat, "no signature"),
        (MemoryDevice(bytearray(100)), 100, UnknownFormat, "no signature"),
        (disk(10, version=2), 40960, UnknownFormat, "no version"),
        (disk(10), 40959, FileSystemError, "claims 10 pages"),
        (disk(1), 4096, FileSystemError, "claims 1 pages"),
    ],
)
def test_what_is_not_sound_is_refused(device: MemoryDevice, size: int, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        swap_space(device, 0, size)


@given(st.binary(min_size=600, max_size=600), st.integers(0, 600))
def test_no_header_gives_anything_but_a_block_list_or_the_one_error(noise: bytes, keep: int) -> None:
    """P8."""
    device = disk(16)
    device.data[1024 : 1024 + keep] = noise[:keep]
    try:
        blocks = swap_space(device, 0, device.size)
    except FileSystemError:
        return
    assert all(run.device_offset >= 4096 and run.device_offset + run.length <= device.size for run in blocks.runs)


@pytest.mark.skipif(shutil.which("mkswap") is None, reason="no mkswap here")
@pytest.mark.parametrize("endianness", ["little", "big"])
def test_what_mkswap_makes_is_taken(tmp_path: Path, endianness: str) -> None:
    image = tmp_path / "swap"
    image.write_bytes(bytes(1 << 20))
    made = subprocess.run(["mkswap", "--endianness", endianness, image], capture_output=True, text=True, check=False)
    if made.returncode:
        made = subprocess.run(["mkswap", image], capture_output=True, text=True, check=True)
    with FileDevice(image) as device:
        blocks = swap_space(device, 0, device.size)
    assert blocks.runs == (Run(0, 4096, (1 << 20) - 4096),)
