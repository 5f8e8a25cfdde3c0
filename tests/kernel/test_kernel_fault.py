"""Faults: where a page comes from, and what is asked of its pager (reference 5.5, 5.7, 8)."""

from __future__ import annotations

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of

from kernel.existence import EXISTENCE_MAP_PAGES
from mach.kern_return import KernReturn, MachError
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectLockRequest,
    MemoryObjectReturn,
    MemoryObjectSetAttributes,
    VmProt,
)


def test_new_memory_reads_as_zeros_and_holds_what_is_stored() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        assert task.read(address, 4 * PAGE) == bytes(4 * PAGE)
        task.write(address + PAGE - 3, b"across")
        assert task.read(address + PAGE - 4, 8) == b"\0across\0"

    on_machine(body)


def test_memory_that_was_only_read_is_dropped_and_uses_no_backing_store() -> None:
    """mach.md 8.10."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(600)
        assert task.read(address, 600 * PAGE) == bytes(600 * PAGE)
        assert task.read(address, 600 * PAGE) == bytes(600 * PAGE)
        assert machine.pager.objects == []
        assert machine.host.vm_statistics()["pageouts"] == 0

    on_machine(body)


def test_a_page_comes_back_as_it_went() -> None:
    """mach.md 8.11, the kernel's side: one write for one dirty page, and access as the fault wants it."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(8)
        task.write(address + 3 * PAGE, page_of("three"))
        machine.squeeze()
        assert not machine.resident(task, address + 3 * PAGE)
        [entry] = [entry for entry in machine.pager.objects if entry.size == 8 * PAGE]
        assert list(entry.pages) == [3 * PAGE]
        assert task.read(address + 3 * PAGE, PAGE) == page_of("three")
        machine.squeeze()
        task.write(address + 3 * PAGE, b"T")
        assert entry.requests == [(3 * PAGE, PAGE, VmProt.READ), (3 * PAGE, PAGE, VmProt.WRITE)]
        assert task.read(address + 3 * PAGE, PAGE) == b"T" + page_of("three")[1:]

    on_machine(body)


def test_a_page_that_was_paged_in_and_only_read_is_not_written_again() -> None:
    """mach.md 8.44."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        task.write(address, page_of("once"))
        machine.squeeze()
        entry = machine.pager.objects[0]
        for _ in range(3):
            assert task.read(address, PAGE) == page_of("once")
            machine.squeeze()
        assert entry.writes == 1
        assert len(entry.requests) == 3
        assert all(access == VmProt.READ for _, _, access in entry.requests)

    on_machine(body)


def test_a_write_through_a_mapping_made_for_reading_is_paged_out_again() -> None:
    """mach.md 8.12, the kernel's side."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        task.write(address, page_of("old"))
        machine.squeeze()
        assert task.read(address, 3) == b"old"
        task.write(address, b"new")
        machine.squeeze()
        assert task.read(address, 6) == b"newold"
        assert machine.pager.objects[0].writes == 2

    on_machine(body)


def test_a_never_written_page_costs_no_request_while_there_is_an_existence_map() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(8)
        task.write(address, b"x")
        machine.squeeze()
        assert task.read(address + PAGE, PAGE) == bytes(PAGE)
        assert machine.pager.objects[0].requests == []

    on_machine(body)


def test_an_object_beyond_the_existence_maps_limit_always_asks_its_pager() -> None:
    """mach.md 8.13."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(EXISTENCE_MAP_PAGES + 1)
        task.write(address, b"x")
        machine.squeeze()
        assert task.read(address + 5 * PAGE, PAGE) == bytes(PAGE)
        assert machine.pager.objects[0].requests == [(5 * PAGE, PAGE, VmProt.READ)]
        assert machine.host.vm_statistics()["data_unavailable"] == 1

    on_machine(body)


def test_a_data_error_is_a_memory_error_once_and_leaves_no_busy_page() -> None:
    """mach.md 8.20 and 8.21."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        task.write(address, page_of("a") + page_of("b"))
        machine.squeeze()
        machine.pager.fail = lambda offset: offset == 0
        with pytest.raises(MachError) as failed:
            task.read(address, 1)
        assert failed.value.code == KernReturn.KERN_MEMORY_ERROR
        assert task.read(address + PAGE, 1) == b"b", "another page of the object suffers"
        machine.host.check()
        machine.pager.fail = lambda offset: False
        assert task.read(address, 1) == b"a"

    on_machine(body)


