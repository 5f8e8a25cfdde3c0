"""The default pager's behaviour, message by message, on simulated schedules.  Numbers: reference mach.md, section 8."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from paging import PAGE, Disk, KernelSide, block_list, broken, make_pager, pattern

from mach.default_pager import (
    DefaultPagerInfo,
    DefaultPagerInfoReply,
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerObjects,
    DefaultPagerObjectsReply,
    DefaultPagerPartitionMap,
    DefaultPagerPartitionMapReply,
    PageState,
)
from mach.kern_return import KernReturn
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataRequest,
    MemoryObjectDataWrite,
    MemoryObjectInit,
    MemoryObjectLockCompleted,
    MemoryObjectSetAttributes,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.ports import Ipc, SendRight
from mach.rpc import call
from mach.threads import Runtime
from mach.threads.simulated import SimulatedRuntime
from pager.default_pager import DefaultPager
from pager.partition import FREE


class World:
    """One pager, one disk, on one runtime."""

    def __init__(self, runtime: Runtime, pages: int = 64, threads: int = 3) -> None:
        self.runtime = runtime
        self.ipc = Ipc(runtime)
        self.pager, self.disk = make_pager(runtime, self.ipc, pages, threads)
        self.default_pager: SendRight = self.pager.port.make_send()
        self.reports: list[str] = []
        self.pager.report = self.reports.append

    def object(self, size: int = 1 << 20) -> KernelSide:
        return KernelSide(self.runtime, self.ipc, self.default_pager, size)

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


def test_a_page_comes_back_as_it_was_written_and_costs_one_block() -> None:
    """11, 12, 44: out and in; the same block again for the same page; a clean page is not written."""

    def body(world: World) -> None:
        obj = world.object(8 * PAGE)
        before = world.free
        obj.write(3, pattern(1))
        assert obj.read(3) == [pattern(1)]
        assert world.free == before - 1
        slot = world.pager.objects()[0].map.entry(3)
        obj.write(3, pattern(2))
        assert obj.read(3, access=VmProt.READ | VmProt.WRITE) == [pattern(2)]
        now = world.pager.objects()[0].map.entry(3)
        assert slot is not None
        assert now is not None
        assert (now.slot, now.generation) == (slot.slot, slot.generation + 1)
        assert world.free == before - 1

    worlds(body)


def test_a_page_paged_in_for_writing_is_kept_until_it_is_written_again() -> None:
    """40, weakness 8: Mach frees the block at once, and a fault that is then abandoned has lost the page."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        for _ in range(3):
            assert obj.read(0, access=VmProt.READ | VmProt.WRITE) == [pattern(1)]

    worlds(body)


def test_a_page_never_written_is_unavailable() -> None:
    """13."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(1, pattern(1))
        assert obj.read(0, count=3) == ["unavailable", pattern(1), "unavailable"]
        assert obj.read(1 << 30) == ["unavailable"], "far beyond its size (Mach panics)"

    worlds(body)


def test_a_read_waits_for_earlier_writes_and_writes_run_in_parallel() -> None:
    """14: with slow writes the request waits; two writes proceed at once."""

    def body(world: World) -> None:
        under_way = [0, 0]

        def slow(kind: str, offset: int, length: int) -> None:
            if kind == "write":
                under_way[0] += 1
                under_way[1] = max(under_way)
                world.runtime.sleep(0.5)
                under_way[0] -= 1

        obj = world.object()
        obj.write(0, pattern(0))
        assert obj.read(0) == [pattern(0)]
        world.disk.before = slow
        obj.write(0, pattern(1))
        obj.write(1, pattern(2))
        obj.request(0)
        obj.request(1)
        assert obj.collect(0) + obj.collect(1) == [pattern(1), pattern(2)]
        assert under_way[1] == 2

    worlds(body)


def test_of_two_writes_of_one_page_the_later_one_stands() -> None:
    """P2: never an old version.  Mach orders them only by what its kernel happens not to do (3.5)."""

    def body(world: World) -> None:
        obj = world.object()
        for version in range(12):
            obj.write(5, pattern(version))
        assert obj.read(5) == [pattern(11)]

    worlds(body, seeds=40)


def test_messages_act_in_the_order_of_their_sequence_numbers() -> None:
    """15: two threads hold messages of one object, the later one gets the processor first."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0))
        world.settle()
        memory_object = world.pager.objects()[0]
        at = memory_object._seqno
        order: list[int] = []

        def act(seqno: int) -> None:
            with memory_object.lock:
                memory_object.take_turn(seqno)
                order.append(seqno)
                memory_object.pass_turn()

        late = world.runtime.fork(lambda: act(at + 1), "late")
        world.runtime.sleep(0.1)
        early = world.runtime.fork(lambda: act(at), "early")
        late.join()
        early.join()
        assert order == [at, at + 1]
        memory_object._seqno = at  # as the port counts

    worlds(body)


