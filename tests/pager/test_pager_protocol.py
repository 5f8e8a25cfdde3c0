"""The default pager's behaviour, message by message, on simulated schedules.  Numbers: reference mach.md, section 8."""

from __future__ import annotations

from collections.abc import Callable

from paging import PAGE, Disk, KernelSide, World, block_list, pattern, worlds

from mach.default_pager import (
    DefaultPagerInfo,
)
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataRequest,
    MemoryObjectDataWrite,
    MemoryObjectInit,
    MemoryObjectLockCompleted,
    MemoryObjectSetAttributes,
    VmProt,
)
from mach.message import Message
from pager.default_pager import DefaultPager


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


def slow_down(world: World, what: str) -> Callable[[], int]:
    """Have the disk take its time for reads, or for writes; tells how many there were at once, at the most."""
    under_way, most = 0, 0

    def slow(kind: str, offset: int, length: int) -> None:
        nonlocal under_way, most
        if kind == what:
            under_way += 1
            most = max(most, under_way)
            world.runtime.sleep(0.5)
            under_way -= 1

    world.disk.before = slow
    return lambda: most


def test_a_read_waits_for_earlier_writes_and_writes_run_in_parallel() -> None:
    """14: with slow writes the request waits; two writes proceed at once."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0))
        assert obj.read(0) == [pattern(0)]
        most = slow_down(world, "write")
        obj.write(0, pattern(1))
        obj.write(1, pattern(2))
        obj.request(0)
        obj.request(1)
        assert obj.collect(0) + obj.collect(1) == [pattern(1), pattern(2)]
        assert most() == 2

    worlds(body)


def test_pages_of_one_object_are_read_in_parallel() -> None:
    """Weakness 1: in Mach a page map's lock is exclusive; here it is held for as long as a look takes."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0))
        obj.write(1, pattern(1))
        world.settle()
        most = slow_down(world, "read")
        obj.request(0)
        obj.request(1)
        assert obj.collect(0) + obj.collect(1) == [pattern(0), pattern(1)]
        assert most() == 2

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
        assert world.pager.store.partition(0).map(0, 1000).count(b".") == 3

    worlds(body, seeds=5, pages=4)
