"""Which file system is on a disk: the formats that are known, tried in order.

Interface:
    open_any(device, offset=0)    the file system there; FileSystemError as Mach's probe has it (see below)
    FORMATS                       the registry; a new format is one module, and one line here
Not here: any format; partitions.

Mach4 tried its formats in order too, and a probe that failed with anything but FS_INVALID_FS was final: a disk that
cannot be read is not to be taken for one of another format (bootstrap/file_io.c).
"""

from __future__ import annotations

from collections.abc import Callable

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.filesystem import FileSystem
from bootfs.mounted import MountedFileSystem

Open = Callable[[BlockDevice, int], MountedFileSystem]


def _open_ext2(device: BlockDevice, offset: int) -> MountedFileSystem:
    from bootfs.ext2 import Ext2FileSystem  # a command that meets an FFS need not wait for it

    return Ext2FileSystem.open(device, offset)


FORMATS: tuple[Open, ...] = (
    FileSystem.open,
    _open_ext2,
)


def open_any(device: BlockDevice, offset: int = 0) -> MountedFileSystem:
    """The file system at byte `offset` of `device`, by the first format that fits. The device stays the caller's.

    FileSystemError FS_INVALID_FS when none does: what the first says that found itself there, but broken; UnknownFormat
    when none found itself. Any other code is final.
    """
    broken: FileSystemError | None = None
    missing: list[str] = []
    for open_format in FORMATS:
        try:
            return open_format(device, offset)
        except UnknownFormat as error:
            missing.append(error.message)
        except FileSystemError as error:
            if error.code != FsCode.FS_INVALID_FS:
                raise
            broken = broken or error
    raise broken or UnknownFormat("; ".join(missing))
