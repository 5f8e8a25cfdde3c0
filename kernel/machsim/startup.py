"""The first server of `machsim boot` as a program of Python: it gets its ports, and proves that the machine pages.

Interface:
    startup(program) -> int    0 if every byte that it wrote came back

Not here: how it is loaded and run.
"""

from __future__ import annotations

from kernel.workload import Pattern
from mach.argument_block import read_arguments
from mach.bootstrap import BootstrapPrivilegedPorts, BootstrapPrivilegedPortsReply
from mach.default_pager import DefaultPagerInfo, DefaultPagerInfoReply
from mach.ports import SendRight
from mach.program import Program
from mach.rpc import call

BATCH_PAGES = 16


def startup(program: Program) -> int:
    """Ask for the privileged ports, then write and verify as much as all physical memory, or what can be paged."""
    arguments = [argument.decode("latin-1") for argument in read_arguments(program.task.read, program.sp)]
    say(program, f"argv: {' '.join(arguments)}")
    host = privileged_host_port(program)
    pages = min(program.kernel.vm_statistics()["memory_count"], _paging_space(program, host))
    size = pages * program.kernel.page_size
    say(program, f"writing {size // 1024} KB of memory, twice" if pages else "there is no paging space, and so no work")
    address = program.task.vm_allocate(size)
    pattern = Pattern(0, program.kernel.page_size)
    for generation in (1, 2):
        for first in range(0, pages, BATCH_PAGES):
            batch = range(first, min(first + BATCH_PAGES, pages))
            data = b"".join(pattern.page(1, page, generation) for page in batch)
            program.task.write(address + first * program.kernel.page_size, data)
    wrong = _wrong_pages(program, pattern, address, pages)
    say(program, f"{pages} pages verified, {wrong} wrong" if wrong else f"{pages} pages verified: every byte is right")
    return int(wrong > 0)


def say(program: Program, words: str) -> None:
    program.console.write(f"({program.task.name}) {words}\n")


def privileged_host_port(program: Program) -> SendRight:
    """As every first server begins (mach.md 1.3)."""
    bootstrap = program.task.bootstrap_port()
    assert bootstrap is not None
    ports = call(program.ipc, bootstrap, BootstrapPrivilegedPorts, BootstrapPrivilegedPortsReply)
    assert ports.host is not None
    assert ports.device is not None
    say(program, "has the privileged host port and the device port from the bootstrap service")
    return ports.host


def _paging_space(program: Program, host: SendRight) -> int:
    """How many pages can be paged out, less an eighth for what others have in memory."""
    manager = program.kernel.vm_set_default_memory_manager(host, None)
    assert manager is not None
    space = call(program.ipc, manager, DefaultPagerInfo, DefaultPagerInfoReply).free_space
    return (space - space // 8) // program.kernel.page_size


def _wrong_pages(program: Program, pattern: Pattern, address: int, pages: int) -> int:
    size = program.kernel.page_size
    wrong = 0
    for page in range(pages):
        wrong += program.task.read(address + page * size, size) != pattern.page(1, page, 2)
    return wrong
