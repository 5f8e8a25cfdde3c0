"""Adding and removing partitions while everything runs.  Numbers: reference mach.md, section 8; weaknesses: 7.1."""

from __future__ import annotations

import random

import pytest
from paging import PAGE, Disk, KernelSide, World, block_list, broken, pattern, worlds

from mach.default_pager import DefaultPagerPagingStorage, DefaultPagerPagingStorageReply, StorageAction
from mach.kern_return import KernReturn
from mach.rpc import call
from mach.threads.simulated import SimulatedRuntime
from pager.drain import CannotRemove, drain
from pager.partition import NoPagingSpace

PAGES = 12


def filled(world: World) -> KernelSide:
    """An object with PAGES pages in the partition "disk"."""
    obj = world.object()
    obj.write(0, b"".join(pattern(n) for n in range(PAGES)))
    assert obj.read(PAGES - 1) == [pattern(PAGES - 1)]
    return obj


def add(world: World, name: str, pages: int) -> Disk:
    disk = Disk(world.runtime, (1 << 16) + pages * PAGE)
    world.pager.store.add(name, disk, block_list(pages))
    return disk


def remove(world: World, name: str) -> DefaultPagerPagingStorageReply:
    return call(
        world.ipc,
        world.default_pager,
        lambda reply: DefaultPagerPagingStorage(reply, StorageAction.REMOVE, -1, name, "", ()),
        DefaultPagerPagingStorageReply,
    )


def test_a_partition_is_emptied_into_the_others_and_forgotten() -> None:
    """25."""

    def body(world: World) -> None:
        obj = filled(world)
        add(world, "more", 20)
        assert remove(world, "disk").result is KernReturn.KERN_SUCCESS
        assert [partition.name for partition in world.pager.store.partitions()] == ["more"]
        before = len(world.disk.operations)
        assert obj.read(0, PAGES) == [pattern(n) for n in range(PAGES)]
        obj.write(3, pattern(100))
        assert obj.read(3) == [pattern(100)]
        assert len(world.disk.operations) == before, "the disk that is gone is left alone"
        add(world, "disk", 4)
        assert [partition.index for partition in world.pager.store.partitions()] == [0, 1], "its index is used again"

    worlds(body)


def test_pages_leave_in_the_order_of_the_disk() -> None:
    """Wish 6: swapoff's random order is what makes it slow."""

    def body(world: World) -> None:
        obj = world.object()
        for page in random.Random(3).sample(range(PAGES), PAGES):
            obj.write(page, pattern(page))
        world.settle()
        add(world, "more", 20)
        world.disk.operations.clear()
        remove(world, "disk")
        reads = [(offset, length) for kind, offset, length in world.disk.operations if kind == "read"]
        assert reads == sorted(reads)
        assert sum(length for _, length in reads) == PAGES * PAGE

    worlds(body, seeds=3)


def test_pages_that_lie_together_are_moved_with_one_read_and_one_write() -> None:
    def body(world: World) -> None:
        filled(world)
        more = add(world, "more", 20)
        world.disk.operations.clear()
        remove(world, "disk")
        assert [(kind, length) for kind, _, length in world.disk.operations] == [("read", PAGES * PAGE)]
        assert [(kind, length) for kind, _, length in more.operations] == [("write", PAGES * PAGE)]

    worlds(body, seeds=3)


def test_without_room_elsewhere_the_partition_stays_and_serves() -> None:
    """25, weakness 3: Mach leaves the partition's lock held, and the next allocation hangs."""

    def body(world: World) -> None:
        obj = filled(world)
        add(world, "small", PAGES - 1)
        reply = remove(world, "disk")
        assert reply.result is KernReturn.KERN_RESOURCE_SHORTAGE
        assert "12 pages" in reply.words
        obj.write(PAGES, pattern(PAGES))
        assert obj.read(0, PAGES + 1) == [pattern(n) for n in range(PAGES + 1)]
        assert world.pager.store.find("disk").used_slots() >= {0, PAGES}

    worlds(body)


def test_a_page_that_cannot_be_read_stops_the_removal_and_is_left_alone() -> None:
    def body(world: World) -> None:
        obj = filled(world)
        add(world, "more", 20)
        bad = (1 << 16) + 5 * PAGE

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "read" and offset <= bad < offset + length:
                raise broken(bad)

        world.disk.before = fail
        reply = remove(world, "disk")
        assert reply.result is KernReturn.KERN_FAILURE
        assert "cannot be read" in reply.words
        world.disk.before = lambda kind, offset, length: None
        assert obj.read(0, PAGES) == [pattern(n) for n in range(PAGES)], "and when it can be read again, it is there"

    worlds(body)


def test_a_rotten_page_is_not_moved_as_if_it_were_good() -> None:
    def body(world: World) -> None:
        obj = filled(world)
        add(world, "more", 20)
        world.disk.data[(1 << 16) + 5 * PAGE] ^= 1
        assert "fails its check" in remove(world, "disk").words
        assert obj.read(0, PAGES) == [pattern(n) if n != 5 else "error" for n in range(PAGES)]

    worlds(body, seeds=3)


def test_a_bad_block_where_a_page_is_moved_to_costs_only_that_block() -> None:
    def body(world: World) -> None:
        obj = filled(world)
        more = add(world, "more", 20)
        bad = (1 << 16) + 2 * PAGE

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "write" and offset <= bad < offset + length:
                raise broken(bad)

        more.before = fail
        assert remove(world, "disk").result is KernReturn.KERN_SUCCESS
        assert obj.read(0, PAGES) == [pattern(n) for n in range(PAGES)]
        assert world.pager.store.find("more").bad == 1

    worlds(body, seeds=4)


