"""One device as the kernel keeps it: how often it is open, what is asked of it, and the engine that does it.

Interface:
    Device(runtime, processor, name, medium, done, exclusive)
        .check(operation)         MachError with the D_ code, before anything is spent on a bad request
        .queue(operation)         the device will do it, in the order of arrival; `done(operation)` follows
        .open_count, .port
    Operation                     io_req: what is asked, and what came of it

Invariants (the kernel mutex is held in every method):
    1. Operations are done one at a time, in the order in which they were queued: none starves (weakness 16).
    2. Every operation that was queued is done, and `done` is called for it, even if the device is closed meanwhile
       (in Mach a close may overtake them, weakness 16).

Not here: messages and memory (kernel/device_service.py); how long a disk takes (kernel/disk.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bootfs.device import BlockDevice, FileSystemError
from kernel.processor import Processor
from kernel.vm_object import VmObject
from mach.device import MAX_TRANSFER_BYTES, RECORD_BYTES, DeviceRead, DeviceWrite
from mach.kern_return import KernReturn, MachError
from mach.ports import ReceiveRight
from mach.threads import Runtime, Thread
from mach.trace import span

D_CODES = range(KernReturn.D_IO_ERROR, KernReturn.D_READ_ONLY + 1)  # a medium fails with the same numbers


@dataclass(slots=True)
class Operation:
    """io_req."""

    request: DeviceRead | DeviceWrite
    buffer: VmObject | None = None  # frames for what is read
    result: KernReturn = KernReturn.KERN_SUCCESS
    data: bytes = b""  # what was read
    written: int = 0  # bytes
    cause: int = 0  # the event that led to it, if the machine is traced

    @property
    def offset(self) -> int:
        return self.request.recnum * RECORD_BYTES

    @property
    def length(self) -> int:
        return self.request.bytes_wanted if isinstance(self.request, DeviceRead) else len(self.request.data)


class Device:
    """See the head of the module.  `medium` is where the bytes are."""

    def __init__(
        self,
        runtime: Runtime,
        processor: Processor,
        name: str,
        medium: BlockDevice,
        done: Callable[[Operation], None],
        exclusive: bool,
    ) -> None:
        self.name = name
        self.medium = medium
        self.exclusive = exclusive
        self.open_count = 0
        self.port: ReceiveRight | None = None  # while it is open
        self.engine: Thread | None = None
        self._runtime = runtime
        self._processor = processor
        self._done = done
        self._operations: deque[Operation] = deque()

    def start(self) -> None:
        """Fork the engine: the controller and its interrupts, which need no memory."""
        self.engine = self._runtime.fork(self._run, f"device {self.name}", daemon=True)
        self.engine.vm_privilege = True

    def check(self, operation: Operation) -> None:
        if not self.open_count:
            raise MachError(KernReturn.D_NO_SUCH_DEVICE, f"{self.name} is not open")
        if not 0 < operation.length <= MAX_TRANSFER_BYTES or operation.length % RECORD_BYTES:
            raise MachError(
                KernReturn.D_INVALID_SIZE,
                f"{operation.length} bytes: whole records of {RECORD_BYTES} are moved, at most {MAX_TRANSFER_BYTES}",
            )
        if operation.offset >= self.medium.size:
            raise MachError(KernReturn.D_INVALID_RECNUM, f"record {operation.request.recnum} is behind the end")

    def queue(self, operation: Operation) -> None:
        if (tracer := self._runtime.tracer) is not None:
            operation.cause = tracer.current()
        self._operations.append(operation)
        self._processor.wakeup(self)

    def _run(self) -> None:
        with self._processor.lock:
            while True:
                while not self._operations:
                    self._processor.wait(self, f"work for device {self.name}")
                operation = self._operations[0]
                with self._processor.unlocked, self._told(operation):
                    self._transfer(operation)
                self._operations.popleft()
                self._done(operation)

    def _told(self, operation: Operation) -> AbstractContextManager[object]:
        """For who traces the machine."""
        length, offset = operation.length, operation.offset
        return span(self._runtime, "operation", operation.cause, device=self.name, offset=offset, length=length)

    def _transfer(self, operation: Operation) -> None:
        """What the medium says is the operation's result: nothing that it does stops the engine."""
        length = min(operation.length, self.medium.size - operation.offset)
        try:
            if isinstance(operation.request, DeviceRead):
                operation.data = self.medium.read(operation.offset, length)
            else:
                self.medium.write(operation.offset, memoryview(operation.request.data)[:length])
                operation.written = length
        except FileSystemError as error:
            operation.result = KernReturn(error.code) if error.code in D_CODES else KernReturn.D_IO_ERROR
