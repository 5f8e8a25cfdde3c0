"""The default pager as a task of the machine: what it may wait for, what it holds, and that it always gets on (P6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from bootfs.device import Bytes
from kernel.disk import ModelledDisk
from kernel.host import MINIMUM_PAGES
from kernel.machsim.machine import Machine
from kernel.program import TEXT_BYTES
from kernel.workload import Workload
from mach.default_pager import DefaultPagerObjectCreate, DefaultPagerObjectCreateReply
from mach.rpc import call
from mach.threads import LockRank, NativeRuntime
from mach.threads.simulated import SimulatedRuntime

PAGE = 4096
SPACE = 4 << 20
SEEDS = range(6)
Body = Callable[[Machine], None]


def on_machine(body: Body, seed: int, frames: int = 2 * MINIMUM_PAGES, pager: str = "task") -> SimulatedRuntime:
    runtime = SimulatedRuntime(seed)

    def run() -> None:
        machine = Machine(runtime, frames * PAGE, SPACE, pager)
        body(machine)
        machine.host.check()

    runtime.run(run, stall_seconds=200)
    return runtime


def work(machine: Machine, pages: int, tasks: int = 2, seed: int = 0) -> None:
    workload = Workload(machine.host, pages * PAGE, tasks, seed)
    workload.run()
    assert workload.failures == []
    assert workload.verified == workload.pages


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_of_dirty_pages_on_the_smallest_machine_gets_through(seed: int) -> None:
    """mach.md 8.35: what is left beside the pager is hardly more than the reserve; progress in bounded steps."""
    runtime = on_machine(lambda machine: work(machine, 2 * MINIMUM_PAGES, tasks=3, seed=seed), seed, MINIMUM_PAGES)
    assert runtime.steps < 2000 * 2 * MINIMUM_PAGES


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_objects_in_use_do_not_stop_temporary_memory(seed: int) -> None:
    """mach.md 8.35, second part: the thread for shared objects may wait for memory; those for temporary ones go on."""

    def share(machine: Machine, number: int) -> None:
        task = machine.host.task_create(f"sharer {number}")
        pager = machine.host.vm_set_default_memory_manager(machine.host.host_priv, None)
        assert pager is not None
        made = call(
            machine.ipc, pager, lambda reply: DefaultPagerObjectCreate(reply, 16 * PAGE), DefaultPagerObjectCreateReply
        )
        address = task.vm_map(made.memory_object, 16 * PAGE)
        for turn in range(2):
            for page in range(16):
                task.write(address + page * PAGE, bytes((number, page, turn)))
            for page in range(16):
                assert task.read(address + page * PAGE, 3) == bytes((number, page, turn))

    def body(machine: Machine) -> None:
        sharers = [machine.runtime.fork(lambda n=n: share(machine, n), f"sharer {n}") for n in range(4)]  # type: ignore[misc]
        work(machine, 2 * MINIMUM_PAGES, seed=seed)
        for sharer in sharers:
            sharer.join()

    on_machine(body, seed, MINIMUM_PAGES)


def test_no_page_of_the_pager_is_touched_before_it_is_wired() -> None:
    """P6; mach.md 8.43: whole pages from the map, wired.  Touched first, it may have gone out again before vm_wire
    comes to it, to the pager that is waiting there."""
    touched: list[int] = []

    def body(machine: Machine) -> None:
        assert machine.pager_memory is not None
        task = machine.pager_memory.task
        write = task.write

        def checked_write(address: int, data: bytes | bytearray | memoryview) -> None:
            with machine.host.processor.lock:
                entry = task.map.lookup(address)
                page_at = address - address % PAGE
                page = entry.object.pages.get(entry.offset + page_at - entry.start) if entry and entry.object else None
                assert page is not None
                assert page.wire_count, f"{machine.pager_memory and machine.pager_memory.what_is_at(address)}"
            touched.append(address)
            write(address, data)

        task.write = checked_write  # type: ignore[method-assign]
        machine.pager_memory.allocate(3 * PAGE)
        work(machine, 3 * MINIMUM_PAGES, tasks=8)

    on_machine(body, 0)
    assert len(touched) > 1000


def test_what_an_object_took_of_the_pagers_memory_serves_the_next() -> None:
    """Weakness 12: Mach's pager keeps what it has once had, and has more for each object that there ever was."""

    def body(machine: Machine) -> None:
        assert machine.pager_memory is not None
        pager = machine.pager
        sizes = []
        for _ in range(5):
            for _ in range(20):
                receive = machine.ipc.allocate("object")
                obj = pager.create_object(PAGE, True, receive, None)
                assert obj is not None
                pager.forget(obj)
            sizes.append(machine.pager_memory.pages)
        assert sizes == sizes[:1] * 5

    on_machine(body, 0)


