"""Memory objects of user pagers: mapped, paged, locked, cached, ended; pagers that are late, silent, hostile, dead."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of
from system.user_pager import Offered, UserPager

from kernel.vm_fault import ABSENT_MAX
from kernel.vm_object import CACHED_MAX
from mach.kern_return import KernReturn, MachError
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectChangeAttributes,
    MemoryObjectDataError,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDestroy,
    MemoryObjectLockRequest,
    MemoryObjectReady,
    MemoryObjectReturn,
    MemoryObjectSetAttributes,
    VmProt,
)
from mach.message import Message
from mach.page_list import vm_deallocate
from mach.ports import drop_rights


def plain_pager(machine: Machine) -> UserPager:
    """A user pager without habits."""
    pager = UserPager(machine.runtime, machine.ipc, 0)
    pager.latency, pager.locks, pager.gives_away, pager.repeats = 0.0, False, False, False
    return pager


def with_user_pager(body: Callable[[Machine, UserPager, Offered], None], seeds: int = 3, pages: int = 12) -> None:
    def run(machine: Machine) -> None:
        pager = plain_pager(machine)
        pager.start()
        offered = pager.offer(pages)
        offered.strategy, offered.may_cache, offered.new_protocol = CopyStrategy.DELAY, False, True
        body(machine, pager, offered)
        assert pager.broken == []

    for seed in range(seeds):
        on_machine(run, seed=seed)


def mapped(machine: Machine, offered: Offered, name: str = "program", **how: object) -> tuple[object, int]:
    task = machine.host.task_create(name)
    right = offered.port.make_send()
    address = task.vm_map(right, offered.pages * PAGE, **how)  # type: ignore[arg-type]
    right.drop()
    return task, address


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


class Silent(UserPager):
    """It takes every message and answers none; it keeps what it is sent."""

    def _handle(self, offered: Offered, message: Message) -> None:
        if not self.dead and not hasattr(message, "size"):
            self.kept = [*getattr(self, "kept", []), message]


def test_a_pager_that_hangs_is_a_memory_error_after_the_time_that_was_set() -> None:
    """P5, as configured; the task can be ended, and the machine goes on."""

    def body(machine: Machine) -> None:
        pager = Silent(machine.runtime, machine.ipc, 0)
        pager.start()
        offered = pager.offer(4)
        task, address = mapped(machine, offered)
        machine.host.vm_fault.pager_seconds = 5.0
        for _ in range(2):
            with pytest.raises(MachError) as late:
                task.read(address, 1)
            assert late.value.code == KernReturn.KERN_MEMORY_ERROR
        with pytest.raises(MachError):
            mapped(machine, offered, "copier", copy=True)
        machine.memory(300)[0].write(4096, b"the machine goes on")
        task.terminate()

    on_machine(body)


def test_a_task_whose_pager_never_answers_can_be_ended() -> None:
    def body(machine: Machine) -> None:
        pager = plain_pager(machine)
        pager.start()
        offered = pager.offer(4)
        task, address = mapped(machine, offered)
        task.read(address, 1)
        pager._supply = lambda *_: None  # type: ignore[method-assign]
        codes: list[KernReturn] = []

        def reader() -> None:
            with pytest.raises(MachError) as ended:
                task.read(address + PAGE, 1)
            codes.append(ended.value.code)

        thread = machine.runtime.fork(reader, "reader")
        machine.runtime.sleep(1.0)
        task.terminate()
        thread.join()
        assert codes == [KernReturn.KERN_INVALID_ADDRESS]

    on_machine(body)


def test_pages_that_a_user_pager_does_not_free_go_to_the_default_pager() -> None:
    """mach.md 8.9, 4.6: what is in transit to a pager that promises nothing is pageable, and is paged twice."""

    def body(machine: Machine) -> None:
        pager = plain_pager(machine)
        stored: list[Message] = []
        pager._store = lambda offered, message: stored.append(message)  # type: ignore[method-assign, assignment]
        pager.start()
        offered = pager.offer(200)
        task, address = mapped(machine, offered)
        for page in range(offered.pages):
            task.write(address + page * PAGE, b"dirty")
        machine.squeeze()
        machine.squeeze()
        assert len(stored) > 100
        in_memory = machine.host.resident.store.frames - machine.host.resident.free_count
        assert in_memory < 250
        assert len(machine.pager.objects) > 50, "each page in transit became an object of the default pager"
        for message in stored:
            vm_deallocate(message.data)  # type: ignore[attr-defined]
            drop_rights(message)
        task.terminate()
        machine.settle()
        assert machine.pager.objects == []

    on_machine(body)


def test_short_of_memory_a_page_to_a_user_pager_is_the_next_to_be_paged_again() -> None:
    """mach.md 8.9: below reserved_internal it goes to the head of the queue; the default pager gets a new object."""

    def body(machine: Machine) -> None:
        pager = plain_pager(machine)
        pager._store = lambda offered, message: None  # type: ignore[method-assign, assignment]
        pager.start()
        task, address = mapped(machine, pager.offer(30))
        for page in range(30):
            task.write(address + page * PAGE, b"dirty")
        resident = machine.host.resident
        machine.host.thread_wire(machine.host.host_priv, machine.runtime.current(), True)
        hog, elsewhere = machine.memory(resident.store.frames)
        at = 0
        while resident.free_count >= resident.thresholds.reserved_internal - 1:
            hog.write(elsewhere + at * PAGE, b"x")
            at += 1
        machine.host.thread_wire(machine.host.host_priv, machine.runtime.current(), False)
        machine.host.start()
        machine.settle()
        assert machine.host.pageout.counts["double_paged"] > 0
        assert any(entry.size == PAGE for entry in machine.pager.objects)

    on_machine(body, daemon=False)


HOSTILE: list[Callable[[], Message]] = [
    lambda: MemoryObjectDataSupply(0, VmProt.ALL, 1, None, b"short"),
    lambda: MemoryObjectDataSupply(1 << 62, VmProt.NONE, 0, None, page_of("far away")),
    lambda: MemoryObjectDataUnavailable(0, (1 << 64) - 1),
    lambda: MemoryObjectDataError((1 << 64) - PAGE, PAGE, 99),
    lambda: MemoryObjectLockRequest(0, (1 << 64) - PAGE, MemoryObjectReturn.ALL, 1, 8, None),
    lambda: MemoryObjectLockRequest(5, 7, MemoryObjectReturn.ALL, 1, 8, None),
    lambda: MemoryObjectLockRequest(0, PAGE, MemoryObjectReturn.ALL, 1, 77, None),
    lambda: MemoryObjectSetAttributes(0, 1, CopyStrategy.TEMPORARY),
    lambda: MemoryObjectChangeAttributes(1, CopyStrategy.CALL, None),
    lambda: MemoryObjectReady(1, CopyStrategy.NONE),
]


def test_whatever_a_pager_says_harms_nobody_but_its_own_object() -> None:
    """P7, kernel's side: hostile messages at every point; another pager's object and temporary memory are untouched."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        good = plain_pager(machine)
        good.start()
        theirs = good.offer(6)
        theirs.strategy = CopyStrategy.DELAY
        victim, safe = mapped(machine, theirs, "victim")
        task, address = mapped(machine, offered)
        own, temporary = machine.memory(20)
        own.write(temporary, page_of("own") * 20)
        victim.write(safe, page_of("theirs"))
        task.read(address, 1)
        for make in HOSTILE:
            for _ in range(2):
                pager._send(offered, make())
                with suppress(MachError):  # its own users may get errors
                    task.write(address + PAGE, b"x")
                    task.read(address, offered.pages * PAGE)
            machine.host.check()
        machine.squeeze()
        assert own.read(temporary, 20 * PAGE) == page_of("own") * 20
        assert victim.read(safe, PAGE) == page_of("theirs")
        pager.broken.clear()
        pager._send(offered, MemoryObjectDestroy(0))
        assert victim.read(safe, PAGE) == page_of("theirs")
        machine.host.check()

    with_user_pager(body, seeds=2)


