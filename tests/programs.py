"""What the tests of machine code share: a machine for one program, its console, and code made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from booting import ScriptedConsole

from kernel.machsim.exec import ProgramMachine
from kernel.machsim.machine import Machine
from kernel.user import Halted
from mach.aout import Magic, make_executable
from mach.threads.simulated import SimulatedRuntime

PAGE = 4096
MIB = 1 << 20
SERVERS = Path(__file__).parent.parent / "fixtures" / "servers"
INSTRUCTION_SECONDS = 0.2e-6
INT3 = b"\xcc"
EXIT = bytes.fromhex("b8e4ffffff9a0000000007005050b8bbffffff9a000000000700")  # task_terminate(mach_task_self())


@dataclass
class Run:
    """What came of a program."""

    halted: Halted
    text: str
    statistics: dict[str, int]
    processor: dict[str, int]
    seconds: float


def run_program(
    program: str,
    *arguments: str,
    folder: Path = SERVERS,
    memory: int = 2 * MIB,
    space: int = 8 * MIB,
    pager: str = "task",
    seed: int = 0,
    inspect: Callable[[Machine, ProgramMachine], None] = lambda machine, one: None,
) -> Run:
    """Run it on a machine of its own until no program is left, and check the machine."""
    runtime = SimulatedRuntime(seed)
    console = ScriptedConsole()
    runs: list[Run] = []

    def main() -> None:
        machine = Machine(runtime, memory, space, pager)
        one = ProgramMachine(machine.host, console, folder, INSTRUCTION_SECONDS)
        halted = one.run(program, list(arguments))
        figures = machine.host.vm_statistics()
        runs.append(Run(halted, console.text, figures, dict(one.processor.cpu.counts), runtime.now()))
        inspect(machine, one)
        machine.host.check()

    runtime.run(main)
    return runs[0]


def run_code(folder: Path, text: bytes, data: bytes = b"", bss: int = 0, **options: object) -> Run:
    """Run code that begins at 0x10020."""
    (folder / "code.aout").write_bytes(make_executable(Magic.ZMAGIC, text.ljust(-(-len(text) // 4) * 4), data, bss))
    return run_program("code.aout", folder=folder, **options)  # type: ignore[arg-type]
