"""User pagers that hang, keep what they are given, talk nonsense, or die: who suffers, and who does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of
from system.user_pager import Offered, UserPager
from user_pagers import mapped, plain_pager, with_user_pager

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
