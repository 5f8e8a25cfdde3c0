"""Experiments on who serves whom: one pool of pager threads, a device task, a file system that allocates at pageout.

Interface:
    ONE_POOL, DEVICE_TASK, FILE_SYSTEM
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from kernel.disk import ModelledDisk
from kernel.machsim.lab.experiment import PAGE, SPACE_BYTES, Bench, Experiment, WrongResult
from kernel.machsim.machine import BLOCK_BYTES, Machine, Switches
from kernel.program import ProgramMemory, Protections
from kernel.task import Task
from mach.default_pager import DefaultPagerObjectCreate, DefaultPagerObjectCreateReply
from mach.device import DeviceOpen, DeviceOpenReply, DeviceWrite, DeviceWriteReply, DevMode
from mach.kern_return import KernReturn
from mach.message import U32, Message, message
from mach.ports import SendOnceRight, SendRight
from mach.rpc import call
from mach.threads import Thread
from pager.backing_store import BackingStore
from pager.partition import NoPagingSpace

FRAMES = 96
SHARERS = 12
SHARED_PAGES = 16  # of each sharer's object
WRITERS = 10
WRITE_PAGES = 4  # of one device_write
FLOPPY = "fd0"
FLOPPY_SLOWNESS = 20.0  # times the disk's


# -- one pool ----------------------------------------------------------------------------------------------------------


def _one_pool(bench: Bench) -> None:
    """Programs that share memory which the pager serves (§6.1) beside programs that use their own."""
    machine = bench.build(FRAMES, Switches(pools_apart=False))
    sharers = _fork(machine, "sharer", SHARERS, lambda name, number: _share(machine, name, number))
    bench.work(pages=3 * FRAMES, tasks=4)
    for sharer in sharers:
        sharer.join()


def _fork(machine: Machine, name: str, count: int, body: Callable[[str, int], None]) -> list[Thread]:
    names = [f"{name} {number}" for number in range(count)]
    return [machine.runtime.fork(partial(body, its_name, number), its_name) for number, its_name in enumerate(names)]


def _share(machine: Machine, name: str, number: int) -> None:
    task = machine.host.task_create(name)
    pager = machine.host.vm_set_default_memory_manager(machine.host.host_priv, None)
    assert pager is not None
    size = SHARED_PAGES * PAGE
    made = call(machine.ipc, pager, lambda reply: DefaultPagerObjectCreate(reply, size), DefaultPagerObjectCreateReply)
    address = task.vm_map(made.memory_object, size)
    for turn in (1, 2):
        for page in range(SHARED_PAGES):
            task.write(address + page * PAGE, bytes((number, page, turn)))
        for page in range(SHARED_PAGES):
            if task.read(address + page * PAGE, 3) != bytes((number, page, turn)):
                raise WrongResult(f"page {page} of {name} is not what was written")


# -- a device task -----------------------------------------------------------------------------------------------------


def _device_task(bench: Bench) -> None:
    """Programs that write their memory to a floppy disk, while others make memory short."""
    machine = bench.build(2 * FRAMES, Switches(device_in_senders_context=False), prepare=_attach_floppy)
    writers = _fork(machine, "writer", WRITERS, lambda name, number: _write_to_floppy(machine, name, number))
    machine.runtime.sleep(0.1, "the floppy disk to have work for a while")
    bench.work(pages=4 * FRAMES, tasks=2)
    for writer in writers:
        writer.join()


def _attach_floppy(machine: Machine) -> None:
    floppy = ModelledDisk(machine.runtime, MemoryDevice(bytearray(SPACE_BYTES)), FLOPPY_SLOWNESS)
    machine.host.devices.attach(FLOPPY, floppy)


def _write_to_floppy(machine: Machine, name: str, number: int) -> None:
    task = machine.host.task_create(name)
    master = machine.host.devices.master
    opened = call(machine.ipc, master, lambda reply: DeviceOpen(reply, DevMode.WRITE, FLOPPY), DeviceOpenReply)
    assert opened.device is not None
    size = WRITE_PAGES * PAGE
    address = task.vm_allocate(size)
    for turn in range(6):
        task.write(address, bytes((number, turn)) * (size // 2))
        written = _device_write(machine, task, opened.device, (number * 6 + turn) * size // 512, address, size)
        if written.result != KernReturn.KERN_SUCCESS:
            raise WrongResult(f"device_write: {written.result.name}")


def _device_write(
    machine: Machine, task: Task, device: SendRight, recnum: int, address: int, size: int
) -> DeviceWriteReply:
    """What the message takes along: the pages themselves, held down by the writer; or, to a task, a pageable copy."""
    memory = machine.host.device_memory
    direct = machine.switches.device_in_senders_context
    data = memory.pin(task, address, size) if direct else memory.copy(task, address, size)
    return call(machine.ipc, device, lambda reply: DeviceWrite(reply, DevMode.NONE, recnum, data), DeviceWriteReply)


# -- allocation at pageout ---------------------------------------------------------------------------------------------


@message(9001, local=True)
class AllocateBlocks(Message):
    """To the file system: more blocks for the paging file."""

    reply: SendOnceRight
    bytes_wanted: U32


@message(9101, local=True)
class AllocateBlocksReply(Message):
    bytes_given: U32


class _FileSystem:
    """A file system server: an ordinary task, whose tables of free blocks are pageable like anybody's memory."""

    TABLE_PAGES = 12
    GRANT_BYTES = 4 * BLOCK_BYTES

    def __init__(self, machine: Machine) -> None:
        self.port = machine.ipc.allocate("file system")
        self._machine = machine
        machine.runtime.fork(self._serve, "file system", daemon=True)

    def _serve(self) -> None:
        host = self._machine.host
        task = host.task_create("file system")
        memory = ProgramMemory(host, task, host.host_priv.copy(), Protections(wire=False, privileged=False))
        memory.begin(privileged=False)
        table = task.vm_allocate(self.TABLE_PAGES * PAGE)
        while True:
            received = self.port.receive()
            if received is None or not isinstance(received.message, AllocateBlocks):
                continue
            memory.run("allocate_blocks")
            for page in range(self.TABLE_PAGES):  # look for free blocks, and mark them
                task.write(table + page * PAGE, task.read(table + page * PAGE, 8))
            received.message.reply.send(AllocateBlocksReply(max(received.message.bytes_wanted, self.GRANT_BYTES)))


