"""The whole: a disk with real i386 programs on it boots and runs them all, paged out and verified, whoever pages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from daemons import BIN, SECONDS, run

pytest.importorskip("unicorn", reason="machine code needs the extra `cpu`")
SERVERS = Path(__file__).parents[2] / "fixtures" / "servers"
VERIFIED = (
    "(hello) hello from an i386, as task hello with 1 arguments",
    "(paging) 1024 pages verified: every word is right",
    "(shared) 3 rounds verified: what one task writes, the other reads",
    "(extpager.user) 256 pages of the object verified, 2 times",
    "(forktree) 14 tasks below me, each with its own copy of 256 KB: all verified",
    "(threads) 4 threads counted to 8000 together",
    "(startup) every program has ended",
    "halted: every program has ended",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("servers")
    run("machsim", "images", folder / "boot", "--servers", SERVERS)
    run("makeboot", "-o", folder / "mach.boot", folder / "boot/mach_kernel", folder / "boot/bootstrap")
    size = ("--size", "16M", "--paging-size", "8M", "--from", folder / "boot/tree")
    run("mkpagingfile", folder / "disk.img", *size)
    return folder


def boot(made: Path, *more: str) -> tuple[list[str], dict[str, int]]:
    """The console, and the machine's statistics."""
    command = [BIN / "machsim", "boot", "mach.boot", "--disk", "disk.img", "--memory", "3M", "--json", *more]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    *console, facts = done.stdout.splitlines()
    return console, json.loads(facts)["statistics"]


@pytest.fixture(scope="module")
def by_task(made: Path) -> tuple[list[str], dict[str, int]]:
    return boot(made)


def test_every_program_runs_and_verifies_what_was_paged_out(
    made: Path, by_task: tuple[list[str], dict[str, int]]
) -> None:
    console, statistics = by_task
    assert [line for line in console if line in VERIFIED] == list(VERIFIED)
    assert statistics["pageouts"] > 500
    run("ffscheck", made / "disk.img")


def test_the_console_is_the_same_with_the_pager_in_another_process(
    made: Path, by_task: tuple[list[str], dict[str, int]]
) -> None:
    """Paper §5: nothing that a program can see says where its pages are kept."""
    console, statistics = boot(made, "--pager", "process")
    assert console == by_task[0]
    assert statistics["pageouts"] > 500


def test_a_folder_without_a_first_server_is_refused(tmp_path: Path) -> None:
    done = run("machsim", "images", tmp_path / "boot", "--servers", tmp_path, check=1)
    assert "has no startup.aout" in done.stderr
    assert len(done.stderr.splitlines()) == 1
