"""Memory that the default pager keeps: a memory object, read and written by a program as a kernel would.

Interface:
    PagedMemory(client, size)          a temporary memory object of the pager that `client` is connected to
    PagedMemory(client, size, right)   a shared one (client.object_create, object_lookup), mapped; refused: MachError
        .page_size, .size
        .write(offset, data), .read(offset, length)     whole pages; MachError: a page is lost; PagerUnavailable
        .close()

A write is sent and not answered (memory_object_data_write has no reply): that a page could not be stored is seen when
it is read.  Pages never written read as zeros.  A shared object is mapped by one kernel at a time (paper §6.1): while
we have it nobody else can.

Not here: a cache, clusters, when to write what: that is what a kernel is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mach.kern_return import KernReturn, MachError
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataError,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDataWrite,
    MemoryObjectDestroy,
    MemoryObjectInit,
    MemoryObjectSetAttributes,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.notify import DeadName
from mach.ports import DeadPort, SendRight

if TYPE_CHECKING:
    from pager.client import PagerClient

CLUSTER_BYTES = 256 * 1024  # of one message; the pager takes up to 1 MiB
ANSWER_SECONDS = 30.0


class PagedMemory:
    """See the head of the module.  For one thread at a time."""

    def __init__(self, client: PagerClient, size: int, right: SendRight | None = None) -> None:
        self.page_size = client.info().page_size
        self.size = -(-size // self.page_size) * self.page_size
        self._client = client
        ipc = client.ipc
        self._control, self._name = ipc.allocate("control", limit=64), ipc.allocate("name")
        control, name = self._control.make_send(), self._name.make_send()
        if right is None:
            port = ipc.allocate("memory object")
            self._object = port.make_send()
            self._send(client.service, MemoryObjectCreate(port, self.size, control, name, self.page_size))
        else:
            self._object = right.copy()
            self._send(self._object, MemoryObjectInit(control, name, self.page_size))
        self._object.watch(self._control.make_send_once())
        if right is not None:
            self._await_ready()

    def _await_ready(self) -> None:
        message = self._receive()
        if isinstance(message, MemoryObjectDestroy):
            raise MachError(KernReturn.KERN_NO_ACCESS, "another kernel maps the object")
        assert isinstance(message, MemoryObjectSetAttributes)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check(offset, len(data))
        view = memoryview(data)
        for at in range(0, len(data), CLUSTER_BYTES):
            part = bytes(view[at : at + CLUSTER_BYTES])
            self._send(self._object, MemoryObjectDataWrite(self._control.make_send(), offset + at, part))

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return b"".join(
            self._read(at, min(CLUSTER_BYTES, offset + length - at))
            for at in range(offset, offset + length, CLUSTER_BYTES)
        )

    def _read(self, offset: int, length: int) -> bytes:
        """One request; its pages are answered in pieces, in any order."""
        control = self._control.make_send()
        self._send(self._object, MemoryObjectDataRequest(control, offset, length, VmProt.READ))
        found = bytearray(length)
        for at, data in self._answers(length):
            found[at - offset : at - offset + len(data)] = data
        return bytes(found)

    def _answers(self, length: int) -> Iterator[tuple[int, bytes]]:
        failed = None
        while length > 0:
            message = self._receive()
            if isinstance(message, MemoryObjectDataSupply):
                data = bytes(message.data)
                length -= len(data)
                yield message.offset, data
            elif isinstance(message, MemoryObjectDataUnavailable):
                length -= message.size
            elif isinstance(message, MemoryObjectDataError):
                length -= message.size
                failed = message
        if failed is not None:
            raise MachError(KernReturn(failed.error_value), f"{failed.size} bytes at {failed.offset} are lost")

    def _send(self, right: SendRight, message: Message) -> None:
        try:
            right.send(message, always=True)
        except DeadPort:
            raise self._client.gone() from None

    def _receive(self) -> Message:
        received = self._control.receive(ANSWER_SECONDS)
        if received is None or isinstance(received.message, DeadName):
            raise self._client.gone()
        return received.message

    def _check(self, offset: int, length: int) -> None:
        if offset % self.page_size or length % self.page_size or not 0 <= offset <= offset + length <= self.size:
            words = f"{length} bytes at {offset} are not whole pages of the {self.size} bytes there are"
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, words)

    def close(self) -> None:
        """Give it up: what a temporary object has on backing store is freed; a shared one can be mapped by others."""
        try:
            self._object.send(MemoryObjectTerminate(self._control, self._name), always=True)
        except DeadPort:
            pass  # the pager has gone, and all of it with it
        self._object.drop()

    def __enter__(self) -> PagedMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
