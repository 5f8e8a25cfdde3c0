"""The device service: device ports, and what the messages to them do (mach.md 4.8, 4.9; the paper's §5.5, §5.6).

Interface:
    DeviceService(runtime, ipc, processor, memory, manager, ...)
        .master                    a send right to the master device port: who holds it may open devices
        .attach(name, medium, exclusive=False)
        .attach_stream(name, port)    a device that is no disk: who opens it gets a right to that port
        .start()                   forks io_done, and the engine of each device
        .serve, .handle            how a device's port is served, which a device task changes (kernel/device_task.py)
        .counts

A message to a device port is handled in its sender's context: there is no service thread that somebody else's request
could keep.  The send returns when a write's data is queued for the device, with its pages staying where they are until
the device is done with them; io_done, which is privileged, then answers.  The frames for a read are taken by its
sender, as its own privilege allows; the answer's data stays wired if who receives the answer is who receives the
default memory manager's messages, and is pageable otherwise.

Invariants:
    1. Every request is answered exactly once, whatever it asks.
    2. No request holds memory while it waits for memory (kernel/device_memory.py), or for another request.

Not here: the devices themselves (kernel/device.py).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from bootfs.device import BlockDevice
from kernel.default_manager import DefaultManager
from kernel.device import Device, Operation
from kernel.device_memory import DeviceMemory
from kernel.processor import Processor
from mach.device import (
    DEV_GET_SIZE,
    MAX_NAME_BYTES,
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
)
from mach.kern_return import KernReturn, MachError
from mach.message import Message
from mach.notify import NoSenders
from mach.page_list import vm_deallocate
from mach.ports import DeadPort, Ipc, ReceiveRight, SendOnceRight, SendRight, drop_rights
from mach.threads import Runtime
from mach.trace import span

SUCCESS = KernReturn.KERN_SUCCESS  # D_SUCCESS
Handler = Callable[[Device, Any], None]


class DeviceService:
    """See the head of the module.  `wire_for_manager`: §5.5's rule, which can be switched off."""

    def __init__(
        self,
        runtime: Runtime,
        ipc: Ipc,
        processor: Processor,
        memory: DeviceMemory,
        manager: DefaultManager,
        wire_for_manager: bool = True,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.memory = memory
        self.wire_for_manager = wire_for_manager
        self._runtime = runtime
        self._ipc = ipc
        self._processor = processor
        self._manager = manager
        self.serve: Callable[[Device, ReceiveRight], None] = self._serve_in_senders_context
        self._devices: dict[str, Device] = {}
        self._streams: dict[str, ReceiveRight] = {}
        self._completed: deque[Operation] = deque()
        self._started = False
        self._master = ipc.allocate("device master", kobject=self._master_message)
        self.master: SendRight = self._master.make_send()
        self._handlers: dict[type[Message], Handler] = {
            DeviceRead: self.device_read,
            DeviceWrite: self.device_write,
            DeviceGetStatus: self.device_get_status,
            DeviceClose: self.device_close,
            NoSenders: self.no_senders,
        }

    def attach(self, name: str, medium: BlockDevice, exclusive: bool = False) -> None:
        """A device of this machine."""
        device = Device(self._runtime, self._processor, name, medium, done=self._complete, exclusive=exclusive)
        self._devices[name] = device
        if self._started:
            device.start()

    def attach_stream(self, name: str, port: ReceiveRight) -> None:
        self._streams[name] = port

    def start(self) -> None:
        self._started = True
        self._runtime.fork(self._io_done, "io_done", daemon=True).vm_privilege = True
        for device in self._devices.values():
            device.start()

    # -- the master port ---------------------------------------------------------------------------------------

    def _master_message(self, message: Message) -> None:
        if isinstance(message, DeviceOpen):
            self.device_open(message)
        else:
            self._refuse(message, KernReturn.D_INVALID_OPERATION)

    def device_open(self, message: DeviceOpen) -> None:
        """A device that is open already has one more user of the same port; an exclusive one refuses."""
        stream = self._streams.get(message.name)
        if stream is not None:
            return self._answer(message.reply, DeviceOpenReply(SUCCESS, stream.make_send()))
        device = self._devices.get(message.name) if len(message.name) <= MAX_NAME_BYTES else None
        with self._processor.lock:
            if device is None:
                result = KernReturn.D_NO_SUCH_DEVICE
            elif device.open_count and device.exclusive:
                result = KernReturn.D_ALREADY_OPEN
            else:
                result = SUCCESS
                device.open_count += 1
            right = self._right(device) if result == SUCCESS and device is not None else None
        return self._answer(message.reply, DeviceOpenReply(result, right))

    def _right(self, device: Device) -> SendRight:
        """A right to the device's port, which is made at the first open."""
        if device.port is None:
            device.port = self._ipc.allocate(f"device {device.name}")
            self.serve(device, device.port)
        right = device.port.make_send()
        device.port.request_no_senders(device.port.make_send_once())
        return right

    # -- device ports ------------------------------------------------------------------------------------------

    def _serve_in_senders_context(self, device: Device, port: ReceiveRight) -> None:
        port.become_kobject(partial(self.handle, device))

    def handle(self, device: Device, message: Message) -> None:
        """The kobject of every device port."""
        handler = self._handlers.get(type(message))
        if handler is None:
            self._refuse(message, KernReturn.D_INVALID_OPERATION)
        else:
            self.counts[type(message).__name__] += 1
            handler(device, message)

    def device_read(self, device: Device, message: DeviceRead) -> None:
        """Take frames, in the sender's context and by its privilege; then queue."""
        operation = Operation(message)
        try:
            with self._processor.lock:
                device.check(operation)
                operation.buffer = self.memory.allocate(min(operation.length, device.medium.size - operation.offset))
                device.queue(operation)
        except MachError as error:
            self._answer(message.reply, DeviceReadReply(error.code, b""))

    def device_write(self, device: Device, message: DeviceWrite) -> None:
        """Queue; nothing here waits for anything (§5.6)."""
        operation = Operation(message)
        try:
            with self._processor.lock:
                device.check(operation)
                device.queue(operation)
        except MachError as error:
            vm_deallocate(message.data)
            self._answer(message.reply, DeviceWriteReply(error.code, 0))

    def device_get_status(self, device: Device, message: DeviceGetStatus) -> None:
        if message.flavor != DEV_GET_SIZE:
            return self._answer(message.reply, DeviceGetStatusReply(KernReturn.D_INVALID_OPERATION, 0, 0))
        return self._answer(message.reply, DeviceGetStatusReply(SUCCESS, device.medium.size, RECORD_BYTES))

    def device_close(self, device: Device, message: DeviceClose) -> None:
        """What was asked before is still done; what is asked from now on, if this was the last user, is refused."""
        with self._processor.lock:
            device.open_count = max(0, device.open_count - 1)

    def no_senders(self, device: Device, message: NoSenders) -> None:
        """All users have gone, with or without a close; unless one has come since."""
        with self._processor.lock:
            port = device.port
            if port is None or port.port.send_rights:
                return
            device.open_count, device.port = 0, None
        port.destroy()

    # -- completion --------------------------------------------------------------------------------------------

    def _complete(self, operation: Operation) -> None:
        self._completed.append(operation)
        self._processor.wakeup(self)

    def _io_done(self) -> None:
        with self._processor.lock:
            while True:
                while not self._completed:
                    self._processor.wait(self, "a device operation to be done")
                operation = self._completed.popleft()
                reply = self._outcome(operation)
                with self._processor.unlocked, span(self._processor.runtime, "io_done", operation.cause):
                    if isinstance(operation.request, DeviceWrite):
                        vm_deallocate(operation.request.data)  # its pages may go now
                    self._answer(operation.request.reply, reply)

    def _outcome(self, operation: Operation) -> DeviceReadReply | DeviceWriteReply:
        """The answer; a read's data is wired or not by who receives it (§5.5)."""
        if isinstance(operation.request, DeviceWrite):
            return DeviceWriteReply(operation.result, operation.written)
        assert operation.buffer is not None
        if operation.result != SUCCESS:
            self.memory.release(operation.buffer)
            return DeviceReadReply(operation.result, b"")
        wired = self.wire_for_manager and self._is_managers(operation.request.reply)
        self.counts["reads wired" if wired else "reads pageable"] += 1
        return DeviceReadReply(SUCCESS, self.memory.deliver(operation.buffer, operation.data, wired))

    def _is_managers(self, reply: SendOnceRight) -> bool:
        """Does the task that will receive the answer also receive from the default memory manager's port?"""
        receiver, manager = reply.port.receiver, self._manager.current
        return receiver is not None and manager is not None and manager.port.receiver is receiver

    def _refuse(self, message: Message, code: KernReturn) -> None:
        """Not a request for this port.  What has no reply of ours loses its rights, a reply right among them."""
        self.counts["refused"] += 1
        if isinstance(message, DeviceOpen):
            self._answer(message.reply, DeviceOpenReply(code, None))
        elif isinstance(message, DeviceRead):
            self._answer(message.reply, DeviceReadReply(code, b""))
        elif isinstance(message, DeviceWrite):
            vm_deallocate(message.data)
            self._answer(message.reply, DeviceWriteReply(code, 0))
        elif isinstance(message, DeviceGetStatus):
            self._answer(message.reply, DeviceGetStatusReply(code, 0, 0))
        else:
            drop_rights(message)

    def _answer(self, reply: SendOnceRight, message: Message) -> None:
        try:
            reply.send(message)
        except DeadPort:  # who asked has gone, and so has the data: it went with the message
            self.counts["replies to the dead"] += 1
