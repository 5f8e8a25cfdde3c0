"""More memory than there is, on fifty schedules: every byte comes back, and every count to where it was."""

from __future__ import annotations

import random

import pytest
from simulated_machine import PAGE, Machine, on_machine

from kernel.workload import Pattern, Workload
from mach.kern_return import KernReturn


@pytest.mark.parametrize("seed", range(50))
def test_every_byte_of_overcommitted_memory_is_right(seed: int) -> None:
    draw = random.Random(seed)

    def body(machine: Machine) -> None:
        machine.pager.latency = draw.choice([0.0, 0.00002, 0.001, 0.3])
        workload = Workload(machine.host, draw.randrange(150, 400) * PAGE, draw.randrange(1, 5), seed)
        workload.run()
        assert workload.failures == []
        assert workload.verified == workload.pages
        machine.host.check()
        for task in workload.tasks:
            task.terminate()
        machine.settle()
        assert machine.host.resident.free_count == machine.host.resident.store.frames, "pages have leaked"
        assert machine.host.objects.by_id == {}
        assert machine.pager.objects == []

    on_machine(body, seed=seed, frames=draw.choice([64, 100, 128]))


def test_a_run_is_a_function_of_its_seed() -> None:
    def statistics(seed: int) -> dict[str, int]:
        machines: list[dict[str, int]] = []

        def body(machine: Machine) -> None:
            machine.pager.latency = 0.001
            Workload(machine.host, 300 * PAGE, 3, seed).run()
            machines.append(machine.host.vm_statistics())

        on_machine(body, seed=seed, frames=100)
        return machines[0]

    assert statistics(7) == statistics(7)
    assert statistics(7) != statistics(8)


def test_a_wrong_page_is_told_by_what_it_is() -> None:
    def body(machine: Machine) -> None:
        entry_of = {}
        workload = Workload(machine.host, 300 * PAGE, 1, 3)

        def corrupt() -> None:
            machine.runtime.sleep(0.5)
            for entry in machine.pager.objects:
                entry_of.update(entry.pages)
                entry.pages = dict.fromkeys(entry.pages, bytes(PAGE))

        machine.runtime.fork(corrupt, "corrupter")
        workload.run()
        [(code, words)] = workload.failures
        assert code is None
        assert words.endswith("is all zeros")

    on_machine(body, frames=100)


def test_the_pattern_tells_pages_tasks_seeds_and_generations_apart() -> None:
    pattern = Pattern(1, PAGE)
    pages = {
        pattern.page(1, 1, 1),
        pattern.page(2, 1, 1),
        pattern.page(1, 2, 1),
        pattern.page(1, 1, 2),
        Pattern(2, PAGE).page(1, 1, 1),
    }
    assert len(pages) == 5
    assert pattern.explain(pattern.page(1, 1, 1), 1, 1, 2) == "its version 1, older than 2"
    assert pattern.explain(b"?" * PAGE, 1, 1, 2) == "bytes that were never written there"


@pytest.mark.parametrize("seed", range(10))
def test_errors_of_single_pages_reach_only_who_asks_for_them(seed: int) -> None:
    draw = random.Random(seed)

    def body(machine: Machine) -> None:
        bad = {draw.randrange(300) * PAGE for _ in range(5)}
        machine.pager.fail = lambda offset: offset in bad
        task, address = machine.memory(300)
        pattern = Pattern(seed, PAGE)
        for page in range(300):
            task.write(address + page * PAGE, pattern.page(0, page, 1))
        machine.squeeze()
        for page in range(300):
            if page * PAGE in bad:
                code = machine.host.vm_fault.fault
                assert code is not None
                with machine.host.processor.lock:
                    result = machine.host.vm_fault.fault(task.map, task.pmap, address + page * PAGE, 1)
                assert result is KernReturn.KERN_MEMORY_ERROR
            else:
                assert task.read(address + page * PAGE, PAGE) == pattern.page(0, page, 1)

    on_machine(body, seed=seed, frames=100)
