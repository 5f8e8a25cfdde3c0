"""What a program of the machine can reach: itself, its ports, and the calls that the kernel answers.

Interface (protocols, which the kernel implements, in whatever process the program runs):
    Program    a program that runs: its task, stack pointer, ports by name, console, and the kernel
    TaskPort, ThreadPort, KernelCalls    what holding such a port lets one do
    Console    the console device
    OwnMemory  what a program that pages others says of its own memory while it runs (pager/own_memory.py)
    Panicked   ends a thread that has had the machine stop

A program of the machine is a function of Program, or machine code; either sees its arguments and its memory in its own
address map, and nothing else of the kernel's than this.

Not here: which calls need which right: the kernel checks that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from mach.memory_object import VmProt
from mach.ports import Ipc, SendRight
from mach.threads import Runtime, Thread


class Panicked(Exception):
    """The machine stops, and the thread that had it stop ends here."""


class Console(Protocol):
    """The console: what is written is seen by a person, whose answer is a line."""

    def write(self, text: str) -> None: ...

    def read_line(self) -> str | None:
        """One line without its end; None if nobody will ever answer."""


class OwnMemory(Protocol):
    """Each call may fault, and so wait for memory: no lock is held."""

    def begin(self, privileged: bool) -> None: ...

    def privilege(self, wanted: bool) -> None: ...

    def run(self, routine: str) -> None: ...

    def through_buffer(self, data: bytes) -> bytes: ...

    def allocate(self, size: int) -> int: ...

    def free(self, address: int, size: int) -> None: ...


class Region(Protocol):
    """One range of an address map."""

    start: int
    end: int
    protection: int


class ThreadPort(Protocol):
    """A thread that another has made."""

    def set_state(self, pc: int, sp: int) -> None: ...

    def resume(self) -> None:
        """thread_resume: the first one lets it run."""


class TaskPort(Protocol):
    """A task, to its creator and to itself.  Errors are MachError."""

    name: str

    def vm_allocate(self, size: int, address: int | None = None) -> int: ...

    def vm_deallocate(self, address: int, size: int) -> None: ...

    def vm_protect(self, address: int, size: int, protection: VmProt, set_maximum: bool = False) -> None: ...

    def vm_region(self, address: int) -> Region: ...

    def read(self, address: int, length: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def set_bootstrap_port(self, right: SendRight) -> None:
        """task_set_special_port; the right is the task's from now on."""

    def set_exception_port(self, right: SendRight) -> None: ...

    def bootstrap_port(self) -> SendRight | None:
        """task_get_special_port: a right of the caller's own."""

    def thread_create(self) -> ThreadPort: ...

    def terminate(self) -> None: ...


class KernelCalls(Protocol):
    """The kernel's calls that concern the whole machine."""

    page_size: int

    def task_create(self, name: str) -> TaskPort:
        """A task with an empty address map: nothing is inherited."""

    def vm_set_default_memory_manager(self, host_priv: SendRight | None, new: SendRight | None) -> SendRight | None: ...

    def thread_wire(self, host_priv: SendRight | None, thread: Thread | None, wired: bool) -> None: ...

    def vm_statistics(self) -> dict[str, int]: ...

    def load_symbol_table(self, host_priv: SendRight | None, task: TaskPort, table: bytes) -> None:
        """host_load_symbol_table: of a task's program, in the form that describes itself (mach/boot_image.py).
        MachError KERN_INVALID_HOST, KERN_INVALID_TASK, KERN_INVALID_ARGUMENT."""

    def panic(self, host_priv: SendRight | None, words: str) -> NoReturn:
        """host_reboot(RB_DEBUGGER), as user programs panic: the machine stops, and says so."""


@dataclass(slots=True)
class Program:
    """A program that runs in a thread of the machine."""

    runtime: Runtime
    ipc: Ipc
    kernel: KernelCalls
    task: TaskPort
    sp: int
    ports: Mapping[int, SendRight]  # its send rights, by name
    console: Console
    own_memory: Callable[[SendRight], OwnMemory]  # wired and privileged, by the right of who holds the host's port
