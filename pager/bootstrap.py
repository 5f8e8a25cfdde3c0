"""The bootstrap service: the first task of the machine, which starts the first server and then is the default pager.

Interface:
    bootstrap(program, paging=None)    its main(): what the bootstrap image of a boot file stands for (paper §6.1;
                                       mach.md 1.2); without `paging` it becomes the default pager itself

In Mach's order: find the server directory; find the paging file; become the default memory manager; make the first
server's task, with our ports for its bootstrap and exceptions; load it; let it run; and only then serve.  What is sent
to the pager's and the bootstrap port in between waits in their queues.

Invariants:
    1. Whatever is on the disk, this task ends in serving or in a panic that says why, never in an exception.
    2. The thread that answers the bootstrap port is not privileged, and no pager thread waits for it (paper §4).

Not here: paging (default_pager.py); executables (bootstrap_loader.py); files and devices (bootfs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.lookup import OpenFile, open_file
from mach.argument_block import read_arguments
from mach.bootstrap import (
    MAX_READ_BYTES,
    BootstrapPorts,
    BootstrapPortsReply,
    BootstrapPrivilegedPorts,
    BootstrapPrivilegedPortsReply,
    BootstrapRead,
    BootstrapReadReply,
)
from mach.exception import ExceptionRaise
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.message import Message
from mach.ports import DeadPort, Ipc, SendRight, drop_rights
from mach.program import Panicked, Program
from pager.bootstrap_loader import LoadError, file_reader, load_program, load_symbols
from pager.bootstrap_paging import Gate, OwnPager, PagingService
from pager.device_port import DevicePort, open_device
from pager.own_memory import OwnMemory, ProcessMemory
from pager.partition import BackingStoreError

SERVER_DIRECTORY = "mach_servers"
PAGING_FILE = "paging_file"
FIRST_SERVER = "startup"


def bootstrap(program: Program, paging: PagingService | None = None) -> None:
    """See the head of the module.  Returns when the pager's threads serve."""
    _Bootstrap(program, paging).main()


