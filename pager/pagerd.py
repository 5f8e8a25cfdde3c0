"""The command `pagerd`: the default pager as a daemon.

Interface:
    main()    see --help

This is the composition root: it finds the paging file of each IMAGE with bootfs, takes its block list, and from there
on knows only device and blocks, as the bootstrap task does (paper §5.2).

Not here: anything that a simulation would need; it composes the same rooms without this module.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass

import click

from bootfs.blocklist import BlockList
from bootfs.device import FileDevice
from bootfs.errors import FileSystemError
from mach.ports import Ipc
from mach.socket_carrier import Network, SocketInUse
from mach.threads import NativeRuntime
from pager import wiring
from pager.default_pager import DefaultPager
from pager.partition import BackingStoreError

PAGING_FILE = "/mach_servers/paging_file"
DRAIN_SECONDS = 10.0
STACK_BYTES = 512 * 1024  # of each server thread: it is wired, so what it does not need is waste (paper, table 7-3)


@dataclass(frozen=True, slots=True)
class PagingFile:
    """What the pager is given for one IMAGE."""

    name: str
    device: FileDevice
    blocks: BlockList


class Disks:
    """The images of this daemon, each opened, and locked against a second pager, once."""

    def __init__(self) -> None:
        self._devices: dict[tuple[int, int], FileDevice] = {}

    def paging_file(self, argument: str, offset: int) -> PagingFile:
        """IMAGE or IMAGE:/path as a device and its blocks.  click.ClickException with what to do."""
        from bootfs.lookup import resolve
        from bootfs.probe import open_any  # brings construct: only once a disk is to be opened

        image, _, path = argument.partition(":") if not os.path.exists(argument) else (argument, "", "")
        path = path or PAGING_FILE
        try:
            device = self._open(image)
            file_system = open_any(device, offset)
            inode = resolve(file_system, path)
            if inode.kind != "file":
                raise click.ClickException(f"{image}: {path} is not a regular file; name another as {image}:/path")
            blocks = file_system.block_list(inode)
        except FileSystemError as error:
            raise click.ClickException(_advice(image, path, error)) from None
        return PagingFile(f"{image}:{path}", device, blocks)

    def _open(self, image: str) -> FileDevice:
        """One device for one disk, under whatever names it comes, so that overlapping paging files are seen."""
        status = os.stat(image) if os.path.exists(image) else None
        known = self._devices.get((status.st_dev, status.st_ino)) if status else None
        if known is not None:
            return known
        device = FileDevice(image, writable=True, exclusive=True)
        if status is not None:
            self._devices[status.st_dev, status.st_ino] = device
        return device

    def sync(self) -> None:
        for device in self._devices.values():
            device.sync()


def _advice(image: str, path: str, error: FileSystemError) -> str:
    from bootfs.errors import FsCode

    if error.code == FsCode.FS_NO_ENTRY:
        return f"{image} has no {path}; make one with: mkpagingfile {image}"
    return str(error)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: mkpagingfile disk.img && pagerd disk.img --socket /tmp/pager.sock",
)
@click.argument("images", metavar="IMAGE[:PATH]...", nargs=-1, required=True)
@click.option("--socket", "socket_path", required=True, metavar="PATH", help="Where to serve; mode 0600.")
@click.option("--page-size", default=4096, show_default=True, metavar="BYTES", help="A power of two, 512 to 65536.")
@click.option("--threads", default=3, show_default=True, metavar="N", help="Server threads.")
@click.option("--offset", default=0, metavar="BYTES", help="Where the file system begins in the images.")
@click.option("--wire/--no-wire", default=True, show_default=True, help="Lock the pager into memory (paper, 5.4).")
@click.option("--ready-fd", type=int, metavar="N", help="Write a line to this descriptor when ready, and close it.")
@click.version_option(package_name="mach-default-pager")
def main(
    images: tuple[str, ...],
    socket_path: str,
    page_size: int,
    threads: int,
    offset: int,
    wire: bool,
    ready_fd: int | None,
) -> None:
    """Serve memory objects out of the paging file of each IMAGE, in the foreground.

    IMAGE is a disk image or a block device with a BSD file system, or an ext2; its paging file is
    /mach_servers/paging_file, or PATH.  SIGTERM lets what is under way end, and exits 0.
    """
    if page_size & (page_size - 1) or not 512 <= page_size <= 65536:
        raise click.BadParameter("a power of two from 512 to 65536 is needed", param_hint="--page-size")
    if not 1 <= threads <= 64:
        raise click.BadParameter("1 to 64", param_hint="--threads")
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread: they are waited for below
    runtime = NativeRuntime(stack_bytes=STACK_BYTES)
    log = Log(runtime)
    ipc = Ipc(runtime)
    pager = DefaultPager(runtime, ipc, page_size, log)
    disks = Disks()
    for image in images:
        paging_file = disks.paging_file(image, offset)
        try:
            pager.store.add(paging_file.name, paging_file.device, paging_file.blocks)
        except BackingStoreError as error:
            raise click.ClickException(str(error)) from None
    network = Network(ipc, log)
    pager.on_bug = lambda bug: log(f"a bug, please report it: {bug!r} at {_place(bug)}")
    pager.wired_bytes = wiring.wired_bytes
    pager.carrier_totals = network.totals
    wired = wiring.wire() if wire else ["not wired"]
    try:
        network.listen(socket_path, pager.port)
    except SocketInUse as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot serve at {socket_path}: {(error.strerror or '').lower()}") from None
    pager.start(threads)
    _ready(pager, socket_path, wired, ready_fd)
    signal.sigwait(signals)
    _drain(pager, network, disks, log)


def _place(bug: Exception) -> str:
    """Where an exception was raised, in one line."""
    frame = traceback.extract_tb(bug.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


class Log:
    """One line an event on stderr; a client that makes us talk cannot make us flood."""

    LINES_PER_SECOND = 5

    def __init__(self, runtime: NativeRuntime) -> None:
        self._runtime = runtime
        self._second = 0
        self._lines = 0

    def __call__(self, words: str) -> None:
        second = int(self._runtime.now())
        if second != self._second:
            if self._lines > self.LINES_PER_SECOND:
                click.echo(f"pagerd: and {self._lines - self.LINES_PER_SECOND} events more", err=True)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= self.LINES_PER_SECOND:
            click.echo(f"pagerd: {words}", err=True)


def _ready(pager: DefaultPager, socket_path: str, wired: list[str], ready_fd: int | None) -> None:
    """Tell whoever waits: a person, a descriptor, systemd."""
    space = pager.store.total_pages * pager.page_size / (1 << 20)
    partitions = len(pager.store.partitions())
    click.echo(
        f"pagerd: ready at {socket_path}: {space:g} MiB in {partitions} partition{'s' if partitions > 1 else ''}, "
        f"pages of {pager.page_size}, {', '.join(wired)}"
    )
    if ready_fd is not None:
        try:
            os.write(ready_fd, b"READY=1\n")
            os.close(ready_fd)
        except OSError as error:
            raise click.ClickException(f"--ready-fd {ready_fd}: {(error.strerror or '').lower()}") from None
    notify = os.environ.get("NOTIFY_SOCKET")
    if notify:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(b"READY=1", "\0" + notify[1:] if notify.startswith("@") else notify)
            except OSError:
                pass  # whoever wanted to know has gone


def _drain(pager: DefaultPager, network: Network, disks: Disks, log: Log) -> None:
    """Let no new client in, let what has been asked for be done, and leave."""
    network.stop_listening()
    deadline = pager.runtime.now() + DRAIN_SECONDS
    while not pager.idle and pager.runtime.now() < deadline:
        pager.runtime.sleep(0.01)
    try:
        disks.sync()
    except FileSystemError as error:
        log(str(error))
    sys.stdout.flush()
    os._exit(0)  # the server threads wait for messages; there is nothing that they must undo
