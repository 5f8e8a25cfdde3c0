"""User mode: tasks with their special ports, threads that run programs, and what happens when a program faults.

Interface:
    UserKernel(host, executor, halt)    mach.program.KernelCalls, for the programs of this machine
        .task_create(name) -> UserTask
    UserTask                            mach.program.TaskPort: a Task, its port names, its special ports, its threads
    UserThread                          mach.program.ThreadPort: registers; resume() lets the executor run it
        .runnable()                     an executor asks between two instructions: waits while it is suspended
    Registers                           what an executor offers of a thread that it has begun to run
    Executor                            runs the program at a thread's registers; returns its exit status: 0 is well
    ProgramFault                        what an executor raises for an exception other than a failed reference
    Halt(processor)                     how the machine stops: .now(words, failed) and .wait() -> Halted

The machine halts by itself when no program is left to run: then nothing will ever happen in it again.

The executor is the seam to whatever is the processor here: a function of Python, or an emulator of the i386.  What it
raises as MachError is a reference to memory that failed: an exception of the thread (mach/exception.py).

Not here: how a program is found or executed; address maps (kernel/task.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, Protocol

from kernel import mach_server
from kernel.host import Host
from kernel.ipc_space import IpcSpace
from kernel.processor import Processor
from kernel.symbols import SymbolTable
from kernel.task import Task
from kernel.vm_map import MapEntry
from mach.argument_block import VM_MAX_ADDRESS
from mach.exception import ExceptionRaise, ExceptionRaiseReply, ExceptionType
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.ports import DeadPort, Port, SendRight
from mach.program import Panicked, TaskPort
from mach.rpc import call
from mach.threads import Thread

EXC_BAD_ACCESS = ExceptionType.EXC_BAD_ACCESS
Executor = Callable[["UserThread"], int]


class Registers(Protocol):
    """The registers of a thread, by the names of the i386."""

    def get(self, name: str) -> int: ...

    def set(self, name: str, value: int) -> None: ...


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
        self.host_port = host.ipc.allocate("host", kobject=partial(mach_server.host_message, self))
        self.by_port: dict[Port, UserTask | UserThread] = {}  # whose port it is
        self._running = 0  # threads
        self._failures: list[str] = []
        self._told: list[str] = []  # where programs are, of whose exceptions somebody is being told
        host.become_priv_kobject(partial(mach_server.host_priv_message, self))

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

    def load_symbol_table(self, host_priv: SendRight | None, task: TaskPort, table: bytes) -> None:
        if not self.host.is_priv(host_priv):
            raise MachError(KernReturn.KERN_INVALID_HOST, "host_load_symbol_table needs the privileged host port")
        if not isinstance(task, UserTask) or task.halted:
            raise MachError(KernReturn.KERN_INVALID_TASK, "host_load_symbol_table")
        task.symbols = SymbolTable.parse(table)

    @contextmanager
    def telling(self, where: str | None) -> Iterator[None]:
        """Within, somebody hears of the exception of a program that is there, and may have the machine stop for it."""
        told = [where] if where else []
        self._told += told
        try:
            yield
        finally:
            for words in told:
                self._told.remove(words)

    def panic(self, host_priv: SendRight | None, words: str) -> NoReturn:
        if not self.host.is_priv(host_priv):
            raise MachError(KernReturn.KERN_INVALID_HOST, "host_reboot needs the privileged host port")
        self.halt.now("; ".join([f"panic: {words}", *self._told]), failed=True)
        raise Panicked(words)


class UserTask:
    """A task as programs see it."""

    def __init__(self, kernel: UserKernel, task: Task) -> None:
        self.kernel = kernel
        self.task = task
        self.name = task.name
        self.space = IpcSpace(kernel.host.ipc, kernel.host.runtime, task.name)
        self.threads: list[UserThread] = []
        self.suspend_count = 0
        self.halted = False
        self.symbols: SymbolTable | None = None  # if its loader gave them
        self.port = kernel.host.ipc.allocate(f"task {task.name}", kobject=partial(mach_server.task_message, self))
        kernel.by_port[self.port.port] = self
        task.map.maximum = VM_MAX_ADDRESS
        self._special: dict[str, SendRight] = {}

    @property
    def rights(self) -> dict[int, SendRight]:
        """Its send rights by name."""
        return self.space.send_rights()

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
        self.wrote(address, len(data))

    def wrote(self, address: int, length: int) -> None:
        """The kernel has stored there: what a processor keeps of the pages, translated code among it, is stale."""
        if self.task.pmap.shootdown is not None and length > 0:
            size = self.kernel.page_size
            with self.kernel.host.processor.lock:
                for virtual_page in range(address // size, (address + length - 1) // size + 1):
                    self.task.pmap.shootdown(virtual_page)

    def insert_right(self, right: SendRight) -> int:
        """Give the task a right under the lowest name that is free (KB:330)."""
        return self.space.insert(right, self.space.first_free())

    def set_bootstrap_port(self, right: SendRight) -> None:
        self._set_special("bootstrap", right)

    def set_exception_port(self, right: SendRight) -> None:
        self._set_special("exception", right)

    def bootstrap_port(self) -> SendRight | None:
        return self._get_special("bootstrap")

    def exception_port(self) -> SendRight | None:
        return self._get_special("exception")

    def thread_create(self) -> UserThread:
        thread = UserThread(self)
        self.threads.append(thread)
        return thread

    def fork(self, name: str, inherit_memory: bool) -> UserTask:
        """task_create: a child with our special ports, and with what our memory's inheritance lets it have."""
        host = self.kernel.host
        child = UserTask(self.kernel, self.task.fork(name) if inherit_memory else host.task_create(name))
        for which, right in self._special.items():
            child._special[which] = right.copy()
        return child

    def suspend(self, count: int) -> None:
        """task_suspend (1), task_resume (-1).  KERN_FAILURE: it is not suspended."""
        self.suspend_count = _counted(self.kernel, self.suspend_count, count)

    def terminate(self) -> None:
        """The task's memory and rights are gone, its port is dead.  A thread of it that runs ends at its next step."""
        with self.kernel.host.processor.lock:
            if self.halted:
                return
            self.halted = True
            self.kernel.host.processor.wakeup(self.kernel)
        self.space.terminate()  # threads of it that receive from its ports wake up
        self.task.terminate()
        for right in self._special.values():
            right.drop()
        self._special.clear()
        for thread in self.threads:
            thread.terminate()
        self.kernel.by_port.pop(self.port.port, None)
        self.port.destroy()

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
        self.initial: dict[str, int] = {}  # other registers to begin with
        self.registers: Registers | None = None  # once it has begun to run
        self.suspend_count = 1  # made stopped
        self.halted = False
        host = task.kernel.host
        self.port = host.ipc.allocate(f"thread of {task.name}", kobject=partial(mach_server.thread_message, self))
        task.kernel.by_port[self.port.port] = self
        self._started = False

    def set_state(self, pc: int, sp: int) -> None:
        """thread_set_state.  KERN_FAILURE once it runs: nobody stops it to have its registers changed."""
        if self._started:
            raise MachError(KernReturn.KERN_FAILURE, f"the thread of {self.task.name} runs")
        self.pc, self.sp = pc, sp
        self.initial.update(eip=pc, esp=sp)

    def resume(self) -> None:
        """thread_resume.  KERN_FAILURE: it is not suspended."""
        self.suspend_count = _counted(self.task.kernel, self.suspend_count, -1)
        if self.suspend_count == 0 and not self._started:
            self._started = True
            self.task.kernel.begin()
            self.task.kernel.host.runtime.fork(self._run, self.task.name, daemon=True)

    def suspend(self) -> None:
        self.suspend_count = _counted(self.task.kernel, self.suspend_count, 1)

    def terminate(self) -> None:
        """Its port is dead, and it ends at its next step."""
        self.halted = True
        self.task.kernel.by_port.pop(self.port.port, None)
        self.port.destroy()

    def get_register(self, name: str) -> int:
        with self.task.kernel.host.processor.lock:
            return self.registers.get(name) if self.registers else self.initial.get(name, 0)

    def set_register(self, name: str, value: int) -> None:
        """Before the thread runs, eip and esp say where it begins."""
        with self.task.kernel.host.processor.lock:
            if self.registers:
                self.registers.set(name, value)
            self.initial[name] = value
            self.pc, self.sp = self.initial.get("eip", self.pc), self.initial.get("esp", self.sp)

    def runnable(self) -> bool:
        """Wait while the thread or its task is suspended.  False: it is to end.  The kernel mutex is held."""
        while not self.halted and not self.task.halted:
            if self.suspend_count == 0 and self.task.suspend_count == 0:
                return True
            kernel = self.task.kernel
            kernel.host.processor.wait(kernel, f"somebody to resume {self.task.name}")
        return False

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
            if not self.task.halted:  # else its memory went while it ran: no fault of its own
                fault = ProgramFault(EXC_BAD_ACCESS, int(error.code), error.address or 0, str(error))
                failure = self._exception(fault)
        except ProgramFault as fault:
            failure = self._exception(fault)
        except Exception as bug:  # of a program, or ours: the machine must not wait for it for ever
            self.task.kernel.halt.now(f"a bug, please report it: {bug!r} in {self.task.name}", failed=True)
            raise
        self.terminate()
        self.task.kernel.end(failure)

    def _exception(self, fault: ProgramFault) -> str:
        """Tell the task's exception port, and end the task: nobody here mends a program."""
        where = self._where()
        handler = self.task.exception_port()
        if handler is not None:
            with self.task.kernel.telling(where and f"{self.task.name} was {where}"), suppress(DeadPort):
                call(
                    self.task.kernel.host.ipc,
                    handler,
                    lambda reply: ExceptionRaise(reply, self.task.name, fault.kind, fault.code, fault.subcode),
                    ExceptionRaiseReply,
                )
            handler.drop()
        self.task.terminate()
        return f"{self.task.name} has died of {fault.kind.name}: {fault}" + (f", {where}" if where else "")

    def _where(self) -> str | None:
        """The function that it is in, if its symbols are known and its registers mean anything."""
        if self.task.symbols is None or self.registers is None:
            return None
        pc = self.get_register("eip")
        name = self.task.symbols.where(pc)
        return f"in {name} ({pc:#x})" if name else None


def _counted(kernel: UserKernel, count: int, change: int) -> int:
    """A suspend count after a change; who waits for it looks again."""
    with kernel.host.processor.lock:
        if count + change < 0:
            raise MachError(KernReturn.KERN_FAILURE, "what is resumed is not suspended")
        kernel.host.processor.wakeup(kernel)
        return count + change
