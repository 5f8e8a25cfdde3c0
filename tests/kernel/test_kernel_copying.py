"""Copies: fork with inheritance, vm_copy, shadow chains and copy objects (mach.md 5.2, 5.9, 8.41)."""

from __future__ import annotations

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of

from kernel.task import Task
from kernel.vm_map import Inheritance
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt


def depth(task: Task, address: int) -> int:
    """How many objects a fault may have to look into."""
    entry = task.map.lookup(address)
    assert entry is not None
    object, count = entry.object, 0
    while object is not None:
        object, count = object.shadow, count + 1
    return count


def test_parent_and_child_write_without_seeing_each_other() -> None:
    def body(machine: Machine) -> None:
        parent, address = machine.memory(4)
        parent.write(address, page_of("parent ") * 4)
        child = parent.fork("child")
        before = machine.host.resident.free_count
        assert child.read(address, 4 * PAGE) == page_of("parent ") * 4
        assert machine.host.resident.free_count == before, "reading copies nothing"
        child.write(address, b"child")
        parent.write(address + PAGE, b"again")
        assert parent.read(address, 6) == b"parent"
        assert child.read(address, 5) == b"child"
        assert child.read(address + PAGE, 6) == b"parent"
        assert parent.read(address + PAGE, 5) == b"again"
        assert machine.host.vm_statistics()["cow_faults"] == 2

    on_machine(body)


def test_children_inherit_a_share_a_copy_or_nothing() -> None:
    def body(machine: Machine) -> None:
        parent, address = machine.memory(3)
        parent.write(address, page_of("x") * 3)
        parent.vm_inherit(address, PAGE, Inheritance.SHARE)
        parent.vm_inherit(address + 2 * PAGE, PAGE, Inheritance.NONE)
        child = parent.fork("child")
        grandchild = child.fork("grandchild")
        grandchild.write(address, b"shared by all")
        assert parent.read(address, 13) == child.read(address, 13) == b"shared by all"
        child.write(address + PAGE, b"own")
        assert parent.read(address + PAGE, 3) == grandchild.read(address + PAGE, 3) == b"xxx"
        with pytest.raises(MachError) as refused:
            child.read(address + 2 * PAGE, 1)
        assert refused.value.code == KernReturn.KERN_INVALID_ADDRESS

    on_machine(body)


def test_a_shared_page_is_copied_by_a_copy_object_which_gets_the_old_page() -> None:
    """mach.md 8.41, first part: the child has been paged out, so the page goes to its pager by data_initialize."""

    def body(machine: Machine) -> None:
        parent, address = machine.memory(2)
        parent.write(address, page_of("old 0") + page_of("old 1"))
        parent.vm_inherit(address, 2 * PAGE, Inheritance.SHARE)
        sharer = parent.fork("sharer")
        sharer.vm_inherit(address, 2 * PAGE, Inheritance.COPY)
        child = sharer.fork("child")
        parent.write(address, page_of("new 0"))  # pushed to the copy object, which has no pager yet
        machine.squeeze()
        machine.settle()
        assert machine.pager.initialized == 0
        parent.write(address + PAGE, page_of("new 1"))
        machine.settle()
        assert machine.pager.initialized == 1
        assert child.read(address, 2 * PAGE) == page_of("old 0") + page_of("old 1")
        assert sharer.read(address, 2 * PAGE) == page_of("new 0") + page_of("new 1")

    on_machine(body)


def test_a_chain_of_five_with_pages_at_every_level_is_collapsed_and_keeps_its_data() -> None:
    """mach.md 8.41: collapse preserves data and the pager's offsets, with pages in memory and on backing store."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(8)
        expected = [page_of(f"level 0 page {page} ") for page in range(8)]
        task.write(address, b"".join(expected))
        machine.squeeze()  # the bottom of the chain has a pager
        for level in range(1, 5):
            child = task.fork(f"level {level}")
            for page in range(level, 8, level + 1):
                expected[page] = page_of(f"level {level} page {page} ")
                child.write(address + page * PAGE, expected[page])
            task.terminate()
            task = child
            if level % 2:
                machine.squeeze()
            assert task.read(address, 8 * PAGE) == b"".join(expected)
        machine.squeeze()
        assert task.read(address, 8 * PAGE) == b"".join(expected)
        task.write(address, page_of("last"))
        assert depth(task, address) <= 3
        assert machine.host.shadows.counts["collapses"] >= 2
        assert task.read(address + PAGE, 7 * PAGE) == b"".join(expected[1:])

    for seed in range(5):
        on_machine(body, seed=seed)


def test_backing_store_that_nobody_can_reach_any_more_is_given_up() -> None:
    """mach.md 7.1, weakness 6: Mach's collapse keeps it."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(40)
        task.write(address, b"".join(page_of(f"{page} ") for page in range(40)))
        machine.squeeze()
        machine.settle()
        assert sum(len(entry.pages) for entry in machine.pager.objects) == 40
        child = task.fork("child")
        child.vm_deallocate(address, 10 * PAGE)
        child.vm_deallocate(address + 20 * PAGE, 20 * PAGE)
        task.terminate()
        child.write(address + 10 * PAGE, b"x")  # a shadow of ten pages, which takes the old object over
        machine.settle()
        assert machine.host.shadows.counts["collapses"] == 1
        assert sum(len(entry.pages) for entry in machine.pager.objects) == 10
        machine.squeeze()
        assert child.read(address + 10 * PAGE, 2) == b"x0"
        assert child.read(address + 11 * PAGE, 9 * PAGE) == b"".join(page_of(f"{page} ") for page in range(11, 20))

    on_machine(body)


