"""`machsim run`: write a pattern over more memory than there is, against a pager, and verify every byte.

Interface:
    run    the click command

Not here: how anything works.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from kernel.host import Host
from kernel.machsim.outcome import DEFAULT_VIRTUAL, PAGERS, Order, Outcome, conclude
from kernel.machsim.size import MIB, Size
from kernel.machsim.tracing import tracing
from kernel.processor import KernelPanic
from kernel.workload import Workload
from mach.kern_return import MachError
from mach.ports import DeadPort, Ipc, SendRight
from mach.socket_carrier import Network, NobodyThere, SocketInUse
from mach.threads import Deadlock, NativeRuntime, Runtime

NATIVE_TIME_SCALE = 0.001  # Mach's pauses, in microseconds: a pager behind a socket takes tens of them for a page
PAGER_SECONDS = 10.0  # to tell its page size


@click.command(epilog="Example: pagerd disk.img --socket /tmp/p.sock & machsim run --socket /tmp/p.sock --virtual 32M")
@click.option("--socket", "socket_path", metavar="PATH", help="Page against the pagerd that serves at PATH.")
@click.option("--in-process", is_flag=True, help="Pager and kernel in one process, in simulated time (the default).")
@click.option(
    "--pager",
    type=click.Choice(PAGERS),
    help="Where the default pager runs: a task of the machine, the pagerd at --socket, or inside the kernel (MK63).  "
    "[default: process with --socket, else task]",
)
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
@click.option("--trace", "trace_path", metavar="FILE", help="Write every event to FILE, for `machsim explain`.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager")
def run(
    socket_path: str | None,
    in_process: bool,
    pager: str | None,
    memory: int,
    virtual: int | None,
    tasks: int,
    seed: int,
    kernel_socket: str | None,
    hold: bool,
    trace_path: str | None,
    as_json: bool,
) -> None:
    """Write a pattern over more memory than there is, rewrite parts, read all back, and verify every byte.

    Exits 0 only if every byte was right.
    """
    if socket_path and in_process:
        raise click.UsageError("--socket and --in-process exclude each other")
    if pager is not None and (pager == "process") != bool(socket_path):
        raise click.UsageError("--pager process goes with --socket PATH, the others without")
    if not socket_path and (kernel_socket or hold):
        raise click.UsageError("--kernel-socket and --hold need --socket: simulated time ends with the program")
    try:
        if socket_path:
            with tracing(NativeRuntime(), trace_path) as runtime:
                order = partial(Order.fitting, memory, virtual, tasks, seed)
                end = partial(conclude, as_json=as_json, hold=hold)
                _run_over_socket(runtime, order, socket_path, kernel_socket, end)
        else:
            order_here = Order(memory, virtual or DEFAULT_VIRTUAL, tasks, seed)
            conclude(_run_in_process(order_here, pager or "task", trace_path), as_json, False)
    except (MachError, KernelPanic, NobodyThere, SocketInUse) as error:
        raise click.ClickException(str(error)) from None
    except Deadlock as deadlock:
        raise click.ClickException(str(deadlock)) from None


def _run_in_process(order: Order, pager: str, trace_path: str | None) -> Outcome:
    """Kernel, pager and disk on one simulated runtime: the run is a function of the seed."""
    from kernel.machsim.machine import Machine
    from mach.threads.simulated import SimulatedRuntime

    simulated = SimulatedRuntime(order.seed)
    outcomes: list[Outcome] = []

    def body(runtime: Runtime) -> None:
        space = -(-order.virtual // MIB) * MIB + MIB
        machine = Machine(runtime, order.memory, space, pager)
        outcomes.append(_work(order, machine.host, True, pager, space))
        machine.host.check()

    with tracing(simulated, trace_path) as runtime:
        simulated.run(lambda: body(runtime))
    return outcomes[0]


def _run_over_socket(
    runtime: Runtime,
    order_for: Callable[[int], Order],
    socket_path: str,
    kernel_socket: str | None,
    conclude: Callable[[Outcome], None],
) -> None:
    """The kernel here, on real threads; the pager behind a socket.  `order_for` is told the pager's free bytes."""
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
    # One thread always waits for the sockets; what no thread that faults takes from them is handled in it.
    runtime.fork(lambda: _receive_for_ever(ipc), "network", daemon=True)
    host.start()
    try:
        host.vm_set_default_memory_manager(host.host_priv, manager)
        conclude(_work(order, host, False, "process", space))
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


def _work(order: Order, host: Host, simulated: bool, pager: str, paging_space: int) -> Outcome:
    """Run the workload on a machine that pages."""
    start = host.runtime.now()
    workload = Workload(host, order.virtual, order.tasks, order.seed)
    workload.run()
    seconds = host.runtime.now() - start
    return Outcome(order, host, workload, seconds, simulated, pager, paging_space, host.vm_statistics())
