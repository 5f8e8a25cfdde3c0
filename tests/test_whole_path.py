"""The main job, end to end, with the commands a person would type: a disk, a pager, a kernel that pages against it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import BIN, SECONDS, end, pagerd, refused, run, started

from bootfs.device import FileDevice
from bootfs.filesystem import FileSystem
from bootfs.geometry import fsbtobyte, ino_to_fsba, ino_to_fsbo
from mach.wire import HEADER, MAGIC

pytestmark = pytest.mark.timeout(180)
TREE = Path(__file__).resolve().parent.parent / "fixtures" / "tree"
MINIROOT = Path(__file__).resolve().parent.parent.parent / "shared" / "disks" / "43bsd-miniroot.img.gz"


@pytest.fixture(scope="module")
def new_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("disk") / "new.img"
    run("mkpagingfile", image, "--size", "48M", "--paging-size", "24M", "--from", TREE, SOURCE_DATE_EPOCH="0")
    return image


@pytest.fixture
def disk(new_disk: Path, tmp_path: Path) -> Path:
    image = tmp_path / "disk.img"
    image.write_bytes(new_disk.read_bytes())
    return image


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pager"


def facts(*command: str | Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run(*command, "--json").stdout)
    return result


def info(path: Path) -> dict[str, int]:
    return facts("pagerctl", "--socket", path, "info")


def stats(path: Path) -> dict[str, int]:
    return facts("pagerctl", "--socket", path, "stats")


def paging_bytes(image: Path) -> bytearray:
    """1 for every byte of the image that belongs to the paging file, by `bootfs blocks`."""
    mask = bytearray(image.stat().st_size)
    for block_run in json.loads(run("bootfs", "blocks", image, "/mach_servers/paging_file", "--json").stdout)["runs"]:
        start, length = block_run["device_offset"], block_run["length"]
        mask[start : start + length] = b"\1" * length
    return mask


def outside(content: bytes, mask: bytearray) -> bytes:
    """What is not the paging file's."""
    return bytes(byte for byte, paging in zip(content, mask, strict=True) if not paging)


def test_eight_times_more_memory_than_frames_and_nothing_else_of_the_disk_is_touched(disk: Path, path: Path) -> None:
    """P1 and P2, over processes; the paging file is found by its well-known name (paper 5.2)."""
    mask = paging_bytes(disk)
    assert sum(mask) == 24 << 20
    before = outside(disk.read_bytes(), mask)
    with pagerd(disk, path) as daemon:
        result = facts("machsim", "run", "--socket", path, "--memory", "2M", "--virtual", "16M", "--seed", "5")
        assert result["statistics"]["pageouts"] > 14 * 256
        assert stats(path)["page_errors"] == 0
        assert end(daemon) == 0
    after = disk.read_bytes()
    assert outside(after, mask) == before
    assert not path.exists(), "the socket goes with its daemon"


@pytest.mark.skipif(not MINIROOT.exists(), reason="the genuine miniroot of ../shared is not here")
def test_the_genuine_miniroot_serves_pages(tmp_path: Path, path: Path) -> None:
    """A disk of June 1986, given a paging file in its free blocks, pages a machine; its files are as they were."""
    image = tmp_path / "miniroot.img"
    subprocess.run(f"gunzip -c {MINIROOT} > {image}", shell=True, check=True, timeout=SECONDS)
    run("mkpagingfile", image, "--paging-size", "448K")
    before = run("bootfs", "manifest", image, "--json").stdout
    with pagerd(image, path):
        run("machsim", "run", "--socket", path, "--memory", "256K", "--virtual", "400K", "--tasks", "1")
        assert stats(path)["pageouts"] > 0
    tree, again = json.loads(before), json.loads(run("bootfs", "manifest", image, "--json").stdout)
    for name in tree:
        if name != "/mach_servers/paging_file":
            assert again[name] == tree[name]
    tree["/mach_servers/paging_file"].pop("sha256")
    again["/mach_servers/paging_file"].pop("sha256")
    assert again == tree