class _ExpandableStore(BackingStore):
    """A paging file that gets its blocks when pages need them."""

    def __init__(self, machine: Machine, file_system: SendRight) -> None:
        super().__init__(machine.runtime, PAGE)
        self._machine = machine
        self._file_system = file_system
        self._size = BLOCK_BYTES

    def allocate(self, count: int, owner: int = 0) -> tuple[int, int, int]:
        while True:
            try:
                return super().allocate(count, owner)
            except NoPagingSpace:
                if self._size >= SPACE_BYTES:
                    raise
                self._grow(count)

    def _grow(self, count: int) -> None:
        given = call(
            self._machine.ipc, self._file_system, lambda reply: AllocateBlocks(reply, count * PAGE), AllocateBlocksReply
        )
        self._size = min(self._size + given.bytes_given, SPACE_BYTES)
        partition = self.partitions()[0]
        self.grow(partition, BlockList((Run(0, 0, self._size),), self._size, BLOCK_BYTES))


def _file_system(bench: Bench) -> None:
    def expand(machine: Machine) -> None:
        if not bench.protected:
            device = machine.pager.store.partitions()[0].device
            store = _ExpandableStore(machine, _FileSystem(machine).port.make_send())
            store.add("paging_file", device, BlockList((Run(0, 0, BLOCK_BYTES),), BLOCK_BYTES, BLOCK_BYTES))
            machine.pager.store = store

    bench.build(FRAMES + 32, Switches(), prepare=expand)
    bench.work(pages=4 * FRAMES, tasks=4)


ONE_POOL = Experiment(
    "one-pool",
    "one pool of threads serves temporary objects and everybody else",
    "4",
    "Who serves ordinary programs may have to wait for memory when it is short. If every thread that could page out is "
    "doing just that, nothing is ever paged out again (§4).",
    "temporary objects have port sets and threads of their own (§4)",
    _one_pool,
)
DEVICE_TASK = Experiment(
    "device-task",
    "device writes go through a device task, whose threads take pageable requests too",
    "5.6",
    "A thread of such a task may find the data of somebody's write paged out, and wait for the default pager; and at "
    "that moment the default pager may wait for the thread (§5.6).",
    "a message to a device port is handled by the thread that sends it (§5.6)",
    _device_task,
)
FILE_SYSTEM = Experiment(
    "file-system",
    "the paging file gets its blocks from the file system when pages go out",
    "4, 5.2",
    "A file system is a program like others, and pageable. A pager that has to ask it for room in order to page out "
    "waits for one who may be waiting for pageout (§4).",
    "the paging file has all its blocks beforehand, and the pager has the list of them (§5.2)",
    _file_system,
)
