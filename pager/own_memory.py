"""The pager's own memory: where its code, its stacks and its buffers lie (paper §5.4).

Interface:
    OwnMemory         what the pager says of it while it runs
        .begin(privileged)       a server thread begins: it gets a stack and a buffer, and privilege if it is to have it
        .privilege(wanted)       what the thread does from now on is privileged, or is not
        .run(routine)            the thread executes a routine: its code and its stack are referenced
        .through_buffer(data)    page data passes through the thread's buffer
        .allocate(size)          kalloc: the address of so many bytes more
        .free(address, size)     kfree: they are for the next that asks for as many
    ProcessMemory     of a pager that is a process of its own: the operating system keeps it (pager/wiring.py)

A pager that runs as a task of a simulated machine has its memory in frames of that machine: what is not wired there is
paged out like everybody's, by the pager itself.  That memory is made by whoever makes the task.

Not here: what the pager does with it.
"""

from __future__ import annotations

from mach.program import OwnMemory
from mach.threads import Runtime

__all__ = ["OwnMemory", "ProcessMemory"]


class ProcessMemory:
    """The memory of this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def begin(self, privileged: bool) -> None:
        self.privilege(privileged)

    def privilege(self, wanted: bool) -> None:
        self._runtime.current().vm_privilege = wanted

    def run(self, routine: str) -> None:
        """It is where it is."""

    def through_buffer(self, data: bytes) -> bytes:
        return data

    def allocate(self, size: int) -> int:
        """It will be had from the interpreter."""
        return 0

    def free(self, address: int, size: int) -> None:
        """The interpreter sees to it."""
