"""A machine that boots: its kernel, its devices, its programs, from the boot file on.

Interface:
    BootedMachine(runtime, memory_bytes, console, disks, programs, ...)
        .boot(content, flags, root) -> Halted    the whole boot, until the machine halts; CannotBoot
        .host .ipc .user
        .loaded, .moved                          what boot() has found in memory, and where it put it; None before
    PROGRAMS                     the programs of Python that images stand for
    Disk, disks_of(device)       the partitions of a disk by a machine's names for them
    root_of(disks)               which of them is the root device, if nobody says

Not here: on which runtime, with whose console and disk (kernel/machsim/boot.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootfs.device import BlockDevice, SliceDevice
from kernel.boot_file import LoadedKernel, Moved, boot_kernel, load
from kernel.bootstrap import bootstrap_create, steal
from kernel.console import ConsoleDevice
from kernel.host import Host
from kernel.i386.thread import INSTRUCTION_SECONDS, I386Processor
from kernel.machsim.startup import startup
from kernel.python_programs import PythonProcessor, PythonProgram
from kernel.user import Halt, Halted, UserKernel
from mach.ports import Ipc
from mach.program import Console, Program
from mach.threads import Runtime


def _bootstrap(program: Program) -> int:
    from pager.bootstrap import bootstrap

    bootstrap(program)
    return 0


PROGRAMS: dict[str, PythonProgram] = {"bootstrap": _bootstrap, "startup": startup}


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the machine, or a partition of one: `offset` is the byte of the whole disk where it begins."""

    device: BlockDevice
    offset: int = 0


def disks_of(device: BlockDevice) -> dict[str, Disk]:
    """The disk by a machine's names for it: hd0 whole, hd0a ... its partitions; hd0a is the whole if it has none."""
    from bootfs.labels import partitions

    names = {"hd0": Disk(device)}
    for partition in partitions(device):
        name = partition.name if partition.table != "bsd" else partition.name[-1]
        part = SliceDevice(device, partition.offset, partition.size)
        names.setdefault(f"hd0{name}", Disk(part, partition.offset))
    if len(names) == 1:
        names["hd0a"] = Disk(device)
    return names


def root_of(disks: Mapping[str, Disk]) -> str:
    """The root device of a machine that is not told: hd0a, or else the first partition."""
    return "hd0a" if "hd0a" in disks else next(name for name in disks if name != "hd0")


class BootedMachine:
    """See the head of the module.  Made and booted on a thread of `runtime`."""

    def __init__(
        self,
        runtime: Runtime,
        memory_bytes: int,
        console: Console,
        disks: Mapping[str, Disk],
        programs: Mapping[str, PythonProgram] = PROGRAMS,
        ipc: Ipc | None = None,
        pageout_time_scale: float = 1.0,
        instruction_seconds: float = INSTRUCTION_SECONDS,
    ) -> None:
        self.loaded: LoadedKernel | None = None
        self.moved: Moved | None = None
        self.console = console
        self.ipc = ipc or Ipc(runtime)
        self.host = Host(runtime, self.ipc, memory_bytes, pageout_time_scale=pageout_time_scale)
        self.halt = Halt(self.host.processor)
        machine_code = I386Processor(self.host, instruction_seconds)
        self.user = UserKernel(self.host, PythonProcessor(console, programs, machine_code), self.halt)
        self.console_device = ConsoleDevice(self.ipc, console)
        self.host.devices.attach_stream("console", self.console_device.port)
        for name, disk in disks.items():
            self.host.devices.attach(name, disk.device)

    def say(self, words: str) -> None:
        self.console.write(words + "\n")

    def boot(self, content: bytes, flags: str, root: str) -> Halted:
        """From the boot file to the end of the machine.  CannotBoot."""
        host, page_size = self.host, self.host.page_size
        memory = host.resident.store.view
        self.loaded = kernel = load(memory, content, page_size)
        self.say(f"boot: {kernel.size} bytes at {kernel.start:#x}, entry {kernel.entry:#x}")
        self.moved = moved = boot_kernel(memory, kernel, page_size)
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
            return self.halted(Halted("there is no bootstrap task: makeboot glues one to a kernel", failed=True))
        thread = bootstrap_create(self.user, moved, in_place.image, host.devices.master.copy(), flags, root)
        load_info = moved.load_info
        self.say(
            f"kernel: bootstrap task: text {load_info.text_start:#x}, data {load_info.data_start:#x}, "
            f"{(in_place.image.size if in_place.image else 0) // page_size} pages mapped in place"
        )
        thread.resume()
        host.start()  # the thread that started all others becomes the pageout daemon (startup.c:399)
        return self.halted(self.halt.wait())

    def halted(self, why: Halted) -> Halted:
        self.console_device.flush()
        self.say(f"halted: {why.words}")
        return why
