"""The smallest kernel that can page: one memory object at a pagerd, over the project's own client side.

Interface:
    PagingKernel(socket, pages)
        .page_in(page, count)      the pages' bytes; LookupError if there are none, DeadPort if the pager has died
        .page_out(page, data)      sent; nothing answers a data_write
        .settle(page)              until the last write of `page` is on backing store
    python -m benchmarks.pager_kernel SOCKET PAGES CLUSTER SECONDS    pages in until then; prints pages and seconds
"""

from __future__ import annotations

import sys
import time

from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataWrite,
    VmProt,
)
from mach.message import Message
from mach.ports import DeadPort, Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime

PAGE = 4096


class PagingKernel:
    """See the head of the module.  For one thread."""

    def __init__(self, socket: str, pages: int) -> None:
        ipc = Ipc(NativeRuntime())
        self._network = Network(ipc)
        self._control = ipc.allocate("control", kobject=self._answer)
        self._name = ipc.allocate("name")
        port = ipc.allocate("memory object")
        self._memory_object = port.make_send()
        service = self._network.connect(socket)
        control, name = self._control.make_send(), self._name.make_send()
        service.send(MemoryObjectCreate(port, pages * PAGE, control, name, PAGE), always=True)
        self._got: list[Message] = []

    def _answer(self, message: Message) -> None:
        self._got.append(message)

    def page_in(self, page: int, count: int = 1) -> bytes:
        request = MemoryObjectDataRequest(self._control.make_send(), page * PAGE, count * PAGE, VmProt.READ)
        self._memory_object.send(request, always=True)
        data = b""
        while len(data) < count * PAGE:
            while not self._got:
                if self._memory_object.dead:
                    raise DeadPort("the pager has died")
                self._network.poll(None)
            answer = self._got.pop()
            if not isinstance(answer, MemoryObjectDataSupply):
                raise LookupError(f"page {page}: {type(answer).__name__}")
            data = data + answer.data if data else answer.data
        return data

    def page_out(self, page: int, data: bytes) -> None:
        self._memory_object.send(MemoryObjectDataWrite(self._control.make_send(), page * PAGE, data), always=True)

    def settle(self, page: int) -> None:
        """A request of a page waits for the writes of it that came before."""
        self.page_in(page)

    def close(self) -> None:
        self._network.close()


def main(words: list[str]) -> int:
    """Fill an object, say "ready", wait for a line, page in for a while."""
    socket, pages, cluster, seconds = words[0], int(words[1]), int(words[2]), float(words[3])
    kernel = PagingKernel(socket, pages)
    for page in range(0, pages, 16):
        kernel.page_out(page, bytes([page % 251]) * (16 * PAGE))
    kernel.settle(pages - 1)
    print("ready", flush=True)
    sys.stdin.readline()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        kernel.page_in(done % pages, cluster)
        done += cluster
    print(done, time.perf_counter() - start, flush=True)
    kernel.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
