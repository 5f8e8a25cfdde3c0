"""Where the backing store of this machine is: disks by name, and the paging files on them.

Interface:
    paging_file_name(argument) -> (image, path)     of IMAGE, IMAGE:/path or IMAGE:raw
    find_paging_file(device, image, path, partition, offset) -> BlockList     StorageError, with what to do
    Disks(direct)    .open(image) -> FileDevice, .way_to(disk, blocks) -> BlockDevice, .release(disk), .sync()

RAW stands for paging space without a file system, as mkswap marks it: all of the disk, of a partition, or behind an
offset.

Both those who start the pager and those who bring it more space look the file up (paper §5.2, §8); what the pager is
given is a device and a block list.

Invariants:
    1. One disk is one device, under whatever names it comes, so that overlapping paging files are seen.
    2. A disk that is open here is locked against a second pager, and against tools that change disks.

Not here: partitions (backing_store.py).
"""

from __future__ import annotations

import os

from bootfs.blocklist import BlockList
from bootfs.device import BlockDevice, Claim, FileDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from pager.direct_io import DirectDevice, direct_alignment

PAGING_FILE = "/mach_servers/paging_file"
RAW = "raw"


class StorageError(Exception):
    """The disk or the file is not what paging needs; one line that says what to do."""


def paging_file_name(argument: str) -> tuple[str, str]:
    """IMAGE:/path as image and path; the path is the well-known one if none is given."""
    if os.path.exists(argument):  # an image with a colon in its name
        return argument, PAGING_FILE
    image, _, path = argument.partition(":")
    return image, path or PAGING_FILE


def find_paging_file(
    device: BlockDevice, image: str, path: str, partition: str | None = None, offset: int | None = None
) -> BlockList:
    """The blocks of `path` on the disk, whatever its file system: in a partition, at an offset, or the only one."""
    from bootfs.disk import open_file_system  # brings construct: only once a disk is to be opened
    from bootfs.lookup import resolve

    if path == RAW:
        return _raw(device, image, partition, offset)
    advice = "make one with: mkpagingfile " + image
    try:
        file_system = open_file_system(device, partition, offset)
        if file_system.info()["format"] == "ext2":  # mkpagingfile cannot allocate there
            advice = "write one of full blocks there with debugfs (docs/new-file-system.md)"
        inode = resolve(file_system, path)
        if inode.kind != "file":
            raise StorageError(f"{image}: {path} is not a regular file; name another as {image}:/path")
        return file_system.block_list(inode)
    except FileSystemError as error:
        if error.code == FsCode.FS_NO_ENTRY:
            raise StorageError(f"{image} has no {path}; {advice}") from None
        raise StorageError(str(error) if error.place == image else f"{image}: {error}") from None


def _raw(device: BlockDevice, image: str, partition: str | None, offset: int | None) -> BlockList:
    """Only what says that it is paging space is taken for it: anything else may be somebody's."""
    from bootfs.disk import place_of
    from bootfs.swap_space import swap_space

    try:
        return swap_space(device, *place_of(device, partition, offset))
    except UnknownFormat as error:
        raise StorageError(f"{image}: {error}; if nothing else is there, mark it with: mkswap {image}") from None
    except FileSystemError as error:
        raise StorageError(f"{image}: {error}") from None


def _is_swapped_on(image: str) -> bool:
    """Whether this machine itself pages there."""
    try:
        with open("/proc/swaps") as swaps:
            return os.path.realpath(image) in [line.split()[0] for line in swaps]
    except OSError:
        return False


class Disks:
    """See the head of the module.  `direct`: go past the page cache where that can be done."""

    def __init__(self, direct: bool = False) -> None:
        self._devices: dict[tuple[int, int], FileDevice] = {}
        self._direct = direct
        self._ways: dict[FileDevice, DirectDevice] = {}

    def open(self, image: str) -> FileDevice:
        """The disk's device.  StorageError if it cannot be opened, or another process pages on it."""
        try:
            if _is_swapped_on(image):
                raise StorageError(f"{image} is swap space of this machine; swapoff it first")
            status = os.stat(image) if os.path.exists(image) else None
            known = self._devices.get((status.st_dev, status.st_ino)) if status else None
            if known is not None:
                return known
            device = FileDevice(image, writable=True, exclusive=True, claim=Claim.CONTENT)
        except (FileSystemError, OSError) as error:
            raise StorageError(str(error)) from None
        if status is not None:
            self._devices[status.st_dev, status.st_ino] = device
        return device

    def way_to(self, disk: FileDevice, blocks: BlockList, page_size: int) -> BlockDevice:
        """How to reach these blocks: past the page cache if they are aligned as the disk asks."""
        if not self._direct:
            return disk
        alignment = direct_alignment(disk.name)
        if not alignment:
            disk.access = "buffered: the disk takes no direct I/O"
            return disk
        if any((run.device_offset | run.length | page_size) % alignment for run in blocks.runs):
            disk.access = f"buffered: its blocks are not aligned to {alignment} bytes"
            return disk
        if disk not in self._ways:
            try:
                self._ways[disk] = DirectDevice(disk)
            except OSError:
                return disk
        return self._ways[disk]

    def release(self, device: BlockDevice) -> None:
        """No partition is on the device any more."""
        for key, known in list(self._devices.items()):
            if known is device:
                del self._devices[key]
                if known in self._ways:
                    self._ways.pop(known).close()
                known.close()

    def sync(self) -> None:
        """FileSystemError."""
        for device in list(self._devices.values()):
            device.sync()
