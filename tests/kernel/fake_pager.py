"""A default pager of a hundred lines, for the kernel's tests: a dict of pages, with faults that can be switched on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mach.kern_return import KernReturn
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataError,
    MemoryObjectDataInitialize,
    MemoryObjectDataReclaim,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDataWrite,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.page_list import vm_deallocate
from mach.ports import DeadPort, Ipc, ReceiveRight, SendRight, drop_rights
from mach.threads import Runtime


@dataclass
class FakeObject:
    """One memory object of the fake pager."""

    port: ReceiveRight
    size: int
    pages: dict[int, bytes] = field(default_factory=dict)
    writes: int = 0
    requests: list[tuple[int, int, VmProt]] = field(default_factory=list)


class FakePager:
    """Serves memory_object_create and what follows, in one thread.  All ports are in one set, so all is in order."""

    def __init__(self, runtime: Runtime, ipc: Ipc, page_size: int = 4096, seed: int = 0, limit: int = 5) -> None:
        self.runtime = runtime
        self.ipc = ipc
        self.page_size = page_size
        self.objects: list[FakeObject] = []
        self.gone: list[FakeObject] = []
        self.handled = 0
        self.initialized = 0  # pages that came by data_initialize
        self.latency = 0.0  # seconds; each message takes between nothing and this
        self.die_after: int | None = None  # messages
        self.fail: Callable[[int], bool] = lambda offset: False  # data_error for such an offset
        self.always_unavailable = False
        self.silent = False  # answers no data_request
        self.junk: list[Message] = []  # sent before each answer
        self.dead = False
        self.replies_to: list[SendRight] = []
        self._random = random.Random(seed)
        self._set = ipc.port_set("fake pager")
        self.service = ipc.allocate("fake default pager", limit=limit)
        self._set.add(self.service)

    def start(self) -> None:
        self.runtime.fork(self._serve, "fake pager", daemon=True)

    def die(self) -> None:
        """As a process dies: all its receive rights with it."""
        self.dead = True
        self.service.destroy()
        for entry in self.objects:
            entry.port.destroy()

    def _serve(self) -> None:
        while not self.dead:
            received = self._set.receive()
            assert received is not None
            if self.latency:
                self.runtime.sleep(self._random.random() * self.latency, "the fake pager's latency")
            if self.dead:
                drop_rights(received.message)
                return
            if self.die_after is not None and self.handled >= self.die_after:
                drop_rights(received.message)
                self.die()
                return
            self.handled += 1
            self._handle(received.payload, received.message)

    def _handle(self, entry: FakeObject | None, message: Message) -> None:
        if isinstance(message, MemoryObjectCreate):
            entry = FakeObject(message.new_pager, message.size)
            message.new_pager.payload = entry
            self.objects.append(entry)
            self._set.add(message.new_pager)
            message.control.drop()
            message.name.drop()
            return
        assert entry is not None
        if isinstance(message, MemoryObjectDataInitialize):
            self.initialized += 1
            entry.pages.setdefault(message.offset, bytes(message.data))
            vm_deallocate(message.data)
            message.control.drop()
        elif isinstance(message, MemoryObjectDataWrite):
            entry.writes += 1
            for at in range(0, len(message.data), self.page_size):
                entry.pages[message.offset + at] = message.data[at : at + self.page_size]
            vm_deallocate(message.data)
            message.control.drop()
        elif isinstance(message, MemoryObjectDataRequest):
            entry.requests.append((message.offset, message.length, message.desired_access))
            self._answer(entry, message)
            message.control.drop()
        elif isinstance(message, MemoryObjectDataReclaim):
            for at in range(message.offset, message.offset + message.length, self.page_size):
                entry.pages.pop(at, None)
            message.control.drop()
        elif isinstance(message, MemoryObjectTerminate):
            message.control.destroy()
            message.name.destroy()
            self.objects.remove(entry)
            self.gone.append(entry)
        else:
            raise AssertionError(f"the kernel sent {message}")

    def _answer(self, entry: FakeObject, message: MemoryObjectDataRequest) -> None:
        for junk in self.junk:
            self._send(message.control, junk)
        if self.silent:
            return
        for offset in range(message.offset, message.offset + message.length, self.page_size):
            page = entry.pages.get(offset)
            answer: Message
            if self.fail(offset):
                answer = MemoryObjectDataError(offset, self.page_size, KernReturn.KERN_FAILURE)
            elif page is None or self.always_unavailable:
                answer = MemoryObjectDataUnavailable(offset, self.page_size)
            else:
                answer = MemoryObjectDataSupply(offset, VmProt.NONE, 0, None, page)
            self._send(message.control, answer)

    def _send(self, control: SendRight, message: Message) -> None:
        try:
            control.send(message)
        except DeadPort:
            pass