def test_a_page_that_its_pager_has_lost_is_an_error_and_never_zeros() -> None:
    """Promise P2; mach.md 8.48, the kernel's side: a pager without backing store."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        task.write(address, b"x")
        machine.squeeze()
        machine.pager.always_unavailable = True
        with pytest.raises(MachError) as failed:
            task.read(address, 1)
        assert failed.value.code == KernReturn.KERN_MEMORY_ERROR
        assert machine.host.vm_statistics()["pages_lost_by_pager"] == 1
        assert task.read(address + PAGE, 1) == b"\0", "only what was sent is lost"

    on_machine(body)


def test_threads_that_fault_on_one_page_make_one_request() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        task.write(address, b"shared")
        machine.squeeze()
        machine.pager.latency = 0.01
        seen: list[bytes] = []
        threads = [
            machine.runtime.fork(lambda: seen.append(task.read(address, 6)), f"reader {number}") for number in range(5)
        ]
        for thread in threads:
            thread.join()
        assert seen == [b"shared"] * 5
        assert len(machine.pager.objects[0].requests) == 1

    for seed in range(10):
        on_machine(body, seed=seed)


def test_messages_from_a_pager_that_make_no_sense_are_counted_and_change_nothing() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(600)
        lie = page_of("lie")
        machine.pager.junk = [
            MemoryObjectDataSupply(17, VmProt.NONE, 0, None, lie),
            MemoryObjectDataSupply(0, VmProt.NONE, 0, None, lie[:-1]),
            MemoryObjectDataSupply(0, VmProt.NONE, 0, None, b""),
            MemoryObjectDataSupply(1 << 60, VmProt.ALL, 1, None, lie),
            MemoryObjectDataSupply(5000 * PAGE, VmProt.NONE, 0, None, lie),
            MemoryObjectDataUnavailable(1 << 63, (1 << 64) - 1),
            MemoryObjectSetAttributes(1, 1, CopyStrategy.CALL),
            MemoryObjectLockRequest(0, PAGE, MemoryObjectReturn.ALL, 1, 0, None),
        ]
        for page in range(600):
            task.write(address + page * PAGE, page_of(str(page)))
        for page in range(600):
            assert task.read(address + page * PAGE, PAGE) == page_of(str(page))
        statistics = machine.host.vm_statistics()
        assert statistics["messages_ignored"] == 0
        assert statistics["replies_refused"] == 7 * statistics["data_requests"]

    on_machine(body)


def test_a_second_answer_to_one_request_is_refused() -> None:
    """A stale page that nobody asked for must not stand where the program has written meanwhile."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(2)
        task.write(address, b"first" + bytes(PAGE - 5) + b"other")
        machine.squeeze()
        machine.pager.junk = [MemoryObjectDataSupply(0, VmProt.NONE, 0, None, page_of("stale"))]
        assert task.read(address + PAGE, 5) == b"other"
        machine.pager.junk = []
        assert task.read(address, 5) == b"first"

    on_machine(body)


def test_a_precious_page_goes_back_though_it_is_clean() -> None:
    """mach.md 8.40: what the pager no longer has survives a fault that never stores anything."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        task.write(address, page_of("only"))
        machine.squeeze()
        entry = machine.pager.objects[0]
        machine.pager.junk = [MemoryObjectDataSupply(0, VmProt.NONE, 1, None, entry.pages.pop(0))]
        assert task.read(address, 4) == b"only"
        machine.pager.junk = []
        machine.squeeze()
        assert entry.pages == {0: page_of("only")}
        assert task.read(address, 4) == b"only"

    on_machine(body)


def test_a_shadow_gives_its_pages_to_readers_and_copies_to_writers() -> None:
    def body(machine: Machine) -> None:
        host = machine.host
        parent, above = machine.memory(4, "parent")
        parent.write(above, page_of("zero") + page_of("one") + page_of("two"))
        lower = parent.map.entries[0].object
        assert lower is not None
        child, address = machine.memory(2, "child")
        with host.processor.lock:
            top = child.map.object_of(child.map.entries[0])
            host.objects.reference(lower)
            top.shadow, top.shadow_offset = lower, PAGE
        sharer, there = machine.memory(2, "sharer")
        with host.processor.lock:
            host.objects.reference(top)
            sharer.map.entries[0].object = top
        assert child.read(address, 3) == sharer.read(there, 3) == b"one"
        child.write(address, b"ONE")
        assert sharer.read(there, 3) == b"ONE", "another mapping still shows the original"
        machine.squeeze()
        assert child.read(address, 6) == b"ONEone"
        assert child.read(address + PAGE, 3) == b"two"
        assert parent.read(above + PAGE, 3) == b"one"
        assert host.vm_statistics()["cow_faults"] == 1
        child.write(address + PAGE, b"TWO")
        assert parent.read(above + 2 * PAGE, 3) == b"two"
        host.check()
        child.terminate()
        sharer.terminate()
        assert parent.read(above + PAGE, 3) == b"one"

    on_machine(body)


def test_protection_is_enforced_by_its_code_and_takes_effect_at_once() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(3)
        task.write(address, b"a" * PAGE + b"b" * PAGE + b"c" * PAGE)
        task.vm_protect(address + PAGE, PAGE, VmProt.READ)
        with pytest.raises(MachError) as failed:
            task.write(address, b"y" * 3 * PAGE)
        assert failed.value.code == KernReturn.KERN_PROTECTION_FAILURE
        machine.squeeze()
        assert task.read(address, 3 * PAGE) == b"y" * PAGE + b"b" * PAGE + b"c" * PAGE
        task.vm_protect(address, 3 * PAGE, VmProt.NONE)
        with pytest.raises(MachError) as failed:
            task.read(address, 1)
        assert failed.value.code == KernReturn.KERN_PROTECTION_FAILURE
        task.vm_protect(address, 3 * PAGE, VmProt.DEFAULT)
        assert task.read(address, 1) == b"y"
        with pytest.raises(MachError) as failed:
            task.read(address + 3 * PAGE, 1)
        assert failed.value.code == KernReturn.KERN_INVALID_ADDRESS

    on_machine(body)
