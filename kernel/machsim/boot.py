"""`machsim boot`: a machine from the boot file on: kernel, bootstrap task, default pager, first server.

Interface:
    boot    the click command

Not here: how anything works; it only chooses runtime, disk and pager.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bootfs.device import Claim, FileDevice
from bootfs.errors import FileSystemError
from kernel.boot_file import CannotBoot
from kernel.bootstrap import boot_flags
from kernel.disk import ModelledDisk
from kernel.machsim.boot_picture import boot_picture
from kernel.machsim.booted import PROGRAMS, BootedMachine, Disk, disks_of, root_of
from kernel.machsim.console import TerminalConsole
from kernel.machsim.size import Size
from kernel.machsim.tracing import tracing
from kernel.processor import KernelPanic
from kernel.user import Halted
from mach.kern_return import MachError
from mach.ports import SendRight
from mach.program import Program
from mach.threads import Deadlock, Runtime

MAX_BOOT_FILE_BYTES = 1 << 28
NATIVE_TIME_SCALE = 0.001  # Mach's pauses, in microseconds: a pager behind a socket takes tens of them for a page


@dataclass(frozen=True, slots=True)
class Order:
    """What to boot.  Sizes are bytes."""

    boot_file: str
    content: bytes
    image: str
    root: str | None
    memory: int
    flags: str
    seed: int
    trace: str | None
    svg: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    halted: Halted
    seconds: float  # of the clock that the machine ran on
    simulated: bool
    statistics: dict[str, int]


@click.command(epilog="Example: machsim boot mach.boot --disk disk.img --memory 4M")
@click.argument("boot_file", metavar="MACH.BOOT", type=click.Path())
@click.option("--disk", "image", required=True, metavar="IMAGE", type=click.Path(), help="Its disk, hd0.")
@click.option("--root", metavar="NAME", help="The root device: hd0a, hd0s1 ...  [default: the first partition]")
@click.option("--memory", type=Size(), default="8M", show_default=True, help="Physical memory of the machine.")
@click.option("--flags", default="", metavar="LETTERS", help="q asks for names; s, d and n are passed on.")
@click.option(
    "--pager",
    type=click.Choice(["task", "process"]),
    default="task",
    show_default=True,
    help="The default pager: in the bootstrap task, in simulated time; or a process of its own, in real time.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the schedule, in simulated time."
)
@click.option("--trace", metavar="FILE", help="Write every event to FILE, for `machsim explain`.")
@click.option("--svg", metavar="FILE", help="Draw to FILE what the kernel moved and mapped first.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON behind what the console says.")
@click.version_option(package_name="mach-default-pager")
def boot(
    boot_file: str,
    image: str,
    root: str | None,
    memory: int,
    flags: str,
    pager: str,
    seed: int,
    trace: str | None,
    svg: str | None,
    as_json: bool,
) -> None:
    """Boot a machine from what makeboot made, and run its first server until no program is left.

    What you see is the machine's console.  Exits 0 if every program ended well.
    """
    letters = flags.removeprefix("-")
    if set(letters) - set("qsdnx"):
        raise click.BadParameter(f"{flags!r} has others than q, s, d, n", param_hint="--flags")
    order = Order(boot_file, _read(boot_file), image, root, memory, boot_flags(letters), seed, trace, svg)
    try:
        outcome = _run_with_process(order) if pager == "process" else _run_simulated(order)
    except CannotBoot as error:
        raise click.ClickException(f"{boot_file}: {error}") from None
    except (MachError, KernelPanic, Deadlock, FileSystemError) as error:
        raise click.ClickException(str(error)) from None
    _conclude(outcome, as_json)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BOOT_FILE_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{path}: {(error.strerror or '').lower()}") from None
    if len(content) > MAX_BOOT_FILE_BYTES:
        raise click.ClickException(f"{path}: too large for a boot file")
    return content


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {(error.strerror or '').lower()}") from None


def _conclude(outcome: Outcome, as_json: bool) -> None:
    statistics, halted = outcome.statistics, outcome.halted
    if as_json:
        facts = {
            "halted": halted.words,
            "failed": halted.failed,
            "seconds": round(outcome.seconds, 6),
            "simulated": outcome.simulated,
            "statistics": statistics,
        }
        click.echo(json.dumps(facts))
    elif not halted.failed:
        clock = "simulated " if outcome.simulated else ""
        click.echo(
            f"machsim: {outcome.seconds:.3f} {clock}seconds, {statistics['faults']} faults, "
            f"{statistics['pageins']} pages in, {statistics['pageouts']} pages out"
        )
    if halted.failed:
        sys.stdout.flush()
        raise click.ClickException(halted.words)


def _outcome(order: Order, machine: BootedMachine, disks: dict[str, Disk], simulated: bool) -> Outcome:
    start = machine.host.runtime.now()
    halted = machine.boot(order.content, order.flags, order.root or root_of(disks))
    if order.svg is not None and machine.loaded is not None and machine.moved is not None:
        _write(order.svg, boot_picture(order.content, machine.loaded, machine.moved))
    return Outcome(halted, machine.host.runtime.now() - start, simulated, machine.host.vm_statistics())


def _run_simulated(order: Order) -> Outcome:
    """Kernel, bootstrap task and disk in one process: the run is a function of the seed."""
    from mach.threads.simulated import SimulatedRuntime

    simulated = SimulatedRuntime(order.seed)
    outcomes: list[Outcome] = []

    def body(runtime: Runtime, device: FileDevice) -> None:
        disks = disks_of(ModelledDisk(runtime, device))
        machine = BootedMachine(runtime, order.memory, TerminalConsole(), disks)
        outcomes.append(_outcome(order, machine, disks, True))

    with (
        FileDevice(order.image, writable=True, exclusive=True, claim=Claim.CONTENT) as device,
        tracing(simulated, order.trace) as runtime,
    ):
        simulated.run(lambda: body(runtime, device))
    return outcomes[0]


def _run_with_process(order: Order) -> Outcome:
    """The machine here, on real threads; the default pager a process that the bootstrap task gives a block list.

    It is that process that claims the disk: here it is only read.
    """
    from kernel.machsim.pager_process import PagerProcess, connected
    from mach.threads import NativeRuntime

    with (
        FileDevice(order.image, writable=False) as device,
        PagerProcess() as process,
        tracing(NativeRuntime(), order.trace) as runtime,
        connected(runtime, process) as (ipc, service),
    ):
        disks = disks_of(device)
        programs = PROGRAMS | {"bootstrap": _bootstrap_with(service, order.image, disks)}
        machine = BootedMachine(runtime, order.memory, TerminalConsole(), disks, programs, ipc, NATIVE_TIME_SCALE, 0.0)
        outcome = _outcome(order, machine, disks, False)
        if outcome.halted.failed and process.has_died:
            died = f"{outcome.halted.words}; the process of the default pager has died"
            return replace(outcome, halted=Halted(died, failed=True))
        return outcome


def _bootstrap_with(service: SendRight, image: str, disks: dict[str, Disk]) -> Callable[[Program], int]:
    """The bootstrap service of a machine whose default pager is elsewhere, and calls our disk `image`."""
    from pager.bootstrap import bootstrap
    from pager.bootstrap_paging import PagerElsewhere

    def place(name: str) -> tuple[str, int]:
        return os.path.abspath(image), disks[name].offset

    def program(program: Program) -> int:
        bootstrap(program, PagerElsewhere(program.ipc, service, program.kernel.page_size, place))
        return 0

    return program
