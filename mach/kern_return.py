"""Result codes, numbered as <mach/kern_return.h> and <device/device_types.h> number them.

Interface:
    KernReturn    what a kernel or pager call says of its outcome
    MachError     a KernReturn as an exception, with words

Not here: the bootstrap file system's codes (bootfs/errors.py; Mach's FS_* stand in 5000 and up).
"""

from __future__ import annotations

import enum


class KernReturn(enum.IntEnum):
    """kern_return_t."""

    KERN_SUCCESS = 0
    KERN_INVALID_ADDRESS = 1
    KERN_PROTECTION_FAILURE = 2
    KERN_NO_SPACE = 3
    KERN_INVALID_ARGUMENT = 4
    KERN_FAILURE = 5
    KERN_RESOURCE_SHORTAGE = 6
    KERN_NOT_RECEIVER = 7
    KERN_NO_ACCESS = 8
    KERN_MEMORY_FAILURE = 9
    KERN_MEMORY_ERROR = 10
    KERN_NOT_IN_SET = 12
    KERN_NAME_EXISTS = 13
    KERN_ABORTED = 14
    KERN_INVALID_NAME = 15
    KERN_INVALID_TASK = 16
    KERN_INVALID_RIGHT = 17
    KERN_INVALID_VALUE = 18
    KERN_UREFS_OVERFLOW = 19
    KERN_INVALID_CAPABILITY = 20
    KERN_RIGHT_EXISTS = 21
    KERN_INVALID_HOST = 22
    KERN_MEMORY_PRESENT = 23

    D_IO_ERROR = 2500
    D_WOULD_BLOCK = 2501
    D_NO_SUCH_DEVICE = 2502
    D_ALREADY_OPEN = 2503
    D_DEVICE_DOWN = 2504
    D_INVALID_OPERATION = 2505
    D_INVALID_RECNUM = 2506
    D_INVALID_SIZE = 2507
    D_NO_MEMORY = 2508
    D_READ_ONLY = 2509


class MachError(Exception):
    """A call failed.  `code` is its KernReturn; of a reference to memory that failed, `address` is where."""

    def __init__(self, code: KernReturn, words: str, address: int | None = None) -> None:
        super().__init__(f"{words} ({code.name})")
        self.code = code
        self.address = address
