"""The command `machsim`: a simulated machine that pages against a default pager outside its kernel.

Interface:
    main()    see --help

This is the composition root: it alone puts a kernel and a pager together, in one process or over a socket.

Not here: how anything works.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import click

from kernel.host import Host
from kernel.processor import KernelPanic
from kernel.workload import Pattern, Workload, pages_each
from mach.kern_return import MachError
from mach.ports import DeadPort, Ipc, SendRight
from mach.socket_carrier import Network, NobodyThere, SocketInUse
from mach.threads import Deadlock, NativeRuntime, Runtime

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MIB = 1 << 20
DEFAULT_VIRTUAL = 64 * MIB
NATIVE_TIME_SCALE = 0.001  # Mach's pauses, in microseconds: a pager behind a socket takes tens of them for a page
PAGER_SECONDS = 10.0  # to tell its page size


class Size(click.ParamType[int]):
    """64M, 64MiB, 1G, or bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is no size: try 64M, 1G, or a number of bytes", param, ctx)
        return int(match[1]) * UNITS[match[2].upper()]


@dataclass(frozen=True, slots=True)
class Order:
    """What the machine is to be and do.  Sizes are bytes."""

    memory: int
    virtual: int
    tasks: int
    seed: int

    @staticmethod
    def fitting(memory: int, virtual: int | None, tasks: int, seed: int, space: int) -> Order:
        """The order, if a pager with `space` bytes can serve it.  What cannot end well is refused before it begins."""
        if virtual is None:
            virtual = max(MIB, min(DEFAULT_VIRTUAL, space // MIB * MIB))
        if virtual - memory > space:
            raise click.ClickException(
                f"{virtual / MIB:g} MiB of virtual memory need as much paging space, and the pager has "
                f"{space / MIB:g} MiB free; use --virtual {space // MIB}M, or a disk of "
                f"mkpagingfile --paging-size {-(-virtual // MIB)}M"
            )
        return Order(memory, virtual, tasks, seed)


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    order: Order
    host: Host
    workload: Workload
    seconds: float  # of the clock that the machine ran on
    simulated: bool
    paging_space: int  # bytes that the pager had free before
    statistics: dict[str, int]  # of the machine, afterwards

    @property
    def ok(self) -> bool:
        return not self.workload.failures and self.workload.verified == self.workload.pages


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: machsim run --in-process")
@click.version_option(package_name="mach-default-pager")
def main() -> None:
    """A simulated Mach machine whose temporary memory is paged by a default pager outside its kernel."""


@main.command(epilog="Example: pagerd disk.img --socket /tmp/p.sock & machsim run --socket /tmp/p.sock --virtual 32M")
@click.option("--socket", "socket_path", metavar="PATH", help="Page against the pagerd that serves at PATH.")
@click.option("--in-process", is_flag=True, help="Pager and kernel in one process, in simulated time (the default).")
@click.option("--memory", type=Size(), default="8M", show_default=True, help="Physical memory of the machine.")
@click.option(
    "--virtual",
    type=Size(),
    help="Memory that the tasks use, together.  [default: 64M, or less if the pager has less room]",
)
@click.option("--tasks", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the pattern and the schedule.")
@click.option("--kernel-socket", metavar="PATH", help="Serve the kernel's insides at PATH, for pagermount --kernel.")
@click.option("--hold", is_flag=True, help="Keep the machine up after the verification, until SIGTERM.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager")
def run(
    socket_path: str | None,
    in_process: bool,
    memory: int,
    virtual: int | None,
    tasks: int,
    seed: int,
    kernel_socket: str | None,
    hold: bool,
    as_json: bool,
) -> None:
    """Write a pattern over more memory than there is, rewrite parts, read all back, and verify every byte.

    Exits 0 only if every byte was right.
    """
    if socket_path and in_process:
        raise click.UsageError("--socket and --in-process exclude each other")
    if not socket_path and (kernel_socket or hold):
        raise click.UsageError("--kernel-socket and --hold need --socket: simulated time ends with the program")
    try:
        if socket_path:
            order = partial(Order.fitting, memory, virtual, tasks, seed)
            _run_over_socket(order, socket_path, kernel_socket, lambda outcome: _conclude(outcome, as_json, hold))
        else:
            _conclude(_run_in_process(Order(memory, virtual or DEFAULT_VIRTUAL, tasks, seed)), as_json, False)
    except (MachError, KernelPanic, NobodyThere, SocketInUse) as error:
        raise click.ClickException(str(error)) from None
    except Deadlock as deadlock:
        raise click.ClickException(str(deadlock)) from None


@main.command(epilog="Example: machsim pattern --virtual 24M --tasks 1 | cmp - mnt/kernel/objects/1/data")
@click.option("--virtual", type=Size(), default="64M", show_default=True, help="As it was given to `machsim run`.")
@click.option("--tasks", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N")
@click.option("--task", type=click.IntRange(1), default=1, show_default=True, metavar="NUMBER", help="Whose memory.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--page-size", type=Size(), default=4096, show_default=True, help="Of the pager.")
@click.version_option(package_name="mach-default-pager")
def pattern(virtual: int, tasks: int, task: int, seed: int, page_size: int) -> None:
    """Write to standard output what `machsim run` with the same numbers leaves in a task's memory."""
    if task > tasks:
        raise click.BadParameter(f"there are {tasks} tasks", param_hint="--task")
    if sys.stdout.isatty():
        raise click.UsageError("the bytes are not for a terminal: send them to a file or to cmp")
    for page in Pattern(seed, page_size).final(task, pages_each(virtual, tasks, page_size)):
        sys.stdout.buffer.write(page)


def _run_in_process(order: Order) -> Outcome:
    """Kernel, pager and disk on one simulated runtime: the run is a function of the seed."""
    from mach.threads.simulated import SimulatedRuntime

    runtime = SimulatedRuntime(order.seed)
    outcomes: list[Outcome] = []

    def machine() -> None:
        ipc = Ipc(runtime)
        host = Host(runtime, ipc, order.memory)
        host.start()
        space = -(-order.virtual // MIB) * MIB + MIB
        outcomes.append(_work(order, host, _pager_in_process(runtime, ipc, space, host.page_size), True, space))
        host.check()

    runtime.run(machine)
    return outcomes[0]


def _pager_in_process(runtime: Runtime, ipc: Ipc, space: int, page_size: int) -> SendRight:
    """The pager of pager/, on a disk that exists only in memory; its service port."""
    from bootfs.blocklist import BlockList, Run
    from bootfs.device import MemoryDevice
    from kernel.disk import ModelledDisk
    from pager.default_pager import DefaultPager

    disk = ModelledDisk(runtime, MemoryDevice(bytearray(space)))
    pager = DefaultPager(runtime, ipc, page_size)
    pager.store.add("simulated disk", disk, BlockList((Run(0, 0, space),), space, 8192))
    pager.start()
    return pager.port.make_send()


def _run_over_socket(
    order_for: Callable[[int], Order], socket_path: str, kernel_socket: str | None, conclude: Callable[[Outcome], None]
) -> None:
    """The kernel here, on real threads; the pager behind a socket.  `order_for` is told the pager's free bytes."""
    runtime = NativeRuntime()
    ipc = Ipc(runtime)
    network = Network(ipc)
    try:
        manager = network.connect(socket_path)
    except NobodyThere as error:
        raise NobodyThere(f"{error}; start it with: pagerd IMAGE --socket {socket_path}") from None
    page_size, space = _ask_pager(ipc, manager, socket_path)
    order = order_for(space)
    host = Host(runtime, ipc, order.memory, page_size, pageout_time_scale=NATIVE_TIME_SCALE)
    if kernel_socket:
        _serve_debugger(host, network, kernel_socket)
    # One thread always waits for the sockets; in it the pager's answers are handled.  It leads ipc's receivers.
    runtime.fork(lambda: _receive_for_ever(ipc), "network", daemon=True)
    host.start()
    try:
        conclude(_work(order, host, manager, False, space))
    finally:
        network.stop_listening()


def _ask_pager(ipc: Ipc, manager: SendRight, socket_path: str) -> tuple[int, int]:
    """Page size and free bytes of the pager."""
    from mach.default_pager import DefaultPagerInfo, DefaultPagerInfoReply
    from mach.rpc import call

    try:
        info = call(ipc, manager, DefaultPagerInfo, DefaultPagerInfoReply, PAGER_SECONDS)
    except (DeadPort, TimeoutError):
        raise NobodyThere(f"who serves at {socket_path} does not answer as a pager; start one with pagerd") from None
    return info.page_size, info.free_space


def _serve_debugger(host: Host, network: Network, path: str) -> None:
    from kernel.debug_server import DebugServer

    server = DebugServer(host)
    try:
        network.listen(path, server.port)
    except OSError as error:
        raise click.ClickException(f"cannot serve at {path}: {(error.strerror or '').lower()}") from None
    server.start()


def _receive_for_ever(ipc: Ipc) -> None:
    nobody_sends_here = ipc.allocate("network")
    while True:
        nobody_sends_here.receive()


def _work(order: Order, host: Host, manager: SendRight, simulated: bool, paging_space: int) -> Outcome:
    """Set the default memory manager and run the workload."""
    host.vm_set_default_memory_manager(host.host_priv, manager)
    start = host.runtime.now()
    workload = Workload(host, order.virtual, order.tasks, order.seed)
    workload.run()
    seconds = host.runtime.now() - start
    return Outcome(order, host, workload, seconds, simulated, paging_space, host.vm_statistics())


# -- telling -----------------------------------------------------------------------------------------------------------


def _conclude(outcome: Outcome, as_json: bool, hold: bool) -> None:
    """Print what came of it, and hold the machine up or leave with the right exit code."""
    facts = _facts(outcome)
    if as_json:
        click.echo(json.dumps(facts))
    elif outcome.ok:
        click.echo(_words(outcome))
    if not outcome.ok:
        click.echo(f"Error: {_why(outcome)}", err=True)
        sys.stdout.flush()
        raise SystemExit(1)
    if hold:
        _hold()


def _hold() -> None:
    """Until SIGTERM or SIGINT.  A signal wakes us through a descriptor, whichever thread it reaches."""
    wakened, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    click.echo(f"verified; holding: kill -TERM {os.getpid()} to end")
    sys.stdout.flush()
    os.read(wakened, 1)


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "verified": outcome.ok,
        "verified_pages": outcome.workload.verified,
        "pages": outcome.workload.pages,
        "page_size": outcome.host.page_size,
        "memory": outcome.order.memory,
        "virtual": outcome.order.virtual,
        "tasks": outcome.order.tasks,
        "seed": outcome.order.seed,
        "seconds": round(outcome.seconds, 6),
        "simulated": outcome.simulated,
        "statistics": outcome.statistics,
        "failures": [words for _, words in outcome.workload.failures],
        "addresses": {task.task_id: outcome.workload.addresses[task.task_id] for task in outcome.workload.tasks},
    }


def _words(outcome: Outcome) -> str:
    statistics, order, workload = outcome.statistics, outcome.order, outcome.workload
    clock = "simulated " if outcome.simulated else ""
    tasks = "1 task" if order.tasks == 1 else f"{order.tasks} tasks"
    return (
        f"verified: {workload.pages} pages ({order.virtual / MIB:g} MiB) of {tasks} "
        f"on {statistics['memory_count']} frames ({order.memory / MIB:g} MiB), seed {order.seed}: every byte is right\n"
        f"faults: {statistics['faults']}, of which {statistics['zero_fill_count']} were filled with zeros and "
        f"{statistics['pageins']} paged in\n"
        f"pageout: {statistics['pageouts']} pages written, {statistics['clean_pages_freed']} dropped clean, "
        f"{statistics['reactivations']} given a second chance\n"
        f"time: {outcome.seconds:.3f} {clock}seconds"
    )


def _why(outcome: Outcome) -> str:
    """One line: why the run is a failure."""
    statistics, failures = outcome.statistics, outcome.workload.failures
    first = failures[0][1] if failures else f"only {outcome.workload.verified} pages were verified"
    if outcome.host.manager.dead or statistics["pagers_died"]:
        return f"the default pager died: {first}; start it again, and run again"
    if outcome.paging_space < outcome.order.virtual:
        space = f"{outcome.paging_space / MIB:g} MiB"
        return f"{first}; the pager had only {space} of paging space for {outcome.order.virtual / MIB:g} MiB"
    return first
