"""Which file system of a disk is to be checked: the one at an offset, in a partition, or the only one there is.

Interface:
    choose(device, partition, offset) -> (the part of the device, its offset)   FileSystemError: none, or several
Not here: whether it is sound. That is why bootfs.disk does not serve: it looks for what can be read.
"""

from __future__ import annotations

from bootfs.device import BlockDevice, SliceDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.labels import partitions
from bootfs.superblock import recognise
from disktools.check_disk import superblocks


def choose(device: BlockDevice, partition: str | None, offset: int | None) -> tuple[BlockDevice, int]:
    """The bytes of the one file system meant. Without a hint that is what has the mark of a superblock."""
    if offset is not None:
        if offset >= max(device.size, 1):
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, f"has only {device.size} bytes, so none at {offset}")
        return SliceDevice(device, offset, device.size - offset), offset
    table = partitions(device)
    if partition is not None:
        for one in table:
            if one.answers_to(partition):
                return SliceDevice(device, one.offset, one.size), one.offset
        there = ", ".join(one.name for one in table) or "none"
        raise FileSystemError(FsCode.FS_INVALID_PARAMETER, f"has no partition {partition}; there are: {there}")
    found = {one.offset: (one.name, one.size) for one in reversed(table) if _marked(device, one.offset, one.size)}
    if 0 not in found and _marked(device, 0, device.size):
        found[0] = ("", device.size)
    if len(found) > 1:
        names = "; ".join(name or "--offset 0" for name, _ in (found[at] for at in sorted(found)))
        raise FileSystemError(
            FsCode.FS_INVALID_PARAMETER, f"has several file systems, choose with --partition or --offset: {names}"
        )
    for at, (_, size) in found.items():
        return SliceDevice(device, at, size), at
    return device, 0


def _marked(device: BlockDevice, offset: int, size: int) -> bool:
    """Whether a superblock, sound or not, is where one may be."""
    part = SliceDevice(device, offset, size)
    return any(recognise(data) is not None for _, data in superblocks(part))
