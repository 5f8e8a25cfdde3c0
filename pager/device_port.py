"""A block device behind a device port: how the pager reaches its disk when it is a task of a machine (paper §5.6).

Interface:
    open_device(ipc, master, name, memory) -> DevicePort     FileSystemError if there is no such device
    DevicePort(ipc, device, size, memory)                    a BlockDevice (bootfs/device.py)

Invariants:
    1. One request of this thread is under way at a time, of at most TRANSFER_BYTES: the frames that a device_read takes
       out of the reserve are bounded by the number of privileged threads (P6).
    2. What device_read gave is freed before the next request.

Not here: the device service (kernel/device_service.py).
"""

from __future__ import annotations

from bootfs.device import Bytes
from bootfs.errors import FileSystemError, FsCode
from mach.device import (
    DEV_GET_SIZE,
    RECORD_BYTES,
    DeviceClose,
    DeviceGetStatus,
    DeviceGetStatusReply,
    DeviceOpen,
    DeviceOpenReply,
    DeviceRead,
    DeviceReadReply,
    DeviceWrite,
    DeviceWriteReply,
    DevMode,
)
from mach.kern_return import KernReturn
from mach.page_list import vm_deallocate
from mach.ports import DeadPort, Ipc, SendRight
from mach.rpc import call
from pager.own_memory import OwnMemory

TRANSFER_BYTES = 8192  # a block of the file system
RW = DevMode.READ | DevMode.WRITE
CODES = {int(code): code for code in FsCode}


def open_device(ipc: Ipc, master: SendRight, name: str, memory: OwnMemory) -> DevicePort:
    """Open the device `name` with a right to the master device port."""
    try:
        opened = call(ipc, master, lambda reply: DeviceOpen(reply, RW, name), DeviceOpenReply)
        _check(opened.result, name, "cannot be opened")
        assert opened.device is not None
        device = opened.device
        status = call(ipc, device, lambda reply: DeviceGetStatus(reply, DEV_GET_SIZE), DeviceGetStatusReply)
    except DeadPort:
        raise FileSystemError(FsCode.D_NO_SUCH_DEVICE, "the device service has gone", name) from None
    _check(status.result, name, "does not tell its size")
    return DevicePort(ipc, device, name, status.size, memory)


class DevicePort:
    """See the head of the module."""

    def __init__(self, ipc: Ipc, device: SendRight, name: str, size: int, memory: OwnMemory) -> None:
        self.name = name
        self._ipc = ipc
        self._device = device
        self._size = size
        self._memory = memory

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        self._check_bounds(offset, length)
        start = offset - offset % RECORD_BYTES
        end = -(-(offset + length) // RECORD_BYTES) * RECORD_BYTES
        parts = [self._read(at, min(TRANSFER_BYTES, end - at)) for at in range(start, end, TRANSFER_BYTES)]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data if len(data) == length else data[offset - start : offset - start + length]

    def write(self, offset: int, data: Bytes) -> None:
        view = memoryview(data).cast("B")
        self._check_bounds(offset, len(view))
        if offset % RECORD_BYTES or len(view) % RECORD_BYTES:  # part of a record: read what is around it
            start = offset - offset % RECORD_BYTES
            whole = bytearray(
                self.read(start, min(-(-(offset + len(view)) // RECORD_BYTES) * RECORD_BYTES, self.size) - start)
            )
            whole[offset - start : offset - start + len(view)] = view
            offset, view = start, memoryview(whole)
        for at in range(0, len(view), TRANSFER_BYTES):
            self._write(offset + at, view[at : at + TRANSFER_BYTES])

    def sync(self) -> None:
        """Nothing: a write is answered when the device has done it."""

    def close(self) -> None:
        try:
            self._device.send(DeviceClose())
        except DeadPort:
            pass
        self._device.drop()

    def _read(self, offset: int, length: int) -> bytes:
        self._memory.run("device_read")
        try:
            reply = call(
                self._ipc,
                self._device,
                lambda right: DeviceRead(right, DevMode.NONE, offset // RECORD_BYTES, length),
                DeviceReadReply,
            )
        except DeadPort:
            raise FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset}: the device has gone", self.name) from None
        _check(reply.result, self.name, f"at byte {offset}")
        data = self._memory.through_buffer(reply.data)
        vm_deallocate(reply.data)
        return data

    def _write(self, offset: int, data: memoryview) -> None:
        self._memory.run("device_write")
        try:
            reply = call(
                self._ipc,
                self._device,
                lambda right: DeviceWrite(right, DevMode.NONE, offset // RECORD_BYTES, bytes(data)),
                DeviceWriteReply,
            )
        except DeadPort:
            raise FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset}: the device has gone", self.name) from None
        _check(reply.result, self.name, f"at byte {offset}")
        if reply.bytes_written != len(data):
            words = f"at byte {offset}: only {reply.bytes_written} of {len(data)} bytes were written"
            raise FileSystemError(FsCode.D_IO_ERROR, words, self.name)

    def _check_bounds(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self._size:
            words = f"{length} bytes at {offset} are not within its {self._size} bytes"
            raise FileSystemError(FsCode.D_INVALID_SIZE, words, self.name)


def _check(result: KernReturn, name: str, words: str) -> None:
    if result != KernReturn.KERN_SUCCESS:
        raise FileSystemError(CODES.get(int(result), FsCode.D_IO_ERROR), f"{words}: {result.name}", name)
