"""What the pager's tests share: a disk that fails on demand, and the kernel's side of one memory object."""

from __future__ import annotations

from collections.abc import Callable

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataError,
    MemoryObjectDataInitialize,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDataWrite,
    MemoryObjectDestroy,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.peer import Peer
from mach.ports import Ipc, SendRight
from mach.threads import LockRank, Runtime
from mach.threads.simulated import SimulatedRuntime
from pager.default_pager import DefaultPager

PAGE = 4096


class Disk(MemoryDevice):
    """A disk in memory.  `before(kind, offset, length)` runs before each operation; it may raise or sleep."""

    def __init__(self, runtime: Runtime, size: int) -> None:
        super().__init__(bytearray(size))
        self.runtime = runtime
        self.before: Callable[[str, int, int], None] = lambda kind, offset, length: None
        self.operations: list[tuple[str, int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.runtime.checkpoint("device read")
        self.operations.append(("read", offset, length))
        self.before("read", offset, length)
        return super().read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.runtime.checkpoint("device write")
        self.operations.append(("write", offset, len(data)))
        self.before("write", offset, len(data))
        super().write(offset, data)


def broken(offset: int) -> FileSystemError:
    return FileSystemError(FsCode.D_IO_ERROR, f"at byte {offset}: the medium is bad", "disk")


def block_list(pages: int, block: int = PAGE, base: int = 1 << 16, gap: int = 0) -> BlockList:
    """A block list of `pages` pages: in one run, or in blocks with `gap` bytes between them."""
    size = pages * PAGE
    if not gap:
        return BlockList((Run(0, base, size),), size, block)
    runs = tuple(Run(at, base + at // block * (block + gap), block) for at in range(0, size, block))
    return BlockList(runs, size, block)


def make_pager(runtime: Runtime, ipc: Ipc, pages: int = 64, threads: int = 3) -> tuple[DefaultPager, Disk]:
    """A pager of this process with one partition of `pages` pages."""
    pager = DefaultPager(runtime, ipc, PAGE)
    disk = Disk(runtime, (1 << 16) + pages * PAGE + (1 << 16))
    pager.store.add("disk", disk, block_list(pages))
    pager.start(threads)
    return pager, disk


class KernelSide:
    """A kernel's view of one internal memory object: sends its messages, keeps what comes back, by page."""

    def __init__(
        self, runtime: Runtime, ipc: Ipc, default_pager: SendRight, size: int = 1 << 20, peer: Peer | None = None
    ) -> None:
        self.runtime = runtime
        self.lock = runtime.mutex("kernel side", LockRank.KERNEL)
        self.changed = runtime.condition(self.lock, "answers")
        self.answers: dict[int, list[Message]] = {}
        self.precious: dict[int, bytes] = {}  # pages that only this kernel has
        self.control = ipc.allocate("control", kobject=self._answer)
        self.control.port.peer = peer  # as if it had come over a connection
        self.name = ipc.allocate("name")
        port = ipc.allocate("memory object")
        self.memory_object = port.make_send()
        default_pager.send(
            MemoryObjectCreate(port, size, self.control.make_send(), self.name.make_send(), PAGE), always=True
        )

    def _answer(self, message: Message) -> None:
        if isinstance(message, MemoryObjectDestroy):
            return  # an init that was not to be
        with self.lock:
            offset: int = message.offset
            length = len(message.data) if isinstance(message, MemoryObjectDataSupply) else message.size
            for page in range(offset // PAGE, (offset + length) // PAGE):
                self.answers.setdefault(page, []).append(message)
            self.changed.broadcast()

    def send(self, message: Message) -> None:
        self.memory_object.send(message, always=True)

    def write(self, page: int, data: bytes) -> None:
        for at in range(page, page + len(data) // PAGE):
            self.precious.pop(at, None)
        self.send(MemoryObjectDataWrite(self.control.make_send(), page * PAGE, data))

    def initialize(self, page: int, data: bytes) -> None:
        self.send(MemoryObjectDataInitialize(self.control.make_send(), page * PAGE, data))

    def request(self, page: int, count: int = 1, access: VmProt = VmProt.READ) -> None:
        self.send(MemoryObjectDataRequest(self.control.make_send(), page * PAGE, count * PAGE, access))

    def collect(self, page: int, count: int = 1) -> list[bytes | str]:
        """Wait for the answers for these pages: the data of each, or "unavailable", or "error"."""
        found: list[bytes | str] = []
        for at in range(page, page + count):
            with self.lock:
                while not self.answers.get(at):
                    self.changed.wait(f"an answer for page {at}")
                message = self.answers[at].pop(0)
            if isinstance(message, MemoryObjectDataSupply):
                found.append(message.data[at * PAGE - message.offset :][:PAGE])
                if message.precious:
                    self.precious[at] = found[-1]
            else:
                assert isinstance(message, MemoryObjectDataUnavailable | MemoryObjectDataError)
                found.append("unavailable" if isinstance(message, MemoryObjectDataUnavailable) else "error")
        return found

    def read(self, page: int, count: int = 1, access: VmProt = VmProt.READ) -> list[bytes | str]:
        self.request(page, count, access)
        return self.collect(page, count)

    def look(self, page: int, count: int, access: VmProt) -> list[bytes | str]:
        """As a program reads: what only this kernel has is not asked for."""
        return [
            self.precious[at] if at in self.precious else self.read(at, access=access)[0]
            for at in range(page, page + count)
        ]

    def terminate(self) -> None:
        """As a kernel does when the last reference goes: terminate, then the send right."""
        self.control.resign_kobject()
        self.send(MemoryObjectTerminate(self.control, self.name))
        self.memory_object.drop()


def pattern(*key: int) -> bytes:
    """A page that no other key has."""
    word = hash(key) & (1 << 64) - 1
    return word.to_bytes(8, "little") * (PAGE // 8)


class World:
    """One pager, one disk, on one runtime."""

    def __init__(self, runtime: Runtime, pages: int = 64, threads: int = 3) -> None:
        self.runtime = runtime
        self.ipc = Ipc(runtime)
        self.pager, self.disk = make_pager(runtime, self.ipc, pages, threads)
        self.default_pager: SendRight = self.pager.port.make_send()
        self.reports: list[str] = []
        self.pager.report = self.reports.append

    def object(self, size: int = 1 << 20, peer: Peer | None = None) -> KernelSide:
        return KernelSide(self.runtime, self.ipc, self.default_pager, size, peer)

    @property
    def free(self) -> int:
        return self.pager.store.free_pages

    def settle(self) -> None:
        """Until nothing is under way."""
        self.runtime.sleep(1)
        assert self.pager.idle


def worlds(body: Callable[[World], None], seeds: int = 12, pages: int = 64, threads: int = 3) -> None:
    for seed in range(seeds):
        runtime = SimulatedRuntime(seed)

        def run(runtime: SimulatedRuntime = runtime) -> None:
            world = World(runtime, pages, threads)
            body(world)
            world.settle()
            world.pager.check()

        runtime.run(run)