def test_while_no_disk_takes_a_write_a_removal_is_refused_and_can_be_asked_again() -> None:
    """Disks that fail as a whole do not use their slots up: the removal must not try for ever."""

    def body(world: World) -> None:
        obj = filled(world)
        disks = [world.disk, add(world, "more", 40)]

        def no_write(kind: str, offset: int, length: int) -> None:
            if kind == "write":
                raise broken(offset)

        for disk in disks:
            disk.before = no_write
        lost = world.object()
        while not all(partition.is_failing for partition in world.pager.store.partitions()):
            lost.write(0, pattern(0))
            world.settle()
        reply = remove(world, "disk")
        assert reply.result is KernReturn.KERN_FAILURE
        assert "more" in reply.words
        assert obj.read(0, PAGES) == [pattern(n) for n in range(PAGES)]
        for disk in disks:
            disk.before = lambda kind, offset, length: None
        assert remove(world, "disk").result is KernReturn.KERN_SUCCESS
        assert obj.read(0, PAGES) == [pattern(n) for n in range(PAGES)]

    worlds(body)


def test_a_removal_can_be_cancelled() -> None:
    def body(world: World) -> None:
        obj = world.object()
        for page in reversed(range(PAGES)):  # neighbours on the disk are not neighbours in the object: 12 moves
            obj.write(page, pattern(page))
        world.settle()
        add(world, "more", 20)
        asked = iter(range(PAGES))
        with pytest.raises(CannotRemove, match="cancelled"):
            drain(world.pager, world.pager.store.find("disk"), cancelled=lambda: next(asked) == 4)
        assert 0 < len(world.pager.store.find("disk").used_slots()) < PAGES
        assert not world.pager.store.find("disk").going_away
        assert obj.read(0, PAGES) == [pattern(n) for n in range(PAGES)]

    worlds(body, seeds=4)


def test_names_are_whole_names() -> None:
    """26, weakness 10: Mach takes "ba" for "ab"."""

    def body(world: World) -> None:
        add(world, "ab", 4)
        assert remove(world, "ba").result is KernReturn.KERN_INVALID_ARGUMENT
        add(world, "ba", 4)
        assert remove(world, "ba").result is KernReturn.KERN_SUCCESS
        assert [partition.name for partition in world.pager.store.partitions()] == ["disk", "ab"]

    worlds(body, seeds=2)


def test_two_removals_at_once_are_one() -> None:
    def body(world: World) -> None:
        filled(world)
        add(world, "more", 20)
        world.disk.before = lambda kind, offset, length: world.runtime.sleep(0.1)
        replies: list[DefaultPagerPagingStorageReply] = []
        threads = [world.runtime.fork(lambda: replies.append(remove(world, "disk")), f"remover {n}") for n in range(2)]
        for thread in threads:
            thread.join()
        assert sorted(reply.result for reply in replies)[0] is KernReturn.KERN_SUCCESS
        assert len([reply for reply in replies if reply.result is KernReturn.KERN_SUCCESS]) == 1

    worlds(body)


def busy_client(world: World, seed: int) -> None:
    """Writes and reads at random; every answer is the model's."""
    chance = random.Random(seed)
    obj = world.object()
    model: dict[int, bytes] = {}
    for step in range(40):
        page = chance.randrange(PAGES)
        if chance.random() < 0.5:
            model[page] = pattern(seed, step)
            obj.write(page, model[page])
        else:
            assert obj.read(page) == [model.get(page, "unavailable")]
    assert obj.read(0, PAGES) == [model.get(page, "unavailable") for page in range(PAGES)]
    if chance.random() < 0.5:
        obj.terminate()


@pytest.mark.parametrize("block", range(5))
def test_partitions_come_and_go_under_load_and_no_page_is_lost(block: int) -> None:
    """27: concurrent page-in during a removal gives neither stale nor lost data, in 100 schedules."""
    for seed in range(block * 20, block * 20 + 20):
        runtime = SimulatedRuntime(seed)

        def run(seed: int = seed, runtime: SimulatedRuntime = runtime) -> None:
            world = World(runtime, pages=60, threads=1 + seed % 4)
            chance = random.Random(seed)
            world.disk.before = lambda *_: runtime.sleep(chance.random() * 0.01) if chance.random() < 0.3 else None
            clients = [runtime.fork(lambda n=n: busy_client(world, seed * 7 + n), f"client {n}") for n in range(3)]
            for round_number in range(3):
                if chance.random() < 0.6:
                    add(world, f"extra {round_number}", chance.choice((10, 60)))
                runtime.sleep(chance.random() * 0.2)
                partitions = world.pager.store.partitions()
                if len(partitions) > 1 or partitions[0].used_slots():  # the last one, empty, would be gone for good
                    remove(world, chance.choice(partitions).name)
            for thread in clients:
                thread.join()
            world.settle()
            world.pager.check()
            assert world.pager.totals()["page_errors"] == 0

        runtime.run(run)


def test_a_partition_found_empty_takes_no_page_between_that_and_its_end() -> None:
    """27: while there is room nowhere else a partition that is going away still takes pages, until it is closed."""

    def body(world: World) -> None:
        partition = world.pager.store.partition(0)
        assert partition.begin_going_away()
        index, slot, _ = world.pager.store.allocate(1)
        assert index == 0
        assert not partition.close()
        partition.free_slot(slot)
        assert partition.close()
        with pytest.raises(NoPagingSpace):
            world.pager.store.allocate(1)
        partition.stay()

    worlds(body, seeds=1)
