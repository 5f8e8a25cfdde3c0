"""The console as a device: what programs write to it is seen by a person.

Interface:
    ConsoleDevice(ipc, console).port    for DeviceService.attach_stream

A line is shown when it is whole, so that lines of programs that write at the same time do not mix; what has no end yet
is shown by flush().

Not here: who the person is (kernel/machsim/console.py).
"""

from __future__ import annotations

from mach.device import (
    DEV_GET_SIZE,
    DeviceGetStatus,
    DeviceGetStatusReply,
    DeviceWrite,
    DeviceWriteInband,
    DeviceWriteInbandReply,
    DeviceWriteReply,
)
from mach.kern_return import KernReturn
from mach.message import Message
from mach.page_list import vm_deallocate
from mach.ports import DeadPort, Ipc, SendOnceRight, drop_rights
from mach.program import Console

MAX_LINE_BYTES = 4096  # a line that is longer is shown in parts


class ConsoleDevice:
    """See the head of the module."""

    def __init__(self, ipc: Ipc, console: Console) -> None:
        self._console = console
        self._line = b""
        self.port = ipc.allocate("device console", kobject=self._message)

    def _message(self, message: Message) -> None:
        """In its sender's context, as messages to every device."""
        if isinstance(message, DeviceWrite):
            self._write(message.data)
            vm_deallocate(message.data)
            self._answer(message.reply, DeviceWriteReply(KernReturn.KERN_SUCCESS, len(message.data)))
        elif isinstance(message, DeviceWriteInband):
            self._write(message.data)
            self._answer(message.reply, DeviceWriteInbandReply(KernReturn.KERN_SUCCESS, len(message.data)))
        elif isinstance(message, DeviceGetStatus):
            wrong = message.flavor != DEV_GET_SIZE
            result = KernReturn.D_INVALID_OPERATION if wrong else KernReturn.KERN_SUCCESS
            self._answer(message.reply, DeviceGetStatusReply(result, 0, 1))
        else:
            drop_rights(message)

    def _write(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._console.write(line.decode("latin-1") + "\n")
        if len(self._line) > MAX_LINE_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._line:
            self._console.write(self._line.decode("latin-1") + "\n")
            self._line = b""

    @staticmethod
    def _answer(reply: SendOnceRight, message: Message) -> None:
        try:
            reply.send(message)
        except DeadPort:
            pass