class _Bootstrap:
    """The one bootstrap of a machine, under way."""

    def __init__(self, program: Program, paging: PagingService | None) -> None:
        self.program = program
        self.console = program.console
        self.paging_elsewhere = paging
        self.host: SendRight | None = None
        self.device: SendRight | None = None
        self.flags = ""
        self.root = ""
        self.directory = ""
        self.serving = False
        self.disks: Mapping[str, BlockDevice] = {}

    def main(self) -> None:
        try:
            self.boot()
        except (MachError, FileSystemError, ValueError) as error:  # our memory or arguments are broken
            self.panic(str(error))

    def boot(self) -> None:
        self.read_arguments()
        self.settle()
        self.find_server_directory()
        self.find_paging_file()
        self.become_default_manager()
        self.port = self.program.ipc.allocate("bootstrap", payload=self)
        self.prepare_to_serve()
        self.program.task.set_exception_port(self.port.make_send())
        self.start_first_server()
        self.give_back_stack()
        self.start_paging()
        self.gate.open()

    def say(self, words: str) -> None:
        self.console.write(f"(default pager) {words}\n")

    def panic(self, words: str) -> NoReturn:
        self.program.kernel.panic(self.host, f"(bootstrap) {words}")

    # -- what it was told ----------------------------------------------------------------------------------------------

    def read_arguments(self) -> None:
        """argv: "bootstrap", flags, the names of the host's and the device port in decimal, the root device."""
        arguments = [one.decode("latin-1") for one in read_arguments(self.program.task.read, self.program.sp)]
        names = [int(text) if text.isdecimal() else 0 for text in arguments[2:4]]
        self.host, self.device = (self.program.ports.get(name) for name in [*names, 0, 0][:2])
        if len(arguments) < 5:
            self.panic("not enough arguments")
        if not arguments[1].startswith("-"):
            self.panic("no flags")
        self.flags, self.root = arguments[1], arguments[4]

    def settle(self) -> None:
        """Who is going to page has its image, and all memory that it gets from now on, wired (§5.4; mach.md 1.2, 7)."""
        if self.host is None or self.device is None:
            self.panic("no host or device port")
        runtime, memory = self.program.runtime, self.program.own_memory(self.host)
        if self.paging_elsewhere is None:
            memory.begin(privileged=False)
            page_size = self.program.kernel.page_size
            self.paging: PagingService = OwnPager(runtime, self.program.ipc, page_size, self.say, memory)
        else:
            memory, self.paging = ProcessMemory(runtime), self.paging_elsewhere
        self.memory: OwnMemory = memory
        self.disks = _Disks(self.program.ipc, self.device, memory)

    # -- files ---------------------------------------------------------------------------------------------------------

    def open(self, name: str) -> OpenFile:
        return open_file(self.disks, name)

    def find_server_directory(self) -> None:
        """Asks until there is one (BOOT:298): without servers there is nothing to boot."""
        default = f"/dev/{self.root}/{SERVER_DIRECTORY}"
        self.directory = self.ask_directory(default) if "q" in self.flags else default
        while not self.is_directory(self.directory):
            self.directory = self.ask_directory(default)

    def ask_directory(self, default: str) -> str:
        self.console.write(f"Server directory? [ {default} ] ")
        answer = self.console.read_line()
        if answer is None:
            self.panic("nobody answers at the console")
        return answer or default

    def is_directory(self, name: str) -> bool:
        try:
            file = self.open(name)
        except FileSystemError as error:
            self.console.write(f"Can't open server directory {name}: {int(error.code)} ({error})\n")
            return False
        if file.inode is None or file.inode.kind != "dir":
            self.console.write(f"{name} is not a directory\n")
            return False
        return True

    def find_paging_file(self) -> None:
        """Asks until there is one, or the answer is empty: then the machine runs without paging (SETUP:150)."""
        name = f"{self.directory}/{PAGING_FILE}"
        while not self.add_paging_file(name):
            self.console.write("Paging file name ? ")
            name = self.console.read_line() or ""
            if not name:
                self.console.write("*** WARNING: running without paging area!\n")
                return

    def add_paging_file(self, name: str) -> bool:
        """Mach panics where the file is there and unfit; so may any client of it have it panic (weakness 7)."""
        try:
            space = self.paging.add(name, self.open(name))
        except FileSystemError as error:
            self.console.write(f"Can't open paging file {name}: {int(error.code)} ({error})\n")
            return False
        except BackingStoreError as error:
            self.console.write(f"Can't page on {error}\n")
            return False
        self.say(f"paging on {name}: {space.size // 1024} KB in {space.runs} run{'s'[: space.runs != 1]}")
        return True

    # -- the default memory manager ------------------------------------------------------------------------------------

    def become_default_manager(self) -> None:
        """Registered now, served later: the kernel's requests wait in the port's queue."""
        try:
            old = self.program.kernel.vm_set_default_memory_manager(self.host, self.paging.port())
        except MachError as error:
            self.panic(f"cannot become the default memory manager: {error}")
        if old is not None:
            old.drop()
            self.panic("there is a default memory manager already")

    # -- the first server ----------------------------------------------------------------------------------------------

    def start_first_server(self) -> None:
        """Its arguments are exactly its name, the flags, the root device and the server directory; its ports it asks
        for (mach.md 1.2)."""
        name = f"{self.directory}/{FIRST_SERVER}"
        try:
            task = self.program.kernel.task_create(FIRST_SERVER)
            thread = task.thread_create()
        except MachError as error:
            self.panic(f"task_create: {error}")
        task.set_bootstrap_port(self.port.make_send())
        task.set_exception_port(self.port.make_send())
        arguments = [one.encode("latin-1") for one in (FIRST_SERVER, self.flags, self.root, self.directory)]
        try:
            file = self.open(name)
            self.serve_early_for(file)
            info = load_program(task, thread, self.program.kernel.page_size, file, arguments)
        except (FileSystemError, LoadError) as error:
            task.terminate()
            self.panic(f"cannot load {name}: {int(error.code)} ({error})")
        self.console.write(
            f"(bootstrap) loaded {name}: text {info.text_size}, data {info.data_size}, BSS {info.bss_size} bytes\n"
        )
        if words := load_symbols(self.program.kernel, self.host, task, info, file_reader(file)):
            self.console.write(words + "\n")
        thread.resume()

    def serve_early_for(self, file: OpenFile) -> None:
        """A server that is larger than free memory is paged out while it is loaded: nobody else would ever serve that.
        Mach's bootstrap waits for itself there for ever."""
        size = file.inode.size if file.inode is not None else 0
        if 2 * size > self.program.kernel.vm_statistics()["free_count"] * self.program.kernel.page_size:
            self.start_paging()

    def start_paging(self) -> None:
        """Once."""
        if not self.serving:
            self.serving = True
            self.paging.start()

    def give_back_stack(self) -> None:
        """The boot stack is not needed once its arguments are read (BOOT:440)."""
        region = self.program.task.vm_region(self.program.sp)
        if region.protection & VmProt.DEFAULT == VmProt.DEFAULT:
            self.program.task.vm_deallocate(region.start, region.end - region.start)

    # -- serving -------------------------------------------------------------------------------------------------------

    def prepare_to_serve(self) -> None:
        """Every thread has its memory before there is a program that could use memory up."""
        self.paging.prepare()
        self.gate = Gate(self.program.runtime, self.memory)
        self.program.runtime.fork(self.serve, "bootstrap service", daemon=True)
        self.gate.await_threads(1)

    def serve(self) -> None:
        """Answer at the bootstrap port, for ever."""
        self.gate.begin(privileged=False)
        while True:
            received = self.port.receive()
            try:
                if received is not None:
                    self.handle(received.message)
            except Panicked:
                return

    def handle(self, message: Message) -> None:
        assert self.host is not None
        assert self.device is not None
        if isinstance(message, ExceptionRaise):
            self.panic(
                f"exception {message.exception.name} in {message.task}: "
                f"code {message.code} ({_kern_return(message.code)}), at {message.subcode:#x}"
            )
        try:
            if isinstance(message, BootstrapPrivilegedPorts):
                host, device = self.host.copy(), self.device.copy()
                message.reply.send(BootstrapPrivilegedPortsReply(KernReturn.KERN_SUCCESS, host, device))
            elif isinstance(message, BootstrapPorts):
                message.reply.send(BootstrapPortsReply(self.host.copy(), self.device.copy()))
            elif isinstance(message, BootstrapRead):
                message.reply.send(self.read(message))
            else:
                drop_rights(message)  # Mach panics: anybody with the port could stop the machine (mach.md 8.47)
                self.say(f"{type(message).__name__} is sent to the bootstrap port: refused")
        except DeadPort:
            pass  # who asked has gone

    def read(self, message: BootstrapRead) -> BootstrapReadReply:
        """Part of a file that stands in the server directory itself."""
        if "/" in message.name or message.size > MAX_READ_BYTES:
            return BootstrapReadReply(FsCode.FS_INVALID_PARAMETER, b"")
        try:
            file = self.open(f"{self.directory}/{message.name}")
            if file.inode is None or file.file_system is None or file.inode.kind != "file":
                return BootstrapReadReply(FsCode.FS_INVALID_PARAMETER, b"")
            size = max(0, min(message.size, file.inode.size - message.offset))
            return BootstrapReadReply(0, file.file_system.read(file.inode, message.offset, size) if size else b"")
        except FileSystemError as error:
            return BootstrapReadReply(int(error.code), b"")


class _Disks(Mapping[str, BlockDevice]):
    """Disks by name, opened when they are first asked for and kept: who pages on one needs it as long as it lives."""

    def __init__(self, ipc: Ipc, master: SendRight, memory: OwnMemory) -> None:
        self._ipc = ipc
        self._master = master
        self._memory = memory
        self._open: dict[str, DevicePort] = {}

    def __getitem__(self, name: str) -> BlockDevice:
        """FileSystemError D_NO_SUCH_DEVICE, or what else the device service says."""
        if name not in self._open:
            self._open[name] = open_device(self._ipc, self._master, name, self._memory)
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)


def _kern_return(code: int) -> str:
    try:
        return KernReturn(code).name
    except ValueError:
        return "no kern_return_t"
