"""The memory that a server of the machine runs in: its code, its threads' stacks and buffers, its heap (paper §5.4).

Interface:
    Protections(wire, privileged)     what the server asks the kernel for: vm_wire of its memory, thread_wire
    ProgramMemory(host, task, host_priv, protections, image=None)     `image`: (address, bytes) where it is loaded
        .begin(privileged)       the current thread starts: it is of the task now, has a stack and a buffer
        .privilege(wanted)       thread_wire, or no longer
        .run(routine)            it executes a routine: its code is fetched, its stack written
        .through_buffer(data)    page data goes through its buffer, and comes out of it
        .allocate(size)          kalloc: the address of so many bytes of the heap, which grows if it must
        .free(address, size)     kfree: the next allocation of that size has them
        .pages, .threads         how many of each there are
        .what_is_at(address)     in words

    mach_name(name)              of a message, as Mach writes it

Each of these is made of ordinary references to the task's own addresses, so that a page of code, of a stack or of a
buffer that has been paged out is faulted in, by whichever pager that takes.  The sizes are those of the paper's table
7-3: 48 KiB of code and data, 8 KiB of stack a thread.

Invariants:
    1. With `wire`, every page of the program is wired before it is used; none of its references ever faults.

Not here: what the program does; it is the same on real memory (pager/own_memory.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.task import Task
from mach.memory_object import VmProt
from mach.ports import SendRight
from mach.threads import Thread

if TYPE_CHECKING:
    from kernel.host import Host

TEXT_BYTES = 48 * 1024  # code and data of the bootstrap task (table 7-3)
STACK_BYTES = 8 * 1024  # of a thread (7.3)
FRAME_BYTES = 512  # of the stack: what a routine writes there
KALLOC_UNIT = 16  # an allocation is a multiple of it


def mach_name(name: str) -> str:
    """MemoryObjectDataWrite as Mach writes it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@dataclass(frozen=True, slots=True)
class Protections:
    """What keeps a server from waiting for itself (paper §5.1)."""

    wire: bool = True  # vm_wire: its code, stacks, buffers and heap
    privileged: bool = True  # thread_wire: its threads may use the reserve


@dataclass(frozen=True, slots=True)
class _ThreadMemory:
    stack: int  # addresses
    buffer: int


class ProgramMemory:
    """See the head of the module."""

    def __init__(
        self,
        host: Host,
        task: Task,
        host_priv: SendRight,
        protections: Protections,
        image: tuple[int, int] | None = None,
    ) -> None:
        self.task = task
        self.pages = 0
        self._host = host
        self._host_priv = host_priv
        self._protections = protections
        self._page_size = host.page_size
        self._threads: dict[Thread, _ThreadMemory] = {}
        self._routines: dict[str, int] = {}  # address of each; laid out in the order in which they are first called
        if image is None:
            self._text, self._text_bytes = self._allocate(TEXT_BYTES), TEXT_BYTES
        else:
            self._text, self._text_bytes = image
            self._wire_image()
        self._heap_end = self._heap = 0
        self._free: dict[int, list[int]] = {}  # addresses by size, as kalloc's zones

    def begin(self, privileged: bool) -> None:
        thread = self._host.runtime.current()
        thread.task = self.task
        self.privilege(privileged)
        self._threads[thread] = _ThreadMemory(self._allocate(STACK_BYTES), self._allocate(self._page_size))

    def privilege(self, wanted: bool) -> None:
        """thread_wire."""
        thread = self._host.runtime.current()
        self._host.thread_wire(self._host_priv, thread, wanted and self._protections.privileged)

    def run(self, routine: str) -> None:
        if routine not in self._routines:
            pages = self._text_bytes // self._page_size
            self._routines[routine] = self._text + len(self._routines) % pages * self._page_size
        memory = self._memory()
        self.task.read(self._routines[routine], 1)
        self.task.write(memory.stack + STACK_BYTES - FRAME_BYTES, routine.encode())

    def through_buffer(self, data: bytes) -> bytes:
        buffer = self._memory().buffer
        parts = []
        for start in range(0, len(data), self._page_size):
            part = data[start : start + self._page_size]
            self.task.write(buffer, part)
            parts.append(self.task.read(buffer, len(part)))
        return b"".join(parts)

    def allocate(self, size: int) -> int:
        size = -(-size // KALLOC_UNIT) * KALLOC_UNIT
        free = self._free.get(size)
        start = free.pop() if free else self._from_heap(size)
        self.task.write(start, bytes(min(size, KALLOC_UNIT)))
        return start

    def free(self, address: int, size: int) -> None:
        self._free.setdefault(-(-size // KALLOC_UNIT) * KALLOC_UNIT, []).append(address)

    def _from_heap(self, size: int) -> int:
        while self._heap + size > self._heap_end:
            pages = -(-size // self._page_size)
            self._heap = self._allocate(pages * self._page_size)
            self._heap_end = self._heap + pages * self._page_size
        start, self._heap = self._heap, self._heap + size
        return start

    @property
    def threads(self) -> int:
        """How many have begun."""
        return len(self._threads)

    def what_is_at(self, address: int) -> str:
        page = address - address % self._page_size
        for routine, at in self._routines.items():
            if at == page:
                return f"the code of {mach_name(routine)}"
        for thread, memory in self._threads.items():
            if memory.buffer == page:
                return f"the buffer of {thread.name}"
            if memory.stack <= page < memory.stack + STACK_BYTES:
                return f"the stack of {thread.name}"
        return "code" if self._text <= page < self._text + self._text_bytes else "the heap"

    def _memory(self) -> _ThreadMemory:
        return self._threads[self._host.runtime.current()]

    def _wire_image(self) -> None:
        """Text, data and BSS, each range for what may be done to it."""
        at, end = self._text, self._text + self._text_bytes
        while at < end:
            region = self.task.vm_region(at)
            if self._protections.wire:
                access = VmProt(region.protection) & VmProt.DEFAULT
                self._host.vm_wire(self._host_priv, self.task, at, region.end - at, access)
            self.pages += (region.end - at) // self._page_size
            at = region.end

    def _allocate(self, size: int) -> int:
        """vm_allocate, which for this program means vm_map and vm_wire: first that, then the first reference.  A page
        that is touched before it is wired may have gone out again, to the very program that is waiting for it."""
        address = self.task.vm_allocate(size)
        if self._protections.wire:
            self._host.vm_wire(self._host_priv, self.task, address, size, VmProt.DEFAULT)
        for page in range(address, address + size, self._page_size):
            self.task.write(page, b"\1")
        self.pages += size // self._page_size
        return address
