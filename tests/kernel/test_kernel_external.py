"""Memory objects of user pagers: mapped, paged, locked, cached, ended."""

from __future__ import annotations

import pytest
from simulated_machine import PAGE, Machine
from system.user_pager import Offered, UserPager
from user_pagers import mapped, with_user_pager

from kernel.vm_fault import ABSENT_MAX
from kernel.vm_object import CACHED_MAX
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectReturn,
    VmProt,
)


def test_all_who_map_an_object_see_one_memory_and_its_pager_gets_what_was_written() -> None:
    """mach.md 8.36 for any pager; 8.51: dirty pages of a permanent object go back when it ends."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        one, here = mapped(machine, offered, "one")
        two, there = mapped(machine, offered, "two")
        assert one.read(here, PAGE) == offered.initial(0)
        one.write(here + PAGE, b"seen by both")
        assert two.read(there + PAGE, 12) == b"seen by both"
        machine.squeeze()
        assert two.read(there + PAGE, 12) == b"seen by both"
        two.write(there + 2 * PAGE, b"dirty at the end")
        one.terminate()
        two.terminate()
        machine.settle()
        assert offered.content[2].startswith(b"dirty at the end")
        assert offered.terminated == 1
        assert machine.host.objects.by_id == {}
        again, address = mapped(machine, offered, "later")
        assert again.read(address + PAGE, 12) == b"seen by both"

    with_user_pager(body)


@pytest.mark.parametrize("strategy", [CopyStrategy.NONE, CopyStrategy.DELAY])
def test_a_copy_of_an_object_is_what_the_object_was(strategy: CopyStrategy) -> None:
    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        offered.strategy = strategy
        writer, here = mapped(machine, offered, "writer")
        writer.write(here, b"before")
        reader, there = mapped(machine, offered, "reader", copy=True)
        writer.write(here, b"after!")
        reader.write(there + PAGE, b"private")
        machine.squeeze()
        assert reader.read(there, 6) == b"before"
        assert writer.read(here, 6) == b"after!"
        assert writer.read(here + PAGE, PAGE) == offered.initial(1)
        assert reader.read(there + PAGE, 7) == b"private"

    with_user_pager(body)


def test_a_lock_holds_up_a_store_until_its_pager_allows_it() -> None:
    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        pager.locks = True
        task, address = mapped(machine, offered)
        assert task.read(address, 4) == b"0000"
        task.write(address, b"allowed")
        assert machine.host.pagers.counts["data_unlock"] == 1
        assert task.read(address, 7) == b"allowed"

    with_user_pager(body)


def test_a_lock_request_gives_pages_back_flushes_them_and_says_when_it_is_done() -> None:
    """mach.md Appendix A; weakness 17: what is wired is given back, too."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        host = machine.host
        task, address = mapped(machine, offered)
        for page in range(4):
            task.write(address + page * PAGE, b"dirty")
        host.vm_wire(host.host_priv, task, address, PAGE, VmProt.READ)
        pager.maintain(offered, 0, 4, False, MemoryObjectReturn.DIRTY)
        machine.settle()
        assert sorted(offered.content) == [0, 1, 2, 3]
        assert machine.resident(task, address + PAGE), "nothing was flushed"
        task.write(address, b"again")
        pager.maintain(offered, 0, 4, True, MemoryObjectReturn.ALL)
        machine.settle()
        assert offered.content[0].startswith(b"again")
        assert not machine.resident(task, address + PAGE)
        assert machine.resident(task, address), "it is wired; the flush waits"
        host.vm_wire(host.host_priv, task, address, PAGE, VmProt.NONE)
        machine.settle()
        assert not machine.resident(task, address)
        assert task.read(address, 5) == b"again"

    with_user_pager(body)


def test_an_object_that_may_persist_keeps_its_pages_when_nobody_maps_it() -> None:
    """mach.md 5.8: a hundred at the most, the oldest go first; change_attributes ends it."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        offered.may_cache = True
        task, address = mapped(machine, offered)
        task.write(address, b"cached")
        task.terminate()
        requests = machine.host.pagers.counts["data_request"]
        task, address = mapped(machine, offered)
        assert task.read(address, 6) == b"cached"
        assert (machine.host.pagers.counts["data_request"], offered.terminated) == (requests, 0)
        task.terminate()
        for _ in range(CACHED_MAX):
            other = pager.offer(1)
            other.may_cache = True
            user, where = mapped(machine, other, "user")
            user.read(where, 1)
            user.terminate()
        machine.settle()
        assert len(machine.host.objects.cached) == CACHED_MAX
        assert offered.terminated == 1
        assert offered.content[0].startswith(b"cached")
        for other in pager.objects:
            pager.stop_caching(other)
        machine.settle()
        assert machine.host.objects.by_id == {}

    with_user_pager(body, seeds=1)


def test_no_more_than_fifty_pages_of_an_object_are_asked_for_at_a_time() -> None:
    """mach.md 4.10: vm_object_absent_max."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        task, address = mapped(machine, offered)
        task.read(address, 1)
        supply, pager._supply = pager._supply, lambda *_: None  # type: ignore[method-assign]
        threads = [
            machine.runtime.fork(lambda at=at: task.read(address + at * PAGE, 1), f"reader {at}")  # type: ignore[misc]
            for at in range(1, offered.pages)
        ]
        machine.runtime.sleep(1.0)
        entry = task.map.lookup(address)
        assert entry is not None
        assert entry.object is not None
        assert entry.object.absent_count == ABSENT_MAX
        pager._supply = supply  # type: ignore[method-assign]
        for page in range(offered.pages):
            supply(offered, page, VmProt.READ)
        for thread in threads:
            thread.join()

    with_user_pager(body, seeds=1, pages=70)
