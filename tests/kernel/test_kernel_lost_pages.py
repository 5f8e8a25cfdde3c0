"""Pages that died with their pager stay lost, whatever becomes of the objects that they were of (P2, P5)."""

from __future__ import annotations

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of
from system import search

from kernel.coherent import CoherentReader
from kernel.page import Page
from kernel.vm_object import VmObject
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt

PAGES = 4


def object_over(machine: Machine, backing: VmObject) -> VmObject:
    """An object of PAGES pages that has the one reference to `backing`, and sees it from its page 1 on."""
    made = machine.host.objects.allocate(PAGES * PAGE)
    made.shadow, made.shadow_offset = backing, PAGE
    return made


def put(machine: Machine, object: VmObject, page: int, text: str) -> Page:
    made = machine.host.resident.alloc(object, page * PAGE)
    assert made is not None
    machine.host.resident.store.write(made.frame, page_of(text))
    made.dirty = True
    machine.host.resident.done(made)
    machine.host.resident.activate(made)
    return made


def in_error(machine: Machine, object: VmObject, page: int) -> None:
    """The placeholder that the death of a pager leaves of a request."""
    made = put(machine, object, page, "?")
    made.error, made.dirty = True, False


def read(machine: Machine, object: VmObject, page: int) -> str | KernReturn:
    found = machine.host.vm_fault.resolve(object, page * PAGE, VmProt.READ)
    return found if isinstance(found, KernReturn) else machine.host.resident.store.read(found.frame)[:1].decode()


def after_collapse(machine: Machine, object: VmObject) -> list[str | KernReturn]:
    """What its pages are after it has taken over what is below, twice: an error must not be used up by who sees it."""
    host = machine.host
    with host.processor.lock:
        host.shadows.collapse(object)
        assert object.shadow is None
        found = [read(machine, object, page) for page in range(PAGES)]
        assert found == [read(machine, object, page) for page in range(PAGES)]
        host.objects.check()
    machine.settle()
    with host.processor.lock:
        host.objects.deallocate(object)
    return found


LOST = KernReturn.KERN_MEMORY_ERROR


@pytest.mark.parametrize("placeholder", [False, True], ids=["", "with a placeholder in error"])
def test_what_was_lost_above_does_not_become_the_older_page_below(placeholder: bool) -> None:
    def body(machine: Machine) -> None:
        with machine.host.processor.lock:
            backing = machine.host.objects.allocate((PAGES + 1) * PAGE)
            object = object_over(machine, backing)
            for page in (1, 2, 3):
                put(machine, backing, page, "old")
            object.lost = {0, PAGE}
            if placeholder:
                in_error(machine, object, 0)
        assert after_collapse(machine, object) == [LOST, LOST, "o", "\0"]

    on_machine(body)


@pytest.mark.parametrize("placeholder", [False, True], ids=["", "with a placeholder in error"])
def test_what_was_lost_below_does_not_become_zeros(placeholder: bool) -> None:
    def body(machine: Machine) -> None:
        with machine.host.processor.lock:
            backing = machine.host.objects.allocate((PAGES + 1) * PAGE)
            object = object_over(machine, backing)
            put(machine, object, 1, "new")
            backing.lost = {0, PAGE, 2 * PAGE, 3 * PAGE}
            if placeholder:
                in_error(machine, backing, 1)
                in_error(machine, backing, 2)
        assert after_collapse(machine, object) == [LOST, "n", LOST, "\0"]

    on_machine(body)


def test_what_a_pager_said_it_does_not_have_hides_nothing_below_when_it_has_died() -> None:
    def body(machine: Machine) -> None:
        with machine.host.processor.lock:
            backing = machine.host.objects.allocate((PAGES + 1) * PAGE)
            object = object_over(machine, backing)
            put(machine, backing, 1, "old")
            placeholder = put(machine, object, 0, "?")
            placeholder.absent, placeholder.dirty = True, False
        assert after_collapse(machine, object) == ["o", "\0", "\0", "\0"]

    on_machine(body)


def test_what_was_lost_above_is_not_asked_of_the_pager_below() -> None:
    """Its slots there are given up: nobody can reach them (weakness 6)."""

    def body(machine: Machine) -> None:
        host = machine.host
        task, address = machine.memory(PAGES + 1)
        for page in range(PAGES + 1):
            task.write(address + page * PAGE, b"old")
        machine.squeeze()
        entry = task.map.lookup(address)
        assert entry is not None
        with host.processor.lock:
            backing = entry.object
            assert backing is not None
            object = object_over(machine, backing)
            entry.object = None
            object.lost = {0, PAGE}
        assert after_collapse(machine, object) == [LOST, LOST, "o", "o"]
        assert host.vm_statistics()["data_requests"] == 2
        assert host.pagers.counts["pages_reclaimed"] == 3, "the two, and the first page, which the object cannot see"
        task.terminate()

    on_machine(body)


def test_a_lost_page_is_one_from_outside_too_while_its_placeholder_stands_there() -> None:
    """Found by the search, seeds 72195 and 76857: the reader took the placeholder of a request that had failed with its
    pager for a page that had never been."""

    def body(machine: Machine) -> None:
        host = machine.host
        with host.processor.lock:
            object = host.objects.allocate(PAGES * PAGE)
            object.lost = {0}
            in_error(machine, object, 0)
            host.objects.check()
        reader = CoherentReader(host.processor, machine.ipc, host.resident)
        with pytest.raises(MachError) as lost:
            reader.read_object(object, 0, PAGE)
        assert lost.value.code == LOST
        assert reader.read_object(object, PAGE, PAGE) == bytes(PAGE)
        with host.processor.lock:
            host.objects.deallocate(object)

    on_machine(body)


@pytest.mark.parametrize("seed", [72195, 76857])
def test_stories_in_which_a_page_died_with_its_pager_and_was_seen_as_zeros(seed: int) -> None:
    assert search.run(seed, search.stories_of(seed)) is None
