"""pagerd, with an end: python dying_pagerd.py N PAGERD-ARGUMENTS ...  See kill_at_write.py."""

from __future__ import annotations

import os
import signal
import sys

from bootfs.device import FileDevice
from pager.pagerd import main


def die_at(number: int) -> None:
    """Let the N-th write of this process be its last, and a torn one."""
    whole, count = FileDevice.write, 0

    def write(self: FileDevice, offset: int, data: bytes) -> None:
        nonlocal count
        count += 1
        if count >= number:
            whole(self, offset, memoryview(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, offset, data)

    FileDevice.write = write  # type: ignore[method-assign]


if __name__ == "__main__":
    die_at(int(sys.argv[1]))
    main(sys.argv[2:])