def test_a_chain_whose_lower_objects_live_is_gone_past() -> None:
    """mach.md 5.9: bypass, when the object hides all that the one below has."""

    def body(machine: Machine) -> None:
        parent, address = machine.memory(2)
        parent.write(address, page_of("a") + page_of("b"))
        first = parent.fork("first")
        first.write(address, page_of("A") + page_of("B"))
        assert machine.host.shadows.counts["bypasses"] == 1
        assert depth(first, address) == 1
        parent.terminate()
        assert first.read(address, 2 * PAGE) == page_of("A") + page_of("B")

    on_machine(body)


def test_a_page_of_zeros_that_a_copy_has_read_does_not_become_its_sources_later_page() -> None:
    """Mach drops the clean page, and then finds the source's new one."""

    def body(machine: Machine) -> None:
        parent, address = machine.memory(1)
        parent.vm_inherit(address, PAGE, Inheritance.SHARE)
        sharer = parent.fork("sharer")
        sharer.vm_inherit(address, PAGE, Inheritance.COPY)
        child = sharer.fork("child")
        assert child.read(address, PAGE) == bytes(PAGE)
        parent.write(address, page_of("later"))
        machine.squeeze()
        assert child.read(address, PAGE) == bytes(PAGE)
        assert sharer.read(address, 5) == b"later"

    on_machine(body)


def test_vm_copy_copies_when_somebody_writes() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(40)
        task.write(address, page_of("source") * 20)
        before = machine.host.resident.free_count
        task.vm_copy(address, 20 * PAGE, address + 20 * PAGE)
        assert machine.host.resident.free_count >= before
        assert task.read(address + 20 * PAGE, 20 * PAGE) == page_of("source") * 20
        task.write(address, b"S")
        task.write(address + 21 * PAGE, b"T")
        assert task.read(address + 20 * PAGE, 1) == b"s"
        assert task.read(address + PAGE, 1) == b"s"
        task.vm_copy(address + 5, 100, address + 10 * PAGE + 3)
        assert task.read(address + 10 * PAGE + 2, 5) == page_of("source")[2:3] + page_of("source")[5:9]

    on_machine(body)


def test_vm_copy_refuses_by_its_codes_and_changes_nothing() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(4)
        task.write(address, page_of("x") * 4)
        task.vm_protect(address, PAGE, VmProt.NONE)
        task.vm_protect(address + PAGE, PAGE, VmProt.READ)
        for source, target, code in (
            (address, address + 2 * PAGE, KernReturn.KERN_PROTECTION_FAILURE),
            (address + 2 * PAGE, address + PAGE, KernReturn.KERN_PROTECTION_FAILURE),
            (address + 4 * PAGE, address + 2 * PAGE, KernReturn.KERN_INVALID_ADDRESS),
            (address + 2 * PAGE, address + 4 * PAGE, KernReturn.KERN_INVALID_ADDRESS),
        ):
            with pytest.raises(MachError) as refused:
                task.vm_copy(source, PAGE, target)
            assert refused.value.code == code
        assert task.read(address + PAGE, 3 * PAGE) == page_of("x") * 3
        with pytest.raises(MachError):
            task.vm_read(address, 1)
        with pytest.raises(MachError):
            task.vm_write(address + PAGE, b"y")
        task.vm_write(address + 3 * PAGE, b"y")
        assert task.vm_read(address + 3 * PAGE, 2) == b"yx"

    on_machine(body)


def test_every_frame_and_object_comes_back_when_a_family_has_ended() -> None:
    """mach.md 8.16 for copies, the kernel's side."""

    def body(machine: Machine) -> None:
        task, address = machine.memory(30)
        task.write(address, b"g" * 30 * PAGE)
        family = [task]
        for generation in range(6):
            family.append(family[generation // 2].fork(f"generation {generation}"))
            family[-1].write(address + generation * PAGE, page_of("own"))
        machine.squeeze()
        for member in family:
            member.terminate()
        machine.settle()
        assert machine.host.objects.by_id == {}
        assert machine.host.resident.free_count == machine.host.resident.store.frames
        assert machine.pager.objects == []

    on_machine(body)
