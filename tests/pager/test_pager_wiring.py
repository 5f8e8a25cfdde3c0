"""Wiring against real memory pressure: a cgroup smaller than what runs in it, and swap space to be sent to (P6).

The pager of a system that is short of memory must not be paged: with wiring it has no major fault, without it has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemons import run

from pager.client import PagerClient
from pager.paged_memory import PagedMemory

CGROUPS = Path("/sys/fs/cgroup/memory")
LIMIT = 64 << 20
HOG = """
import mmap
memory = mmap.mmap(-1, 160 << 20)
for _ in range(2):
    for at in range(0, len(memory), 4096):
        memory[at] = 1
"""

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not (CGROUPS / "memory.limit_in_bytes").exists() or shutil.which("mkswap") is None,
    reason="needs root, a memory cgroup (v1) and mkswap",
)


@pytest.fixture
def swap(tmp_path: Path) -> Iterator[None]:
    """Swap space of our own, for as long as the test runs."""
    path = tmp_path / "swap"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 256 << 20)
    path.chmod(0o600)
    subprocess.run(["mkswap", path], check=True, capture_output=True)
    if subprocess.run(["swapon", path], capture_output=True, check=False).returncode:
        pytest.skip("swap space cannot be added here")
    try:
        yield
    finally:
        subprocess.run(["swapoff", path], check=True)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    path = CGROUPS / f"pager-test-{os.getpid()}"
    path.mkdir()
    try:
        (path / "memory.limit_in_bytes").write_text(str(LIMIT))
        yield path
    finally:
        path.rmdir()


def inside(cgroup: Path, *command: str | Path) -> list[str]:
    """A command that joins the group before it begins."""
    return ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh", *map(str, command)]


@contextmanager
def pager_in(cgroup: Path, disk: Path, socket: Path, *options: str) -> Iterator[int]:
    """A pagerd in the group; its process number.  Other tests' tools are not what is measured: it runs alone there."""
    program = Path(sys.executable).parent / "pagerd"
    command = inside(cgroup, program, disk, "--socket", socket, "--io", "buffered", *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready at" in process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def major_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[9])


def faults_under_pressure(tmp_path: Path, cgroup: Path, *options: str) -> int:
    disk, socket = tmp_path / "disk.img", tmp_path / "s"
    run("mkpagingfile", disk, "--size", "16M", "--paging-size", "8M", "-f")
    with (
        pager_in(cgroup, disk, socket, *options) as pid,
        PagerClient(str(socket)) as client,
        PagedMemory(client, 4 << 20) as memory,
    ):
        memory.write(0, b"\xaa" * (4 << 20))
        memory.read(0, 4 << 20)
        before = major_faults(pid)
        subprocess.run(inside(cgroup, sys.executable, "-S", "-c", HOG), check=False)
        for page in range(0, 1024, 7):
            assert memory.read(page * 4096, 4096) == b"\xaa" * 4096
            memory.write(page * 4096, b"\xaa" * 4096)
        client.statistics()
        return major_faults(pid) - before


def test_a_wired_pager_has_no_major_fault_where_one_that_is_not_has(tmp_path: Path, swap: None, cgroup: Path) -> None:
    assert faults_under_pressure(tmp_path, cgroup, "--wire") == 0
    assert faults_under_pressure(tmp_path, cgroup, "--no-wire") > 0, "or the pressure was none"
