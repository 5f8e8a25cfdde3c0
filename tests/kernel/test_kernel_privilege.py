"""The calls with the privileged host port, each with Mach's own code for each mistake (mach.md 4.1 - 4.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from paging import KernelSide, make_pager, pattern
from simulated_machine import PAGE, Machine, on_machine

from kernel.task import Task
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.ports import Ipc, SendRight
from mach.threads.simulated import SimulatedRuntime

RW = VmProt.READ | VmProt.WRITE


def code(call: Callable[[], object]) -> KernReturn:
    with pytest.raises(MachError) as caught:
        call()
    return caught.value.code


def wire(machine: Machine, task: Task | None, address: int, size: int, access: VmProt) -> None:
    machine.host.vm_wire(machine.host.host_priv, task, address, size, access)


def test_what_is_sent_before_the_pager_serves_waits_and_is_done_in_order() -> None:
    """mach.md 8.1: registered, not yet serving: three memory_object_create and their pages, none lost."""
    for seed in range(20):
        runtime = SimulatedRuntime(seed)

        def body(runtime: SimulatedRuntime = runtime) -> None:
            ipc = Ipc(runtime)
            pager, _ = make_pager(runtime, ipc, threads=0)
            kernels = [KernelSide(runtime, ipc, pager.port.make_send()) for _ in range(3)]
            for number, kernel in enumerate(kernels):
                kernel.write(0, pattern(number, 1))
                kernel.write(0, pattern(number, 2))
                kernel.request(0)
            pager.start(3)
            assert [kernel.collect(0) for kernel in kernels] == [[pattern(number, 2)] for number in range(3)]
            assert [obj.object_id for obj in pager.objects()] == [1, 2, 3]

        runtime.run(body)


def test_without_the_privileged_host_port_nothing_is_wired_and_the_codes_differ() -> None:
    """mach.md 8.3: vm_wire KERN_INVALID_HOST, thread_wire KERN_INVALID_ARGUMENT."""

    def body(machine: Machine) -> None:
        host, me = machine.host, machine.runtime.current()
        task, address = machine.memory(1)
        strangers: tuple[SendRight | None, ...] = (None, machine.ipc.allocate("host").make_send(), host.devices.master)
        for right in strangers:
            call = lambda right=right: host.vm_wire(right, task, address, PAGE, RW)  # noqa: E731
            assert code(call) == KernReturn.KERN_INVALID_HOST
            assert code(lambda right=right: host.thread_wire(right, me, True)) == KernReturn.KERN_INVALID_ARGUMENT  # type: ignore[misc]
        assert host.resident.wire_count == 0
        assert not me.vm_privilege

    on_machine(body)


def test_a_thread_wires_only_itself() -> None:
    """mach.md 8.4."""

    def body(machine: Machine) -> None:
        host = machine.host
        other = machine.runtime.fork(lambda: machine.runtime.sleep(1), "other")
        call = lambda: host.thread_wire(host.host_priv, other, True)  # noqa: E731
        assert code(call) == KernReturn.KERN_INVALID_ARGUMENT
        assert not other.vm_privilege
        other.join()

    on_machine(body)


def test_a_range_with_a_hole_is_not_wired_at_all() -> None:
    """mach.md 8.5."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(5)
        task.vm_deallocate(address + 2 * PAGE, PAGE)
        assert code(lambda: wire(machine, task, address, 5 * PAGE, RW)) == KernReturn.KERN_FAILURE
        assert machine.host.resident.wire_count == 0
        assert all(entry.wired_count == 0 for entry in task.map.entries)

    on_machine(body)


def test_more_access_than_the_protection_allows_wires_nothing() -> None:
    """mach.md 8.5: neither, nor the ranges before it."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(3)
        task.vm_protect(address + PAGE, PAGE, VmProt.READ)
        assert code(lambda: wire(machine, task, address, 3 * PAGE, RW)) == KernReturn.KERN_FAILURE
        assert machine.host.resident.wire_count == 0
        wire(machine, task, address, 3 * PAGE, VmProt.READ)
        assert machine.host.resident.wire_count == 3

    on_machine(body)


def test_only_what_is_wired_can_be_unwired() -> None:
    """mach.md 8.5."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(3)
        wire(machine, task, address, 2 * PAGE, RW)
        assert code(lambda: wire(machine, task, address, 3 * PAGE, VmProt.NONE)) == KernReturn.KERN_INVALID_ARGUMENT
        assert machine.host.resident.wire_count == 2
        wire(machine, task, address, 2 * PAGE, VmProt.NONE)
        assert machine.host.resident.wire_count == 0
        assert code(lambda: wire(machine, task, address, 2 * PAGE, VmProt.NONE)) == KernReturn.KERN_INVALID_ARGUMENT

    on_machine(body)


def test_wired_memory_is_in_memory_and_stays_whatever_happens() -> None:
    """mach.md 4.1, weakness: success means that every page is there."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        task.write(address, b"kept")
        wire(machine, task, address, 4 * PAGE, RW)
        wire(machine, task, address, 4 * PAGE, RW)
        machine.squeeze()
        faults = task.faults
        assert task.read(address, 4) == b"kept"
        task.write(address + 3 * PAGE, b"x")
        assert task.faults - faults <= 1, "mapped for reading, perhaps; but there"
        assert all(machine.resident(task, address + page * PAGE) for page in range(4))
        wire(machine, task, address, 4 * PAGE, VmProt.NONE)
        machine.squeeze()
        assert machine.resident(task, address), "wirings of one range nest"
        wire(machine, task, address, 4 * PAGE, VmProt.NONE)
        machine.squeeze()
        assert not machine.resident(task, address)
        assert task.read(address, 4) == b"kept"

    on_machine(body)


def test_a_task_that_is_none_cannot_be_wired() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(1)
        task.terminate()
        for gone in (None, task):
            assert code(lambda gone=gone: wire(machine, gone, address, PAGE, RW)) == KernReturn.KERN_INVALID_TASK  # type: ignore[misc]

    on_machine(body)