def test_the_pager_never_waits_with_a_lock_held_and_never_does_input_or_output_with_one() -> None:
    """mach.md 8.38, P6: neither for memory, nor for its disk."""
    waits: Counter[str] = Counter()

    def body(machine: Machine) -> None:
        runtime, resident = machine.runtime, machine.host.resident
        device = machine.pager.store.partitions()[0].device
        wait, read, write = resident.wait, device.read, device.write
        assert isinstance(runtime, SimulatedRuntime)

        def note(what: str) -> None:
            locks = [mutex.name for mutex in runtime.current().held if mutex.rank != LockRank.KERNEL]
            waits[f"{what}, with {locks}"] += 1

        def checked_wait() -> bool:
            note("memory")
            return wait()

        def checked_read(offset: int, length: int) -> bytes:
            note("read")
            return read(offset, length)

        def checked_write(offset: int, data: Bytes) -> None:
            note("write")
            write(offset, data)

        resident.wait = checked_wait  # type: ignore[method-assign]
        device.read, device.write = checked_read, checked_write  # type: ignore[method-assign]
        work(machine, 3 * MINIMUM_PAGES)

    on_machine(body, 0)
    assert set(waits) == {"memory, with []", "read, with []", "write, with []"}
    assert min(waits.values()) > 50


def test_a_page_in_takes_at_most_four_lock_pairs_of_the_pager() -> None:
    """mach.md 8.38: the paper came from nine to four (7.2); the pager's own locks, not those of ports."""
    pairs: list[int] = []

    def body(machine: Machine) -> None:
        def of_the_pager() -> int:
            names = ("pager", "memory object", "partitions", "partition")
            return sum(machine.runtime.lock_pairs().get(name, 0) for name in names)

        host = machine.host
        task = host.task_create("program")
        address = task.vm_allocate(4 * MINIMUM_PAGES * PAGE)
        for page in range(4 * MINIMUM_PAGES):
            task.write(address + page * PAGE, b"x")
        machine.runtime.sleep(60)  # all is written that is to be written
        for page in range(20):
            before, figures = of_the_pager(), host.vm_statistics()
            assert task.read(address + page * PAGE, 1) == b"x"
            machine.runtime.sleep(60)
            after = host.vm_statistics()
            assert after["pageins"] == figures["pageins"] + 1
            if after["pageouts"] == figures["pageouts"]:  # the frame was free, or its page was clean
                pairs.append(of_the_pager() - before)

    on_machine(body, 0)
    assert len(pairs) > 5
    assert max(pairs) <= 4


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_pager_reads_is_wired_and_comes_back(seed: int) -> None:
    """mach.md 8.39, 8.50, weakness 15: after a thousand pages out and in, as many are wired as before."""
    baseline: list[int] = []

    def body(machine: Machine) -> None:
        statistics = machine.host.vm_statistics
        baseline.append(statistics()["wire_count"])
        work(machine, 6 * MINIMUM_PAGES, seed=seed)
        machine.runtime.sleep(60)
        assert statistics()["pageouts"] + statistics()["pageins"] > 1000
        assert machine.host.devices.counts["reads wired"] == machine.host.devices.counts["DeviceRead"] > 0
        assert machine.host.devices.counts["reads pageable"] == 0
        assert machine.pager_memory is not None
        assert statistics()["wire_count"] == machine.pager_memory.pages, "only what it runs in"
        assert machine.pager_memory.pages <= baseline[0] + 2, "its heap has grown a little"
        assert baseline[0] >= TEXT_BYTES // PAGE

    on_machine(body, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_than_ten_pages_are_in_the_laundry_and_the_reserve_is_never_used_up(seed: int) -> None:
    """mach.md 8.49; weakness 25: vm_page_grab never finds the list empty, however slow the disk."""
    most: list[int] = []

    def body(machine: Machine) -> None:
        resident = machine.host.resident
        write = machine.disk.write

        def slow_write(offset: int, data: Bytes) -> None:
            most.append(resident.laundry_count)
            machine.runtime.sleep(0.2, "a slow disk")
            write(offset, data)

        machine.disk.write = slow_write  # type: ignore[method-assign]
        work(machine, 2 * MINIMUM_PAGES, seed=seed)
        assert resident.free_low > 0

    on_machine(body, seed, MINIMUM_PAGES)
    assert 5 < max(most) <= 10


@pytest.mark.parametrize("pager", ["task", "kernel"])
def test_both_run_on_real_threads_too(pager: str) -> None:
    """Null locks inside a kernel that is entered by one thread at a time, also when the interpreter preempts."""
    machine = Machine(NativeRuntime(), 2 * MINIMUM_PAGES * PAGE, SPACE, pager, time_scale=1e-5)
    work(machine, 4 * MINIMUM_PAGES, tasks=4)
    machine.host.check()
    assert machine.pager.totals()["page_errors"] == 0


def test_the_same_bytes_come_out_wherever_the_pager_runs() -> None:
    """One code, one switch: what is on the paging file at the end is what the programs wrote, page by page."""

    def digest(pager: str) -> dict[str, int]:
        found: dict[str, int] = {}

        def body(machine: Machine) -> None:
            work(machine, 3 * MINIMUM_PAGES, seed=11)
            machine.runtime.sleep(60)
            machine.pager.check()
            assert isinstance(machine.disk, ModelledDisk)
            totals = machine.pager.totals()
            found.update(errors=totals["page_errors"], refused=totals["refused"], locks=totals["lock_pairs"])

        on_machine(body, 3, pager=pager)
        return found

    task, kernel = digest("task"), digest("kernel")
    assert (task["errors"], task["refused"]) == (kernel["errors"], kernel["refused"]) == (0, 0)
    assert kernel["locks"] == 0 < task["locks"], "null locks inside the kernel (7.2)"
