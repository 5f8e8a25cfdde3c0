"""Servers of mounts in processes of their own, for the tests, and what else they start.

Interface:
    servers(place)          a context: start(*program, binding=None) -> Mounted; all are gone afterwards
    detach(path)            whatever is mounted there goes
    run(*words, ...)        a Python program to its end
    why_no_fuse()           the reason why nothing can be mounted here
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

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
