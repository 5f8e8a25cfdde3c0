"""A mount point: what is there now, and how to have it free.

Interface:
    resolve(path)                 its absolute name, never asking the file system that may be mounted on it
    mounted_at(path)              the kind of the file system mounted there, by the kernel's own list; None: nothing
    check(path, replace_stale)    a directory that nothing is mounted on, or MountPointError
    unmount(path, lazy)           MountPointError when it cannot be
    unmount_line(path)            the command a person would type

A dead FUSE server leaves its mount behind, and every question to that mount fails with ENOTCONN.  So os.path.ismount
is never used: on a dead mount it says no.

Not here: mounting.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import stat
import subprocess

MOUNTINFO = "/proc/self/mountinfo"
SECONDS = 20  # for an unmount command that does not come back


class MountPointError(Exception):
    """One line: what is wrong with the mount point, and what to do."""


def resolve(path: str) -> str:
    """The absolute name under which the kernel lists a mount at `path`.

    The last component is not followed while it is itself mounted on: a dead mount cannot be asked what it is.
    """
    absolute = os.path.abspath(path)
    parent, name = os.path.split(absolute)
    joined = os.path.join(os.path.realpath(parent), name)
    return joined if mounted_at(joined) else os.path.realpath(joined)


def mounted_at(path: str) -> str | None:
    """The type of what is mounted at exactly `path`, the topmost if several are; "fuse.pagermount" is ours."""
    kind = None
    with open(MOUNTINFO, "rb") as lines:
        for line in lines:
            fields = line.split(b" ")
            if _unescaped(fields[4]) == os.fsencode(path):
                kind = fields[fields.index(b"-") + 1].decode()
    return kind


def _unescaped(field: bytes) -> bytes:
    """A name as the kernel's lists write it: blank, tab, newline and backslash as three octal digits."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def check(path: str, replace_stale: bool) -> None:
    """Return if `path` can be mounted on; a directory need not be empty.  MountPointError."""
    kind = mounted_at(path)
    try:
        found = os.stat(path)
    except OSError as cause:
        if cause.errno == errno.ENOTCONN:
            return _check_stale(path, replace_stale)
        if cause.errno == errno.ENOENT:
            raise MountPointError(f"{path}: no such directory; make it: mkdir -p {shlex.quote(path)}") from None
        raise MountPointError(f"{path}: {cause.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise MountPointError(f"{path}: not a directory; a mount point is a directory")
    if kind is not None:
        raise MountPointError(
            f"{path}: already mounted ({kind}); unmount it first: pagermount --unmount {shlex.quote(path)}"
            if kind.startswith("fuse")
            else f"{path}: {kind} is mounted there; choose a directory inside it"
        )
    return None


def _check_stale(path: str, replace_stale: bool) -> None:
    if not replace_stale:
        raise MountPointError(
            f"{path}: stale mount (Transport endpoint is not connected: its server died);"
            f" remove it: {unmount_line(path)}  or use --replace-stale"
        )
    unmount(path, lazy=True)


def _commands(path: str, lazy: bool) -> list[list[str]]:
    """What can unmount, the likeliest first; root needs no setuid program."""
    fuse = [[name, "-uz" if lazy else "-u", "--", path] for name in ("fusermount3", "fusermount")]
    plain = [["umount", "-l", "--", path] if lazy else ["umount", "--", path]]
    return [command for command in fuse + plain if shutil.which(command[0])]


def unmount_line(path: str) -> str:
    """The command that removes the mount at `path` on this machine."""
    words = (_commands(path, lazy=False) or [["umount", "--", path]])[0]
    return shlex.join(word for word in words if word != "--")


def unmount(path: str, lazy: bool = False) -> None:
    """Unmount the FUSE file system at `path`, which may be dead.  Lazily: also while it is in use.

    MountPointError: nothing there, not FUSE, in use, not allowed.
    """
    kind = mounted_at(path)
    if kind is None:
        raise MountPointError(f"{path}: nothing is mounted there")
    if not kind.startswith("fuse"):
        raise MountPointError(f"{path}: {kind} is mounted there, no FUSE; use umount if you mean it")
    reason = "no fusermount3, fusermount or umount on this machine; apt-get install fuse3"
    for command in _commands(path, lazy):
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as cause:
            reason = str(cause)
            continue
        if done.returncode == 0:
            return
        reason = " ".join(done.stderr.decode(errors="replace").split())
    if "busy" in reason:
        reason = "it is in use; leave it (cd, open files), or detach it: umount -l " + shlex.quote(path)
    raise MountPointError(f"{path}: cannot be unmounted: {reason}")
