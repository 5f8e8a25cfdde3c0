"""A processor for programs that are functions of Python: an executable names one, and is loaded and paged as any other.

Interface:
    program_text(name, body=b"") -> bytes       the text of an executable that stands for the program `name`
    PythonProcessor(console, programs, machine_code, protections)   an Executor (kernel/user.py)

What stands at a thread's program counter decides: an instruction that no i386 has, and a name; or machine code, for the
executor `machine_code` if there is one.  The function sees the task's memory as its own, its arguments on its stack,
and the kernel's calls (mach/program.py).  The text is loaded, mapped, protected and paged like machine code, and its
first bytes are fetched from there; what it does is the function's.

Not here: which programs there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernel.program import ProgramMemory, Protections
from kernel.user import Executor, ProgramFault, UserTask, UserThread
from mach.argument_block import read_string
from mach.exception import ExceptionType
from mach.ports import SendRight
from mach.program import Console, Program

MARK = b"\x0f\x0bpython:"  # ud2: what runs this as machine code traps at once
PythonProgram = Callable[[Program], int]


def program_text(name: str, body: bytes = b"") -> bytes:
    """A whole number of words, as linkers leave it."""
    text = MARK + name.encode("ascii") + b"\0" + body
    return text + bytes(-len(text) % 4)


class PythonProcessor:
    """See the head of the module."""

    def __init__(
        self,
        console: Console,
        programs: Mapping[str, PythonProgram],
        machine_code: Executor | None = None,
        protections: Protections | None = None,
    ) -> None:
        self.console = console
        self.programs = programs
        self.machine_code = machine_code
        self.protections = protections or Protections()

    def __call__(self, thread: UserThread) -> int:
        task = thread.task
        if task.read(thread.pc, len(MARK)) != MARK:
            if self.machine_code is not None:
                return self.machine_code(thread)
            raise self._bad_instruction(thread, "is machine code, which nothing here executes")
        name = read_string(task.read, thread.pc + len(MARK)).decode("latin-1")
        program = self.programs.get(name)
        if program is None:
            raise self._bad_instruction(thread, f"stands for a program {name!r} that is not here")
        host = task.kernel.host

        def own_memory(host_priv: SendRight) -> ProgramMemory:
            return ProgramMemory(host, task.task, host_priv, self.protections, _image(task, thread.pc))

        return program(
            Program(host.runtime, host.ipc, task.kernel, task, thread.sp, task.rights, self.console, own_memory)
        )

    @staticmethod
    def _bad_instruction(thread: UserThread, why: str) -> ProgramFault:
        words = f"what {thread.task.name} has at {thread.pc:#x} {why}"
        return ProgramFault(ExceptionType.EXC_BAD_INSTRUCTION, 0, thread.pc, words)


def _image(task: UserTask, address: int) -> tuple[int, int]:
    """Where the program that holds `address` lies, and how many bytes it has: up to where nothing is allocated."""
    start = end = task.vm_region(address).start
    while (region := task.vm_region(end)).start == end:
        end = region.end
    return start, end - start
