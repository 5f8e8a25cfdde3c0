"""Mounts for the tests: a server in a process of its own, and nothing left of it afterwards."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuse_mount.mountpoint import mounted_at

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SECONDS = 30


def why_no_fuse() -> str | None:
    """The reason why nothing can be mounted here."""
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse here"
    if os.geteuid() != 0:
        return "mounting needs root here"
    if not find_library("fuse"):
        return "libfuse2 is not installed"
    return None


def environment(binding: str | None = None) -> dict[str, str]:
    variables = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return {**variables, "PAGERMOUNT_BINDING": binding} if binding else variables


def run(*words: str, binding: str | None = None, pass_fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A Python program (module or path) to its end."""
    return subprocess.run(
        [sys.executable, *words],
        env=environment(binding),
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def detach(path: Path) -> None:
    """Whatever is mounted at `path` goes, in use or dead."""
    while mounted_at(str(path)) is not None:
        subprocess.run(["umount", "-l", str(path)], check=True, capture_output=True, timeout=SECONDS)


@dataclass
class Mounted:
    """A served mount: where, and by which process."""

    path: Path
    server: subprocess.Popen[bytes]

    def end(self) -> tuple[int, bytes]:
        """Wait until the server has ended by itself: its exit code, and what it said on stderr."""
        _, said = self.server.communicate(timeout=SECONDS)
        return self.server.returncode, said


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on; what a test leaves mounted there is detached."""
    path = tmp_path / "mount point"  # the blank is on purpose: the kernel's list escapes it
    path.mkdir()
    yield path
    detach(path)


Start = Callable[..., Mounted]


@contextmanager
def servers(place: Path) -> Iterator[Start]:
    """start(*program, binding=None): a server in the foreground, once its mount at `place` can be used."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(*program: str, binding: str | None = None) -> Mounted:
        theirs, ours = os.pipe()
        command = [sys.executable, *(program or (str(HERE / "fuse_fakes.py"), str(place)))]
        server = subprocess.Popen(
            [*command, "-f", "--ready-fd", str(ours)],
            env=environment(binding),
            pass_fds=(ours,),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        begun.append(server)
        os.close(ours)
        with open(theirs, "rb") as told:
            assert told.read() == b"ready\n", server.stderr.read().decode() if server.stderr else ""
        return Mounted(place, server)

    try:
        yield start
    finally:
        detach(place)
        for server in begun:
            try:
                server.wait(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            if server.stderr:
                server.stderr.close()


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """To start servers at `place`, ended with the test."""
    with servers(place) as begin:
        yield begin


@pytest.fixture(scope="module", params=["fusepy", "mfusepy"])
def binding(request: pytest.FixtureRequest) -> str:
    """Each of the two bindings, where it is installed."""
    name = str(request.param)
    if importlib.util.find_spec({"fusepy": "fuse", "mfusepy": "mfusepy"}[name]) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def mounted(start: Start, binding: str) -> Mounted:
    """The fakes' view, mounted, with either binding; for this test alone."""
    return start(binding=binding)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, binding: str) -> Iterator[Path]:
    """The same, for all tests that only look at it."""
    place = tmp_path_factory.mktemp("shared")
    with servers(place) as begin:
        yield begin(binding=binding).path
