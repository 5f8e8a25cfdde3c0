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
import sys
from collections.abc import Callable
from typing import Literal

import click

from bootfs.command_line import Size
from bootfs.errors import FileSystemError
from mach.codec import codec_of
from mach.default_pager_figures import MeasureRecord
from mach.message import MESSAGES
from mach.ports import Ipc
from mach.socket_carrier import Network, SocketInUse
from mach.threads import NativeRuntime, Runtime
from mach.threads.native import wall_clock
from mach.threads.traced import traced
from pager import wiring
from pager.clients import Limits
from pager.default_pager import DefaultPager
from pager.log import Log, describe_bug, event
from pager.partition import BackingStoreError
from pager.readiness import tell_ready, tell_stopping
from pager.storage import Disks, StorageError, find_paging_file, paging_file_name

DRAIN_SECONDS = 10.0
RELIEF_SECONDS = 1.0  # a thread that has the lead and handles one message for longer is relieved of it
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
STACK_BYTES = 512 * 1024  # of each server thread: it is wired, so what it does not need is waste (paper, table 7-3)


def _power_of_two(context: click.Context, parameter: click.Parameter, value: int) -> int:
    if value & (value - 1) or not 512 <= value <= 65536:
        raise click.BadParameter("a power of two from 512 to 65536 is needed")
    return value


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: mkpagingfile disk.img && pagerd disk.img --socket /tmp/pager.sock",
)
@click.argument("images", metavar="[IMAGE[:PATH]]...", nargs=-1)
@click.option("--socket", "socket_path", required=True, metavar="PATH", help="Where to serve; mode 0600.")
@click.option(
    "--page-size",
    default=4096,
    callback=_power_of_two,
    show_default=True,
    metavar="BYTES",
    help="A power of two, 512 to 65536.",
)
@click.option(
    "--threads", type=click.IntRange(1, 64), default=3, show_default=True, help="Threads for temporary objects."
)
@click.option("--partition", metavar="NAME", help="The partition of the images to look in: a, s1a, 1.")
@click.option("--offset", type=click.IntRange(0), metavar="BYTES", help="Where the file system begins in the images.")
@click.option("-p", "--priority", type=click.IntRange(0, 32767), metavar="N", help="Of the images, as swapon's.")
@click.option(
    "--io",
    type=click.Choice(["auto", "direct", "buffered"]),
    default="auto",
    show_default=True,
    help="Past the page cache, where that can be done; auto: when wired.",
)
@click.option("--wire/--no-wire", default=True, show_default=True, help="Lock the pager into memory (paper, 5.4).")
@click.option("--allow-uid", type=int, multiple=True, metavar="UID", help="Serve this user too, not just root and us.")
@click.option(
    "--client-objects", type=click.IntRange(0), default=65536, show_default=True, metavar="N", help="Of each."
)
@click.option("--client-pages", type=Size(), default=0, metavar="SIZE", help="Of paging space, for each client. [all]")
@click.option(
    "--client-requests", type=click.IntRange(1), default=16, show_default=True, metavar="N", help="Waiting, of each."
)
@click.option("--ready-fd", type=int, metavar="N", help="Write a line to this descriptor when ready, and close it.")
@click.option("--log", "log_form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--metrics", metavar="ADDR|PATH", help="Prometheus' text at HOST:PORT, :PORT, or a Unix socket.")
@click.option("--trace", "trace_path", metavar="FILE", help="Write every event to FILE, for `machsim explain`.")
@click.version_option(package_name="mach-default-pager")
def main(
    images: tuple[str, ...],
    socket_path: str,
    page_size: int,
    threads: int,
    partition: str | None,
    offset: int | None,
    priority: int | None,
    io: str,
    wire: bool,
    allow_uid: tuple[int, ...],
    client_objects: int,
    client_pages: int,
    client_requests: int,
    ready_fd: int | None,
    log_form: Literal["text", "json"],
    metrics: str | None,
    trace_path: str | None,
) -> None:
    """Serve memory objects out of the paging file of each IMAGE, in the foreground.

    IMAGE is a disk image or a block device with a BSD file system, or an ext2; its paging file is
    /mach_servers/paging_file, or PATH.  IMAGE:raw is all of what mkswap has marked.  SIGTERM lets what is under way
    end, and exits 0; SIGUSR1 says what each thread waits for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # before any thread: they are waited for below
    runtime, tell_threads = _runtime(trace_path)
    log = Log(runtime.now, wall_clock, log_form)
    limits = Limits(client_objects, client_pages // page_size)
    pager = DefaultPager(runtime, Ipc(runtime), page_size, log, limits=limits)
    pager.disks = disks = Disks(direct=io == "direct" or (io == "auto" and wire))
    _add_partitions(pager, disks, images, partition, offset, priority)
    network = Network(pager.ipc, lambda words: log(event("client_disconnected", words)), client_requests)
    measures = _prepare(pager, network, log, threads, wire)
    _listen(network, socket_path, pager, allow_uid)
    pager.start(threads)
    stop_metrics = _serve_metrics(pager, metrics)
    _ready(pager, socket_path, wiring.in_words(measures), ready_fd)
    _await_the_end(log, tell_threads, pager.ipc.relieve)
    _drain(pager, network, disks, log, stop_metrics)


def _runtime(trace_path: str | None) -> tuple[Runtime, Callable[[], list[str]]]:
    """Real threads, traced if that is wanted; and what tells of each what it waits for."""
    try:
        native = NativeRuntime(stack_bytes=STACK_BYTES)
        return traced(native, trace_path, "pager"), native.describe
    except OSError as error:
        raise click.ClickException(
            f"cannot write the trace to {trace_path}: {(error.strerror or '').lower()}"
        ) from None


def _prepare(pager: DefaultPager, network: Network, log: Log, threads: int, wire: bool) -> tuple[MeasureRecord, ...]:
    """Tell the pager of the process that it runs in, and wire that.  All that paging needs is there, and imported, by
    then: nothing of it is to be made while it pages (P6)."""
    pager.secret = os.urandom(32)
    pager.on_bug = lambda bug: log(describe_bug(bug))
    pager.carrier_totals = network.totals
    for message_class in MESSAGES.values():
        codec_of(message_class)
    measures = wiring.wire(threads + 1) if wire else wiring.not_wired()
    pager.wired_bytes = lambda: wiring.wired_bytes(measures)
    pager.own_memory = lambda: (wiring.own_memory(), measures)
    return measures


def _add_partitions(
    pager: DefaultPager,
    disks: Disks,
    images: tuple[str, ...],
    partition: str | None,
    offset: int | None,
    priority: int | None,
) -> None:
    """Find the paging file of each image, and give the pager its blocks."""
    for argument in images:
        image, path = paging_file_name(argument)
        try:
            disk = disks.open(image)
            blocks = find_paging_file(disk, image, path, partition, offset)
            pager.store.add(f"{image}:{path}", disks.way_to(disk, blocks, pager.page_size), blocks, priority)
        except (StorageError, BackingStoreError) as error:
            raise click.ClickException(str(error)) from None


def _serve_metrics(pager: DefaultPager, where: str | None) -> Callable[[], None]:
    """Until the function that is returned is called."""
    if where is None:
        return lambda: None
    from pager.prometheus import serve_metrics  # brings http.server: only where it is wanted

    try:
        return serve_metrics(pager, where)
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise click.ClickException(f"cannot serve metrics at {where}: {reason}") from None


def _listen(network: Network, socket_path: str, pager: DefaultPager, allow_uid: tuple[int, ...]) -> None:
    try:
        network.listen(socket_path, pager.port, allow_uid)
    except SocketInUse as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot serve at {socket_path}: {(error.strerror or '').lower()}") from None


def _ready(pager: DefaultPager, socket_path: str, wired: str, ready_fd: int | None) -> None:
    """Tell whoever waits: a person, a descriptor, systemd."""
    space = pager.store.total_pages * pager.page_size / (1 << 20)
    partitions = len(pager.store.partitions())
    click.echo(
        f"pagerd: ready at {socket_path}: {space:g} MiB in {partitions} partition{'s' if partitions != 1 else ''}, "
        f"pages of {pager.page_size}, {wired}"
    )
    try:
        tell_ready(ready_fd)
    except OSError as error:
        raise click.ClickException(f"--ready-fd {ready_fd}: {(error.strerror or '').lower()}") from None


def _await_the_end(log: Log, tell_threads: Callable[[], list[str]], relieve: Callable[[], None]) -> None:
    """Until a signal says so; one of them only asks.  Meanwhile a disk that hangs must not make us deaf."""
    while True:
        came = signal.sigtimedwait(SIGNALS, RELIEF_SECONDS)
        if came is None:
            relieve()
        elif came.si_signo == signal.SIGUSR1:
            log.all([event("thread", line) for line in tell_threads()])
        else:
            return


def _drain(pager: DefaultPager, network: Network, disks: Disks, log: Log, stop_metrics: Callable[[], None]) -> None:
    """Let no new client in, let what has been asked for be done, and leave."""
    stop_metrics()
    tell_stopping()
    network.stop_listening()
    deadline = pager.runtime.now() + DRAIN_SECONDS
    while not pager.idle and pager.runtime.now() < deadline:
        pager.runtime.sleep(0.01)
    try:
        disks.sync()
    except FileSystemError as error:
        log(str(error))
    if pager.runtime.tracer is not None:
        pager.runtime.tracer.close()
    sys.stdout.flush()
    os._exit(0)  # the server threads wait for messages; there is nothing that they must undo


if __name__ == "__main__":
    main()
