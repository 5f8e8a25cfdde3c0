"""A machine put together: kernel, disk, and the default pager as a task of it or inside its kernel.

Interface:
    Machine(runtime, memory, space, pager="task", switches)    sizes in bytes; .host, .ipc, .pager, .disk
        .what_is(object_id, offset)                            whose memory a page is, in words
    Switches                                                   the protections, each of which can be taken away

To be made by a thread of the runtime.  The pager of a machine that pages over a socket is nobody's to put together
here: `machsim run` asks for it (kernel/machsim/run.py).

Not here: what the machine does then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice, MemoryDevice
from kernel.device_task import DeviceTask
from kernel.disk import ModelledDisk
from kernel.host import Host
from kernel.in_kernel import Driver, InKernel
from kernel.program import ProgramMemory, Protections
from kernel.replacement import DEFAULT
from kernel.resident import FREE_RESERVED
from mach.ports import Ipc
from mach.threads import Runtime
from pager.default_pager import DefaultPager
from pager.device_port import open_device

DISK = "sd0"
BLOCK_BYTES = 8192  # of the file system that the paging file is in
PAGER_THREADS = 3  # for temporary objects, as Mach's on a uniprocessor (mach.md 3.8)
DEVICE_THREADS = 1  # of a device task


@dataclass(frozen=True, slots=True)
class Switches:
    """What protects the machine from waiting for itself (paper §4, §5).  All on, as it should be."""

    pager: Protections = field(default_factory=Protections)
    reserve: bool = True  # pages that only privileged threads may take
    pools_apart: bool = True  # threads for temporary objects serve nothing else
    device_in_senders_context: bool = True  # no task between the pager and its disk
    double_paging: bool = True  # what an external pager is sent goes to the default pager if it keeps it


class Machine:
    """See the head of the module.  `prepare` is told of the pager before its threads start; `time_scale` makes the disk
    of 1991, and the pauses that the kernel makes for it, faster or slower."""

    pager: DefaultPager
    pager_memory: ProgramMemory | None = None

    def __init__(
        self,
        runtime: Runtime,
        memory: int,
        space: int,
        pager: str = "task",
        switches: Switches | None = None,
        prepare: Callable[[Machine], None] = lambda machine: None,
        replacement: str = DEFAULT,
        time_scale: float = 1.0,
    ) -> None:
        self.runtime = runtime
        self.ipc = Ipc(runtime)
        self.switches = switches or Switches()
        self.space = space // BLOCK_BYTES * BLOCK_BYTES
        self.host = Host(
            runtime,
            self.ipc,
            memory,
            pageout_time_scale=time_scale,
            pager_inside=pager == "kernel",
            replacement=replacement,
            reserved=FREE_RESERVED if self.switches.reserve else 0,
        )
        self.host.laundry.double_paging = self.switches.double_paging
        self.disk = ModelledDisk(runtime, MemoryDevice(bytearray(self.space)), time_scale)
        self.host.devices.attach(DISK, self.disk)
        self._prepare = prepare
        if not self.switches.device_in_senders_context:
            DeviceTask(self.host).start(DEVICE_THREADS)
        start = self._start_inside if pager == "kernel" else self._start_task
        self.host.start()
        runtime.fork(start, "default pager").join()
        self.host.vm_set_default_memory_manager(self.host.host_priv, self.pager.port.make_send())

    def _start_task(self) -> None:
        """The default pager's first thread: what the bootstrap task does before it serves (mach.md 1.2, 3.8)."""
        host = self.host
        task = host.task_create("default pager")
        memory = self.pager_memory = ProgramMemory(host, task, host.host_priv.copy(), self.switches.pager)
        memory.begin(privileged=True)
        self.pager = DefaultPager(self.runtime, self.ipc, host.page_size, memory=memory)
        self._add_paging_file(open_device(self.ipc, host.devices.master, DISK, memory))
        self._prepare(self)
        self.pager.start(PAGER_THREADS, one_pool=not self.switches.pools_apart)
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

    def what_is(self, object_id: int, offset: int) -> str:
        for task in self.host.tasks.values():
            for entry in task.map.entries:
                if entry.object is None or entry.object.object_id != object_id:
                    continue
                address = entry.start + offset - entry.offset
                if self.pager_memory is not None and task is self.pager_memory.task:
                    return f"{self.pager_memory.what_is_at(address)}, in the default pager's own memory"
                return f"memory of {task.name} at {address:#x}"
        return "data in a message"