def test_terminate_waits_for_readers_and_nothing_leaks() -> None:
    """16: over many objects the free count returns to where it was."""

    def body(world: World) -> None:
        before = world.free

        def slow(kind: str, offset: int, length: int) -> None:
            world.runtime.sleep(0.01)

        world.disk.before = slow
        for number in range(40):
            obj = world.object()
            obj.write(0, pattern(number) + pattern(number, 1))
            assert obj.read(0, count=2) == [pattern(number), pattern(number, 1)]
            obj.write(1, pattern(number, 2))
            obj.terminate()
        world.settle()
        assert world.free == before
        assert world.pager.objects() == []
        assert world.pager.totals()["objects_terminated"] == 40

    worlds(body, seeds=4)


def test_initial_data_never_replaces_what_was_paged_out() -> None:
    """17, 18: and a page beyond what the object has so far is stored (Mach panics)."""

    def body(world: World) -> None:
        obj = world.object(2 * PAGE)
        obj.write(1, pattern(1))
        obj.initialize(0, pattern(10) + pattern(11) + pattern(12))
        obj.initialize(1000, pattern(13))
        assert obj.read(0, count=3) == [pattern(10), pattern(1), pattern(12)]
        assert obj.read(1000) == [pattern(13)]

    worlds(body)


def test_a_bad_block_costs_a_retry_not_a_page() -> None:
    """19, P3, weakness 9: the block is retired, the page goes elsewhere, its neighbours never notice."""

    def body(world: World) -> None:
        bad = (1 << 16) + 2 * PAGE

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "write" and offset <= bad < offset + length:
                raise broken(bad)

        world.disk.before = fail
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(8)))
        assert obj.read(0, count=8) == [pattern(n) for n in range(8)]
        partition = world.pager.store.partition(0)
        assert partition.bad == 1
        assert partition.map(0, 4) == b"##x#"

    worlds(body)


def test_a_page_that_cannot_be_written_anywhere_is_an_error_and_only_that_page() -> None:
    """19, 21: neither zeros nor its older content (P2)."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1))
        obj.read(0, count=2)

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "write":
                raise broken(offset)

        world.disk.before = fail
        obj.write(1, pattern(2))
        assert obj.read(0, count=2) == [pattern(0), "error"]
        world.disk.before = lambda kind, offset, length: None
        obj.write(1, pattern(3))
        assert obj.read(0, count=2) == [pattern(0), pattern(3)], "a new write makes it good again"
        assert ["the disk fails" in words for words in world.reports] == [True, False]
        assert world.reports[1] == "pages are written again"

    worlds(body)


def test_a_read_error_is_answered_once_and_may_pass() -> None:
    """20: the object is not poisoned."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1) + pattern(2))
        assert obj.read(0) == [pattern(0)]
        slot = (1 << 16) + PAGE

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "read" and offset <= slot < offset + length:
                raise broken(slot)

        world.disk.before = fail
        assert obj.read(0, count=3) == [pattern(0), "error", pattern(2)]
        world.disk.before = lambda kind, offset, length: None
        assert obj.read(0, count=3) == [pattern(0), pattern(1), pattern(2)]

    worlds(body)


