"""Threads that run machine code: a loop of running on the processor and doing what it stopped for.

Interface:
    I386Processor(host, instruction_seconds)    an Executor (kernel/user.py) for machine code
        .cpu                                    the emulator, made when the first such thread begins
    INSTRUCTION_SECONDS                         of a 386 at 25 MHz, about

The kernel mutex is held while a program runs: on a uniprocessor either the kernel runs or one program does.  A program
gets the processor for a time slice, counted in instructions so that a run is a function of its seed; then, and at every
trap, others have their turn.  `instruction_seconds` is the time that an instruction takes where time is simulated: a
program that waits for something by looking for it again and again must let time pass.

Invariants:
    1. A page that was faulted in is there when the program goes on: the mutex is not released in between.
    2. Nothing that a program does ends in anything but an exception of its thread (P7).

Not here: the emulator (kernel/i386/cpu.py); traps (kernel/i386/traps.py); exceptions' way to their handlers.
"""

from __future__ import annotations

from kernel.host import Host
from kernel.i386.cpu import NAMES, Cpu, Fault, NoEmulator, Registers, Slice, Stop, Translate, Trap, Trouble
from kernel.i386.traps import BadTrap, trap
from kernel.page import REFERENCED, USED
from kernel.user import ProgramFault, UserThread
from mach.exception import ExceptionType
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt

INSTRUCTION_SECONDS = 0.2e-6
SLICE_INSTRUCTIONS = 100_000  # 20 ms
FAULTS_A_TURN = 64  # in one stay in the kernel
READ, WRITE = int(VmProt.READ), int(VmProt.WRITE)
SIGN = 1 << 31

# Vectors of the i386 as Mach's exceptions and codes (<mach/i386/exception.h>); others are EXC_I386_GPFLT.
EXCEPTIONS = {
    0: (ExceptionType.EXC_ARITHMETIC, 1, "division by zero"),
    1: (ExceptionType.EXC_BREAKPOINT, 1, "single step"),
    3: (ExceptionType.EXC_BREAKPOINT, 2, "breakpoint"),
    4: (ExceptionType.EXC_ARITHMETIC, 2, "overflow"),
    5: (ExceptionType.EXC_SOFTWARE, 7, "bound"),
    6: (ExceptionType.EXC_BAD_INSTRUCTION, 1, "invalid instruction"),
}
GENERAL = (ExceptionType.EXC_BAD_INSTRUCTION, 13, "general protection")


class _ThreadRegisters:
    """kernel.user.Registers of one thread."""

    def __init__(self, cpu: Cpu, registers: Registers) -> None:
        self._cpu = cpu
        self._registers = registers

    def get(self, name: str) -> int:
        return self._cpu.get(self._registers, name)

    def set(self, name: str, value: int) -> None:
        self._cpu.set(self._registers, name, value)


class I386Processor:
    """See the head of the module."""

    def __init__(self, host: Host, instruction_seconds: float = 0.0) -> None:
        self._host = host
        self._cpu: Cpu | None = None
        self._slice_seconds = instruction_seconds * SLICE_INSTRUCTIONS

    @property
    def cpu(self) -> Cpu:
        """NoEmulator if there is none."""
        if self._cpu is None:
            self._cpu = Cpu(self._host.resident.store.view, self._host.page_size)
        return self._cpu

    def __call__(self, thread: UserThread) -> int:
        """Run the thread until it ends.  MachError for a reference that failed, ProgramFault."""
        try:
            cpu = self.cpu
        except NoEmulator as error:
            raise ProgramFault(ExceptionType.EXC_BAD_INSTRUCTION, 1, thread.pc, str(error)) from None
        with self._host.processor.lock:
            registers = cpu.registers(thread.pc, thread.sp)
            for name in NAMES:
                if name in thread.initial:
                    cpu.set(registers, name, thread.initial[name])
            thread.registers = _ThreadRegisters(cpu, registers)
            thread.task.task.pmap.shootdown = cpu.shootdown
        translate = self._translation(thread)
        while True:
            with self._host.processor.lock:
                if not thread.runnable():
                    return 0
                stop = self._turn(thread, registers, translate)
                number = _signed(cpu.get(registers, "eax"))
                stack = cpu.get(registers, "esp")
            if isinstance(stop, Trap):
                result = self._trap(thread, number, stack)
                with self._host.processor.lock:
                    cpu.set(registers, "eax", result & 0xFFFFFFFF)
            elif isinstance(stop, Trouble):
                kind, code, words = EXCEPTIONS.get(stop.vector, GENERAL)
                raise ProgramFault(kind, code, registers.pc, f"{words} at {registers.pc:#x} of {thread.task.name}")
            else:
                cpu.forget()  # pages that stay in its TLB shall be seen to be referenced, too
                self._host.runtime.sleep(self._slice_seconds, f"{thread.task.name} computes")

    def _translation(self, thread: UserThread) -> Translate:
        """The pmap of the thread's task as the processor's TLB sees it: with the reference and modify bits."""
        pmap, flags = thread.task.task.pmap, self._host.resident.frames.flags

        def translate(virtual_page: int, write: bool) -> int:
            frame = pmap.frame(virtual_page, write)
            if frame >= 0:
                flags[frame] |= USED if write else REFERENCED
            return frame

        return translate

    def _turn(self, thread: UserThread, registers: Registers, translate: Translate) -> Stop:
        """The kernel mutex is held.  Faults are handled here, so that INV-1 holds."""
        stop: Stop = Slice()
        for _ in range(FAULTS_A_TURN):
            stop = self.cpu.run(registers, translate, SLICE_INSTRUCTIONS)
            if not isinstance(stop, Fault):
                return stop
            self._fault(thread, stop)
            if thread.halted or thread.task.halted:
                break
        return Slice()

    def _fault(self, thread: UserThread, fault: Fault) -> None:
        task = thread.task.task
        task.faults += 1
        code = self._host.vm_fault.fault(task.map, task.pmap, fault.address, WRITE if fault.write else READ)
        if code is not KernReturn.KERN_SUCCESS and not thread.task.halted:
            verb = "writes to" if fault.write else "reads"
            raise MachError(code, f"{task.name} {verb} the page at {fault.address:#x}", fault.address)

    def _trap(self, thread: UserThread, number: int, stack: int) -> int:
        try:
            return trap(thread, number, stack)
        except BadTrap as error:
            raise ProgramFault(ExceptionType.EXC_BAD_INSTRUCTION, 1, number & 0xFFFFFFFF, str(error)) from None


def _signed(word: int) -> int:
    return word - 2 * SIGN if word & SIGN else word
