"""The command pagermount: what it refuses, and how, and one run against a real pager."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from serving import PROJECT, SECONDS, Start, environment, run, why_no_fuse

from fuse_mount.mountpoint import mounted_at
from fuse_mount.pagermount import mount_options
from kernel.workload import Pattern

PAGE = 4096

needs_fuse = [
    pytest.mark.fuse,
    pytest.mark.timeout(60),
    pytest.mark.skipif(why_no_fuse() is not None, reason=str(why_no_fuse())),
]


def pagermount(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return run("-m", "fuse_mount.pagermount", *map(str, words))


def refused(*words: str | Path) -> str:
    """The one line with which the command refuses."""
    done = pagermount(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("pagermount: ")
    return done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A small disk with a paging file, and a name that is not UTF-8."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "motd").write_text("hello\n")
    with open(os.fsencode(tree) + b"/caf\xe9", "wb") as file:
        file.write(b"latin")
    path = tmp_path / "disk.img"
    made = run("-m", "disktools.mkpagingfile", str(path), "--size", "8M", "--paging-size", "1M", "--from", str(tree))
    assert made.returncode == 0, made.stderr
    return path


class Pagerd:
    """A running pagerd, that can be killed and started again at its path."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self.socket = image.parent / "pager.sock"
        self.start()

    def start(self) -> None:
        theirs, ours = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from pager.pagerd import main; main()", str(self.image)),
                *("--socket", str(self.socket), "--no-wire", "--ready-fd", str(ours)),
            ],
            env=environment(),
            pass_fds=(ours,),
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours)
        with open(theirs, "rb") as ready:
            assert ready.read() != b""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=SECONDS)


@pytest.fixture
def pagerd(image: Path) -> Iterator[Pagerd]:
    pager = Pagerd(image)
    yield pager
    pager.kill()


