"""The process that serves a mount: how it is born, says that it is ready, and ends.

Interface:
    launch(prepare, describe, foreground, ready_fd)    returns once the mount is served in the background; in the
                             foreground the program ends with the mount
    stop_on_signals          from when the mount is there
    Failed                   it did not come about; one line

`prepare(ready)` checks, mounts and serves; it runs in the serving process, before which nothing has been opened and no
thread started: threads do not survive a fork.  Without `foreground` the caller returns when the mount can be used, and
gets the serving process's reason when it cannot.

Stopping: SIGTERM, SIGINT or SIGHUP detaches the mount at once, so that nobody new comes in, and the process ends with 0
when the last open file is closed; a second signal ends it there and then.

Invariants:
    1. The signals are blocked in every thread: one thread waits for them, so none ends up in a C library's loop.
    2. Nobody waits for signals before the mount is there: one that comes early is kept, and served then.

Not here: FUSE; what is served.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from fuse_mount.mountpoint import MountPointError, unmount
from mach.threads import NativeRuntime

STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
READY = b"ready\n"

Prepare = Callable[[Callable[[], None]], None]


class Failed(Exception):
    """The serving process could not serve.  The text is its reason, one line."""


def launch(prepare: Prepare, describe: Callable[[BaseException], str], foreground: bool, ready_fd: int | None) -> None:
    """Serve here (`foreground`) or in a process of its own.  Failed: `describe` of what `prepare` raised."""
    if foreground:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        try:
            prepare(lambda: _tell(ready_fd))
        except Exception as cause:
            raise Failed(describe(cause)) from cause
        # The thread that waits for signals is still there: an interpreter must not be taken down around it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    theirs, ours = os.pipe()
    if os.fork() == 0:
        os.close(theirs)
        _serve_in_background(prepare, describe, ours, ready_fd)
    os.close(ours)
    with open(theirs, "rb") as told:
        words = told.read()
    if words != READY:
        raise Failed(words.decode(errors="replace").strip() or "the serving process died before the mount was usable")


def stop_on_signals(mountpoint: str) -> None:
    """From now on a signal of STOP ends the mount.  Called once, when it is there (INV-2)."""
    NativeRuntime().fork(lambda: _await_signals(mountpoint), "signals", daemon=True)


def _await_signals(mountpoint: str) -> None:
    signal.sigwait(STOP)
    try:
        unmount(mountpoint, lazy=True)
    except MountPointError as cause:
        # Not ours to unmount, or gone already: end, and let the kernel's own clean-up tell the readers.
        print(f"pagermount: {cause}", file=sys.stderr, flush=True)
        os._exit(1)
    signal.sigwait(STOP)
    os._exit(0)


def _tell(ready_fd: int | None) -> None:
    """Say READY where the caller wants to hear it."""
    if ready_fd is not None:
        try:
            os.write(ready_fd, READY)
            os.close(ready_fd)
        except OSError:
            pass  # whoever asked has gone; that is no reason to stop


def _serve_in_background(
    prepare: Prepare, describe: Callable[[BaseException], str], answer: int, ready_fd: int | None
) -> None:
    """The life of the background process.  Does not return: what the caller would do next is not its business."""
    status = 1
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        _fill_standard_descriptors()

        def ready() -> None:
            _tell(ready_fd)
            os.chdir("/")
            _leave_terminal()
            os.write(answer, READY)
            os.close(answer)

        prepare(ready)
        status = 0
    except BaseException as cause:
        try:
            os.write(answer, describe(cause).encode(errors="replace"))
        except OSError:
            pass  # the caller has its answer, or has gone
    os._exit(status)


def _fill_standard_descriptors() -> None:
    """Take 0 to 2 if they are closed, so that no image or socket is opened there and lost to _leave_terminal."""
    while (taken := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(taken)


def _leave_terminal() -> None:
    """0 to 2 become /dev/null: whoever reads our output until its end must not wait for the unmount."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)
