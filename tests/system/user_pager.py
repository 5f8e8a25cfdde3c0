"""A user pager for the search: serves memory objects out of a dictionary, in every way that the protocol allows.

What each page holds at first is a function of the object and the page, so that a model knows it without asking.  The
pager's habits are drawn from its seed: it answers late, locks pages against writing, gives pages away as precious,
takes back what is dirty, flushes, and talks nonsense beside.  It may be told to die.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from mach.kern_return import KernReturn
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectChangeAttributes,
    MemoryObjectChangeCompleted,
    MemoryObjectDataError,
    MemoryObjectDataRequest,
    MemoryObjectDataReturn,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDataUnlock,
    MemoryObjectDataWrite,
    MemoryObjectInit,
    MemoryObjectLockCompleted,
    MemoryObjectLockRequest,
    MemoryObjectReady,
    MemoryObjectReturn,
    MemoryObjectSetAttributes,
    MemoryObjectSupplyCompleted,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.page_list import vm_deallocate
from mach.ports import DeadPort, Ipc, ReceiveRight, SendRight, drop_rights
from mach.threads import Runtime

PAGE = 4096
ZEROS = bytes(PAGE)
NO_CHANGE = 8


@dataclass
class Offered:
    """One memory object of the pager."""

    number: int
    pages: int
    port: ReceiveRight
    strategy: CopyStrategy
    may_cache: bool
    new_protocol: bool
    content: dict[int, bytes] = field(default_factory=dict)
    away: set[int] = field(default_factory=set)  # pages that only the kernel has: supplied as precious
    control: SendRight | None = None
    terminated: int = 0

    def initial(self, page: int) -> bytes:
        """What a page holds before anybody has written to it; every third is zeros, which the pager does not store."""
        return ZEROS if page % 3 == 2 else b"%04d:%03d " % (self.number, page) * (PAGE // 9) + bytes(PAGE % 9)

    def now(self, page: int) -> bytes:
        return self.content.get(page, self.initial(page))


class UserPager:
    """Serves its objects in one thread."""

    def __init__(self, runtime: Runtime, ipc: Ipc, seed: int) -> None:
        self.runtime = runtime
        self.ipc = ipc
        self.draw = random.Random(seed)
        self.objects: list[Offered] = []
        self.dead = False
        self.latency = self.draw.choice([0.0, 0.0, 0.001, 0.05])
        self.locks = self.draw.random() < 0.4  # supplies pages locked against writing
        self.gives_away = self.draw.random() < 0.4  # supplies pages as precious and forgets them
        self.repeats = self.draw.random() < 0.3
        self.broken: list[str] = []  # what the kernel did wrong
        self._set = ipc.port_set("user pager")
        self._replies = ipc.allocate("user pager's replies", limit=1000)
        self._set.add(self._replies)

    def start(self) -> None:
        self.runtime.fork(self._serve, "user pager", daemon=True)

    def offer(self, pages: int) -> Offered:
        draw = self.draw
        port = self.ipc.allocate("user object")
        strategy = draw.choice([CopyStrategy.NONE, CopyStrategy.DELAY, CopyStrategy.DELAY])
        offered = Offered(len(self.objects), pages, port, strategy, draw.random() < 0.3, draw.random() < 0.5)
        port.payload = offered
        self.objects.append(offered)
        self._set.add(port)
        return offered

    def die(self) -> None:
        self.dead = True
        for offered in self.objects:
            offered.port.destroy()
        self._replies.destroy()

    def maintain(self, offered: Offered, first: int, count: int, flush: bool, which: MemoryObjectReturn) -> None:
        """Ask for pages back: nothing that a program can see may change."""
        if offered.control is not None and not self.dead:
            if flush and which != MemoryObjectReturn.ALL:
                which = MemoryObjectReturn.ALL  # else what is dirty or precious would be lost, as asked
            request = MemoryObjectLockRequest(
                first * PAGE, count * PAGE, which, flush, NO_CHANGE, self._replies.make_send()
            )
            self._send(offered, request)

    def stop_caching(self, offered: Offered) -> None:
        if offered.control is not None and not self.dead:
            self._send(offered, MemoryObjectChangeAttributes(0, offered.strategy, self._replies.make_send()))

    # -- serving -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self.dead:
            received = self._set.receive()
            assert received is not None
            if self.latency:
                self.runtime.sleep(self.draw.random() * self.latency, "the user pager's latency")
            if self.dead:
                drop_rights(received.message)
                return
            if received.payload is None:
                self._reply(received.message)
            else:
                self._handle(received.payload, received.message)

    def _reply(self, message: Message) -> None:
        fine = (MemoryObjectLockCompleted, MemoryObjectSupplyCompleted, MemoryObjectChangeCompleted)
        if not isinstance(message, fine):
            self.broken.append(f"{message} to the reply port")
        drop_rights(message)

    def _handle(self, offered: Offered, message: Message) -> None:
        if isinstance(message, MemoryObjectInit):
            if offered.control is not None:
                self.broken.append(f"a second init of object {offered.number} before its terminate")
            offered.control = message.control
            message.name.drop()
            ready: Message = MemoryObjectReady(offered.may_cache, offered.strategy)
            if not offered.new_protocol:
                ready = MemoryObjectSetAttributes(1, offered.may_cache, offered.strategy)
            self._send(offered, ready)
        elif isinstance(message, MemoryObjectTerminate):
            control, offered.control = offered.control, None
            offered.terminated += 1
            if offered.away:
                self.broken.append(f"precious pages {offered.away} of object {offered.number} did not come back")
            for right in (control, message.control, message.name):
                if right is not None:
                    right.drop()
        elif isinstance(message, MemoryObjectDataRequest):
            message.control.drop()
            for page in range(message.offset // PAGE, (message.offset + message.length) // PAGE):
                self._supply(offered, page, message.desired_access)
        elif isinstance(message, MemoryObjectDataUnlock):
            message.control.drop()
            first, length = message.offset, message.length
            self._send(offered, MemoryObjectLockRequest(first, length, MemoryObjectReturn.NONE, 0, VmProt.NONE, None))
        elif isinstance(message, MemoryObjectDataWrite | MemoryObjectDataReturn):
            self._store(offered, message)
        else:
            self.broken.append(f"{message}")
            drop_rights(message)

    def _store(self, offered: Offered, message: MemoryObjectDataWrite | MemoryObjectDataReturn) -> None:
        if isinstance(message, MemoryObjectDataReturn) != offered.new_protocol:
            self.broken.append(f"{type(message).__name__} to an object of the other protocol")
        for at in range(0, len(message.data), PAGE):
            page = (message.offset + at) // PAGE
            data = bytes(message.data[at : at + PAGE])
            clean = isinstance(message, MemoryObjectDataReturn) and not message.dirty
            if clean and page not in offered.away and data != offered.now(page):
                self.broken.append(f"page {page} of object {offered.number} is called clean, and is not what it was")
            offered.content[page] = data
            if not (isinstance(message, MemoryObjectDataReturn) and message.kernel_copy):
                offered.away.discard(page)
            elif page in offered.away:
                offered.away.discard(page)  # it was precious and is here again; the kernel's is clean now
        vm_deallocate(message.data)
        message.control.drop()

    def _supply(self, offered: Offered, page: int, access: VmProt) -> None:
        if page in offered.away:
            self.broken.append(f"page {page} of object {offered.number} is asked for, and the kernel has the only copy")
            self._send(offered, MemoryObjectDataError(page * PAGE, PAGE, KernReturn.KERN_FAILURE))
            return
        data = offered.now(page)
        if page not in offered.content and not any(data):
            self._send(offered, MemoryObjectDataUnavailable(page * PAGE, PAGE))
            return
        lock = VmProt.WRITE if self.locks and not access & VmProt.WRITE else VmProt.NONE
        precious = self.gives_away and self.draw.random() < 0.5
        if precious:
            offered.away.add(page)
            offered.content[page] = b"the pager has forgotten this page".ljust(PAGE, b"!")
        reply = self._replies.make_send() if self.draw.random() < 0.2 else None
        self._send(offered, MemoryObjectDataSupply(page * PAGE, lock, precious, reply, data))
        if self.repeats:  # nonsense: beyond the object, and inside a page
            self._send(offered, MemoryObjectDataSupply((offered.pages + 7) * PAGE, VmProt.NONE, 0, None, b"?" * PAGE))
            self._send(offered, MemoryObjectDataSupply(page * PAGE + 1, VmProt.NONE, 0, None, b"?" * PAGE))

    def _send(self, offered: Offered, message: Message) -> None:
        if offered.control is None:
            drop_rights(message)
            return
        try:
            offered.control.send(message)
        except DeadPort:
            pass  # its rights are dropped with it
