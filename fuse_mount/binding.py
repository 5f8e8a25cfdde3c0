"""The FUSE binding: the only module that knows fusepy and mfusepy, and that keeps their faults from everyone else.

Interface:
    choose()                 the Binding to use: mfusepy where installed, else fusepy; PAGERMOUNT_BINDING=NAME decides
    serve(binding, operations, mountpoint, options, ready)    mount, and serve until unmounted
    Operations               what is served: bytes for paths and names, OSError for errors
    BindingUnavailable, MountFailed    each one line that says what to do

Faults guarded (fusepy 3.0.1, mfusepy 3.1.1), each with its place here:
    1. An OSError without errno, and any other exception, becomes garbage or EINVAL: `_guarded` gives EIO and says so.
    2. SystemExit or KeyboardInterrupt in a callback ends in a NameError inside ctypes: `_guarded` takes those too.
    3. Names that are not UTF-8 break their whole directory: both ends use latin-1, in which every byte is a character.
    4. A result of read that is not bytes, or is too long, is EINVAL: `read` makes it bytes and cuts it.
    5. A name that is empty, too long, or has "/" or NUL in it makes the kernel refuse its whole directory: left out.
    6. Background mode forks and loses every thread: only the foreground mode is used; pagermount.py forks before.
    7. Machines that fusepy has no structures for get those of the i686: refused, mfusepy recommended.
    8. libfuse tells its reasons on stderr only: caught there until the mount is usable, and given as MountFailed.
    9. direct_io is a mount option to both; set here for each open, through the raw fuse_file_info.

Not here: the tree; daemons; signals; mount points.
"""

from __future__ import annotations

import errno
import functools
import importlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

BINDINGS = {"mfusepy": "mfusepy", "fusepy": "fuse"}  # the name of the package: of its module; the best first
ENCODING = "latin-1"
MACHINES_OF_FUSEPY = {"x86_64", "aarch64", "ppc", "ppc64", "ppc64le", "mips", "i386", "i486", "i586", "i686"}
REFUSED = [
    *("create", "mknod", "mkdir", "symlink", "link", "rename", "unlink", "rmdir"),
    *("write", "truncate", "chmod", "chown", "utimens", "setxattr", "removexattr"),
]

HINTS = {  # what libfuse says: what to do
    "/dev/fuse: Permission denied": "run as root, or let this user open /dev/fuse",
    "fusermount": "mounting without root needs fusermount: apt-get install fuse3",
}


class Operations(Protocol):
    """A read-only file system.  Any method may raise OSError with an errno."""

    def getattr(self, path: bytes, handle: int | None) -> Mapping[str, int]: ...
    def readdir(self, path: bytes) -> Iterable[tuple[bytes, Mapping[str, int]]]: ...
    def readlink(self, path: bytes) -> bytes: ...
    def open(self, path: bytes, flags: int) -> tuple[int, bool]:
        """(handle, may the page cache hold it)."""
        ...

    def read(self, handle: int, offset: int, size: int) -> bytes: ...
    def release(self, handle: int) -> None: ...
    def statfs(self) -> Mapping[str, int]: ...


class BindingUnavailable(Exception):
    """There is no FUSE here.  The text names what to install."""


class MountFailed(Exception):
    """libfuse would not mount.  The text is its reason."""


@dataclass(frozen=True, slots=True)
class Binding:
    name: str  # of the package
    module: Any


def choose() -> Binding:
    """The binding to use.  BindingUnavailable: no package, no libfuse, no /dev/fuse."""
    forced = os.environ.get("PAGERMOUNT_BINDING")
    if forced and forced not in BINDINGS:
        raise BindingUnavailable(f"PAGERMOUNT_BINDING={forced}: it can be {' or '.join(BINDINGS)}")
    if not os.path.exists("/dev/fuse"):
        raise BindingUnavailable("no /dev/fuse here: load the kernel's module (modprobe fuse), or allow it in this box")
    reasons = []
    for name in [forced] if forced else BINDINGS:
        try:
            return Binding(name, _load(name))
        except BindingUnavailable as reason:
            reasons.append(str(reason))
    raise BindingUnavailable("; ".join(dict.fromkeys(reasons)))


def _load(name: str) -> Any:
    machine = platform.machine()
    if name == "fusepy" and machine not in MACHINES_OF_FUSEPY:  # fault 7
        raise BindingUnavailable(f"fusepy does not know {machine} machines: pip install mfusepy")
    try:
        return importlib.import_module(BINDINGS[name])
    except ImportError:
        raise BindingUnavailable(f"{name} is not installed: pip install {name}") from None
    except (OSError, AttributeError) as cause:
        # Both load the library when imported, and say no more than "Unable to find libfuse".
        raise BindingUnavailable(f"libfuse is not installed: apt-get install libfuse2 ({cause})") from None


