"""A machine put together: kernel, disk, and the default pager as a task of it or inside its kernel.

Interface:
    Machine(runtime, memory, space, pager="task", switches)    sizes in bytes; .host, .ipc, .pager, .disk
    Switches                                                   the protections, each of which can be taken away

To be made by a thread of the runtime.  The pager of a machine that pages over a socket is nobody's to put together
here: `machsim run` asks for it (kernel/machsim/run.py).

Not here: what the machine does then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice, MemoryDevice
from kernel.disk import ModelledDisk
from kernel.host import Host
from kernel.in_kernel import Driver, InKernel
from kernel.program import ProgramMemory, Protections
from mach.ports import Ipc
from mach.threads import Runtime
from pager.default_pager import DefaultPager
from pager.device_port import open_device

DISK = "sd0"
BLOCK_BYTES = 8192  # of the file system that the paging file is in
PAGER_THREADS = 3  # for temporary objects, as Mach's on a uniprocessor (mach.md 3.8)


@dataclass(frozen=True, slots=True)
class Switches:
    """What protects the machine from waiting for itself (paper §4, §5)."""

    pager: Protections = field(default_factory=Protections)


class Machine:
    """See the head of the module."""

    pager: DefaultPager

    def __init__(
        self, runtime: Runtime, memory: int, space: int, pager: str = "task", switches: Switches | None = None
    ) -> None:
        self.runtime = runtime
        self.ipc = Ipc(runtime)
        self.switches = switches or Switches()
        self.space = space // BLOCK_BYTES * BLOCK_BYTES
        self.host = Host(runtime, self.ipc, memory, pager_inside=pager == "kernel")
        self.disk = ModelledDisk(runtime, MemoryDevice(bytearray(self.space)))
        self.host.devices.attach(DISK, self.disk)
        self.host.start()
        start = self._start_inside if pager == "kernel" else self._start_task
        runtime.fork(start, "default pager").join()
        self.host.vm_set_default_memory_manager(self.host.host_priv, self.pager.port.make_send())

    def _start_task(self) -> None:
        """The default pager's first thread: what the bootstrap task does before it serves (mach.md 1.2, 3.8)."""
        host = self.host
        task = host.task_create("default pager")
        memory = ProgramMemory(host, task, host.host_priv.copy(), self.switches.pager)
        memory.begin(privileged=True)
        self.pager = DefaultPager(self.runtime, self.ipc, host.page_size, memory=memory)
        self._add_paging_file(open_device(self.ipc, host.devices.master, DISK, memory))
        self.pager.start(PAGER_THREADS)
        while memory.threads < 1 + PAGER_THREADS + 2:  # no program runs before they all have their memory
            self.runtime.sleep(0.001, "the pager's threads to begin")

    def _start_inside(self) -> None:
        """The default pager as a part of the kernel: it has no threads, who sends to its ports does its work."""
        inside = InKernel(self.runtime, self.host.processor)
        self.pager = DefaultPager(inside, self.ipc, self.host.page_size)
        self._add_paging_file(Driver(self.host.processor, self.disk))
        self.pager.serve_by_calls(inside.enter)

    def _add_paging_file(self, device: BlockDevice) -> None:
        self.pager.store.add("paging_file", device, BlockList((Run(0, 0, self.space),), self.space, BLOCK_BYTES))
