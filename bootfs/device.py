"""Block devices: a row of bytes that can be read and written whole, and nothing else.

Interface:
    BlockDevice     the protocol: size, read, write, sync, close
    FileDevice      a regular file or a block device of this machine
    SliceDevice     a part of another device, as a partition is
    MemoryDevice    bytes in memory, for tests and the simulation
    Claim           what of a disk is claimed by who opens it exclusively
Invariants:
    1. read gives exactly the bytes asked for, or FileSystemError; never fewer.
    2. write writes all its bytes, or raises; nothing outside [0, size) is ever touched.
Not here: file systems and partition tables. kernel/ imports this module, so it imports nothing heavier than errors.
"""

from __future__ import annotations

import enum
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from typing import Protocol

from bootfs.errors import FileSystemError, FsCode

__all__ = ["BlockDevice", "Bytes", "FileDevice", "FileSystemError", "MemoryDevice", "SliceDevice"]

Bytes = bytes | bytearray | memoryview


class BlockDevice(Protocol):
    """A disk or a part of one. Offsets and lengths are bytes; any alignment is allowed."""

    @property
    def size(self) -> int:
        """Bytes of the device; fixed from the time it was opened."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`. FileSystemError: D_INVALID_SIZE outside the device, D_IO_ERROR."""
        ...

    def write(self, offset: int, data: Bytes) -> None:
        """All of `data` at `offset`. FileSystemError: D_INVALID_SIZE outside the device, D_READ_ONLY, D_IO_ERROR."""
        ...

    def sync(self) -> None:
        """Return once what was written is on the medium. FileSystemError: D_IO_ERROR."""
        ...

    def close(self) -> None:
        """Give the device back; closing twice is harmless."""
        ...


def _check_bounds(device: BlockDevice, offset: int, length: int, name: str) -> None:
    if offset < 0 or length < 0 or offset + length > device.size:
        raise FileSystemError(
            FsCode.D_INVALID_SIZE,
            f"{length} bytes at {offset} are not within its {device.size} bytes; is the image cut short?",
            name,
        )


def _whole(transfer: Callable[[int, int], int], offset: int, length: int, name: str) -> None:
    """Repeat `transfer(offset, done)`, which may move fewer bytes than asked, until all are moved."""
    done = 0
    while done < length:
        try:
            moved = transfer(offset + done, done)
        except OSError as error:
            raise FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset + done}: {error.strerror}", name) from error
        if moved == 0:
            raise FileSystemError(FsCode.D_IO_ERROR, f"the device ended at byte {offset + done}", name)
        done += moved


class Claim(enum.Flag):
    """What of a disk a process wants to be alone with: who makes a paging file longer need not disturb who pages on
    it."""

    CONTENT = 1  # what is in blocks that files have
    ALLOCATION = 2  # which blocks they have
    ALL = 3


LOCKS_AT = 1 << 62


class FileDevice:
    """A regular file or a block device, by path. FileSystemError D_NO_SUCH_DEVICE when it cannot be opened.

    Whoever is going to change the disk asks for it `exclusive`, as far as its `claim` goes: D_ALREADY_OPEN while
    another process holds any of that (an advisory lock; readers are not kept out).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        writable: bool = False,
        exclusive: bool = False,
        claim: Claim = Claim.ALL,
    ) -> None:
        self.name = os.fspath(path)
        self.writable = writable
        self.access = "buffered"  # how it is reached, for who shows it
        self._fd = -1
        try:
            # The kind is asked before opening: opening a FIFO would wait for a writer.
            mode = os.stat(self.name).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise FileSystemError(FsCode.D_NO_SUCH_DEVICE, "neither a regular file nor a block device", self.name)
            self._fd = os.open(self.name, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            self._size = os.lseek(self._fd, 0, os.SEEK_END)
            if exclusive:
                self._lock(claim)
        except (OSError, ValueError) as error:
            self.close()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise FileSystemError(FsCode.D_NO_SUCH_DEVICE, f"cannot be opened: {reason}", self.name) from error

    def _lock(self, claim: Claim) -> None:
        """One byte far behind any disk stands for each part of the claim; the lock is the open file's, not ours."""
        for part in claim:
            lock = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, LOCKS_AT + part.value, 1, 0)
            try:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, lock)
            except (BlockingIOError, PermissionError):
                self.close()
                raise FileSystemError(
                    FsCode.D_ALREADY_OPEN, "another process pages on it or changes it; stop that first", self.name
                ) from None

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        _check_bounds(self, offset, length, self.name)
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset}: {error.strerror}", self.name) from error
        if len(data) == length:
            return data
        buffer = bytearray(length)
        buffer[: len(data)] = data
        view = memoryview(buffer)[len(data) :]
        _whole(lambda at, done: os.preadv(self._fd, [view[done:]], at), offset + len(data), len(view), self.name)
        return bytes(buffer)

    def read_cached(self, offset: int, length: int) -> bytearray | None:
        """As read if the bytes are in memory; None if it would wait for the disk, or if that cannot be known.

        A buffer that nobody else has: what is made of it is not copied again.
        """
        _check_bounds(self, offset, length, self.name)
        buffer = bytearray(length)
        try:
            moved = os.preadv(self._fd, (buffer,), offset, os.RWF_NOWAIT)
        except OSError:
            return None
        return buffer if moved == length else None

    def write(self, offset: int, data: Bytes) -> None:
        if not self.writable:
            raise FileSystemError(FsCode.D_READ_ONLY, "was opened for reading only", self.name)
        view = memoryview(data).cast("B")
        _check_bounds(self, offset, len(view), self.name)
        try:
            done = os.pwrite(self._fd, view, offset)
        except OSError as error:
            raise FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset}: {error.strerror}", self.name) from error
        if done < len(view):
            rest = view[done:]
            _whole(lambda at, more: os.pwrite(self._fd, rest[more:], at), offset + done, len(rest), self.name)

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise FileSystemError(FsCode.D_IO_ERROR, f"cannot be synced: {error.strerror}", self.name) from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FileDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SliceDevice:
    """`size` bytes of `device` from byte `offset`.

    The part must lie within the whole, else FileSystemError D_INVALID_SIZE.
    """

    def __init__(self, device: BlockDevice, offset: int, size: int) -> None:
        _check_bounds(device, offset, size, "slice")
        self.device = device
        self.offset = offset
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        _check_bounds(self, offset, length, "slice")
        return self.device.read(self.offset + offset, length)

    def write(self, offset: int, data: Bytes) -> None:
        _check_bounds(self, offset, memoryview(data).nbytes, "slice")
        self.device.write(self.offset + offset, data)

    def sync(self) -> None:
        self.device.sync()

    def close(self) -> None:
        """Nothing: the whole device belongs to whoever opened it."""


class MemoryDevice:
    """A device over `data`, which is changed in place."""

    def __init__(self, data: bytearray, writable: bool = True) -> None:
        self.data = data
        self.writable = writable
        self._size = len(data)

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        _check_bounds(self, offset, length, "memory")
        return bytes(memoryview(self.data)[offset : offset + length])

    def write(self, offset: int, data: Bytes) -> None:
        if not self.writable:
            raise FileSystemError(FsCode.D_READ_ONLY, "was opened for reading only", "memory")
        view = memoryview(data).cast("B")
        _check_bounds(self, offset, len(view), "memory")
        self.data[offset : offset + len(view)] = view

    def sync(self) -> None:
        """Nothing: memory has no medium behind it."""

    def close(self) -> None:
        """Nothing to give back."""
