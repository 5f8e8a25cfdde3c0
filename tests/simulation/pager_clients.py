"""Clients of the pager that is searched: each uses an object at random and compares it with a model; some are hostile.

Interface:
    Client(world, chance, key).live()     one memory object, from its creation to its end
    look_around(ipc, service, chance)     the calls that only look
    PAGES, PATIENCE
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paging import PAGE, KernelSide, pattern

from mach.default_pager import (
    DefaultPagerInfo,
    DefaultPagerInfoReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerObjects,
    DefaultPagerObjectsReply,
    DefaultPagerPartitions,
    DefaultPagerPartitionsReply,
)
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectChangeCompleted,
    MemoryObjectCopy,
    MemoryObjectCreate,
    MemoryObjectDataRequest,
    MemoryObjectDataReturn,
    MemoryObjectDataUnlock,
    MemoryObjectDataWrite,
    MemoryObjectInit,
    MemoryObjectLockCompleted,
    MemoryObjectSupplyCompleted,
    VmProt,
)
from mach.message import Message
from mach.ports import DeadPort, Ipc, SendOnceRight, SendRight
from mach.rpc import call

if TYPE_CHECKING:
    from pager_world import World

PAGES = 20  # of an object
PATIENCE = 100.0  # seconds that a caller waits; a pager that was killed does not even drop the right to answer
EVERYWHERE = 1 << 30


class MortalKernel(KernelSide):
    """A kernel that hears of its pager's death instead of waiting for ever."""

    dead = False

    def watch(self, ipc: Ipc) -> None:
        self.memory_object.watch(ipc.allocate("deaths", kobject=self._died).make_send_once())

    def _died(self, message: Message) -> None:
        with self.lock:
            self.dead = True
            self.changed.broadcast()

    def collect(self, page: int, count: int = 1) -> list[bytes | str]:
        with self.lock:
            while not self.dead and not all(self.answers.get(at) for at in range(page, page + count)):
                self.changed.wait(f"answers for {count} pages from {page}")
            if self.dead:
                raise DeadPort("the pager has died")
        return super().collect(page, count)


class Client:
    """One memory object, used at random and compared with a model."""

    def __init__(self, world: World, chance: random.Random, key: tuple[int, ...]) -> None:
        assert world.service is not None
        self.world, self.chance, self.key = world, chance, key
        self.kernel = MortalKernel(world.runtime, world.ipc, world.service, PAGES * PAGE)
        self.kernel.watch(world.ipc)
        world.objects.append(self.kernel.memory_object.port)
        self.model: dict[int, bytes] = {}

    def live(self) -> None:
        for step in range(14):
            page, count = self.chance.randrange(PAGES - 4), self.chance.randrange(1, 5)
            self._step(step, range(page, page + count))
        self.verify(range(PAGES), VmProt.READ)
        self._leave()

    def _step(self, step: int, pages: range) -> None:
        content = {page: pattern(*self.key, step, page) for page in pages}
        data = b"".join(content.values())
        match self.chance.randrange(8):
            case 0 | 1:
                self.kernel.write(pages.start, data)
                self.model |= content
            case 2:
                self.kernel.initialize(pages.start, data)
                self.model = content | self.model
            case 3:
                for page in list(self.kernel.precious)[:3]:
                    self.give_back(page)
            case 4:
                self.kernel.send(hostile(self.kernel, self.chance))
            case _:
                self.verify(pages, self.chance.choice((VmProt.READ, VmProt.DEFAULT)))

    def give_back(self, page: int) -> None:
        """A precious page, as memory_object_lock_request would have it back: clean, and no copy is kept."""
        data = self.kernel.precious.pop(page)
        self.kernel.send(MemoryObjectDataReturn(self.kernel.control.make_send(), page * PAGE, 0, 0, data))

    def verify(self, pages: range, access: VmProt) -> None:
        kernel = self.kernel
        kept = kernel.precious.keys() & set(pages)
        found = kernel.look(pages.start, len(pages), access) if kept else kernel.read(pages.start, len(pages), access)
        excused = self.world.way not in ("sound", "bad blocks")
        for page, content in zip(pages, found, strict=True):
            wanted = self.model.get(page, "unavailable")
            if content != wanted:
                assert content == "error", f"page {page} of {self.key} comes back wrong"
                assert excused, f"page {page} of {self.key} is lost without a cause"
                assert page in self.model, f"page {page} of {self.key} was never written"

    def _leave(self) -> None:
        """As a kernel should, or as one that dies in the middle of things."""
        if self.chance.random() < 0.6:
            return self.kernel.terminate()
        if not self.kernel.precious:
            self.kernel.request(0, 8)
        self.kernel.write(0, b"".join(pattern(*self.key, page) for page in range(8)))
        self.kernel.control.destroy()
        self.kernel.name.destroy()
        return self.kernel.memory_object.drop()


def hostile(kernel: KernelSide, chance: random.Random) -> Message:
    """What breaks the protocol (mach.md 8.47, weakness 13): it is refused, and nothing else happens."""
    control, ipc = kernel.control.make_send, kernel.control.port.ipc
    kinds: list[Callable[[], Message]] = [
        lambda: MemoryObjectDataRequest(control(), 0, 0, VmProt.READ),
        lambda: MemoryObjectDataRequest(control(), 100, PAGE, VmProt.READ),
        lambda: MemoryObjectDataRequest(control(), 0, EVERYWHERE, VmProt.READ),
        lambda: MemoryObjectDataRequest(control(), (1 << 64) - PAGE, PAGE, VmProt.READ),
        lambda: MemoryObjectDataWrite(control(), 0, b"x" * 100),
        lambda: MemoryObjectDataWrite(control(), 17, bytes(PAGE)),
        lambda: MemoryObjectDataReturn(control(), 1, 1, 0, bytes(PAGE)),
        lambda: MemoryObjectLockCompleted(control(), 0, PAGE),
        lambda: MemoryObjectSupplyCompleted(control(), 0, PAGE, 0, 0),
        lambda: MemoryObjectChangeCompleted(control(), 0, CopyStrategy.NONE),
        lambda: MemoryObjectDataUnlock(control(), 0, PAGE, VmProt.WRITE),
        lambda: MemoryObjectInit(control(), control(), PAGE),
        lambda: MemoryObjectCopy(control(), 0, PAGE, ipc.allocate("a copy")),
        lambda: MemoryObjectCreate(ipc.allocate("an object"), PAGE, control(), control(), 512),
        lambda: DefaultPagerInfo(kernel.name.make_send_once()),
    ]
    return chance.choice(kinds)()


def look_around(ipc: Ipc, service: SendRight, chance: random.Random) -> None:
    """The calls that only look."""

    def ask(request: Callable[[SendOnceRight], Message], reply_class: type[Message]) -> Any:
        return call(ipc, service, request, reply_class, timeout=PATIENCE)

    ask(DefaultPagerInfo, DefaultPagerInfoReply)
    ask(DefaultPagerPartitions, DefaultPagerPartitionsReply)
    for record in ask(lambda reply: DefaultPagerObjects(reply, 0), DefaultPagerObjectsReply).objects[:2]:
        number = record.object_id
        ask(lambda reply, n=number: DefaultPagerObjectPages(reply, n, 0), DefaultPagerObjectPagesReply)
        ask(lambda reply, n=number: DefaultPagerObjectRead(reply, n, PAGE // 2, 3 * PAGE), DefaultPagerObjectReadReply)
