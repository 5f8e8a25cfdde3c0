"""The command `pagermount`: show a pager, a kernel and a disk as files.

Interface: main, for the entry point.

Not here: anything but putting the parts together.  They are imported when they are needed, so that --help and
--unmount work without libfuse.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fuse_mount import mountpoint, serving

if TYPE_CHECKING:
    from bootfs.interface import BootFileSystem
    from fuse_mount.kernel_view import Kernel
    from fuse_mount.operations import ViewOperations
    from fuse_mount.pager_view import Pager

Option = str | int | float | bool


class Refusal(click.ClickException):
    """What could not be done, in one line; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo("pagermount: " + re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", self.message).strip(), err=True)


def mount_options(given: tuple[str, ...]) -> dict[str, Option]:
    """What `-o a,b=c -o d` says, for libfuse.  UsageError for `rw`: the view cannot be written."""
    options: dict[str, Option] = {}
    for word in ",".join(given).split(","):
        name, equals, value = word.partition("=")
        if name == "rw":
            raise click.UsageError("the view is read-only: leave out -o rw")
        if name:
            options[name] = value if equals else True
    if options.get("allow_other"):
        # Then the kernel checks the modes of the files, which without it nobody but the mounter gets to see.
        options.setdefault("default_permissions", True)
    return options


def _pager(path: str) -> Pager:
    from fuse_mount.source import Source
    from pager.client import PagerClient, PagerUnavailable

    source: Pager = Source(lambda: PagerClient(path), PagerUnavailable)
    source.open()
    return source


def _kernel(path: str) -> Kernel:
    from fuse_mount.source import Source
    from kernel.client import KernelClient, KernelUnavailable

    source: Kernel = Source(lambda: KernelClient(path), KernelUnavailable)
    source.open()
    return source


def _disk(image: str, partition: str | None, offset: int | None) -> BootFileSystem:
    from bootfs.device import FileDevice
    from bootfs.disk import open_file_system
    from bootfs.errors import FileSystemError

    try:
        return open_file_system(FileDevice(image), partition, offset)
    except FileSystemError as broken:
        raise Refusal(str(broken) if broken.place == image else f"{image}: {broken}") from broken


def _operations(
    socket: str, kernel: str | None, disk: str | None, partition: str | None, offset: int | None
) -> ViewOperations:
    """Everything that is shown, each asked once whether it is there."""
    from fuse_mount.operations import ViewOperations
    from fuse_mount.pager_view import paging_space
    from fuse_mount.view import view

    pager = _pager(socket)
    root = view(pager, _kernel(kernel) if kernel else None, _disk(disk, partition, offset) if disk else None)
    # The view is as old as the pager's socket: what it shows began then.
    return ViewOperations(root, os.stat(socket).st_mtime_ns, lambda: paging_space(pager))


def _server(
    place: str, replace_stale: bool, options: dict[str, Option], make: Callable[[], ViewOperations]
) -> serving.Prepare:
    """What the serving process does: look whether all is there, mount, serve until unmounted."""

    def prepare(ready: Callable[[], None]) -> None:
        from fuse_mount import binding
        from fuse_mount.operations import TIMEOUTS

        chosen = binding.choose()
        operations = make()
        mountpoint.check(place, replace_stale)

        def started() -> None:
            serving.stop_on_signals(place)
            ready()

        ours: dict[str, Option] = {"fsname": "pagerd", "subtype": "pagermount", "ro": True, "use_ino": True}
        # libfuse 2 would refuse a directory that is not empty; mount(8) and libfuse 3 do not.
        binding.serve(chosen, operations, place, {**ours, "nonempty": True, **TIMEOUTS, **options}, started)

    return prepare


def _describe(cause: BaseException) -> str:
    """Any exception in one line: those that we know say what to do."""
    if isinstance(cause, click.ClickException):
        return cause.message
    if isinstance(cause, OSError) and cause.strerror:
        return f"{cause.filename}: {cause.strerror}" if cause.filename else cause.strerror
    return str(cause) or type(cause).__name__


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example:  pagermount /mnt --socket /run/pagerd.sock --disk disk.img && cat /mnt/README",
)
@click.version_option(package_name="mach-default-pager", prog_name="pagermount")
@click.argument("place", metavar="MOUNTPOINT", type=click.Path())
@click.option("--socket", metavar="PATH", help="The socket of the running pagerd.")
@click.option("--kernel", metavar="PATH", help="The socket of a running kernel: adds /kernel.")
@click.option("--disk", metavar="IMAGE", help="An image or a disk with a BSD file system: adds /disk, read-only.")
@click.option("--partition", metavar="NAME", help="The partition of IMAGE to show: a, s1a, 1.")
@click.option("--offset", type=click.IntRange(0), metavar="BYTES", help="Where it begins in IMAGE.")
@click.option("-f", "--foreground", is_flag=True, help="Serve in this process; Ctrl-C unmounts.")
@click.option("-o", "given", multiple=True, metavar="OPT[,OPT]", help="Options for FUSE, as allow_other.")
@click.option("--ready-fd", type=click.IntRange(0), metavar="N", help='Write "ready" to descriptor N once usable.')
@click.option("--replace-stale", is_flag=True, help="Remove a mount that a dead server left at MOUNTPOINT.")
@click.option("--unmount", "unmounting", is_flag=True, help="Unmount MOUNTPOINT, stale or not, and do nothing else.")
def main(
    place: str,
    socket: str | None,
    kernel: str | None,
    disk: str | None,
    partition: str | None,
    offset: int | None,
    foreground: bool,
    given: tuple[str, ...],
    ready_fd: int | None,
    replace_stale: bool,
    unmounting: bool,
) -> None:
    """Show what a default pager holds as files under MOUNTPOINT, read-only.

    Returns when the mount can be used. MOUNTPOINT/README says what is where. SIGTERM, Ctrl-C or --unmount ends it.
    """
    try:
        where = mountpoint.resolve(place)
        if unmounting:
            mountpoint.unmount(where)
            return
        if socket is None:
            raise click.UsageError("say which pager to show: --socket PATH")
        absolute = os.path.abspath(socket), _absolute(kernel), _absolute(disk)
        prepare = _server(where, replace_stale, mount_options(given), lambda: _operations(*absolute, partition, offset))
        serving.launch(prepare, _describe, foreground, ready_fd)
    except (serving.Failed, mountpoint.MountPointError, OSError, ValueError) as cause:
        raise Refusal(_describe(cause)) from cause


if __name__ == "__main__":
    main()
