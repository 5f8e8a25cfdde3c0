"""The pager against a plain model, step by step: objects of several clients, disks that fail and heal, storage that
comes and goes, messages that break the protocol; every invariant after every step (P1 - P4, P7)."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from paging import PAGE, Disk, KernelSide, block_list, broken, pattern

from bootfs.blocklist import BlockList
from mach.memory_object import MemoryObjectDataRequest, MemoryObjectDataReturn, MemoryObjectDataWrite, VmProt
from mach.ports import Ipc
from mach.threads import NativeRuntime
from pager.default_pager import DefaultPager
from pager.drain import CannotRemove, drain

BASE = 1 << 16
SPACE = 24  # slots of the first partition
pages = st.integers(0, 5)
counts = st.integers(1, 4)
whichever = st.integers(0, 3)
accesses = st.sampled_from((VmProt.READ, VmProt.DEFAULT))


@dataclass
class Model:
    """One object: what its kernel has written, and whether an error may have come between."""

    kernel: KernelSide
    written: dict[int, int] = field(default_factory=dict)  # page -> number of its content
    doubtful: set[int] = field(default_factory=set)  # written when the disk failed or was full


class PagerMachine(RuleBasedStateMachine):
    """The pager without threads: whoever sends a message handles it, so that nothing is under way between steps."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = NativeRuntime(check_locks=True)
        self.ipc = Ipc(self.runtime)
        self.pager = DefaultPager(self.runtime, self.ipc, PAGE)
        self.pager.serve_by_calls(lambda routine: routine())
        self.service = self.pager.port.make_send()
        self.failing: str | None = None
        self.number = 0
        self.disks: list[tuple[Disk, BlockList]] = []
        self.alive: list[Model] = []
        self.add(SPACE)

    # -- storage -----------------------------------------------------------------------------------------------

    @rule(size=st.integers(1, 12))
    def add(self, size: int) -> None:
        if len(self.disks) < 6:
            disk, blocks = Disk(self.runtime, 2 * BASE + size * PAGE), block_list(size, base=BASE)
            disk.before = self._before
            self.pager.store.add(f"disk {len(self.disks)}", disk, blocks)
            self.disks.append((disk, blocks))

    @rule(at=st.integers(0, 5))
    def remove(self, at: int) -> None:
        partitions = self.pager.store.partitions()
        if len(partitions) > 1:
            partition = partitions[at % len(partitions)]
            used = partition.total - partition.free - partition.bad
            try:
                drain(self.pager, partition, cancelled=lambda: False)
            except CannotRemove:
                assert not partition.going_away
                assert self.failing or used > 0
            else:
                assert partition not in self.pager.store.partitions()

    def _before(self, kind: str, offset: int, length: int) -> None:
        if (kind, self.failing) in (("read", "reading"), ("write", "writing")):
            raise broken(offset)

    @rule(how=st.sampled_from((None, None, "reading", "writing")))
    def fail_or_heal(self, how: str | None) -> None:
        self.failing = how

    # -- clients -----------------------------------------------------------------------------------------------

    @rule()
    def create(self) -> None:
        self.alive.append(Model(KernelSide(self.runtime, self.ipc, self.service, 16 * PAGE)))

    def one(self, which: int) -> Model:
        """One of the objects; there is always one."""
        if not self.alive:
            self.create()
        return self.alive[which % len(self.alive)]

    @rule(which=whichever, page=pages, count=counts)
    def write(self, which: int, page: int, count: int) -> None:
        self._store(self.one(which), range(page, page + count), only_new=False)

    @rule(which=whichever, page=pages, count=counts)
    def initialize_pages(self, which: int, page: int, count: int) -> None:
        self._store(self.one(which), range(page, page + count), only_new=True)

    def _store(self, model: Model, its: range, only_new: bool) -> None:
        self.number += 1
        room = self.pager.store.free_pages >= len(its)
        data = b"".join(pattern(self.number, page) for page in its)
        (model.kernel.initialize if only_new else model.kernel.write)(its.start, data)
        for page in its:
            if only_new and page in model.written:
                continue
            model.written[page] = self.number
            model.doubtful.discard(page)
            if self.failing == "writing" or not room:
                model.doubtful.add(page)

    @rule(which=whichever, page=pages, count=counts, access=accesses)
    def read(self, which: int, page: int, count: int, access: VmProt) -> None:
        model = self.one(which)
        its = range(page, page + count)
        if model.kernel.precious.keys() & set(its):
            found = model.kernel.look(page, count, access)
        else:
            found = model.kernel.read(page, count, access)
        for at, content in zip(its, found, strict=True):
            if at not in model.written:
                assert content == "unavailable"
            elif content == "error":
                assert at in model.doubtful or self.failing == "reading", f"page {at} is lost without a cause"
            else:
                assert content == pattern(model.written[at], at)

    @rule(which=whichever)
    def give_precious_back(self, which: int) -> None:
        model = self.one(which)
        room = self.pager.store.free_pages
        for page, data in list(model.kernel.precious.items()):
            del model.kernel.precious[page]
            control = model.kernel.control.make_send()
            model.kernel.send(MemoryObjectDataReturn(control, page * PAGE, 0, 0, data))
            room -= 1
            if self.failing == "writing" or room < 0:
                model.doubtful.add(page)
            else:
                model.doubtful.discard(page)

    @rule(which=whichever, odd=st.integers(1, PAGE - 1))
    def break_the_protocol(self, which: int, odd: int) -> None:
        model = self.one(which)
        before = self.pager.totals()["refused"]
        model.kernel.send(MemoryObjectDataWrite(model.kernel.control.make_send(), odd, bytes(PAGE)))
        model.kernel.send(MemoryObjectDataRequest(model.kernel.control.make_send(), 0, odd, VmProt.READ))
        assert self.pager.totals()["refused"] == before + 2

    @rule(which=whichever, politely=st.booleans())
    def leave(self, which: int, politely: bool) -> None:
        model = self.one(which)
        self.alive.remove(model)
        if politely:
            model.kernel.terminate()
        else:  # as one that dies: nothing is said, its rights go
            model.kernel.control.destroy()
            model.kernel.name.destroy()
            model.kernel.memory_object.drop()

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        self.pager.check()
        assert len(self.pager.objects()) == len(self.alive)
        for disk, blocks in self.disks:
            outside = disk.data.count(0, 0, BASE) + disk.data.count(0, BASE + blocks.size)
            assert outside == len(disk.data) - blocks.size, "P1: written outside the paging file"


TestPagerMachine = PagerMachine.TestCase
TestPagerMachine.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
