"""A disk that vanishes while others are there: P3 and P4 for a whole disk."""

from __future__ import annotations

import pytest
from paging import PAGE, Disk, World, block_list, broken, pattern, worlds

from mach.default_pager import (
    DefaultPagerPagingStorage,
    DefaultPagerPagingStorageReply,
    DefaultPagerPartitions,
    DefaultPagerPartitionsReply,
    StorageAction,
)
from mach.kern_return import KernReturn
from mach.rpc import call


def vanish(disk: Disk) -> None:
    def fail(kind: str, offset: int, length: int) -> None:
        raise broken(offset)

    disk.before = fail


def come_back(disk: Disk) -> None:
    disk.before = lambda kind, offset, length: None


def two_disks(world: World) -> Disk:
    other = Disk(world.runtime, (1 << 16) + 64 * PAGE)
    world.pager.store.add("other", other, block_list(64))
    return other


def test_what_is_written_while_a_disk_is_gone_goes_to_the_others_and_nothing_of_it_is_lost() -> None:
    """mach.md 8.19 and weakness 9, for a whole disk."""

    def body(world: World) -> None:
        two_disks(world)
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(8)))
        obj.read(7)
        vanish(world.disk)
        obj.write(4, b"".join(pattern(100 + n) for n in range(20)))  # over pages that are there, and new ones
        assert obj.read(0, 24) == [*["error"] * 4, *(pattern(100 + n) for n in range(20))]
        (record,) = [p for p in partitions(world) if p.name == "disk"]
        assert record.access.endswith(", failing")
        assert record.bad <= 3, "it is the disk, and not each of its blocks"
        come_back(world.disk)
        assert obj.read(0, 4) == [pattern(n) for n in range(4)], "what was on it is there again (P2)"
        obj.write(0, pattern(200))
        assert obj.read(0) == [pattern(200)]
        world.settle()
        assert not any("failing" in p.access for p in partitions(world)), "a write that succeeds makes it good"

    worlds(body, seeds=20)


def partitions(world: World) -> tuple:  # type: ignore[type-arg]
    records: tuple = call(  # type: ignore[type-arg]
        world.ipc, world.default_pager, DefaultPagerPartitions, DefaultPagerPartitionsReply
    ).partitions
    return records


def test_a_disk_that_is_gone_cannot_be_removed_until_nothing_is_on_it() -> None:
    def body(world: World) -> None:
        two_disks(world)
        obj = world.object()
        obj.write(0, pattern(0))
        obj.read(0)
        vanish(world.disk)

        def remove() -> DefaultPagerPagingStorageReply:
            make = lambda reply: DefaultPagerPagingStorage(reply, StorageAction.REMOVE, -1, "disk", "", ())  # noqa: E731
            return call(world.ipc, world.default_pager, make, DefaultPagerPagingStorageReply)

        assert remove().result == KernReturn.KERN_FAILURE
        obj.write(0, pattern(1))  # written again, the page has left
        assert obj.read(0) == [pattern(1)]
        assert remove().result == KernReturn.KERN_SUCCESS

    worlds(body, seeds=10)


@pytest.mark.parametrize("pages", [64, 3])
def test_when_all_disks_are_gone_pages_are_lost_and_the_pager_lives(pages: int) -> None:
    def body(world: World) -> None:
        obj = world.object()
        vanish(world.disk)
        for page in range(10):
            obj.write(page, pattern(page))
        assert obj.read(0, 10) == ["error"] * 10
        come_back(world.disk)
        obj.write(0, pattern(50))
        assert obj.read(0) == [pattern(50)]

    worlds(body, seeds=10, pages=pages)
