"""Starting and ending the project's commands as processes, so that no test leaves one behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
SECONDS = 60.0


def run(*command: str | Path, check: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end; `check` is the exit status it must have (None: any)."""
    program, *arguments = map(str, command)
    done = subprocess.run(
        [str(BIN / program), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
        env=os.environ | more,
    )
    if check is not None:
        assert done.returncode == check, f"{program}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def refused(*command: str | Path, words: str, status: int = 1) -> None:
    """The command fails as a command should: one line on stderr that says `words`, nothing on stdout, no traceback."""
    done = run(*command, check=status)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 or status == 2, done.stderr
    assert words in done.stderr, done.stderr


@contextmanager
def started(*command: str | Path, ready: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the background, from the moment when it has printed a line with `ready`; killed at the end."""
    program, *arguments = map(str, command)
    process = subprocess.Popen(
        [str(BIN / program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        while ready not in (line := process.stdout.readline()):
            if not line:
                process.wait(SECONDS)
                assert process.stderr is not None
                raise AssertionError(f"{program} ended: {process.stderr.read()}")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def pagerd(image: str | Path, socket: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    with started("pagerd", image, "--socket", socket, "--no-wire", *options, ready="ready at") as process:
        yield process


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """Send a signal and wait for the exit status."""
    process.send_signal(number)
    return process.wait(SECONDS)
