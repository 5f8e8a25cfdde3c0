"""`machsim exec`: run a program of machine code on a machine of its own.

Interface:
    exec_program                          the click command
    ProgramMachine(host, console, folder) what a program needs around it; .run(program, arguments) -> Halted

The machine has no disk that it was booted from: the folder of the program stands for the server directory, and the
bootstrap port's answers come from here.

Not here: how anything works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from bootfs.errors import FileSystemError, FsCode
from kernel.console import ConsoleDevice
from kernel.host import Host
from kernel.i386.cpu import NoEmulator
from kernel.i386.thread import INSTRUCTION_SECONDS, I386Processor
from kernel.machsim.console import TerminalConsole
from kernel.machsim.size import MIB, Size
from kernel.machsim.tracing import tracing
from kernel.processor import KernelPanic
from kernel.user import Halt, Halted, UserKernel
from mach.bootstrap import (
    MAX_READ_BYTES,
    BootstrapPrivilegedPorts,
    BootstrapPrivilegedPortsReply,
    BootstrapRead,
    BootstrapReadReply,
)
from mach.exception import ExceptionRaise, ExceptionRaiseReply
from mach.kern_return import KernReturn, MachError
from mach.message import Message
from mach.ports import DeadPort, SendOnceRight, SendRight, drop_rights
from mach.program import Console
from mach.threads import Deadlock, Runtime
from pager.bootstrap_loader import LoadError, load_executable, load_symbols

NATIVE_TIME_SCALE = 0.001


class ProgramMachine:
    """See the head of the module.  Made on a thread of the host's runtime."""

    def __init__(self, host: Host, console: Console, folder: Path, instruction_seconds: float) -> None:
        self.host = host
        self.processor = I386Processor(host, instruction_seconds)
        self.processor.cpu  # noqa: B018  (NoEmulator now rather than when the program is loaded)
        self.halt = Halt(host.processor)
        self.user = UserKernel(host, self.processor, self.halt)
        self.console_device = ConsoleDevice(host.ipc, console)
        host.devices.attach_stream("console", self.console_device.port)
        self._console = console
        self._folder = folder
        self._bootstrap = host.ipc.allocate("bootstrap", kobject=self._message)

    def run(self, program: str, arguments: list[str]) -> Halted:
        """The file `program` of the folder, until no program is left to run.  LoadError."""
        task = self.user.task_create(Path(program).stem)
        task.set_bootstrap_port(self._bootstrap.make_send())
        task.set_exception_port(self._bootstrap.make_send())
        thread = task.thread_create()
        words = [word.encode("utf-8", "surrogateescape") for word in (task.name, *arguments)]
        read = partial(self._read, program)
        info = load_executable(task, thread, self.host.page_size, read, words)
        if missing := load_symbols(self.user, self.host.host_priv, task, info, read):
            self._console.write(missing + "\n")
        thread.resume()
        halted = self.halt.wait()
        self.console_device.flush()
        return halted

    def _path(self, name: str) -> Path:
        """As on a disk that was made of the folder (machsim images --servers), where a program has no suffix."""
        plain, program = self._folder / name, self._folder / f"{name}.aout"
        return program if program.is_file() and not plain.exists() else plain

    def _read(self, name: str, offset: int, length: int) -> bytes:
        """FileSystemError: there is no such file, or it has not so many bytes."""
        try:
            with open(self._path(name), "rb") as file:
                file.seek(offset)
                content = file.read(length)
        except OSError as error:
            raise FileSystemError(FsCode.FS_NO_ENTRY, f"{name}: {(error.strerror or '').lower()}") from None
        if len(content) < length:
            raise FileSystemError(FsCode.FS_NOT_IN_FILE, f"{name} is cut short")
        return content

    def _message(self, message: Message) -> None:
        """What programs say to their bootstrap port, and the kernel of their exceptions."""
        reply = getattr(message, "reply", None)
        answer: Message
        if isinstance(message, BootstrapPrivilegedPorts):
            ports = (self.host.host_priv.copy(), self.host.devices.master.copy())
            answer = BootstrapPrivilegedPortsReply(KernReturn.KERN_SUCCESS, *ports)
        elif isinstance(message, BootstrapRead):
            answer = self._part_of(message)
        elif isinstance(message, ExceptionRaise):
            answer = ExceptionRaiseReply(KernReturn.KERN_FAILURE)
        else:
            return drop_rights(message)
        assert isinstance(reply, SendOnceRight)
        try:
            return reply.send(answer)
        except DeadPort:
            return None

    def _part_of(self, message: BootstrapRead) -> BootstrapReadReply:
        if "/" in message.name or message.size > MAX_READ_BYTES:
            return BootstrapReadReply(FsCode.FS_INVALID_PARAMETER, b"")
        path = self._path(message.name)
        try:
            size = max(0, min(message.size, path.stat().st_size - message.offset))
            return BootstrapReadReply(0, self._read(message.name, message.offset, size))
        except (OSError, FileSystemError):
            return BootstrapReadReply(FsCode.FS_NO_ENTRY, b"")


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: machsim exec --memory 1M fixtures/servers/paging.aout 2048",
)
@click.argument("program", metavar="PROGRAM.AOUT", type=click.Path())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--memory", type=Size(), default="8M", show_default=True, help="Physical memory of the machine.")
@click.option("--paging-space", type=Size(), default="32M", show_default=True, help="Of its default pager.")
@click.option(
    "--pager",
    type=click.Choice(["task", "kernel"]),
    default="task",
    show_default=True,
    help="The default pager: a task of the machine, or inside its kernel.",
)
@click.option("--socket", "socket_path", metavar="PATH", help="Page against the pagerd that serves at PATH instead.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the schedule.")
@click.option("--trace", metavar="FILE", help="Write every event to FILE, for `machsim explain`.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON behind what the console says.")
@click.version_option(package_name="mach-default-pager")
def exec_program(
    program: str,
    arguments: tuple[str, ...],
    memory: int,
    paging_space: int,
    pager: str,
    socket_path: str | None,
    seed: int,
    trace: str | None,
    as_json: bool,
) -> None:
    """Run an i386 program, an a.out executable, with the rest of the line as its arguments.

    What you see is the machine's console.  Exits 0 if every program that ran ended well.
    """
    path = Path(program)
    if not path.is_file():
        raise click.ClickException(f"{program}: not a file; make servers builds those of fixtures/servers")
    words = list(arguments)
    try:
        if socket_path:
            halted, facts = _run_over_socket(path, words, memory, socket_path, trace)
        else:
            halted, facts = _run_simulated(path, words, memory, paging_space, pager, seed, trace)
    except LoadError as error:
        raise click.ClickException(f"{program}: {error}") from None
    except (MachError, KernelPanic, Deadlock, NoEmulator) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"halted": halted.words, "failed": halted.failed} | facts))
    if halted.failed:
        raise click.ClickException(halted.words)


