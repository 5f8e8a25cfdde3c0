"""Who pages, to the bootstrap service: the default pager in its own task, or one that is a process of its own.

Interface:
    PagingService                        what the bootstrap service asks of either
        .add(name, file) -> Space        FileSystemError, BackingStoreError: the file is unfit
        .port() -> SendRight             to the default pager's service
        .prepare()                       have all memory that serving takes, before there are programs to use it up
        .start()                         serve, from now on
    OwnPager(runtime, ipc, page_size, report, memory)      in the bootstrap task, as the paper has it
    Gate(runtime, memory)                holds threads back that have their memory, until it is opened
    PagerElsewhere(ipc, service, place)  the same code in another process; it is given block lists (paper §8)

Not here: which file (bootstrap.py); paging (default_pager.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.labels import partitions
from bootfs.lookup import OpenFile
from bootfs.probe import open_any
from mach.default_pager import (
    DefaultPagerPagingStorage,
    DefaultPagerPagingStorageReply,
    RunRecord,
    StorageAction,
)
from mach.kern_return import KernReturn
from mach.ports import DeadPort, Ipc, SendRight
from mach.program import OwnMemory
from mach.rpc import call
from mach.threads import LockRank, Runtime
from pager.default_pager import DefaultPager
from pager.partition import BackingStoreError

SECTOR_BYTES = 512
THREADS = 3  # for temporary objects, as Mach's on a uniprocessor (mach.md 3.8)
OTHER_THREADS = 2  # for shared objects, for calls


@dataclass(frozen=True, slots=True)
class Space:
    """What a paging file gives."""

    size: int  # bytes
    runs: int


class PagingService(Protocol):
    """See the head of the module."""

    def add(self, name: str, file: OpenFile) -> Space: ...

    def port(self) -> SendRight: ...

    def prepare(self) -> None: ...

    def start(self) -> None: ...


class OwnPager:
    """The default pager of the bootstrap task itself."""

    def __init__(
        self, runtime: Runtime, ipc: Ipc, page_size: int, report: Callable[[str], None], memory: OwnMemory
    ) -> None:
        self._gate = Gate(runtime, memory)
        self._pager = DefaultPager(runtime, ipc, page_size, report, self._gate)

    def add(self, name: str, file: OpenFile) -> Space:
        partition = self._pager.store.add(name, file.device, blocks_of(file))
        return Space(partition.total * self._pager.page_size, len(partition.runs))

    def port(self) -> SendRight:
        return self._pager.port.make_send()

    def prepare(self) -> None:
        """Threads that got their stacks once memory is short would wait for each other: the one for shared objects,
        which has no privilege, for memory, with the address map locked that all others need (paper §4)."""
        self._pager.start(THREADS)
        self._gate.await_threads(THREADS + OTHER_THREADS)

    def start(self) -> None:
        self._gate.open()


class Gate:
    """The memory of a pager whose threads stand ready, but do not serve before it is opened."""

    def __init__(self, runtime: Runtime, memory: OwnMemory) -> None:
        self._memory = memory
        self._lock = runtime.mutex("bootstrap gate", LockRank.PAGER)
        self._changed = runtime.condition(self._lock, "bootstrap gate")
        self._threads = 0
        self._open = False

    def await_threads(self, count: int) -> None:
        with self._lock:
            while self._threads < count:
                self._changed.wait("the pager's threads to have their memory")

    def open(self) -> None:
        with self._lock:
            self._open = True
            self._changed.broadcast()

    def begin(self, privileged: bool) -> None:
        self._memory.begin(privileged)
        with self._lock:
            self._threads += 1
            self._changed.broadcast()
            while not self._open:
                self._changed.wait("the bootstrap service to have started the first server")

    def privilege(self, wanted: bool) -> None:
        self._memory.privilege(wanted)

    def run(self, routine: str) -> None:
        self._memory.run(routine)

    def through_buffer(self, data: bytes) -> bytes:
        return self._memory.through_buffer(data)

    def allocate(self, size: int) -> int:
        return self._memory.allocate(size)

    def free(self, address: int, size: int) -> None:
        self._memory.free(address, size)


class PagerElsewhere:
    """A default pager in another process.  `place(device name)` is what that process calls the disk, and where on it
    the machine's device begins, in bytes."""

    def __init__(self, ipc: Ipc, service: SendRight, page_size: int, place: Callable[[str], tuple[str, int]]) -> None:
        self._ipc = ipc
        self._service = service
        self._page_size = page_size
        self._place = place

    def add(self, name: str, file: OpenFile) -> Space:
        blocks = blocks_of(file)
        disk, base = self._place(file.device_name)
        runs = tuple(RunRecord(run.file_offset, base + run.device_offset, run.length) for run in blocks.runs)
        try:
            reply = call(
                self._ipc,
                self._service,
                lambda right: DefaultPagerPagingStorage(right, StorageAction.ADD, -1, name, disk, runs),
                DefaultPagerPagingStorageReply,
            )
        except DeadPort:
            raise BackingStoreError(f"{name}: the default pager has gone") from None
        if reply.result != KernReturn.KERN_SUCCESS:
            raise BackingStoreError(reply.words)
        return Space(blocks.size // self._page_size * self._page_size, len(blocks.runs))

    def port(self) -> SendRight:
        return self._service.copy()

    def prepare(self) -> None:
        """Its memory is not the machine's."""

    def start(self) -> None:
        """It serves already."""


def blocks_of(file: OpenFile) -> BlockList:
    """All of a raw device, or the blocks of a file.  FileSystemError: a hole, a directory, a device with a file system
    on it: Mach would page over that (P1)."""
    if file.inode is None:
        if _holds_file_system(file.device):
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "holds a file system, which paging would destroy")
        return BlockList((Run(0, 0, file.device.size),), file.device.size, SECTOR_BYTES)
    if file.inode.kind != "file":
        raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a regular file")
    assert file.file_system is not None
    return file.file_system.block_list(file.inode)


def _holds_file_system(device: BlockDevice) -> bool:
    """At its start, or in a partition of it."""
    for offset in {0, *(partition.offset for partition in partitions(device))}:
        try:
            open_any(device, offset)
        except FileSystemError as error:
            if error.code != FsCode.FS_INVALID_FS:
                raise
        else:
            return True
    return False
