"""Who pages, to the bootstrap service: the default pager in its own task, or one that is a process of its own.

Interface:
    PagingService                        what the bootstrap service asks of either
        .add(name, file) -> Space        FileSystemError, BackingStoreError: the file is unfit
        .port() -> SendRight             to the default pager's service
        .start()                         serve, from now on
    OwnPager(runtime, ipc, page_size, report, memory)      in the bootstrap task, as the paper has it
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
from mach.threads import Runtime
from pager.default_pager import DefaultPager
from pager.partition import BackingStoreError

SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Space:
    """What a paging file gives."""

    size: int  # bytes
    runs: int


class PagingService(Protocol):
    """See the head of the module."""

    def add(self, name: str, file: OpenFile) -> Space: ...

    def port(self) -> SendRight: ...

    def start(self) -> None: ...


class OwnPager:
    """The default pager of the bootstrap task itself."""

    def __init__(
        self, runtime: Runtime, ipc: Ipc, page_size: int, report: Callable[[str], None], memory: OwnMemory
    ) -> None:
        self._pager = DefaultPager(runtime, ipc, page_size, report, memory)

    def add(self, name: str, file: OpenFile) -> Space:
        partition = self._pager.store.add(name, file.device, blocks_of(file))
        return Space(partition.total * self._pager.page_size, len(partition.runs))

    def port(self) -> SendRight:
        return self._pager.port.make_send()

    def start(self) -> None:
        self._pager.start()


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
