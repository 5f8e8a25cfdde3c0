"""The whole machine: a disk that mkpagingfile made, a first server of machine code, every program, and memory paged."""

from __future__ import annotations

from pathlib import Path

import pytest
from booting import boot_file
from daemons import run
from programs import SERVERS

PROGRAMS = ("startup", "hello", "paging", "shared", "extpager", "forktree")
CONFIGURATION = "hello one two\npaging 2048 1\nshared 256 1\nextpager 256 1\nforktree 1 128\n"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    servers = tmp_path / "tree" / "mach_servers"
    servers.mkdir(parents=True)
    for name in PROGRAMS:
        (servers / name).write_bytes((SERVERS / f"{name}.aout").read_bytes())
    (servers / "startup.conf").write_text(CONFIGURATION)
    run("mkpagingfile", tmp_path / "disk.img", "--size", "16M", "--paging-size", "8M", "--from", tmp_path / "tree")
    return tmp_path / "disk.img"


def test_every_program_runs_off_the_disk_with_the_pager_as_a_task_and_as_a_process(disk: Path, tmp_path: Path) -> None:
    """The same console both ways, memory paged out and verified, and the disk as consistent as before."""
    (tmp_path / "mach.boot").write_bytes(boot_file())
    command = ("machsim", "boot", tmp_path / "mach.boot", "--disk", disk, "--memory", "2M")
    consoles = []
    for pager in ("task", "process"):
        *console, figures = run(*command, "--pager", pager).stdout.splitlines()
        assert int(figures.split(" pages out")[0].split()[-1]) > 100, figures
        consoles.append(console)
    assert consoles[0] == consoles[1]
    for end in (
        "(hello) argument 2 is two",
        "(paging) 512 pages verified: every word is right",
        "(shared) 1 rounds verified: what one task writes, the other reads",
        "(extpager.user) 64 pages of the object verified, 1 times",
        "(forktree) 2 tasks below me, each with its own copy of 128 KB: all verified",
        "(startup) every program has ended",
    ):
        assert end in consoles[0]
    run("ffscheck", disk)