@pytest.mark.parametrize("damage", ["flipped bit", "torn page", "another page", "older version", "zeros"])
def test_a_page_that_changed_on_the_disk_is_an_error_never_data(damage: str) -> None:
    """P2: BLAKE3, keyed by object, page and generation, sees rot, tears, misdirection and staleness."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1))
        obj.read(0)
        base = 1 << 16
        older = bytes(world.disk.data[base : base + PAGE])
        obj.write(0, pattern(2))
        assert obj.read(0, count=2) == [pattern(2), pattern(1)]
        page = memoryview(world.disk.data)[base : base + PAGE]
        if damage == "flipped bit":
            page[1234] ^= 4
        elif damage == "torn page":
            page[512:] = older[512:]
        elif damage == "another page":
            page[:] = world.disk.data[base + PAGE : base + 2 * PAGE]
        elif damage == "older version":
            page[:] = older
        else:
            page[:] = bytes(PAGE)
        assert obj.read(0, count=2) == ["error", pattern(1)]
        assert world.pager.totals()["page_errors"] == 1

    worlds(body, seeds=2)


def test_objects_span_partitions() -> None:
    """22, 24, 52: an object larger than any partition; what the first cannot take goes to the second."""

    def body(world: World) -> None:
        obj = world.object(64 * PAGE)
        second = Disk(world.runtime, 1 << 20)
        world.pager.store.add("second", second, block_list(8))
        obj.write(0, b"".join(pattern(n) for n in range(12)))
        assert obj.read(0, count=12) == [pattern(n) for n in range(12)]
        assert {entry.partition for _, entry in world.pager.objects()[0].map.pages(0)} == {0, 1}

    worlds(body, pages=8)


def test_without_space_one_write_fails_and_added_space_resumes() -> None:
    """23, 48, P4: what was paged out stays readable; the pager lives."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(4)))
        obj.read(3)
        obj.write(4, pattern(4))
        obj.write(0, pattern(100))  # has a block: needs none
        assert obj.read(0, count=5) == [pattern(100), pattern(1), pattern(2), pattern(3), "error"]
        world.pager.store.add("more", Disk(world.runtime, 1 << 20), block_list(4))
        obj.write(4, pattern(5))
        assert obj.read(4) == [pattern(5)]
        assert [words.split(":")[0] for words in world.reports] == ["out of paging space", "pages are written again"]

    worlds(body, pages=4)


def test_a_cluster_too_big_for_what_is_left_is_stored_as_far_as_it_goes() -> None:
    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(6)))
        answers = obj.read(0, count=6)
        assert sorted(answers, key=str).count("error") == 2
        assert all(answer in ("error", pattern(n)) for n, answer in enumerate(answers))

    worlds(body, pages=4)


def bad_messages(obj: KernelSide) -> list[Message]:
    control = obj.control.make_send
    return [
        MemoryObjectDataRequest(control(), 0, 0, VmProt.READ),
        MemoryObjectDataRequest(control(), 100, PAGE, VmProt.READ),
        MemoryObjectDataRequest(control(), 0, PAGE + 1, VmProt.READ),
        MemoryObjectDataRequest(control(), 0, 1 << 62, VmProt.READ),
        MemoryObjectDataRequest(control(), (1 << 64) - PAGE, PAGE, VmProt.READ),
        MemoryObjectDataWrite(control(), 0, b""),
        MemoryObjectDataWrite(control(), 0, b"x" * 100),
        MemoryObjectDataWrite(control(), 17, bytes(PAGE)),
        MemoryObjectDataWrite(control(), 0, bytes((1 << 20) + PAGE)),
        MemoryObjectDataWrite(control(), (1 << 64) - PAGE, bytes(PAGE)),
        MemoryObjectInit(control(), control(), PAGE),
        MemoryObjectLockCompleted(control(), 0, PAGE),
        DefaultPagerInfo(obj.name.make_send_once()),
        MemoryObjectSetAttributes(1, 0, 0),
    ]


