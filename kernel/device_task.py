"""The device service as a task whose threads take requests from a queue: what the paper's §5.6 decides against.

Interface:
    DeviceTask(host).start(threads)    before any device is opened

One pool of threads serves all requests.  What a request brings is memory of the task: the data of a client's write is
pageable, and a thread that finds it paged out waits for the default pager, which may be waiting for this very pool.

Not here: devices (kernel/device.py); the cure, which is to have no such task (kernel/device_service.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kernel.device import Device
from kernel.device_memory import Transfer
from mach.device import DeviceRead, DeviceWrite
from mach.message import Message
from mach.page_list import PageList
from mach.ports import ReceiveRight

if TYPE_CHECKING:
    from kernel.host import Host


class DeviceTask:
    """See the head of the module."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._requests = host.ipc.port_set("device requests")
        self.task = host.task_create("device service")
        host.devices.serve = self._serve

    def start(self, threads: int) -> None:
        for number in range(threads):
            self._host.runtime.fork(self._run, f"device service {number}", daemon=True)

    def _serve(self, device: Device, port: ReceiveRight) -> None:
        port.payload = device
        self._requests.add(port)

    def _run(self) -> None:
        me = self._host.runtime.current()
        me.task, me.vm_privilege = self.task, True  # it lacks nothing else
        while True:
            received = self._requests.receive()
            if received is not None:
                self._serve_one(received.payload, self._received(received.message))

    def _serve_one(self, device: Device, message: Message) -> None:
        """From the request to its answer, the device's work between included."""
        if not isinstance(message, DeviceRead | DeviceWrite):
            return self._host.devices.handle(device, message)
        port = self._host.ipc.allocate(f"the device {device.name}")
        self._host.devices.handle(device, replace(message, reply=port.make_send_once()))
        answer = port.receive(owed_by=lambda: [device.engine] if device.engine else [])
        port.destroy()
        if answer is not None:
            message.reply.send(answer.message)
        return None

    def _received(self, message: Message) -> Message:
        """The data is in the task's address space now; for the device it must be in memory, and stay there."""
        if not isinstance(message, DeviceWrite) or not isinstance(message.data, Transfer):
            return message
        memory, size = self._host.device_memory, len(message.data)
        address = memory.map_into(self.task, message.data)
        pinned = memory.pin(self.task, address, size)

        def freed() -> None:
            pinned.deallocate()
            self.task.vm_deallocate(address, size)

        return DeviceWrite(message.reply, message.mode, message.recnum, PageList(bytes(pinned), freed))
