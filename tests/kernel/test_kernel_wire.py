"""vm_wire: who may, what it returns, and that wired memory is there (paper §5.1; mach.md 4.1, 8.3, 8.5)."""

from __future__ import annotations

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of

from kernel.task import Task
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt


def wire(machine: Machine, task: Task | None, address: int, size: int, access: VmProt = VmProt.READ) -> KernReturn:
    try:
        machine.host.vm_wire(machine.host.host_priv, task, address, size, access)
    except MachError as error:
        return error.code
    return KernReturn.KERN_SUCCESS


def test_only_the_privileged_host_port_wires_memory() -> None:
    """mach.md 8.3."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        for right in (None, machine.ipc.allocate("another port").make_send()):
            with pytest.raises(MachError) as refused:
                machine.host.vm_wire(right, task, address, PAGE, VmProt.READ)
            assert refused.value.code == KernReturn.KERN_INVALID_HOST
        assert wire(machine, None, address, PAGE) == KernReturn.KERN_INVALID_TASK
        task.terminate()
        assert wire(machine, task, address, PAGE) == KernReturn.KERN_INVALID_TASK

    on_machine(body)


def test_wired_memory_never_leaves_and_its_wirings_nest() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        task.write(address, page_of("stays"))
        assert wire(machine, task, address, 2 * PAGE) == KernReturn.KERN_SUCCESS
        assert wire(machine, task, address, PAGE) == KernReturn.KERN_SUCCESS
        assert machine.host.resident.wire_count == 2
        machine.squeeze()
        machine.settle()
        assert machine.resident(task, address)
        assert machine.resident(task, address + PAGE)
        assert machine.host.vm_statistics()["wire_count"] == 2
        assert wire(machine, task, address, PAGE, VmProt.NONE) == KernReturn.KERN_SUCCESS
        machine.squeeze()
        assert machine.resident(task, address), "it was wired twice"
        assert wire(machine, task, address, 2 * PAGE, VmProt.NONE) == KernReturn.KERN_SUCCESS
        machine.squeeze()
        assert not machine.resident(task, address)
        assert task.read(address, 5) == b"stays"

    on_machine(body)


def test_a_hole_or_a_protection_is_a_failure_and_all_counts_are_as_before() -> None:
    """mach.md 8.5."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(6)
        assert wire(machine, task, address, PAGE) == KernReturn.KERN_SUCCESS
        task.vm_protect(address + 2 * PAGE, PAGE, VmProt.READ)
        task.vm_deallocate(address + 4 * PAGE, PAGE)

        def counts() -> list[tuple[int, int, int]]:
            return [(entry.start, entry.end, entry.wired_count) for entry in task.map.entries if entry.wired_count]

        before = counts()
        assert wire(machine, task, address, 6 * PAGE) == KernReturn.KERN_FAILURE
        assert wire(machine, task, address, 3 * PAGE, VmProt.DEFAULT) == KernReturn.KERN_FAILURE
        assert counts() == before
        assert machine.host.resident.wire_count == 1
        assert wire(machine, task, address, 2 * PAGE, VmProt.NONE) == KernReturn.KERN_INVALID_ARGUMENT
        assert wire(machine, task, address + PAGE, PAGE, VmProt.NONE) == KernReturn.KERN_INVALID_ARGUMENT
        assert counts() == before

    on_machine(body)


def test_success_means_that_every_page_is_there() -> None:
    """Mach's vm_wire takes it for granted that each page can be had, and may succeed with one that cannot (4.1)."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        task.write(address, page_of("x") * 4)
        machine.squeeze()
        machine.settle()
        machine.pager.fail = lambda offset: offset == 2 * PAGE
        assert wire(machine, task, address, 4 * PAGE) == KernReturn.KERN_MEMORY_ERROR
        assert machine.host.resident.wire_count == 0
        machine.host.check()
        machine.pager.fail = lambda offset: False
        assert wire(machine, task, address, 4 * PAGE) == KernReturn.KERN_SUCCESS
        assert machine.host.resident.wire_count == 4

    on_machine(body)


def test_wired_memory_is_copied_at_once_and_stays_what_it_was() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(2)
        task.write(address, page_of("wired") * 2)
        assert wire(machine, task, address, 2 * PAGE, VmProt.DEFAULT) == KernReturn.KERN_SUCCESS
        faults = task.faults
        child = task.fork("child")
        task.write(address, b"W")
        assert task.faults == faults, "a store to wired memory does not fault"
        assert child.read(address, 5) == b"wired"
        child.write(address + PAGE, b"C")
        assert task.read(address + PAGE, 5) == b"wired"
        task.vm_copy(address, PAGE, address + PAGE)
        assert task.read(address + PAGE, 5) == b"Wired"
        machine.host.check()
        task.terminate()
        assert machine.host.resident.wire_count == 0

    on_machine(body)