def test_what_a_dead_user_pager_had_is_an_error_and_what_is_in_memory_stays() -> None:
    """P5: never zeros; what is resident is temporary memory from now on, and goes to the default pager."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        task, address = mapped(machine, offered)
        task.write(address, b"in memory")
        assert task.read(address + PAGE, 4) == b"0000"
        pager.die()
        assert task.read(address, 9) == b"in memory"
        with pytest.raises(MachError) as failed:
            task.read(address + 4 * PAGE, 1)
        assert failed.value.code == KernReturn.KERN_MEMORY_ERROR
        machine.squeeze()
        assert not machine.resident(task, address)
        assert task.read(address, 9) == b"in memory"
        assert task.read(address + PAGE, 4) == b"0000", "clean, but its only copy after the death"
        task.terminate()
        machine.settle()
        assert machine.host.objects.by_id == {}

    with_user_pager(body)


def test_a_copy_of_a_dead_pagers_object_gets_errors_not_zeros_when_chains_are_made_short() -> None:
    """P2, P5: what a dead pager's object has not in memory is lost, and collapse must not make zeros of it."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        task, address = mapped(machine, offered)
        assert task.read(address + PAGE, 4) == b"0000"
        pager.die()
        copy = task.vm_allocate(3 * PAGE)
        task.vm_copy(address, 3 * PAGE, copy)
        task.write(
            address + PAGE, page_of("new")
        )  # the old page goes to the copy object, which hides all that is there
        machine.squeeze()
        assert task.read(copy + PAGE, 4) == b"0000"
        with pytest.raises(MachError) as failed:
            task.read(copy, 1)
        assert failed.value.code == KernReturn.KERN_MEMORY_ERROR

    with_user_pager(body)


def test_a_mapping_of_a_dead_port_is_memory_errors() -> None:
    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        right = offered.port.make_send()
        pager.die()
        task = machine.host.task_create("late")
        address = task.vm_map(right, PAGE)
        with pytest.raises(MachError) as failed:
            task.read(address, 1)
        assert failed.value.code == KernReturn.KERN_MEMORY_ERROR
        task.terminate()

    with_user_pager(body)


def test_a_request_to_a_user_pager_is_for_one_page_whatever_the_cluster() -> None:
    """Pages are added to a request that their pager is known to have; of a user pager nothing is known."""

    def body(machine: Machine, pager: UserPager, offered: Offered) -> None:
        machine.host.vm_fault.cluster_pages = 8
        task, address = mapped(machine, offered)
        asked: list[MemoryObjectDataRequest] = []
        handle = pager._handle

        def watch(which: Offered, message: Message) -> None:
            if isinstance(message, MemoryObjectDataRequest):
                asked.append(message)
            handle(which, message)

        pager._handle = watch  # type: ignore[method-assign]
        task.read(address, 3 * PAGE)
        assert [message.length for message in asked] == [PAGE] * 3

    with_user_pager(body)
