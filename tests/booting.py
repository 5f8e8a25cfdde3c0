"""What the tests of the boot share: small images, a disk in memory with servers on it, a console that is scripted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bootfs.device import BlockDevice, MemoryDevice
from disktools.newfs import NewFileSystem
from disktools.paging_file import PagingFile, parse_path, plan_new_disk
from kernel.disk import ModelledDisk
from kernel.machsim.booted import PROGRAMS, BootedMachine, Disk
from kernel.python_programs import PythonProgram, program_text
from kernel.user import Halted
from mach.aout import Executable, Magic, Symbol, SymbolType, make_executable
from mach.boot_image import glue
from mach.program import Program
from mach.threads.simulated import SimulatedRuntime

PAGE = 4096
MEMORY = 3 << 20
KERNEL_BASE = 0xC0100000


class ScriptedConsole:
    """Keeps what is written; answers with the lines it was given, shown as typed, and then with nothing."""

    def __init__(self, answers: list[str] | None = None) -> None:
        self.text = ""
        self.answers = list(answers or [])

    def write(self, text: str) -> None:
        self.text += text

    def read_line(self) -> str | None:
        if not self.answers:
            return None
        answer = self.answers.pop(0)
        self.text += answer + "\n"
        return answer


def kernel_executable(
    text: bytes = b"kern" * 2000, data: bytes = b"data" * 100, bss: int = 20_000, symbols: bool = True, slack: int = 0
) -> Executable:
    """A kernel of 0407; `slack` bytes of its data lie behind what it calls edata... below zero."""
    edata = KERNEL_BASE + len(text) + len(data) - slack
    named = [
        Symbol("_edata", edata, SymbolType.DATA),
        Symbol("_end", edata + slack + bss, SymbolType.BSS),
    ]
    content = make_executable(Magic.OMAGIC, text, data, bss, named if symbols else (), KERNEL_BASE)
    return Executable.parse(content, "kernel")


def bootstrap_executable(
    magic: Magic = Magic.NMAGIC, text_bytes: int = 3 * PAGE, data: bytes = b"D" * 5000, bss: int = 6000
) -> Executable:
    symbols = [Symbol(f"_function_{number}", 0x10000 + number) for number in range(50)]
    text = program_text("bootstrap").ljust(text_bytes, b"T")
    return Executable.parse(make_executable(magic, text, data, bss, symbols), "bootstrap")


def server_executable(magic: Magic = Magic.ZMAGIC, name: str = "startup", text_bytes: int = 6000) -> bytes:
    return make_executable(magic, program_text(name).ljust(text_bytes, b"s"), b"server's data.." * 4, 9000)


def boot_file() -> bytes:
    return glue(kernel_executable(), bootstrap_executable())


def disk(folder: Path, files: Mapping[str, bytes], paging_bytes: int = 4 << 20, size: int = 8 << 20) -> MemoryDevice:
    """A 4.3BSD disk with these files, each by its path below /mach_servers, and a paging file."""
    tree = folder / "tree"
    (tree / "mach_servers").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = tree / "mach_servers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    device = MemoryDevice(bytearray(size))
    wanted = PagingFile(parse_path("/mach_servers/paging_file"), paging_bytes) if paging_bytes else None
    plan_new_disk(NewFileSystem(size), wanted, bytes(tree), 1_000_000_000).write(device, lambda _: None)
    return device


def boot(
    devices: Mapping[str, BlockDevice],
    startup: PythonProgram | None = None,
    *,
    content: bytes | None = None,
    flags: str = "-x",
    root: str = "hd0a",
    answers: list[str] | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    check: bool = True,
    inspect: Callable[[BootedMachine], None] = lambda machine: None,
    programs: Mapping[str, PythonProgram] | None = None,
) -> tuple[Halted, str]:
    """Boot a machine until it halts; what came of it, and all that its console shows."""
    runtime = SimulatedRuntime(seed)
    console = ScriptedConsole(answers)
    ended: list[Halted] = []
    known = dict(PROGRAMS) | dict(programs or {})
    if startup is not None:
        known["startup"] = startup

    def main() -> None:
        disks = {name: Disk(ModelledDisk(runtime, device)) for name, device in devices.items()}
        machine = BootedMachine(runtime, memory, console, disks, known)
        ended.append(machine.boot(content if content is not None else boot_file(), flags, root))
        inspect(machine)
        if check:
            machine.host.check()

    runtime.run(main)
    return ended[0], console.text


def nothing(program: Program) -> int:
    """A first server that is content."""
    return 0
