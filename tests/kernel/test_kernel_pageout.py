"""Pageout, termination, and who may set whom (reference 4.3, 4.6, 5.8, 8)."""

from __future__ import annotations

import pytest
from fake_pager import FakePager
from simulated_machine import PAGE, Machine, on_machine, page_of

from mach.kern_return import KernReturn, MachError
from mach.memory_object import MemoryObjectDestroy
from mach.ports import DeadPort
from mach.threads import Deadlock


def test_wired_and_laundry_counts_return_to_where_they_were() -> None:
    """mach.md 8.50."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(600)
        for round in range(2):
            for page in range(600):
                task.write(address + page * PAGE, page_of(f"{round} {page}"))
        statistics = machine.host.vm_statistics()
        assert statistics["pageouts"] > 900
        machine.settle()
        assert machine.host.vm_statistics()["wire_count"] == 0
        assert machine.host.vm_statistics()["laundry_count"] == 0

    on_machine(body)


def test_ten_pages_at_the_most_are_on_their_way_to_a_slow_pager() -> None:
    """mach.md 8.49: until the pager has freed one, pageout pauses; the pages are wired meanwhile (4.6)."""

    def body(machine: Machine) -> None:
        machine.pager.latency = 0.5
        most = [0, 0]
        task, address = machine.memory(400)

        def watch() -> None:
            while True:
                machine.runtime.sleep(0.01)
                resident = machine.host.resident
                queued = sum(entry.port.port.queued for entry in machine.pager.objects)
                assert queued <= resident.laundry_count == resident.wire_count
                most[0] = max(most[0], resident.laundry_count)
                most[1] = max(most[1], queued)

        machine.runtime.fork(watch, "watch", daemon=True)
        for page in range(400):
            task.write(address + page * PAGE, page_of(str(page)))
        assert most[0] == 10
        assert most[1] > 5, "the kernel waits for room in a queue"
        machine.settle()
        assert machine.host.resident.laundry_count == machine.host.resident.wire_count == 0

    on_machine(body)


def test_free_pages_never_fall_below_the_reserve_of_a_working_machine() -> None:
    def body(machine: Machine) -> None:
        machine.squeeze()
        assert machine.host.vm_statistics()["free_low"] == machine.host.resident.thresholds.reserved - 1
        machine.settle()
        assert machine.host.resident.free_count >= machine.host.resident.thresholds.free_target

    on_machine(body)


def test_terminating_an_object_writes_nothing_and_gives_everything_back() -> None:
    """mach.md 8.16 and 8.51, for temporary objects."""

    def body(machine: Machine) -> None:
        before = machine.host.resident.free_count
        for _ in range(20):
            task, address = machine.memory(100)
            task.write(address, b"d" * 100 * PAGE)
            task.terminate()
        assert machine.host.resident.free_count == before
        assert machine.pager.objects == [] == machine.pager.gone
        machine.squeeze()
        machine.settle()
        assert machine.pager.objects == []
        assert [entry.port.port.send_rights for entry in machine.pager.gone] == [0]
        assert machine.host.objects.by_id == {}

    on_machine(body)


def test_termination_waits_for_the_pages_that_are_asked_for() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        task.write(address, b"x")
        machine.squeeze()
        machine.pager.latency = 5.0
        outcome: list[object] = []

        def reader() -> None:
            try:
                outcome.append(task.read(address, 1))
            except MachError as error:
                outcome.append(error.code)

        thread = machine.runtime.fork(reader, "reader")
        machine.runtime.sleep(0.001)
        task.vm_deallocate(address, PAGE)
        thread.join()
        assert outcome in ([b"x"], [KernReturn.KERN_INVALID_ADDRESS])
        machine.host.check()

    for seed in range(20):
        on_machine(body, seed=seed)


def test_a_second_default_manager_replaces_the_first_which_is_returned() -> None:
    """mach.md 8.2."""

    def body(machine: Machine) -> None:
        host = machine.host
        now = host.vm_set_default_memory_manager(host.host_priv, None)
        assert now is not None
        assert now.port is machine.pager.service.port
        now.drop()
        first, _ = machine.memory(1, "first")
        address = first.map.entries[0].start
        first.write(address, b"first")
        machine.squeeze()

        second = FakePager(machine.runtime, machine.ipc)
        second.start()
        old = host.vm_set_default_memory_manager(host.host_priv, second.service.make_send())
        assert old is not None
        assert old.port is machine.pager.service.port
        task, there = machine.memory(1, "second")
        task.write(there, b"second")
        machine.squeeze()
        machine.settle()
        assert [len(entry.pages) for entry in second.objects] == [1]
        assert task.read(there, 6) == b"second"
        assert first.read(address, 5) == b"first", "an old object keeps its pager"
        back = host.vm_set_default_memory_manager(host.host_priv, old)
        assert back is not None
        assert back.port is second.service.port

    on_machine(body)


def test_only_the_privileged_host_port_sets_managers_and_wires_threads() -> None:
    """mach.md 8.3 and 8.4: different codes for the same offence."""

    def body(machine: Machine) -> None:
        host, other = machine.host, machine.ipc.allocate("another port").make_send()
        for right in (None, other):
            with pytest.raises(MachError) as refused:
                host.vm_set_default_memory_manager(right, None)
            assert refused.value.code == KernReturn.KERN_INVALID_HOST
            with pytest.raises(MachError) as refused:
                host.thread_wire(right, machine.runtime.current(), True)
            assert refused.value.code == KernReturn.KERN_INVALID_ARGUMENT
        thread = machine.runtime.fork(lambda: None, "another thread")
        for target in (None, thread):
            with pytest.raises(MachError) as refused:
                host.thread_wire(host.host_priv, target, True)
            assert refused.value.code == KernReturn.KERN_INVALID_ARGUMENT
        assert not thread.vm_privilege
        host.thread_wire(host.host_priv, machine.runtime.current(), True)
        assert machine.runtime.current().vm_privilege
        host.thread_wire(host.host_priv, machine.runtime.current(), False)
        assert not machine.runtime.current().vm_privilege

    on_machine(body)


def test_without_a_default_manager_pageout_waits_for_one_in_words() -> None:
    with pytest.raises(Deadlock, match="pageout daemon waits for a default memory manager, which vm_set_default"):
        on_machine(lambda machine: machine.squeeze(), manager=False)


def test_a_manager_that_comes_late_is_waited_for() -> None:
    """mach.md 8.1, from the other end: nothing is lost by a pager that starts late."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(600)

        def program() -> None:
            for page in range(600):
                task.write(address + page * PAGE, page_of(str(page)))

        thread = machine.runtime.fork(program, "program")
        machine.runtime.sleep(10.0)
        machine.host.vm_set_default_memory_manager(machine.host.host_priv, machine.pager.service.make_send())
        thread.join()
        for page in range(600):
            assert task.read(address + page * PAGE, PAGE) == page_of(str(page))

    on_machine(body, manager=False)


def test_a_dead_right_can_be_set_and_is_known_to_be_dead() -> None:
    def body(machine: Machine) -> None:
        machine.pager.die()
        assert machine.host.manager.dead
        right = machine.host.vm_set_default_memory_manager(machine.host.host_priv, None)
        assert right is not None
        with pytest.raises(DeadPort):
            right.send(MemoryObjectDestroy(0))

    on_machine(body)
