"""Looking into the kernel: all that is there, and nothing moves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from simulated_machine import PAGE, Machine, on_machine, page_of

from kernel.debug_server import DebugServer
from kernel.existence import EXISTENCE_MAP_PAGES
from kernel.workload import Workload
from mach import mach_debug
from mach.kern_return import KernReturn
from mach.memory_object import MemoryObjectDestroy
from mach.rpc import call


class Looker:
    """Calls the debugging service from within the simulation."""

    def __init__(self, machine: Machine) -> None:
        server = DebugServer(machine.host)
        server.start()
        self.machine = machine
        self.port = server.port.make_send()

    def __call__(self, name: str, *arguments: int) -> Any:
        request, reply = getattr(mach_debug, name), getattr(mach_debug, f"{name}Reply")
        return call(self.machine.ipc, self.port, lambda answer: request(answer, *arguments), reply)

    def everything(self) -> object:
        """All state that reading could disturb."""
        objects = self("MachVmObjects", 0).objects
        pages = [self("MachVmObjectPages", record.object_id, 0).pages for record in objects]
        statistics = {counter.name: counter.value for counter in self("VmStatistics").counters}
        resident = self.machine.host.resident
        order = [[repr(page) for page in queue] for queue in (resident.active, resident.inactive)]
        return objects, pages, statistics, order, self("MachVmQueues").queues


def test_reading_shows_the_coherent_content_and_moves_nothing() -> None:
    def body(machine: Machine) -> None:
        look = Looker(machine)
        task, address = machine.memory(300)
        written = {page: page_of(f"{page} ") for page in range(0, 300, 2)}
        for page, content in written.items():
            task.write(address + page * PAGE, content)
        machine.squeeze()
        for page in range(0, 60, 2):
            written[page] = page_of(f"new {page}")
            task.write(address + page * PAGE, written[page])
        task.read(address + 100 * PAGE, 50 * PAGE)
        machine.settle()
        expected = b"".join(written.get(page, bytes(PAGE)) for page in range(300))
        before = look.everything()
        [region] = look("MachVmRegions", task.task_id).regions
        for start in (0, 64 * PAGE, 128 * PAGE, 192 * PAGE, 256 * PAGE):
            part = expected[start : start + 64 * PAGE]
            read = look("MachVmObjectRead", region.object_id, start, 64 * PAGE)
            assert (read.result, read.data) == (0, part)
            seen = look("MachVmRead", task.task_id, address + start, 64 * PAGE)
            assert (seen.result, seen.data) == (0, part)
        assert look("MachVmObjectRead", region.object_id, 5, 9).data == expected[5:14]
        assert look("MachVmObjectRead", region.object_id, 300 * PAGE - 3, 100).data == expected[-3:]
        assert look("MachVmObjectRead", region.object_id, 300 * PAGE, 100).data == b""
        assert look.everything() == before

    on_machine(body)


@pytest.mark.parametrize("seed", range(12))
def test_a_reader_beside_a_running_workload_sees_only_what_was_written(seed: int) -> None:
    draw = random.Random(seed)

    def body(machine: Machine) -> None:
        machine.pager.latency = draw.choice([0.0, 0.001])
        look = Looker(machine)
        workload = Workload(machine.host, 300 * PAGE, 2, seed)
        reads = [0]

        def reader() -> None:
            while True:
                machine.runtime.sleep(0.01)
                task = draw.choice(workload.tasks)
                page = draw.randrange(workload.pages_each)
                seen = look("MachVmRead", task.task_id, workload.addresses.get(task.task_id, 0) + page * PAGE, PAGE)
                if task.task_id in workload.addresses and seen.result == KernReturn.KERN_SUCCESS:
                    known = [workload.pattern.page(task.task_id, page, generation) for generation in range(1, 40)]
                    assert seen.data in (bytes(PAGE), *known)
                    reads[0] += 1

        machine.runtime.fork(reader, "reader", daemon=True)
        workload.run()
        assert workload.failures == []
        assert reads[0] > 5

    on_machine(body, seed=seed, frames=100)


def test_big_objects_are_read_though_their_pager_must_be_asked_for_every_page() -> None:
    def body(machine: Machine) -> None:
        look = Looker(machine)
        task, address = machine.memory(EXISTENCE_MAP_PAGES + 5)
        task.write(address + 7 * PAGE, page_of("seven"))
        machine.squeeze()
        data = look("MachVmRead", task.task_id, address, 64 * PAGE).data
        assert data == bytes(7 * PAGE) + page_of("seven") + bytes(56 * PAGE)

    on_machine(body)


def test_a_reader_gets_an_error_for_what_the_pager_cannot_give() -> None:
    def body(machine: Machine) -> None:
        look = Looker(machine)
        task, address = machine.memory(4)
        task.write(address, b"x" * 4 * PAGE)
        machine.squeeze()
        machine.pager.fail = lambda offset: offset == PAGE
        assert look("MachVmRead", task.task_id, address + PAGE, 1).result == KernReturn.KERN_MEMORY_ERROR
        assert look("MachVmRead", task.task_id, address, 1).data == b"x"
        machine.pager.silent = True  # it drops the request instead of answering it
        assert look("MachVmRead", task.task_id, address, 1).result == KernReturn.KERN_MEMORY_ERROR
        machine.pager.die()
        assert look("MachVmRead", task.task_id, address, 1).result == KernReturn.KERN_MEMORY_ERROR
        machine.host.check()

    on_machine(body)


def test_what_is_not_there_is_refused_by_its_code() -> None:
    def body(machine: Machine) -> None:
        look = Looker(machine)
        task, address = machine.memory(2)
        invalid = KernReturn.KERN_INVALID_ARGUMENT
        assert look("MachVmObjectRead", 99, 0, 1).result == invalid
        assert look("MachVmObjectPages", 99, 0).result == invalid
        assert look("MachVmRegions", 99).result == KernReturn.KERN_INVALID_TASK
        assert look("MachVmRead", 99, 0, 1).result == KernReturn.KERN_INVALID_TASK
        assert look("MachVmRead", task.task_id, address, 256 * 1024 + 1).result == invalid
        assert look("MachVmRead", task.task_id, 0, 1).result == KernReturn.KERN_INVALID_ADDRESS
        assert look("MachVmRead", task.task_id, address, 60 * PAGE).data == bytes(2 * PAGE), "up to the hole"
        look.port.send(MemoryObjectDestroy(0))  # not a call at all
        assert [record.name for record in look("MachTasks").tasks] == ["program"]

    on_machine(body)


def test_records_say_what_is_where() -> None:
    def body(machine: Machine) -> None:
        look = Looker(machine)
        task, address = machine.memory(8)
        task.write(address, b"x")
        [record] = look("MachTasks").tasks
        assert (record.resident, record.virtual, record.faults, record.name) == (1, 8 * PAGE, 1, "program")
        [object] = look("MachVmObjects", 0).objects
        assert (object.size, object.resident, object.references, object.pager, object.paged_out) == (
            8 * PAGE,
            1,
            1,
            "",
            0,
        )
        [page] = look("MachVmObjectPages", object.object_id, 0).pages
        assert (page.offset, page.state) == (0, "active referenced dirty")
        machine.squeeze()
        machine.settle()
        [object] = look("MachVmObjects", 0).objects
        assert (object.resident, object.paged_out, object.pager) == (0, 1, "memory object 1")
        assert look("MachVmObjects", object.object_id).objects == ()
        names = [queue.name for queue in look("MachVmQueues").queues]
        assert names == ["free", "active", "inactive", "wired", "laundry"]

    on_machine(body)