@pytest.fixture
def machine(pagerd: Pagerd) -> Iterator[Path]:
    """A kernel's socket: its one task, of nearly twice the memory there is, has been verified, and it is held up."""
    socket = pagerd.image.parent / "kernel.sock"
    words = ["run", "--socket", str(pagerd.socket), "--kernel-socket", str(socket), "--hold"]
    size = ["--memory", "512K", "--virtual", "896K", "--tasks", "1", "--seed", "5"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from kernel.machsim import main; main()", *words, *size],
        env=environment(),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert any(b"holding" in line for line in process.stdout)
    yield socket
    process.terminate()
    process.communicate(timeout=SECONDS)


def digest(content: bytes) -> str:
    """Compared instead of the content: a difference of a megabyte is not worth printing."""
    return hashlib.sha256(content).hexdigest()


def test_help_shows_an_example_and_needs_no_fuse() -> None:
    done = pagermount("--help")
    assert done.returncode == 0
    assert "Example:  pagermount /mnt --socket" in done.stdout


def test_a_mount_without_a_pager_named_is_a_usage_error(tmp_path: Path) -> None:
    done = pagermount(tmp_path)
    assert done.returncode == 2
    assert "--socket PATH" in done.stderr


def test_options_are_libfuses_own_and_others_see_by_mode_only() -> None:
    assert mount_options(("allow_other,uid=3", "ro")) == {
        "allow_other": True,
        "uid": "3",
        "ro": True,
        "default_permissions": True,
    }
    assert mount_options(()) == {}
    with pytest.raises(click.UsageError, match="read-only"):
        mount_options(("rw",))


def test_unmounting_where_nothing_is_mounted_is_said_in_one_line(tmp_path: Path) -> None:
    assert f"{tmp_path}: nothing is mounted there" in refused("--unmount", tmp_path)


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.skipif(why_no_fuse() is not None, reason=str(why_no_fuse()))
def test_a_pager_that_is_not_running_is_said_with_how_to_start_one(tmp_path: Path, foreground: bool) -> None:
    words = refused(tmp_path, "--socket", tmp_path / "none.sock", *(["-f"] if foreground else []))
    assert f"start it with: pagerd IMAGE --socket {tmp_path}/none.sock" in words
    assert mounted_at(str(tmp_path)) is None


class TestAgainstAPager:
    pytestmark = needs_fuse

    def test_what_cannot_be_shown_or_mounted_on_is_refused(self, pagerd: Pagerd, tmp_path: Path) -> None:
        blank = tmp_path / "blank.img"
        blank.write_bytes(bytes(100_000))
        socket = ("--socket", pagerd.socket)
        assert "no FFS" in refused(tmp_path / "tree", *socket, "--disk", blank)
        assert "none.img" in refused(tmp_path / "tree", *socket, "--disk", tmp_path / "none.img")
        assert "not a directory" in refused(blank, *socket)
        assert "mkdir -p" in refused(tmp_path / "none", *socket)
        assert f"{tmp_path}/none.sock" in refused(tmp_path / "tree", *socket, "--kernel", tmp_path / "none.sock")
        assert "unknown option `bogus'" in refused(tmp_path / "tree", *socket, "-o", "bogus")
        assert mounted_at(str(tmp_path / "tree")) is None

    def test_the_pager_and_its_disk_are_seen_and_gone_again(self, pagerd: Pagerd, place: Path) -> None:
        assert pagermount(place, "--socket", pagerd.socket, "--disk", pagerd.image).stderr == ""
        assert sorted(os.listdir(place)) == ["README", "disk", "pager"]
        info = json.loads((place / "pager/info.json").read_text())
        assert (info["total_pages"], info["used_pages"], info["objects"]) == (256, 0, 0)
        assert (place / "pager/partitions/0/map").read_text() == ("." * 64 + "\n") * 4
        assert os.statvfs(place).f_blocks == 256
        assert (place / "disk/motd").read_text() == "hello\n"
        assert b"caf\xe9" in os.listdir(os.fsencode(place / "disk"))
        assert (place / "disk/mach_servers/paging_file").stat().st_size == 1 << 20
        assert "already mounted" in refused(place, "--socket", pagerd.socket)
        assert pagermount("--unmount", place).returncode == 0
        assert os.listdir(place) == []

    def test_a_pager_that_dies_is_an_error_where_it_is_asked_and_its_successor_is_found(
        self, pagerd: Pagerd, start: Start, place: Path
    ) -> None:
        words = ("--socket", str(pagerd.socket), "--disk", str(pagerd.image))
        start("-m", "fuse_mount.pagermount", str(place), *words)
        assert "page size" in (place / "pager/info").read_text()
        pagerd.kill()
        with pytest.raises(OSError, match="Input/output error"):
            (place / "pager/info").read_text()
        assert sorted(os.listdir(place)) == ["README", "disk", "pager"]
        assert (place / "disk/motd").read_text() == "hello\n"
        pagerd.start()
        assert "page size" in (place / "pager/info").read_text()

    def test_the_bytes_that_a_workload_wrote_are_read_through_the_mount(
        self, pagerd: Pagerd, machine: Path, start: Start, place: Path
    ) -> None:
        start("-m", "fuse_mount.pagermount", str(place), "--socket", str(pagerd.socket), "--kernel", str(machine))
        expected = list(Pattern(5, PAGE).final(task=1, pages=(896 << 10) // PAGE))
        counters = (place / "kernel/vm_stat").read_text()

        (vm_object,) = os.listdir(place / "kernel/objects")
        assert digest((place / "kernel/objects" / vm_object / "data").read_bytes()) == digest(b"".join(expected))
        (region,) = json.loads((place / "kernel/tasks/1/map.json").read_text())
        with (place / "kernel/tasks/1/memory").open("rb") as memory:
            memory.seek(region["start"])
            assert digest(memory.read()) == digest(b"".join(expected))

        (paged_object,) = os.listdir(place / "pager/objects")
        directory = place / "pager/objects" / paged_object
        image = (directory / "data").read_bytes()
        pages = json.loads((directory / "pages.json").read_text())
        paged = {page["offset"] // PAGE for page in pages if page["state"] == "idle"}  # a precious one is the kernel's
        assert (directory / "data").stat().st_blocks == len(paged) * PAGE // 512 > 0
        resident = json.loads((place / "kernel/objects" / vm_object / "pages.json").read_text())
        dirty = {page["offset"] // PAGE for page in resident if "dirty" in page["state"]}
        for page in paged - dirty:
            assert digest(image[page * PAGE : (page + 1) * PAGE]) == digest(expected[page]), f"page {page}"
        assert len(paged - dirty) > 100
        assert (place / "pager/partitions/0/map").read_text().count("#") == len(paged)
        assert (place / "kernel/vm_stat").read_text() == counters  # reading made nothing resident
