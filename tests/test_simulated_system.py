"""Kernel, default pager, user pager and disk in one process on the simulated runtime.

500 stories of tasks that fork, copy, share, map, protect and wire their memory, with pagers that are late, lock and
die (system/), and 60 schedules of the workload.  `make simulate SEEDS=5000` tells more stories; a failing one is told
again, and made short, by its number: `cd tests; python -m system.search --first SEED --seeds 1`.
"""

from __future__ import annotations

import os
import random

import pytest
from paging import PAGE, block_list
from system.search import search, stories_of

from bootfs.device import MemoryDevice
from kernel.disk import ModelledDisk
from kernel.host import Host
from kernel.page import Page
from kernel.resident import ResidentPages
from kernel.shadow import Shadows
from kernel.vm_copy import VmCopy
from kernel.vm_object import VmObject
from kernel.workload import Workload
from mach.ports import Ipc
from mach.threads.simulated import SimulatedRuntime
from pager.default_pager import DefaultPager

SEEDS = int(os.environ.get("SEEDS", "500"))
SCHEDULES = 60
BLOCKS = 20  # the seeds are run in this many tests, for the sake of parallel runs
FRAMES = 64
SLOTS = 150


def system(seed: int) -> None:
    """One run: a machine of 64 frames, tasks with up to 144 pages, as seed decides; every byte verified."""
    chance = random.Random(seed)
    runtime = SimulatedRuntime(seed)
    tasks, pages, threads = chance.randrange(1, 5), chance.randrange(70, 145), chance.randrange(1, 5)

    def body() -> None:
        ipc = Ipc(runtime)
        disk = ModelledDisk(runtime, MemoryDevice(bytearray((1 << 16) + SLOTS * PAGE)))
        pager = DefaultPager(runtime, ipc, PAGE)
        pager.store.add("disk", disk, block_list(SLOTS))
        pager.start(threads)
        host = Host(runtime, ipc, FRAMES * PAGE)
        host.start()
        host.vm_set_default_memory_manager(host.host_priv, pager.port.make_send())
        workload = Workload(host, pages * PAGE, tasks, seed)
        workload.run()
        assert workload.failures == []
        assert workload.verified == workload.pages
        assert host.vm_statistics()["pageouts"] > 0
        host.check()
        for task in list(host.tasks.values()):
            task.terminate()
        runtime.sleep(60)
        host.check()
        pager.check()
        assert pager.idle
        assert pager.store.free_pages == SLOTS, "every slot comes back when the tasks are gone"
        assert pager.totals()["page_errors"] == pager.totals()["refused"] == 0
        assert host.vm_statistics()["free_count"] == FRAMES, "and every frame"

    runtime.run(body)


@pytest.mark.timeout(max(120, SEEDS))
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_story_ends_with_the_memory_that_it_must_have(block: int) -> None:
    """P2, P5; mach.md 8.16, 8.36, 8.41, 8.50, 8.51, in every mixture."""
    found = search(range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS))
    if found:
        pytest.fail(found)


@pytest.mark.parametrize("block", range(3))
def test_no_schedule_deadlocks_or_loses_a_page(block: int) -> None:
    for seed in range(block * SCHEDULES // 3, (block + 1) * SCHEDULES // 3):
        system(seed)


def test_a_story_is_the_same_twice_and_a_failing_one_is_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds a bug that is put in on purpose, and tells it in few words."""
    assert stories_of(5) == stories_of(5)
    monkeypatch.setattr(VmCopy, "_write_protect", lambda self, pmap, entry: None)  # a copy sees later writes
    found = search(range(200))
    assert found is not None
    assert "is writable though it is a copy" in found
    assert len(found.splitlines()) < 20, found


def test_a_wake_up_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory becomes free, and who waits for it is not told."""
    free = ResidentPages.free

    def free_and_wake_nobody(self: ResidentPages, page: Page) -> None:
        wanted, self.free_wanted = self.free_wanted, 0
        free(self, page)
        self.free_wanted = wanted

    monkeypatch.setattr(ResidentPages, "free", free_and_wake_nobody)
    found = search(range(100), make_short=False)
    assert found is not None
    assert "waits for a page of memory" in found


@pytest.mark.parametrize("forgotten", ["the object's place in the one below", "the place of the one below"])
def test_a_memory_object_that_changes_hands_at_the_wrong_offset_is_found(
    monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """vm_object_collapse, with a pager: both offsets count, and neither is zero in some story."""
    take_over = Shadows._take_over

    def wrongly(self: Shadows, object: VmObject, backing: VmObject) -> None:
        wrong = object.shadow_offset if forgotten.startswith("the object's") else backing.paging_offset
        take_over(self, object, backing)
        if object.pager is not None:
            object.paging_offset -= wrong

    monkeypatch.setattr(Shadows, "_take_over", wrongly)
    found = search(range(200), make_short=False)
    assert found is not None
    assert "seen from outside holds" in found or "refused" in found, found


def test_a_run_is_the_same_twice() -> None:
    def figures() -> tuple[int, float]:
        runtime = SimulatedRuntime(7)
        ends: list[tuple[int, float]] = []

        def body() -> None:
            ipc = Ipc(runtime)
            pager = DefaultPager(runtime, ipc, PAGE)
            pager.store.add("disk", MemoryDevice(bytearray((1 << 16) + SLOTS * PAGE)), block_list(SLOTS))
            pager.start()
            host = Host(runtime, ipc, FRAMES * PAGE)
            host.start()
            host.vm_set_default_memory_manager(host.host_priv, pager.port.make_send())
            Workload(host, 100 * PAGE, 2, 7).run()
            ends.append((runtime.steps, runtime.clock))

        runtime.run(body)
        return ends[0]

    assert figures() == figures()
