"""A world to search the pager in: its own code, disks that fail in one way, clients of which some are hostile, an
operator, and perhaps the death of its process; all of it decided by one seed.

Interface:
    run(seed) -> the counters of the pager (of the last one, if one was killed)
    WAYS       the ways in which disks fail; seed % len(WAYS) chooses

Checked: every page that comes back, against a plain model of its object (P2, P7); where errors are not excused by what
was done to the disks, that there are none (P3); at every hundredth step, that no two pages share a slot and none
names one that is free; at the end, that all slots are back, and that no byte outside the paging files has changed (P1).

Not here: how many seeds are run (test_pager_simulation.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from greenlet import GreenletExit
from pager_clients import PAGES, PATIENCE, Client, look_around
from paging import PAGE, block_list, broken

from bootfs.blocklist import BlockList
from bootfs.device import MemoryDevice
from mach.default_pager import (
    DefaultPagerPagingStorage,
    DefaultPagerPagingStorageReply,
    StorageAction,
)
from mach.message import Message
from mach.ports import DeadPort, Ipc, Port, ReceiveRight, SendOnceRight, SendRight
from mach.rpc import call
from mach.threads.simulated import SimulatedRuntime
from pager.default_pager import DefaultPager
from pager.partition import BackingStoreError

WAYS = ("sound", "bad blocks", "transient", "rot", "full")
BASE = 1 << 14  # where a paging file begins on its disk
CHECK_STEPS = 100


class Mortal(SimulatedRuntime):
    """A runtime in which a task can be killed: its threads end at their next step, and do nothing more."""

    def __init__(self, seed: int, look: Callable[[], None]) -> None:
        super().__init__(seed)
        self.killed: set[object] = set()
        self._look = look

    def checkpoint(self, what: str, about: object = "") -> None:
        super().checkpoint(what, about)
        if self.current().task in self.killed:
            raise GreenletExit
        if self.steps % CHECK_STEPS == 0:
            self._look()


class FaultyDisk(MemoryDevice):
    """A disk that fails in one way.  Its bytes outside the paging file are noise, which must stay."""

    def __init__(self, world: World, pages: int) -> None:
        super().__init__(
            bytearray(random.Random(pages).randbytes(BASE)) + bytearray(pages * PAGE) + bytearray(b"n" * BASE)
        )
        self.before = bytes(self.data)
        self.blocks: BlockList = block_list(pages, base=BASE)
        self.bad = {BASE + world.chance.randrange(pages) * PAGE for _ in range(world.way == "bad blocks" and 2)}
        self._world = world
        self._end = BASE + pages * PAGE

    def read(self, offset: int, length: int) -> bytes:
        self._pause()
        data = super().read(offset, length)
        match self._trouble():
            case 0:
                raise broken(offset)
            case 1:
                return data[: length // 2]  # a short read (mach.md 8.45)
            case 2:
                return b""  # a transfer of no bytes (8.46)
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._pause()
        for block in self.bad:
            if offset <= block < offset + len(data):
                raise broken(block)
        match self._trouble():
            case 0:
                raise broken(offset)
            case 1 | 2:
                super().write(offset, bytes(data)[: len(data) // 2])  # torn
                raise broken(offset)
        super().write(offset, data)
        if self._world.way == "rot" and self._world.chance.random() < 0.1:
            at = offset + self._world.chance.randrange(len(data))
            self.data[at] ^= 1 << self._world.chance.randrange(8)

    def _pause(self) -> None:
        runtime = self._world.runtime
        if self._world.chance.random() < 0.3:
            runtime.sleep(self._world.chance.random() * 0.02, "the disk")
        runtime.checkpoint("the disk")  # after the pause: the dead write no more

    def _trouble(self) -> int:
        """Which of three troubles; most often none."""
        chance = self._world.chance
        return chance.randrange(3) if self._world.way == "transient" and chance.random() < 0.08 else -1

    def check(self) -> None:
        assert self.data[:BASE] == self.before[:BASE], "P1: written before the paging file"
        assert self.data[self._end :] == self.before[self._end :], "P1: written behind the paging file"


@dataclass
class World:
    """One run."""

    seed: int

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.way = WAYS[self.seed % len(WAYS)]
        self.mortal = self.chance.random() < 0.3  # the pager is killed on the way
        self.runtime = Mortal(self.seed, self.look)
        self.disks: list[FaultyDisk] = []
        self.generation = 0
        self.enough = 6 if self.way == "full" else 2 * 3 * PAGES + 10  # pages of all clients, and bad blocks
        self.pager: DefaultPager | None = None
        self.service: SendRight | None = None
        self.objects: list[Port] = []  # that clients had made of the pager

    # -- the pager ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a pager, on the disks that are there."""
        self.ipc = Ipc(self.runtime)
        if not self.disks:
            sizes = [6, 10] if self.way == "full" else [90, self.enough + 10]
            self.disks = [FaultyDisk(self, pages) for pages in sizes]
        self.generation += 1
        self.runtime.fork(self._start, f"pager {self.generation}").join()

    def _start(self) -> None:
        self.runtime.current().task = self.generation
        self.pager = DefaultPager(self.runtime, self.ipc, PAGE)
        for number, disk in enumerate(self.disks):
            self.pager.store.add(f"disk {number}", disk, disk.blocks, priority=number % 2)
        self.service = self.pager.port.make_send()
        self.pager.start(1 + self.seed % 4)

    def kill(self) -> None:
        """The process ends in the middle of whatever it does; the death of a process is the death of its rights, also
        of one that a thread has just received and not yet made an object of."""
        pager = self.pager
        assert pager is not None
        self.runtime.killed.add(self.generation)
        self.pager = None
        pager.port.destroy()
        for port in [*(obj.receive.port for obj in pager._objects.values()), *self.objects]:
            ReceiveRight(port).destroy()

    def look(self) -> None:
        """What holds between any two steps.  It takes no lock: nobody else runs."""
        pager = self.pager
        if pager is None:
            return
        named, settled = [], []
        for obj in pager._objects.values():
            for page, entry in obj.map.pages(0):
                if entry.stored:
                    named.append((entry.partition, entry.slot))
                    settled += [] if page in obj.writing else named[-1:]  # a slot may turn out bad in writing
        assert len(named) == len(set(named)), "two pages share a slot"
        for partition in pager.store.partitions():
            partition._slots.check()
            slots = partition._slots.map(0, partition.total)
            assert all(slots[slot] == ord("#") for at, slot in settled if at == partition.index), "a named slot is free"

    # -- clients -----------------------------------------------------------------------------------------------

    def client(self, number: int) -> None:
        """Objects, one after the other, each with a model."""
        chance = random.Random(self.seed * 100 + number)
        try:
            for life in range(2):
                Client(self, chance, (self.seed, number, life)).live()
        except DeadPort:
            assert self.generation in self.runtime.killed or self.pager is None or self.generation > 1

    def operator(self) -> None:
        """Adds and removes storage, gives up in the middle, and looks around."""
        chance = random.Random(self.seed * 100 + 99)
        for step in range(6):
            self.runtime.sleep(chance.random() * 0.1)
            pager, service = self.pager, self.service
            if pager is None or service is None:
                return
            try:
                self._operate(chance.randrange(5), step, pager, service, chance)
            except (DeadPort, TimeoutError):
                continue

    def _operate(self, what: int, step: int, pager: DefaultPager, service: SendRight, chance: random.Random) -> None:
        if what == 0 and len(self.disks) < 4:
            disk = FaultyDisk(self, 40)
            self.disks.append(disk)
            try:
                pager.store.add(f"added {step}", disk, disk.blocks)
            except BackingStoreError:
                raise AssertionError("a sound block list is refused") from None
        elif what <= 2:
            going = chance.choice(pager.store.partitions())
            if pager.store.total_pages - going.total >= self.enough:
                self._remove(service, going.name, PATIENCE if chance.random() < 0.7 else 0.05)
        else:
            look_around(self.ipc, service, chance)

    def _remove(self, service: SendRight, name: str, patience: float) -> None:
        def request(reply: SendOnceRight) -> Message:
            return DefaultPagerPagingStorage(reply, StorageAction.REMOVE, -1, name, "", ())

        call(self.ipc, service, request, DefaultPagerPagingStorageReply, timeout=patience)

    # -- the run -----------------------------------------------------------------------------------------------

    def body(self) -> None:
        self.begin()
        threads = [self.runtime.fork(lambda n=n: self.client(n), f"client {n}") for n in range(2 + self.seed % 2)]
        threads.append(self.runtime.fork(self.operator, "operator"))
        if self.mortal:
            self.runtime.sleep(self.chance.random() * 0.3)
            self.kill()
        for thread in threads:
            thread.join()
        if self.mortal:
            self.begin()
            self.client(7)
        self._end()

    def _end(self) -> None:
        """Nothing is under way, nobody has an object: everything is as it was."""
        self.runtime.sleep(30)
        pager = self.pager
        assert pager is not None
        assert pager.idle
        assert pager.objects() == []
        pager.check()
        free = sum(partition.free + partition.bad for partition in pager.store.partitions())
        assert free == sum(partition.total for partition in pager.store.partitions()), "slots have leaked"
        for disk in self.disks:
            disk.check()
        if self.way in ("sound", "bad blocks"):
            assert pager.totals()["page_errors"] == 0, "an error without a cause"


def run(seed: int) -> dict[str, int]:
    world = World(seed)
    world.runtime.run(world.body)
    assert world.pager is not None
    return dict(world.pager._totals)