def test_messages_that_break_the_protocol_are_refused_and_nothing_else_happens() -> None:
    """47, P7, weakness 13: Mach panics on each of these."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        wrong = bad_messages(obj)
        for message in wrong:
            obj.send(message)
        world.default_pager.send(MemoryObjectSetAttributes(1, 0, 0), always=True)
        port = world.ipc.allocate("object of another page size")
        right = port.make_send()
        world.default_pager.send(MemoryObjectCreate(port, PAGE, obj.control.make_send(), obj.name.make_send(), 512))
        assert obj.read(0) == [pattern(1)]
        world.settle()
        assert world.pager.totals()["refused"] == len(wrong) + 2
        assert obj.control.port.send_rights == 1, "their rights are dropped: only create's is left"
        assert right.dead

    worlds(body, seeds=3)


def test_messages_sent_before_the_pager_serves_are_not_lost() -> None:
    """1: registered only; three creates and their first pages wait."""

    def body(world: World) -> None:
        pager = DefaultPager(world.runtime, world.ipc, PAGE)
        pager.store.add("late", Disk(world.runtime, 1 << 20), block_list(16))
        right = pager.port.make_send()
        objects = [KernelSide(world.runtime, world.ipc, right) for _ in range(3)]
        for number, obj in enumerate(objects):
            obj.write(0, pattern(number))
        pager.start(2)
        assert [obj.read(0) for obj in objects] == [[pattern(0)], [pattern(1)], [pattern(2)]]
        assert [obj.object_id for obj in pager.objects()] == [1, 2, 3]

    worlds(body)


def test_a_page_read_takes_two_lock_pairs() -> None:
    """38, paper 7.2: nine at first, four after tuning.  The pager's own bookkeeping of a message is counted apart."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        obj.read(0)
        world.settle()
        before = dict(world.runtime.lock_pairs())
        for _ in range(10):
            assert obj.read(0) == [pattern(1)]
            world.settle()
        after = world.runtime.lock_pairs()
        assert after["memory object"] - before["memory object"] == 20
        assert after["partition"] == before["partition"]
        assert after["partitions"] == before["partitions"]

    worlds(body, seeds=1)


def test_no_lock_is_held_while_the_disk_works() -> None:
    """38."""

    def body(world: World) -> None:
        held: list[str] = []

        def look(kind: str, offset: int, length: int) -> None:
            held.extend(mutex.name for mutex in world.runtime.current().held)

        world.disk.before = look
        obj = world.object()
        obj.write(0, pattern(1))
        obj.read(0)
        obj.terminate()
        world.settle()
        assert held == []

    worlds(body, seeds=4)


def test_nothing_but_the_partitions_blocks_is_written() -> None:
    """P1."""

    def body(world: World) -> None:
        obj = world.object()
        for page in range(64):
            obj.write(page, pattern(page))
        obj.read(63)
        world.settle()
        start, end = 1 << 16, (1 << 16) + 64 * PAGE
        assert not any(world.disk.data[:start])
        assert not any(world.disk.data[end:])
        assert all(start <= at and at + n <= end for kind, at, n in world.disk.operations if kind == "write")

    worlds(body, seeds=2)


def test_a_shared_object_is_made_mapped_and_goes_with_its_last_right() -> None:
    """36, the pager's part: init is answered with set_attributes(ready); terminate and re-map keep the content."""

    def body(world: World) -> None:
        reply = call(
            world.ipc,
            world.default_pager,
            lambda right: DefaultPagerObjectCreate(right, 8 * PAGE),
            DefaultPagerObjectCreateReply,
        )
        right = reply.memory_object
        assert right is not None
        for round_number in range(2):
            answers: list[Message] = []
            control = world.ipc.allocate("control", kobject=answers.append)
            name = world.ipc.allocate("name")
            right.send(MemoryObjectInit(control.make_send(), name.make_send(), PAGE))
            world.settle()
            assert isinstance(answers.pop(), MemoryObjectSetAttributes)
            if round_number == 0:
                right.send(MemoryObjectDataWrite(control.make_send(), 0, pattern(1)))
            right.send(MemoryObjectDataRequest(control.make_send(), 0, PAGE, VmProt.READ))
            world.settle()
            assert answers.pop().data == pattern(1)
            control.resign_kobject()
            right.send(MemoryObjectTerminate(control, name))
            world.settle()
        assert world.free == 63
        right.drop()
        world.settle()
        assert world.free == 64

    worlds(body, seeds=5)


