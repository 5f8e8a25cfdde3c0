"""More paging storage, or less, while everything runs: the service call, and who waits for it.

Interface:
    default_pager_paging_storage(pager, message)    one of CALLS (service.py)

A removal takes as long as it takes, and has a thread of its own, so that nobody else waits for it (in Mach,
memory_object_create does).  It is given up when who asked for it dies or stops asking.

Not here: moving pages (drain.py); where storage is on this machine (storage.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootfs.blocklist import BlockList, Run
from bootfs.device import BlockDevice
from mach.default_pager import DefaultPagerPagingStorage, DefaultPagerPagingStorageReply, StorageAction
from mach.kern_return import KernReturn
from mach.ports import DeadPort, SendOnceRight
from pager.backing_store import disk_of
from pager.clients import may_administer
from pager.drain import CannotRemove, drain
from pager.log import event
from pager.partition import BackingStoreError, PagingPartition
from pager.storage import StorageError

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

INVALID = KernReturn.KERN_INVALID_ARGUMENT


def default_pager_paging_storage(pager: DefaultPager, message: DefaultPagerPagingStorage) -> None:
    if not may_administer(message.reply.port.peer):  # devices are opened with our rights, not the caller's
        words = "paging storage is root's affair, and of the user that runs the pager"
        return _answer(message.reply, KernReturn.KERN_NO_ACCESS, words)
    if message.action == StorageAction.ADD:
        return _answer(message.reply, *_add(pager, message))
    partition = pager.store.find(message.name)
    if partition is None:
        return _answer(message.reply, INVALID, f"there is no partition {message.name}")
    if message.action == StorageAction.GROW:
        return _answer(message.reply, *_grow(pager, partition, message))
    pager.runtime.fork(lambda: _remove(pager, partition, message.reply), f"drain {message.name}", daemon=True)
    return None


def _block_list(pager: DefaultPager, message: DefaultPagerPagingStorage) -> BlockList:
    runs = tuple(Run(run.file_offset, run.device_offset, run.length) for run in message.runs)
    return BlockList(runs, sum(run.length for run in runs), pager.page_size)


def _add(pager: DefaultPager, message: DefaultPagerPagingStorage) -> tuple[KernReturn, str]:
    if pager.disks is None:
        return KernReturn.KERN_FAILURE, "this pager takes no storage"
    blocks = _block_list(pager, message)
    priority = message.priority if message.priority >= 0 else None
    try:
        device = pager.disks.open(message.device)
        try:
            pager.store.add(message.name, pager.disks.way_to(device, blocks, pager.page_size), blocks, priority)
        except BackingStoreError:
            _release(pager, device)
            raise
    except (StorageError, BackingStoreError) as error:
        return INVALID, str(error)
    words = f"paging on {message.name}: {blocks.size} bytes more"
    pager.report(event("storage_added", words, partition=message.name, bytes=blocks.size))
    pager.space_changed()
    return KernReturn.KERN_SUCCESS, ""


def _grow(
    pager: DefaultPager, partition: PagingPartition, message: DefaultPagerPagingStorage
) -> tuple[KernReturn, str]:
    try:
        more = pager.store.grow(partition, _block_list(pager, message))
    except BackingStoreError as error:
        return INVALID, str(error)
    pager.report(
        event("storage_grown", f"{partition.name} has {more} pages more", partition=partition.name, pages=more)
    )
    pager.space_changed()
    return KernReturn.KERN_SUCCESS, ""


def _remove(pager: DefaultPager, partition: PagingPartition, reply: SendOnceRight) -> None:
    """Privileged as all that pageout may wait for: a later write of a page waits for its move."""
    pager.memory.begin(True)
    try:
        moved = drain(pager, partition, cancelled=lambda: reply.port.dead)
    except CannotRemove as error:
        words = f"{partition.name} stays: {error}"
        pager.report(event("storage_kept", words, partition=partition.name, reason=str(error)))
        code = KernReturn.KERN_RESOURCE_SHORTAGE if error.for_want_of_room else KernReturn.KERN_FAILURE
        return _answer(reply, code, str(error))
    _release(pager, partition.device)
    words = f"{partition.name} is removed, {moved} pages were moved"
    pager.report(event("storage_removed", words, partition=partition.name, pages=moved))
    pager.space_changed()
    return _answer(reply, KernReturn.KERN_SUCCESS, "")


def _release(pager: DefaultPager, device: BlockDevice) -> None:
    """Close a disk that no partition is on."""
    disk = disk_of(device)
    if pager.disks is not None and not any(disk_of(other.device) is disk for other in pager.store.partitions()):
        pager.disks.release(disk)


def _answer(reply: SendOnceRight, result: KernReturn, words: str) -> None:
    try:
        reply.send(DefaultPagerPagingStorageReply(result, words))
    except DeadPort:
        pass  # the caller has gone
