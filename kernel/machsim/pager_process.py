"""A default pager that is a process of its own, started and ended by machsim.

Interface:
    PagerProcess()                 a context manager: a `pagerd` without paging space, at .socket_path; .has_died
    connected(runtime, process)    a context manager: (ipc, a right to its service), with a thread that hears it

Not here: what is sent to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import click

from mach.ports import Ipc, SendRight
from mach.socket_carrier import Network
from mach.threads import Runtime

END_SECONDS = 20.0


class PagerProcess:
    """See the head of the module.  Its messages come to our standard error."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="machsim-")
        self.socket_path = os.path.join(self._folder.name, "pager.sock")

    def __enter__(self) -> PagerProcess:
        ready, tells = os.pipe()
        command = [sys.executable, "-m", "pager.pagerd", "--socket", self.socket_path, "--ready-fd", str(tells)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(tells,)
        )
        os.close(tells)
        with os.fdopen(ready, "rb") as file:
            if not file.read():
                self.__exit__(None, None, None)
                raise click.ClickException("the default pager's process did not start")
        return self

    @property
    def has_died(self) -> bool:
        return self._process.poll() is not None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End it, and wait until it has ended: nothing of a machine outlives it."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


@contextmanager
def connected(runtime: Runtime, process: PagerProcess) -> Iterator[tuple[Ipc, SendRight]]:
    """A connection to the pager.  One thread always waits at it, and handles what no faulting thread takes itself."""
    ipc = Ipc(runtime)
    network = Network(ipc)
    nobody_sends_here = ipc.allocate("network")

    def hear() -> None:
        while True:
            nobody_sends_here.receive()

    service = network.connect(process.socket_path)
    runtime.fork(hear, "network", daemon=True)
    try:
        yield ipc, service
    finally:
        network.stop_listening()