def _facts(machine: ProgramMachine, seconds: float, simulated: bool) -> dict[str, object]:
    statistics = machine.host.vm_statistics()
    processor = {name.replace(" ", "_"): count for name, count in machine.processor.cpu.counts.items()}
    return {"seconds": round(seconds, 6), "simulated": simulated, "statistics": statistics, "processor": processor}


def _run_simulated(
    path: Path, arguments: list[str], memory: int, space: int, pager: str, seed: int, trace: str | None
) -> tuple[Halted, dict[str, object]]:
    """All in one process and in simulated time: the run is a function of the seed."""
    from kernel.machsim.machine import Machine
    from mach.threads.simulated import SimulatedRuntime

    simulated = SimulatedRuntime(seed)
    outcomes: list[tuple[Halted, dict[str, object]]] = []

    def body(runtime: Runtime) -> None:
        host = Machine(runtime, memory, -(-space // MIB) * MIB, pager).host
        machine = ProgramMachine(host, TerminalConsole(), path.parent, INSTRUCTION_SECONDS)
        start = runtime.now()
        halted = machine.run(path.name, arguments)
        outcomes.append((halted, _facts(machine, runtime.now() - start, True)))

    with tracing(simulated, trace) as runtime:
        simulated.run(lambda: body(runtime))
    return outcomes[0]


def _run_over_socket(
    path: Path, arguments: list[str], memory: int, socket_path: str, trace: str | None
) -> tuple[Halted, dict[str, object]]:
    """The machine here, in real time; its default pager behind a socket."""
    from mach.threads import NativeRuntime

    with tracing(NativeRuntime(), trace) as runtime, _connected(runtime, memory, socket_path) as host:
        machine = ProgramMachine(host, TerminalConsole(), path.parent, 0.0)
        start = runtime.now()
        halted = machine.run(path.name, arguments)
        return halted, _facts(machine, runtime.now() - start, False)


@contextmanager
def _connected(runtime: Runtime, memory: int, socket_path: str) -> Iterator[Host]:
    """A machine that pages against the pager at the socket.  One thread always waits there."""
    from mach.default_pager import DefaultPagerInfo, DefaultPagerInfoReply
    from mach.ports import Ipc
    from mach.rpc import call
    from mach.socket_carrier import Network, NobodyThere

    ipc = Ipc(runtime)
    network = Network(ipc)
    nobody_sends_here = ipc.allocate("network")

    def hear() -> None:
        while True:
            nobody_sends_here.receive()

    try:
        manager: SendRight = network.connect(socket_path)
        info = call(ipc, manager, DefaultPagerInfo, DefaultPagerInfoReply, 10.0)
    except (NobodyThere, DeadPort, TimeoutError) as error:
        raise click.ClickException(f"{error}; start a pager with: pagerd IMAGE --socket {socket_path}") from None
    host = Host(runtime, ipc, memory, info.page_size, pageout_time_scale=NATIVE_TIME_SCALE)
    runtime.fork(hear, "network", daemon=True)
    host.start()
    host.vm_set_default_memory_manager(host.host_priv, manager)
    try:
        yield host
    finally:
        network.stop_listening()
