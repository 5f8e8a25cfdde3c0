"""Promise P5: when the pager dies there are errors, never zeros, never a hang (mach.md 8.40)."""

from __future__ import annotations

import random

import pytest
from fake_pager import FakePager
from simulated_machine import FRAMES, PAGE, Machine, on_machine, page_of

from kernel.workload import Workload
from mach.kern_return import KernReturn, MachError
from mach.memory_object import MemoryObjectDataWrite
from mach.message import Message
from mach.ports import SendRight


def test_a_fault_that_waits_for_a_dying_pager_gets_an_error() -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(2)
        task.write(address, page_of("a") + page_of("b"))
        machine.squeeze()
        machine.pager.silent = True
        codes: list[KernReturn] = []

        def reader() -> None:
            with pytest.raises(MachError) as failed:
                task.read(address, 1)
            codes.append(failed.value.code)

        threads = [machine.runtime.fork(reader, f"reader {number}") for number in range(3)]
        machine.runtime.sleep(1.0)
        machine.pager.die()
        for thread in threads:
            thread.join()
        assert codes == [KernReturn.KERN_MEMORY_ERROR] * 3
        for _ in range(2):  # for good: the page's only copy is gone
            with pytest.raises(MachError) as failed:
                task.read(address + PAGE, 1)
            assert failed.value.code == KernReturn.KERN_MEMORY_ERROR

    for seed in range(5):
        on_machine(body, seed=seed)


def test_what_was_in_memory_stays_readable_and_is_written_to_the_successor() -> None:
    def body(machine: Machine) -> None:
        host = machine.host
        task, address = machine.memory(3)
        task.write(address, page_of("paged in") + page_of("lost"))
        machine.squeeze()
        assert task.read(address, 8) == b"paged in"
        task.write(address + 2 * PAGE, page_of("never out"))
        machine.pager.die()
        assert host.manager.dead
        successor = FakePager(machine.runtime, machine.ipc)
        successor.start()
        host.vm_set_default_memory_manager(host.host_priv, successor.service.make_send())
        machine.squeeze()
        assert not machine.resident(task, address)
        assert task.read(address, PAGE) == page_of("paged in"), "clean, but its only copy after the death"
        assert task.read(address + 2 * PAGE, PAGE) == page_of("never out")
        with pytest.raises(MachError) as failed:
            task.read(address + PAGE, 1)
        assert failed.value.code == KernReturn.KERN_MEMORY_ERROR
        with pytest.raises(MachError):  # nor can it be stored to: its other bytes would be zeros
            task.write(address + PAGE, b"x")
        task.vm_deallocate(address + PAGE, PAGE)
        task.vm_allocate(PAGE, address + PAGE)
        assert task.read(address + PAGE, 1) == b"\0"

    on_machine(body)


def test_a_page_whose_pager_dies_just_after_taking_it_stays_in_memory() -> None:
    def body(machine: Machine) -> None:
        pagers = machine.host.pagers
        send = pagers._send

        def send_and_die(right: SendRight, message: Message) -> bool:
            sent = send(right, message)
            if isinstance(message, MemoryObjectDataWrite) and message.offset == 0:
                machine.pager.die()
            return sent

        pagers._send = send_and_die  # type: ignore[method-assign]
        task, address = machine.memory(1)
        task.write(address, page_of("in transit"))
        with pytest.raises(MachError):
            machine.squeeze()
        assert task.read(address, PAGE) == page_of("in transit")

    on_machine(body)


def test_who_waits_for_memory_that_only_a_dead_pager_could_free_is_told_so() -> None:
    """Weakness 25: in Mach the pageout daemon sleeps for ever, and everybody with it."""

    def body(machine: Machine) -> None:
        machine.pager.die()
        task, address = machine.memory(600)
        whole = b"".join(page_of(str(page)) for page in range(600))
        with pytest.raises(MachError) as failed:
            task.write(address, whole)
        assert failed.value.code == KernReturn.KERN_RESOURCE_SHORTAGE
        page = FRAMES - 14  # all but the reserve were filled before
        for earlier in range(page):
            assert task.read(address + earlier * PAGE, PAGE) == page_of(str(earlier))
        with pytest.raises(MachError):
            task.write(address + page * PAGE, b"x")
        task.vm_deallocate(address, 600 * PAGE)
        task.write(task.vm_allocate(PAGE), b"there is room again")

    on_machine(body)


def test_as_mach_does_pageout_can_wait_for_a_successor() -> None:
    """Reference 4.3, and "as configured" in P5."""

    def body(machine: Machine) -> None:
        host = machine.host
        machine.pager.die()
        task, address = machine.memory(600)

        def program() -> None:
            for page in range(600):
                task.write(address + page * PAGE, page_of(str(page)))

        thread = machine.runtime.fork(program, "program")
        machine.runtime.sleep(100.0)
        assert host.vm_statistics()["free_wanted"] == 1
        successor = FakePager(machine.runtime, machine.ipc)
        successor.start()
        host.vm_set_default_memory_manager(host.host_priv, successor.service.make_send())
        thread.join()
        for page in range(600):
            assert task.read(address + page * PAGE, PAGE) == page_of(str(page))

    on_machine(body, wait_for_successor=True)


@pytest.mark.parametrize("seed", range(60))
def test_a_death_at_any_time_gives_errors_and_never_wrong_bytes(seed: int) -> None:
    draw = random.Random(seed)

    def body(machine: Machine) -> None:
        machine.pager.die_after = draw.randrange(1, 500)
        machine.pager.latency = draw.choice([0.0, 0.0001, 0.05])
        workload = Workload(machine.host, 400 * PAGE, 2, seed)
        workload.run()
        assert machine.pager.dead
        for code, words in workload.failures:
            assert code in (KernReturn.KERN_MEMORY_ERROR, KernReturn.KERN_RESOURCE_SHORTAGE), words
        assert workload.failures
        machine.settle()
        machine.host.check()
        for task in workload.tasks:
            task.terminate()
        assert machine.host.resident.free_count == machine.host.resident.store.frames, "pages have leaked"

    on_machine(body, seed=seed, frames=100)


@pytest.mark.parametrize("seed", range(10))
def test_a_successor_at_any_time_keeps_what_was_in_memory(seed: int) -> None:
    draw = random.Random(seed)

    def body(machine: Machine) -> None:
        host = machine.host
        machine.pager.die_after = draw.randrange(1, 300)
        task, address = machine.memory(300)
        lost = 0

        def undertaker() -> None:
            while not host.manager.dead:
                machine.runtime.sleep(0.05)
            successor = FakePager(machine.runtime, machine.ipc, seed=seed)
            successor.start()
            host.vm_set_default_memory_manager(host.host_priv, successor.service.make_send())

        machine.runtime.fork(undertaker, "undertaker", daemon=True)
        for page in range(300):
            task.write(address + page * PAGE, page_of(f"page {page} "))
        for page in range(300):
            try:
                assert task.read(address + page * PAGE, PAGE) == page_of(f"page {page} ")
            except MachError:
                lost += 1
        assert lost < 300

    on_machine(body, seed=seed, frames=100, wait_for_successor=True)