def serve(
    binding: Binding,
    operations: Operations,
    mountpoint: str,
    options: Mapping[str, str | int | float | bool],
    ready: Callable[[], None],
) -> None:
    """Mount and serve in this thread, the main one, until unmounted; `ready` is called once it can be used.

    One request at a time: threads cost twice the time of a request, and gain nothing (fault 6 apart).
    MountFailed: libfuse's reason.
    """
    logging.getLogger("fuse").disabled = True  # tracebacks of what _guarded has dealt with
    overheard = _Stderr()

    def started() -> None:
        overheard.give_back()
        ready()

    guard = _CallableGuard(operations, started) if binding.name == "fusepy" else _Guard(operations, started)
    spelled = {key: _latin(value) if isinstance(value, str) else value for key, value in options.items()}
    try:
        binding.module.FUSE(
            guard, _latin(mountpoint), raw_fi=True, encoding=ENCODING, foreground=True, nothreads=True, **spelled
        )
    except RuntimeError as cause:
        raise MountFailed(overheard.reason() or f"libfuse gave up with code {cause}") from None
    finally:
        overheard.give_back()


def _latin(text: str) -> str:
    """The string that latin-1 makes the file system's own bytes of `text` again (fault 3)."""
    return os.fsencode(text).decode(ENCODING)


class _Stderr:
    """File descriptor 2, overheard from now until give_back (fault 8)."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._heard = os.memfd_create("stderr")
        self._own: int | None = os.dup(2)
        os.dup2(self._heard, 2)

    def give_back(self) -> None:
        if self._own is not None:
            os.dup2(self._own, 2)
            os.close(self._own)
            self._own = None

    def reason(self) -> str:
        """What was heard, in one line, and what to do if we know it."""
        lines = os.pread(self._heard, 65536, 0).decode(errors="replace").splitlines()
        said = "; ".join(line.removeprefix("fuse: ").strip() for line in lines if line.strip())
        return "; ".join([said, *(hint for sign, hint in HINTS.items() if sign in said)])


def _say(method: str, what: object) -> None:
    """A fault of ours, in one line; a reader has had EIO."""
    print(f"pagermount: {method}: {type(what).__name__}: {what}".replace("\n", " "), file=sys.stderr, flush=True)


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Nothing but a result, or an OSError with a good errno, comes out of `method` (faults 1, 2)."""

    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except OSError as cause:
            if isinstance(cause.errno, int) and 0 < cause.errno < 4096:
                raise OSError(cause.errno, os.strerror(cause.errno)) from cause
            _say(method.__name__, cause)
        except BaseException as cause:
            _say(method.__name__, cause)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    return call


class _Guard:
    """Operations in the shape that both bindings drive: str paths, raw fuse_file_info, errors as above."""

    use_ns = True  # times are whole nanoseconds

    def __init__(self, operations: Operations, ready: Callable[[], None]) -> None:
        self._operations = operations
        self._ready = ready

    @_guarded
    def init(self, path: str) -> None:
        self._ready()

    @_guarded
    def getattr(self, path: str, info: Any = None) -> Mapping[str, int]:
        return self._operations.getattr(path.encode(ENCODING), info.fh if info else None)

    @_guarded
    def readdir(self, path: str, handle: int) -> list[tuple[str, Mapping[str, int] | None, int]]:
        entries: list[tuple[str, Mapping[str, int] | None, int]] = [(".", None, 0), ("..", None, 0)]
        for name, attributes in self._operations.readdir(path.encode(ENCODING)):
            if 0 < len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b".."):  # fault 5
                entries.append((name.decode(ENCODING), dict(attributes), 0))
        return entries

    @_guarded
    def readlink(self, path: str) -> str:
        return bytes(self._operations.readlink(path.encode(ENCODING))).decode(ENCODING)

    @_guarded
    def open(self, path: str, info: Any) -> int:
        info.fh, cached = self._operations.open(path.encode(ENCODING), info.flags)
        info.direct_io = not cached  # fault 9
        return 0

    @_guarded
    def read(self, path: str | None, size: int, offset: int, info: Any) -> bytes:
        return bytes(self._operations.read(info.fh, offset, size))[:size]  # fault 4

    @_guarded
    def release(self, path: str | None, info: Any) -> int:
        self._operations.release(info.fh)
        return 0

    @_guarded
    def statfs(self, path: str) -> Mapping[str, int]:
        return self._operations.statfs()

    @_guarded
    def opendir(self, path: str) -> int:
        return 0

    @_guarded
    def releasedir(self, path: str | None, handle: int) -> int:
        return 0

    @_guarded
    def destroy(self, path: str) -> None:
        """Nothing: whoever called serve goes on from there."""


def _refuse(self: _Guard, *arguments: Any) -> int:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


for _name in REFUSED:
    setattr(_Guard, _name, _refuse)


class _CallableGuard(_Guard):
    """For fusepy, which calls the object with an operation's name; mfusepy warns of an object that can be called."""

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return getattr(self, operation)(*arguments)
