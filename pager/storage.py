"""Where the backing store of this machine is: disks by name, and the paging files on them.

Interface:
    paging_file_name(argument) -> (image, path)     of IMAGE or IMAGE:/path
    find_paging_file(device, image, path, partition, offset) -> BlockList     StorageError, with what to do
    Disks()    .open(image) -> FileDevice, .release(device), .sync()

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
from bootfs.errors import FileSystemError, FsCode

PAGING_FILE = "/mach_servers/paging_file"


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


class Disks:
    """See the head of the module."""

    def __init__(self) -> None:
        self._devices: dict[tuple[int, int], FileDevice] = {}

    def open(self, image: str) -> FileDevice:
        """The disk's device.  StorageError if it cannot be opened, or another process pages on it."""
        try:
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

    def release(self, device: BlockDevice) -> None:
        """No partition is on the device any more."""
        for key, known in list(self._devices.items()):
            if known is device:
                del self._devices[key]
                known.close()

    def sync(self) -> None:
        """FileSystemError."""
        for device in list(self._devices.values()):
            device.sync()
