"""A disk past the page cache: reads and writes that take no memory of the system's (O_DIRECT, promise P6).

Interface:
    DirectDevice(disk, path)           a BlockDevice; OSError if the file does not take O_DIRECT
        .access                        "direct"
    direct_alignment(path) -> bytes that offsets and lengths must be multiples of; 0: it cannot be done
    reserve_buffers(count)

A write through the page cache needs a page of it, which under memory pressure is what pageout is to free; so a wired
pager goes past it where that can be done.  Transfers go through buffers that were set aside, wired and aligned before.

Not here: which partitions may (storage.py).
"""

from __future__ import annotations

import mmap
import os
from collections import deque

from bootfs.device import Bytes, FileDevice
from bootfs.errors import FileSystemError, FsCode

BUFFER_BYTES = 1 << 20
_buffers: deque[mmap.mmap] = deque()  # those that nobody uses; pop and append are atomic


def reserve_buffers(count: int) -> None:
    """Have so many, in memory."""
    while len(_buffers) < count:
        _buffers.append(_new_buffer())


def _new_buffer() -> mmap.mmap:
    buffer = mmap.mmap(-1, BUFFER_BYTES)
    for at in range(0, BUFFER_BYTES, mmap.PAGESIZE):
        buffer[at] = 0  # there from now on
    return buffer


def direct_alignment(path: str) -> int:
    """Found by trying: what a file system, or the disk below it, asks for is told by no portable call."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return 0
    buffer = mmap.mmap(-1, 4096)
    try:
        for alignment in (512, 4096):
            try:
                with memoryview(buffer) as view:
                    if os.preadv(descriptor, [view[:alignment]], alignment) == alignment:
                        return alignment
            except OSError:
                continue
        return 0
    finally:
        buffer.close()
        os.close(descriptor)


class DirectDevice:
    """The same bytes as `disk`, which stays open and is closed by who opened it."""

    access = "direct"

    def __init__(self, disk: FileDevice) -> None:
        self.disk = disk
        self.name = disk.name
        self._fd = os.open(disk.name, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)

    @property
    def size(self) -> int:
        return self.disk.size

    def read(self, offset: int, length: int) -> bytes:
        buffer = self._borrow()
        try:
            if length <= BUFFER_BYTES:
                return self._read(buffer, offset, length)
            starts = range(0, length, BUFFER_BYTES)
            return b"".join(self._read(buffer, offset + at, min(BUFFER_BYTES, length - at)) for at in starts)
        finally:
            _buffers.append(buffer)

    def _read(self, buffer: mmap.mmap, offset: int, length: int) -> bytes:
        with memoryview(buffer) as view:
            try:
                done = os.preadv(self._fd, [view[:length]], offset)
            except OSError as error:
                raise self._failed(offset, error.strerror or "") from error
            if done != length:
                raise self._failed(offset + done, "the device ended")
            return bytes(view[:length])

    def write(self, offset: int, data: Bytes) -> None:
        source = memoryview(data).cast("B")
        buffer = self._borrow()
        try:
            for at in range(0, len(source), BUFFER_BYTES):
                self._write(buffer, offset + at, source[at : at + BUFFER_BYTES])
        finally:
            _buffers.append(buffer)

    def _write(self, buffer: mmap.mmap, offset: int, data: memoryview) -> None:
        with memoryview(buffer) as view:
            view[: len(data)] = data
            try:
                done = os.pwritev(self._fd, [view[: len(data)]], offset)
            except OSError as error:
                raise self._failed(offset, error.strerror or "") from error
            if done != len(data):
                raise self._failed(offset + done, "the device took no more")

    def _borrow(self) -> mmap.mmap:
        try:
            return _buffers.pop()
        except IndexError:
            return _new_buffer()

    def _failed(self, offset: int, words: str) -> FileSystemError:
        return FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset}: {words}", self.name)

    def sync(self) -> None:
        self.disk.sync()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