def test_a_client_that_is_killed_gives_everything_back_and_others_go_on(disk: Path, path: Path) -> None:
    with pagerd(disk, path):
        before = info(path)
        command = ("machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "8M")
        with started(*command, "--hold", "--seed", "1", ready="holding") as victim:
            assert info(path)["used_pages"] > 0
            other = subprocess.Popen(
                [BIN / "machsim", *map(str, command[1:]), "--seed", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                victim.kill()
                victim.wait(SECONDS)
                output, errors = other.communicate(timeout=SECONDS)
            finally:
                other.kill()
                other.wait()
            assert other.returncode == 0, errors
            assert b"every byte is right" in output
        assert info(path) | {"wired_bytes": 0} == before | {"wired_bytes": 0}


@pytest.mark.parametrize("moment", range(3))
def test_a_client_killed_in_the_middle_of_paging_leaves_no_page_behind(disk: Path, path: Path, moment: int) -> None:
    with pagerd(disk, path):
        before = info(path)["free_pages"]
        victim = subprocess.Popen(
            [BIN / "machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "16M"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while stats(path)["pageouts"] <= moment * 700 and victim.poll() is None:
                pass
        finally:
            victim.kill()
            victim.wait()
        deadline = 100
        while info(path)["free_pages"] != before and deadline:
            deadline -= 1
        assert info(path)["free_pages"] == before
        assert info(path)["objects"] == 0


def test_garbage_is_disconnected_and_counted_and_the_others_notice_nothing(disk: Path, path: Path) -> None:
    chance = random.Random(4)
    with pagerd(disk, path) as daemon:
        workload = subprocess.Popen(
            [BIN / "machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "4M", "--seed", "9"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            for _ in range(200):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as hostile:
                    hostile.connect(str(path))
                    with contextlib.suppress(OSError):
                        hostile.send(chance.randbytes(chance.randrange(1, 300)))
                        hostile.send(HEADER.pack(MAGIC, 0, 2205, 2, 13, 17) + struct.pack("<BIQ", 1, 3, 0) + bytes(17))
            output, errors = workload.communicate(timeout=SECONDS)
        finally:
            workload.kill()
            workload.wait()
        assert workload.returncode == 0, errors
        assert b"every byte is right" in output
        while (counters := stats(path))["violations"] < 200:
            pass
        assert counters["violations"] == 200
        assert daemon.poll() is None


def test_a_pager_that_dies_is_an_error_to_its_kernel_not_a_zero_page(disk: Path, path: Path) -> None:
    """P5."""
    with pagerd(disk, path) as daemon:
        victim = subprocess.Popen(
            [BIN / "machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "16M"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while stats(path)["pageouts"] < 500 and victim.poll() is None:
                pass
            daemon.send_signal(signal.SIGKILL)
            output, errors = victim.communicate(timeout=SECONDS)
        finally:
            victim.kill()
            victim.wait()
        assert victim.returncode == 1
        assert len(errors.strip().splitlines()) == 1, errors
        assert "Traceback" not in errors
        assert "every byte is right" not in output
    with pagerd(disk, path):  # the socket it left behind is stale, and replaced; the disk serves again
        run("machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "4M")


def test_two_pagers_do_not_share_a_disk(disk: Path, path: Path, tmp_path: Path) -> None:
    with pagerd(disk, path):
        refused("pagerd", disk, "--socket", tmp_path / "other", words="another process pages on it")
        refused("mkpagingfile", disk, "--path", "/second", "--paging-size", "1M", words="another process pages on it")


def test_several_disks_make_several_partitions(disk: Path, new_disk: Path, path: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.img"
    second.write_bytes(new_disk.read_bytes())
    with started("pagerd", disk, second, "--socket", path, "--no-wire", ready="48 MiB in 2 partitions"):
        run("machsim", "run", "--socket", path, "--memory", "2M", "--virtual", "32M")
        partitions = json.loads(run("pagerctl", "--socket", path, "partitions", "--json").stdout)
        assert [partition["total"] for partition in partitions] == [6144, 6144]


def test_a_file_system_inside_a_larger_disk_serves_pages(new_disk: Path, path: Path, tmp_path: Path) -> None:
    """By offset; what lies around the file system is left alone."""
    image = tmp_path / "large.img"
    around = random.Random(1).randbytes(1 << 20)
    image.write_bytes(around + new_disk.read_bytes() + around)
    offset = str(len(around))
    with pagerd(image, path, "--offset", offset):
        run("machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "4M")
    content = image.read_bytes()
    assert content.startswith(around)
    assert content.endswith(around)
    refused("pagerd", image, "--socket", path, words="large.img")


def test_the_same_paging_file_is_not_taken_twice(disk: Path, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.img"
    link.symlink_to(disk)
    refused("pagerd", disk, link, "--socket", path, words="already pages on these blocks")


def test_the_pagers_view_is_told_for_people_and_for_programs(disk: Path, path: Path) -> None:
    with pagerd(disk, path):
        with started(
            "machsim", "run", "--socket", path, "--memory", "1M", "--virtual", "4M", "--hold", ready="holding"
        ):
            objects = json.loads(run("pagerctl", "--socket", path, "objects", "--json").stdout)
            assert objects
            assert all(record["paged"] > 0 and record["internal"] for record in objects)
            number = objects[0]["object_id"]
            pages = json.loads(run("pagerctl", "--socket", path, "pages", str(number), "--json").stdout)
            assert len(pages) * 4096 == objects[0]["paged"]
            with open(disk, "rb") as image:
                content = os.pread(image.fileno(), 4096, pages[0]["device_offset"])
            assert any(content)
            for call in ("info", "objects", f"pages {number}", "partitions", "stats"):
                assert run("pagerctl", "--socket", path, *call.split()).stdout
        refused("pagerctl", "--socket", path, "pages", "4242", words="there is no object 4242")


def test_a_machine_asks_for_no_more_than_the_pager_can_hold(disk: Path, path: Path) -> None:
    with pagerd(disk, path):
        default = facts("machsim", "run", "--socket", path, "--memory", "4M")
        assert default["virtual"] == 24 << 20
        refused("machsim", "run", "--socket", path, "--virtual", "64M", words="use --virtual 24M, or a disk of")


def test_a_paging_file_with_a_hole_is_refused_by_name(disk: Path, path: Path) -> None:
    """mach.md 8, test 28: Mach accepts it, and fails when the page is written."""
    with FileDevice(disk, writable=True) as device:
        file_system = FileSystem.open(device)
        fs, inode = file_system.superblock, file_system.lookup("/mach_servers/paging_file")
        dinode = fsbtobyte(fs, ino_to_fsba(fs, inode.ino)) + ino_to_fsbo(fs, inode.ino) * 128
        device.write(dinode + 40 + 3 * 4, bytes(4))  # di_db[3]
    before = disk.read_bytes()
    refused("pagerd", disk, "--socket", path, words="24576")
    refused("pagerd", disk, "--socket", path, words="hole")
    assert disk.read_bytes() == before


def test_space_is_added_and_removed_while_a_machine_pages(
    disk: Path, new_disk: Path, path: Path, tmp_path: Path
) -> None:
    """Paper 7.4 and 8: the file is looked up by whoever brings it; the pager is given a device and its blocks."""
    more = tmp_path / "more.img"
    more.write_bytes(new_disk.read_bytes())
    control = ("pagerctl", "--socket", path)
    with pagerd(disk, path):
        machine = subprocess.Popen(
            [BIN / "machsim", "run", "--socket", path, "--memory", "2M", "--virtual", "16M", "--seed", "4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            while stats(path)["pageouts"] < 500:
                pass
            refused(*control, "remove", disk, words="slots are free elsewhere", status=2)
            run(*control, "add", more)
            refused(*control, "add", more, words="already pages on these blocks")
            assert info(path)["total_pages"] == 12288
            run(*control, "remove", disk)
            output, errors = machine.communicate(timeout=SECONDS)
        finally:
            machine.kill()
            machine.wait()
        assert b"every byte is right" in output, errors
        assert info(path)["total_pages"] == 6144
        run("mkpagingfile", disk, "--path", "/second", "--paging-size", "1M")  # the disk is let go
        refused(*control, "remove", "nothing", words="no partition is called nothing")
        run(*control, "add", f"{disk}:/second")
        partitions = json.loads(run(*control, "partitions", "--json").stdout)
        assert [partition["name"] for partition in partitions] == [
            f"{disk}:/second",
            f"{more}:/mach_servers/paging_file",
        ]


BAD_INPUT: list[tuple[str, tuple[str, ...], str]] = [
    ("no such image", ("pagerd", "{tmp}/nothing.img", "--socket", "{tmp}/s"), "cannot be opened"),
    ("no file system", ("pagerd", "{tmp}/random", "--socket", "{tmp}/s"), "no"),
    ("no paging file", ("pagerd", "{disk}:/nowhere", "--socket", "{tmp}/s"), "mkpagingfile"),
    ("a directory for a paging file", ("pagerd", "{disk}:/mach_servers", "--socket", "{tmp}/s"), "not a regular file"),
    ("no directory for the socket", ("pagerd", "{disk}", "--socket", "{tmp}/no/where"), "cannot serve at"),
    ("a plain file for a socket", ("pagerd", "{disk}", "--socket", "{tmp}/random"), "is there already"),
    ("no pager", ("pagerctl", "--socket", "{tmp}/s", "info"), "start it with: pagerd"),
    ("no pager for a machine", ("machsim", "run", "--socket", "{tmp}/s"), "{tmp}/s"),
    ("no file system to show", ("bootfs", "info", "{tmp}/random"), "random"),
    ("no such path", ("bootfs", "cat", "{disk}", "/no/such"), "/no"),
    ("a file that is no disk", ("mkpagingfile", "{tmp}/random"), "-f"),
    ("a disk of no size", ("mkpagingfile", "{tmp}/new.img", "--size", "0"), ""),
    ("a disk too small", ("mkpagingfile", "{tmp}/new.img", "--size", "2M", "--paging-size", "8M"), ""),
    ("a disk without room", ("mkpagingfile", "{disk}", "--path", "/more", "--paging-size", "100M"), "does not fit"),
    ("a paging file that is there", ("mkpagingfile", "{disk}"), "/mach_servers/paging_file"),
]


@pytest.mark.parametrize(("command", "words"), [case[1:] for case in BAD_INPUT], ids=[case[0] for case in BAD_INPUT])
def test_bad_input_is_one_line_and_changes_nothing(
    disk: Path, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    noise = random.Random(0).randbytes(100_000)
    (tmp_path / "random").write_bytes(noise)
    before = disk.read_bytes()
    places = {"tmp": tmp_path, "disk": disk}
    refused(*(part.format(**places) for part in command), words=words.format(**places))
    assert disk.read_bytes() == before
    assert (tmp_path / "random").read_bytes() == noise
    assert sorted(os.listdir(tmp_path)) == ["disk.img", "random"]


COMMANDS = ("mkpagingfile", "bootfs", "ffscheck", "pagerd", "pagerctl", "pagermount", "machsim")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_and_tells_its_version(command: str) -> None:
    shown = run(command, "--help").stdout
    assert "Example" in shown
    assert "0.1" in run(command, "--version").stdout
    refused(command, "--no-such-option", words="no-such-option", status=2)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0), "a child process is left"
