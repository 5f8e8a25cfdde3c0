"""Paging storage by the commands: raw disks, priorities, growth, waiting for space, direct I/O.  On real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from daemons import end, pagerd, refused, run, started

from pager.direct_io import direct_alignment


def partitions(socket: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("pagerctl", "--socket", socket, "partitions", "--json").stdout)
    return found


def disk(path: Path, size: str = "8M", paging: str = "2M", *more: str) -> Path:
    run("mkpagingfile", path, "--size", size, "--paging-size", paging, *more)
    return path


def test_a_paging_file_that_was_made_longer_is_taken_while_the_pager_runs(tmp_path: Path) -> None:
    """Weakness 23: the paper's wish (section 8), to ask the file system for more space."""
    image, socket = disk(tmp_path / "disk.img", "16M"), tmp_path / "s"
    with pagerd(image, socket) as process:
        run("machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", "1M", "--tasks", "1")
        assert run("pagerctl", "--socket", socket, "grow", image).stdout.endswith(": 0 pages more\n")
        run("mkpagingfile", image, "--grow", "--paging-size", "4M")
        assert run("pagerctl", "--socket", socket, "grow", image).stdout.endswith(": 512 pages more\n")
        assert partitions(socket)[0]["total"] == 1024
        run("machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", "3M", "--tasks", "1")
        refused("pagerctl", "--socket", socket, "grow", "nothing", words="no partition is called nothing")
        assert end(process) == 0
    run("ffscheck", image)


@pytest.mark.skipif(shutil.which("mkswap") is None, reason="no mkswap here")
def test_a_raw_disk_is_taken_if_it_says_that_it_is_paging_space(tmp_path: Path) -> None:
    raw, socket = tmp_path / "raw.img", tmp_path / "s"
    raw.write_bytes(bytes(2 << 20))
    refused("pagerd", f"{raw}:raw", "--socket", socket, words="mark it with: mkswap")
    image = disk(tmp_path / "disk.img")
    refused("pagerd", f"{image}:raw", "--socket", socket, words="no signature of mkswap")
    subprocess.run(["mkswap", raw], check=True, capture_output=True)
    header = raw.read_bytes()[:4096]
    with pagerd(f"{raw}:raw", socket):
        run("machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", "1500K", "--tasks", "1")
        assert partitions(socket)[0]["total"] == 511
        refused("pagerctl", "--socket", socket, "add", f"{raw}:raw", words="already pages")
    assert raw.read_bytes()[:4096] == header, "P1"
    with pagerd(f"{raw}:raw", socket):
        assert partitions(socket)[0]["free"] == 511, "and it serves again"


def machine(socket: Path) -> tuple[str | Path, ...]:
    """A machine that pages four times its memory, and stays up."""
    sizes = ("--memory", "256K", "--virtual", "1M", "--tasks", "1")
    return ("machsim", "run", "--socket", socket, *sizes, "--hold")


def test_priorities_are_swapons(tmp_path: Path) -> None:
    first, second, third = (disk(tmp_path / f"{n}.img") for n in range(3))
    socket = tmp_path / "s"
    with pagerd(first, socket):
        run("pagerctl", "--socket", socket, "add", second)
        run("pagerctl", "--socket", socket, "add", "-p", "3", third)
        assert [record["priority"] for record in partitions(socket)] == [-1, -2, 3]
        with started(*machine(socket), ready="holding"):
            used = [record["total"] - record["free"] for record in partitions(socket)]
            assert used[:2] == [0, 0]
            assert used[2] > 0


def test_a_removal_says_with_swapoffs_codes_how_it_ended(tmp_path: Path) -> None:
    """mach.md 8.25; and weakness 5: the disk is given back, others may change it."""
    image, small, socket = disk(tmp_path / "disk.img"), disk(tmp_path / "small.img", "4M", "64K"), tmp_path / "s"
    with pagerd(image, socket):
        run("pagerctl", "--socket", socket, "add", small)
        with started(*machine(socket), ready="holding"):
            done = run("pagerctl", "--socket", socket, "remove", image, check=2)
            assert "slots are free elsewhere" in done.stderr
            assert "stays" in done.stderr
            refused("mkpagingfile", small, "--path", "/x", "--paging-size", "64K", words="another process pages on it")
            run("pagerctl", "--socket", socket, "remove", small)
            run("mkpagingfile", small, "--path", "/x", "--paging-size", "64K")
            assert [record["name"] for record in partitions(socket)] == [f"{image}:/mach_servers/paging_file"]


def test_who_waits_for_space_is_woken_by_the_pager(tmp_path: Path) -> None:
    image, socket = disk(tmp_path / "disk.img"), tmp_path / "s"
    with pagerd(image, socket):
        assert run("pagerctl", "--socket", socket, "await", "--above", "1M").stdout.startswith("plenty: 2097152")
        refused(
            "pagerctl", "--socket", socket, "await", "--below", "1K", "--timeout", "0.1", words="nothing of the kind"
        )
        refused("pagerctl", "--socket", socket, "await", words="give --below", status=2)
        machine = ("machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", "1800K", "--tasks", "1")
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(run, "pagerctl", "--socket", socket, "await", "--below", "500K", "--timeout", "60")
            run(*machine)
            while not waiting.done():  # it may have begun to wait only after the machine had ended
                run(*machine)
            assert waiting.result().stdout.startswith("short: ")


@pytest.mark.parametrize("block", [4096, 1024])
def test_a_disk_is_reached_past_the_page_cache_where_its_blocks_are_aligned(tmp_path: Path, block: int) -> None:
    image, socket = tmp_path / "disk.img", tmp_path / "s"
    run("mkpagingfile", image, "--size", "16M", "--paging-size", "2M", "--block-size", "4096", "--fragment-size", "512")
    alignment = direct_alignment(str(image))
    if not alignment:
        pytest.skip("the file system of the test takes no O_DIRECT")
    if block == 1024:  # the same file system, moved by a fragment
        image.write_bytes(bytes(512) + image.read_bytes())
    with pagerd(image, socket, "--io", "direct", *(("--offset", "512") if block == 1024 else ())):
        (record,) = partitions(socket)
        aligned = all((run["device_offset"] | run["length"]) % alignment == 0 for run in record["runs"])
        assert record["access"].startswith("direct" if aligned else "buffered: its blocks are not aligned to")
        run("machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", "1500K", "--tasks", "1")