def test_what_the_service_tells_is_exact() -> None:
    """37: objects, pages with exact offsets beyond 64 pages, the map, the paged image."""

    def body(world: World) -> None:
        obj = world.object(200 * PAGE)
        numbers = [0, 5, 63, 64, 150]
        for page in numbers:
            obj.write(page, pattern(page))
        obj.read(150)
        world.settle()
        ask = lambda make, reply: call(world.ipc, world.default_pager, make, reply)  # noqa: E731
        info = ask(DefaultPagerInfo, DefaultPagerInfoReply)
        assert (info.total_space, info.free_space, info.page_size, info.objects) == (64 * PAGE, 59 * PAGE, PAGE, 1)
        (record,) = ask(lambda r: DefaultPagerObjects(r, 0), DefaultPagerObjectsReply).objects
        assert (record.size, record.paged, record.pageouts, record.pageins) == (200 * PAGE, 5 * PAGE, 5, 1)
        assert ask(lambda r: DefaultPagerObjects(r, 1), DefaultPagerObjectsReply).objects == ()
        pages = ask(lambda r: DefaultPagerObjectPages(r, 1, 0), DefaultPagerObjectPagesReply).pages
        assert [page.offset for page in pages] == [page * PAGE for page in numbers]
        for page in pages:
            assert bytes(world.disk.data[page.device_offset :][:PAGE]) == pattern(page.offset // PAGE)
            assert page.state is PageState.IDLE
        content = ask(lambda r: DefaultPagerPartitionMap(r, 0, 0), DefaultPagerPartitionMapReply).data
        assert (content.count(b"#"), content.count(b".")) == (5, 59)
        read = ask(lambda r: DefaultPagerObjectRead(r, 1, 4 * PAGE + 100, 2 * PAGE), DefaultPagerObjectReadReply)
        assert read.data == (bytes(PAGE) + pattern(5) + bytes(PAGE))[100 : 100 + 2 * PAGE]
        for request in (lambda r: DefaultPagerObjectPages(r, 9, 0), lambda r: DefaultPagerObjectRead(r, 9, 0, 1)):
            assert call(world.ipc, world.default_pager, request, Message).result is KernReturn.KERN_INVALID_ARGUMENT

    worlds(body, seeds=3)


def test_looking_changes_nothing() -> None:
    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        obj.read(0)
        world.settle()
        image = bytes(world.disk.data)
        call(
            world.ipc,
            world.default_pager,
            lambda right: DefaultPagerObjectRead(right, 1, 0, 64 * PAGE),
            DefaultPagerObjectReadReply,
        )
        assert bytes(world.disk.data) == image
        record = call(
            world.ipc, world.default_pager, lambda right: DefaultPagerObjects(right, 0), DefaultPagerObjectsReply
        ).objects[0]
        assert (record.pageins, record.pageouts) == (1, 1)

    worlds(body, seeds=2)


def test_zero_bytes_from_a_device_do_not_loop_for_ever() -> None:
    """45, 46: a device that gives less than asked is an error of its page, not a loop."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        obj.read(0)
        whole = world.disk.read
        for short in (0, 512):
            world.disk.read = lambda offset, length, short=short: whole(offset, length)[:short]
            assert obj.read(0) == ["error"]
        world.disk.read = whole
        assert obj.read(0) == [pattern(1)]

    worlds(body, seeds=2)


def test_a_new_object_never_shows_what_an_earlier_one_left() -> None:
    """P7: the block is reused, its content is not handed out."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(4)))
        obj.terminate()
        world.settle()
        other = world.object()
        assert other.read(0, count=4) == ["unavailable"] * 4
        other.write(1, pattern(9))
        assert other.read(0, count=4) == ["unavailable", pattern(9), "unavailable", "unavailable"]
        assert world.pager.store.partition(0)._states.count(FREE) == 3

    worlds(body, seeds=5, pages=4)
