"""A file of this machine as a device whose holes cost nothing to read: most of a large new disk is one.

Interface:
    SparseFileDevice(path)     a FileDevice for reading
Not here: what is read.
"""

from __future__ import annotations

import errno
import os

from bootfs.device import FileDevice

LARGE = 1 << 16  # bytes; asking about less costs more than reading it


class SparseFileDevice(FileDevice):
    """Reads large holes without the kernel filling its cache with zeros."""

    def read(self, offset: int, length: int) -> bytes:
        if length >= LARGE and offset >= 0 and offset + length <= self.size and self._is_hole(offset, length):
            return bytes(length)
        return super().read(offset, length)

    def _is_hole(self, offset: int, length: int) -> bool:
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA) >= offset + length
        except OSError as error:
            return error.errno == errno.ENXIO and self.size > 0  # no data from there to the end
