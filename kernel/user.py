"""User mode: tasks with their special ports, threads that run programs, and what happens when a program faults.

Interface:
    UserKernel(host, executor, halt)    mach.program.KernelCalls, for the programs of this machine
        .task_create(name) -> UserTask
    UserTask                            mach.program.TaskPort: a Task, its special ports, its rights by name
    UserThread                          mach.program.ThreadPort: registers; resume() lets the executor run it
    Executor                            runs the program at a thread's registers; returns its exit status: 0 is well
    ProgramFault                        what an executor raises for an exception other than a failed reference
    Halt(processor)                     how the machine stops: .now(words, failed) and .wait() -> Halted

The machine halts by itself when no program is left to run: then nothing will ever happen in it again.

The executor is the seam to whatever is the processor here: a function of Python, or an emulator of the i386.  What it
raises as MachError is a reference to memory that failed: an exception of the thread (mach/exception.py).

Not here: how a program is found or executed; address maps (kernel/task.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from kernel.host import Host
from kernel.processor import Processor
from kernel.task import Task
from kernel.vm_map import MapEntry
from mach.argument_block import VM_MAX_ADDRESS
from mach.exception import ExceptionRaise, ExceptionRaiseReply, ExceptionType
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.ports import DeadPort, SendRight
from mach.program import Panicked
from mach.rpc import call
from mach.threads import Thread

EXC_BAD_ACCESS = ExceptionType.EXC_BAD_ACCESS
Executor = Callable[["UserThread"], int]


@dataclass(frozen=True, slots=True)
class Halted:
    """Why the machine has stopped."""

    words: str
    failed: bool


class ProgramFault(Exception):
    """The program did something that is no program's to do: an exception of its thread."""

    def __init__(self, kind: ExceptionType, code: int, subcode: int, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        self.code = code
        self.subcode = subcode


class Halt:
    """See the head of the module.  The first word counts."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._halted: Halted | None = None

    def now(self, words: str, failed: bool) -> None:
        with self._processor.lock:
            self._halted = self._halted or Halted(words, failed)
            self._processor.wakeup(self)

    def wait(self) -> Halted:
        with self._processor.lock:
            while self._halted is None:
                self._processor.wait(self, "the machine to be halted by one of its programs")
            return self._halted


class UserKernel:
    """See the head of the module."""

    def __init__(self, host: Host, executor: Executor, halt: Halt) -> None:
        self.host = host
        self.executor = executor
        self.halt = halt
        self.page_size = host.page_size
        self._running = 0  # threads
        self._failures: list[str] = []

    def begin(self) -> None:
        """A thread of a program runs from now on."""
        with self.host.processor.lock:
            self._running += 1

    def end(self, failure: str | None) -> None:
        """It has ended; the last one leaves the machine with nothing to do."""
        with self.host.processor.lock:
            self._running -= 1
            if failure is not None:
                self._failures.append(failure)
            over = self._running == 0
        if over:
            self.halt.now(self._failures[0] if self._failures else "every program has ended", bool(self._failures))

    def task_create(self, name: str) -> UserTask:
        return UserTask(self, self.host.task_create(name))

    def vm_set_default_memory_manager(self, host_priv: SendRight | None, new: SendRight | None) -> SendRight | None:
        return self.host.vm_set_default_memory_manager(host_priv, new)

    def thread_wire(self, host_priv: SendRight | None, thread: Thread | None, wired: bool) -> None:
        self.host.thread_wire(host_priv, thread, wired)

    def vm_statistics(self) -> dict[str, int]:
        return self.host.vm_statistics()

    def panic(self, host_priv: SendRight | None, words: str) -> NoReturn:
        if not self.host.is_priv(host_priv):
            raise MachError(KernReturn.KERN_INVALID_HOST, "host_reboot needs the privileged host port")
        self.halt.now(f"panic: {words}", failed=True)
        raise Panicked(words)


class UserTask:
    """A task as programs see it."""

    def __init__(self, kernel: UserKernel, task: Task) -> None:
        self.kernel = kernel
        self.task = task
        self.name = task.name
        self.rights: dict[int, SendRight] = {}
        task.map.maximum = VM_MAX_ADDRESS
        self._special: dict[str, SendRight] = {}

    def vm_allocate(self, size: int, address: int | None = None) -> int:
        return self.task.vm_allocate(size, address)

    def vm_deallocate(self, address: int, size: int) -> None:
        self.task.vm_deallocate(address, size)

    def vm_protect(self, address: int, size: int, protection: VmProt, set_maximum: bool = False) -> None:
        self.task.vm_protect(address, size, protection, set_maximum)

    def vm_region(self, address: int) -> MapEntry:
        return self.task.vm_region(address)

    def read(self, address: int, length: int) -> bytes:
        return self.task.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        self.task.write(address, data)

    def insert_right(self, right: SendRight) -> int:
        """Give the task a right under the lowest name that is free (KB:330)."""
        name = next(name for name in range(1, len(self.rights) + 2) if name not in self.rights)
        self.rights[name] = right
        return name

    def set_bootstrap_port(self, right: SendRight) -> None:
        self._set_special("bootstrap", right)

    def set_exception_port(self, right: SendRight) -> None:
        self._set_special("exception", right)

    def bootstrap_port(self) -> SendRight | None:
        return self._get_special("bootstrap")

    def exception_port(self) -> SendRight | None:
        return self._get_special("exception")

    def thread_create(self) -> UserThread:
        return UserThread(self)

    def terminate(self) -> None:
        """The task's memory and its rights are gone.  A thread of it that runs ends at its next reference."""
        self.task.terminate()
        rights = [*self.rights.values(), *self._special.values()]
        self.rights.clear()
        self._special.clear()
        for right in rights:
            right.drop()

    def _set_special(self, which: str, right: SendRight) -> None:
        old = self._special.get(which)
        self._special[which] = right
        if old is not None:
            old.drop()

    def _get_special(self, which: str) -> SendRight | None:
        right = self._special.get(which)
        return right.copy() if right is not None else None


class UserThread:
    """A thread in user mode: made stopped, with no registers that mean anything."""

    def __init__(self, task: UserTask) -> None:
        self.task = task
        self.pc = 0
        self.sp = 0
        self._started = False

    def set_state(self, pc: int, sp: int) -> None:
        """thread_set_state.  KERN_FAILURE once it runs: nobody stops it to have its registers changed."""
        if self._started:
            raise MachError(KernReturn.KERN_FAILURE, f"the thread of {self.task.name} runs")
        self.pc, self.sp = pc, sp

    def resume(self) -> None:
        if not self._started:
            self._started = True
            self.task.kernel.begin()
            self.task.kernel.host.runtime.fork(self._run, self.task.name, daemon=True)

    def _run(self) -> None:
        failure = None
        self.task.kernel.host.runtime.current().task = self.task.task  # it receives from the ports that we allocate
        try:
            status = self.task.kernel.executor(self)
            if status:
                failure = f"{self.task.name} has ended with status {status}"
        except Panicked as panic:
            failure = f"panic: {panic}"
        except MachError as error:
            failure = self._exception(ProgramFault(EXC_BAD_ACCESS, int(error.code), error.address or 0, str(error)))
        except ProgramFault as fault:
            failure = self._exception(fault)
        except Exception as bug:  # of a program, or ours: the machine must not wait for it for ever
            self.task.kernel.halt.now(f"a bug, please report it: {bug!r} in {self.task.name}", failed=True)
            raise
        self.task.kernel.end(failure)

    def _exception(self, fault: ProgramFault) -> str:
        """Tell the task's exception port, and end the task: nobody here mends a program."""
        handler = self.task.exception_port()
        if handler is not None:
            try:
                call(
                    self.task.kernel.host.ipc,
                    handler,
                    lambda reply: ExceptionRaise(reply, self.task.name, fault.kind, fault.code, fault.subcode),
                    ExceptionRaiseReply,
                )
            except DeadPort:
                pass
            handler.drop()
        self.task.terminate()
        return f"{self.task.name} has died of {fault.kind.name}: {fault}"
