"""The one documented exception of this room, with Mach's own numbers.

Interface:
    FsCode            the codes of Mach's bootstrap/file_io.h (5000...) and of device/device_types.h (2500...)
    FileSystemError   raised for every broken disk, bad path and failed transfer; nothing else leaves this room
    UnknownFormat     the one kind of it that a probe tells apart: this format is not there at all
Not here: what a command prints, or whether a caller should try again.
"""

from __future__ import annotations

from enum import IntEnum


class FsCode(IntEnum):
    """What went wrong. Mach: bootstrap/file_io.h:179-186, kernel/device/device_types.h:172."""

    D_IO_ERROR = 2500
    D_NO_SUCH_DEVICE = 2502
    D_ALREADY_OPEN = 2503
    D_INVALID_SIZE = 2507
    D_READ_ONLY = 2509
    FS_NOT_DIRECTORY = 5000
    FS_NO_ENTRY = 5001
    FS_NAME_TOO_LONG = 5002
    FS_SYMLINK_LOOP = 5003
    FS_INVALID_FS = 5004
    FS_NOT_IN_FILE = 5005
    FS_INVALID_PARAMETER = 5006


class FileSystemError(Exception):
    """A disk, a path or a transfer is not what it should be.

    `code` is the number Mach would have returned; `place` names the structure, path or offset; `message` says what is
    wrong there. As text it is one line: `place: message`.
    """

    def __init__(self, code: FsCode, message: str, place: str = "") -> None:
        super().__init__(code, message, place)
        self.code = code
        self.message = message
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class UnknownFormat(FileSystemError):
    """Nothing on the device looks like this format: FS_INVALID_FS, as for one that is there and broken."""

    def __init__(self, message: str, place: str = "superblock") -> None:
        super().__init__(FsCode.FS_INVALID_FS, message, place)
        self.args = (message, place)
