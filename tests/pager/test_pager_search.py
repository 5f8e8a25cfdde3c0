"""The pager under random schedules, random disk faults and several clients, every page against a plain model."""

from __future__ import annotations

import random

import pytest
from paging import PAGE, KernelSide, broken, make_pager, pattern

from mach.memory_object import VmProt
from mach.ports import Ipc
from mach.threads.simulated import SimulatedRuntime
from pager.default_pager import DefaultPager

SEEDS = 100
PAGES = 24


def client(runtime: SimulatedRuntime, ipc: Ipc, pager: DefaultPager, seed: int, faults: bool) -> None:
    """One client: writes, initializes, reads clusters, takes and gives back precious pages, at random; what comes back
    is the model's, or an error."""
    chance = random.Random(seed)
    obj = KernelSide(runtime, ipc, pager.port.make_send(), PAGES * PAGE)
    model: dict[int, bytes] = {}
    for step in range(25):
        page, count = chance.randrange(PAGES - 4), chance.randrange(1, 5)
        pages = range(page, page + count)
        match chance.randrange(6):
            case 0 | 1:
                content = [pattern(seed, step, at) for at in pages]
                obj.write(page, b"".join(content))
                model.update(zip(pages, content, strict=True))
            case 2:
                content = [pattern(seed, step, at, 1) for at in pages]
                obj.initialize(page, b"".join(content))
                for at, data in zip(pages, content, strict=True):
                    model.setdefault(at, data)
            case 3:
                for at in list(obj.precious)[:3]:
                    obj.write(at, obj.precious[at])
            case _:
                verify(obj, model, pages, faults, chance.choice((VmProt.READ, VmProt.DEFAULT)))
    verify(obj, model, range(PAGES), faults, VmProt.READ)
    match chance.randrange(3):
        case 0:
            obj.terminate()
        case 1:  # it dies in the middle of things: no terminate, only dead rights
            if not obj.precious:
                obj.request(0, 8)
            obj.write(0, b"".join(pattern(seed, at) for at in range(8)))
            obj.control.destroy()
            obj.memory_object.drop()


def verify(obj: KernelSide, model: dict[int, bytes], pages: range, faults: bool, access: VmProt) -> None:
    kept = obj.precious.keys() & set(pages)
    content = obj.look(pages.start, len(pages), access) if kept else obj.read(pages.start, len(pages), access)
    for at, found in zip(pages, content, strict=True):
        wanted = model.get(at, "unavailable")
        assert found == wanted or (faults and found == "error" and at in model), f"page {at}"


@pytest.mark.parametrize("faults", [False, True], ids=["a good disk", "a disk that fails"])
@pytest.mark.parametrize("block", range(10))
def test_no_page_is_lost_mixed_up_or_old_in_any_schedule(block: int, faults: bool) -> None:
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        runtime = SimulatedRuntime(seed)

        def run(seed: int = seed, runtime: SimulatedRuntime = runtime) -> None:
            ipc = Ipc(runtime)
            pager, disk = make_pager(runtime, ipc, pages=80 + seed % 3 * 40, threads=1 + seed % 4)
            chance = random.Random(seed)

            def before(kind: str, offset: int, length: int) -> None:
                if chance.random() < 0.3:
                    runtime.sleep(chance.random() * 0.02, "the disk")
                if faults and chance.random() < 0.1:
                    raise broken(offset)

            disk.before = before
            clients = [
                runtime.fork(lambda n=n: client(runtime, ipc, pager, seed * 10 + n, faults), f"client {n}")
                for n in range(3)
            ]
            for thread in clients:
                thread.join()
            runtime.sleep(10)
            assert pager.idle
            pager.check()
            if not faults:
                assert pager.totals()["page_errors"] == 0

        runtime.run(run)
