"""`machsim boot`: a machine from the boot file on: kernel, bootstrap task, default pager, first server.

Interface:
    boot                     the click command
    Machine(runtime, memory_bytes, console, devices, programs)
        .boot(content, flags, root) -> Halted    the whole boot, until the machine halts
    DEFAULT_PROGRAMS         the programs of Python that images stand for
    disks(device) -> devices by name

Not here: how anything works; it only says on the console what is happening.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from bootfs.device import BlockDevice, FileDevice, SliceDevice
from bootfs.errors import FileSystemError
from kernel.boot_file import CannotBoot, boot_kernel, load
from kernel.bootstrap import boot_flags, bootstrap_create, steal
from kernel.disk import ModelledDisk
from kernel.host import Host
from kernel.machsim.console import TerminalConsole
from kernel.machsim.size import Size
from kernel.machsim.startup import startup
from kernel.processor import KernelPanic
from kernel.python_programs import PythonProcessor, PythonProgram
from kernel.user import Halt, Halted, UserKernel
from mach.kern_return import MachError
from mach.ports import Ipc
from mach.program import Console, Program
from mach.threads import Deadlock, Runtime

MAX_BOOT_FILE_BYTES = 1 << 28


def _bootstrap(program: Program) -> int:
    from pager.bootstrap import bootstrap

    bootstrap(program)
    return 0


DEFAULT_PROGRAMS: dict[str, PythonProgram] = {"bootstrap": _bootstrap, "startup": startup}


class Machine:
    """See the head of the module.  Made and booted on a thread of `runtime`."""

    def __init__(
        self,
        runtime: Runtime,
        memory_bytes: int,
        console: Console,
        devices: Mapping[str, BlockDevice],
        programs: Mapping[str, PythonProgram] = DEFAULT_PROGRAMS,
    ) -> None:
        self.console = console
        self.ipc = Ipc(runtime)
        self.host = Host(runtime, self.ipc, memory_bytes)
        self.halt = Halt(self.host.processor)
        self.user = UserKernel(self.host, PythonProcessor(console, programs), self.halt)
        for name, device in devices.items():
            self.host.devices.attach(name, device)

    def say(self, words: str) -> None:
        self.console.write(words + "\n")

    def boot(self, content: bytes, flags: str, root: str) -> Halted:
        """From the boot file to the end of the machine.  CannotBoot."""
        host, page_size = self.host, self.host.page_size
        memory = host.resident.store.view
        kernel = load(memory, content, page_size)
        self.say(f"boot: {kernel.size} bytes at {kernel.start:#x}, entry {kernel.entry:#x}")
        moved = boot_kernel(memory, kernel, page_size)
        if moved.info is not None:
            info = moved.info
            self.say(f"kernel: boot_info at {info.offset:#x}, BSS up to {kernel.end:#x}")
            self.say(f"kernel: symbols moved to {moved.symbols:#x}, {info.sym_size} bytes")
            self.say(f"kernel: boot image moved to {moved.boot_start:#x}, {info.boot_size} bytes")
        in_place = steal(host, kernel.start, moved)
        memory_kb, free_kb = len(memory) // 1024, host.resident.free_count * page_size // 1024
        self.say(f"kernel: memory {memory_kb} KB, available {free_kb} KB, pages of {page_size}")
        if moved.load_info is None:
            self.say("Not starting bootstrap task.")
            return Halted("there is no bootstrap task: makeboot glues one to a kernel", failed=True)
        thread = bootstrap_create(self.user, moved, in_place.image, self.host.devices.master.copy(), flags, root)
        load_info = moved.load_info
        self.say(
            f"kernel: bootstrap task: text {load_info.text_start:#x}, data {load_info.data_start:#x}, "
            f"{(in_place.image.size if in_place.image else 0) // page_size} pages mapped in place"
        )
        thread.resume()
        host.start()  # the thread that started all others becomes the pageout daemon (startup.c:399)
        return self.halt.wait()


def disks(device: BlockDevice) -> dict[str, BlockDevice]:
    """The disk by a machine's names for it: hd0 whole, hd0a ... its partitions; hd0a is the whole if it has none."""
    from bootfs.labels import partitions

    names: dict[str, BlockDevice] = {"hd0": device}
    for partition in partitions(device):
        name = partition.name if partition.table != "bsd" else partition.name[-1]
        names.setdefault(f"hd0{name}", SliceDevice(device, partition.offset, partition.size))
    names.setdefault("hd0a", device)
    return names


@click.command(epilog="Example: machsim boot mach.boot --disk disk.img --memory 4M")
@click.argument("boot_file", metavar="MACH.BOOT", type=click.Path())
@click.option("--disk", "image", required=True, metavar="IMAGE", type=click.Path(), help="Its disk, hd0.")
@click.option("--root", default="hd0a", show_default=True, metavar="NAME", help="The root device: hd0a, hd0s1 ...")
@click.option("--memory", type=Size(), default="8M", show_default=True, help="Physical memory of the machine.")
@click.option("--flags", default="", metavar="LETTERS", help="q asks for names, s, d and n are passed on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the schedule.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON behind what the console says.")
@click.version_option(package_name="mach-default-pager")
def boot(boot_file: str, image: str, root: str, memory: int, flags: str, seed: int, as_json: bool) -> None:
    """Boot a machine from what makeboot made, and run its first server until no program is left.

    What you see is the machine's console, in simulated time.  Exits 0 if every program ended well.
    """
    letters = flags.removeprefix("-")
    if set(letters) - set("qsdnx"):
        raise click.BadParameter(f"{flags!r} has others than q, s, d, n", param_hint="--flags")
    content = _read(boot_file)
    try:
        device = FileDevice(image, writable=True, exclusive=True)
    except FileSystemError as error:
        raise click.ClickException(str(error)) from None
    with device:
        facts, halted = _run(content, device, memory, boot_flags(letters), root, seed, boot_file)
    if as_json:
        click.echo(json.dumps(facts))
    if halted.failed:
        raise click.ClickException(halted.words)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BOOT_FILE_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{path}: {(error.strerror or '').lower()}") from None
    if len(content) > MAX_BOOT_FILE_BYTES:
        raise click.ClickException(f"{path}: too large for a boot file")
    return content


def _run(
    content: bytes, device: BlockDevice, memory: int, flags: str, root: str, seed: int, name: str
) -> tuple[dict[str, object], Halted]:
    from mach.threads.simulated import SimulatedRuntime

    runtime = SimulatedRuntime(seed)
    ended: list[tuple[dict[str, object], Halted]] = []

    def machine() -> None:
        one = Machine(runtime, memory, TerminalConsole(), disks(ModelledDisk(runtime, device)))
        halted = one.boot(content, flags, root)
        one.say(f"halted after {runtime.now():.3f} simulated seconds: {halted.words}")
        facts = {"halted": halted.words, "failed": halted.failed, "seconds": round(runtime.now(), 6)}
        ended.append((facts | {"statistics": one.host.vm_statistics()}, halted))

    try:
        runtime.run(machine)
    except CannotBoot as error:
        raise click.ClickException(f"{name}: {error}") from None
    except (MachError, KernelPanic, Deadlock, FileSystemError) as error:
        raise click.ClickException(str(error)) from None
    return ended[0]
