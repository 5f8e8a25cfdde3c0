"""What the kernel core can do: paging faults and references a second, and its bookkeeping for a gigabyte of frames.

Kernel and pager are in one process, the pager inside the kernel as in MK63, its disk in memory: no message leaves the
thread that faults.  Rates are of processor time, the best of several rounds that take turns, as other programs run.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from kernel.host import Host
from kernel.in_kernel import Driver, InKernel
from kernel.task import Task
from mach.ports import Ipc
from mach.threads import NativeRuntime
from pager.default_pager import DefaultPager

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"
PAGE = 4096
FRAMES, PAGES = 1024, 3072  # of the machine that pages: each reference of a loop is a paging fault
RESIDENT, REFERENCES = 500, 200_000
GIBIBYTE_FRAMES = (1 << 30) // PAGE
BARS = (  # what is asked of us: measure, the bound, whether it is the most or the least
    ("paging faults a second, clusters of 8", 15_000, "least"),
    ("resident references a second", 1_000_000, "least"),
    ("bookkeeping a frame, bytes", 64, "most"),
)


def main(words: Sequence[str]) -> int:
    """Measure, print, write build/benchmarks/kernel.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks kernel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(words)
    measures: dict[str, Callable[[], float]] = {
        "paging faults a second, a page a message": lambda: paging(1),
        "paging faults a second, clusters of 8": lambda: paging(8),
        "resident references a second": references,
    }
    best: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, measure in measures.items():
            best[name] = max(best.get(name, 0.0), measure())
    best["bookkeeping a frame, bytes"] = bookkeeping()
    for name, value in best.items():
        bar = next((f"   asked: at {way} {bound}" for what, bound, way in BARS if what == name), "")
        print(f"{name:42} {value:12,.0f}{bar}")
    BUILD.mkdir(parents=True, exist_ok=True)
    facts = {"machine": platform.platform(), "python": platform.python_version(), "measures": best}
    (BUILD / "kernel.json").write_text(json.dumps(facts, indent=2) + "\n")
    return 0


def machine(frames: int, pages: int, cluster: int) -> Host:
    """A machine whose default pager is inside the kernel, over a disk in memory."""
    runtime = NativeRuntime()
    ipc = Ipc(runtime)
    host = Host(runtime, ipc, frames * PAGE, pager_inside=True, pageout_time_scale=0.0, cluster_pages=cluster)
    inside = InKernel(runtime, host.processor)
    pager = DefaultPager(inside, ipc, PAGE)
    space = (2 * pages + 64) * PAGE
    disk = Driver(host.processor, MemoryDevice(bytearray(space)))
    pager.store.add("memory", disk, BlockList((Run(0, 0, space),), space, 8192))
    pager.serve_by_calls(inside.enter)
    host.start()
    host.vm_set_default_memory_manager(host.host_priv, pager.port.make_send())
    return host


def program(host: Host, pages: int) -> tuple[Task, list[int]]:
    task = host.task_create("program")
    address = task.vm_allocate(pages * PAGE)
    return task, [address + page * PAGE for page in range(pages)]


def paging(cluster: int) -> float:
    """Faults a second of a loop over three times the memory: each page comes in, half of them go out again."""
    task, addresses = program(machine(FRAMES, PAGES, cluster), PAGES)
    task.reference(addresses, write=True)
    before, began = task.faults, time.process_time()
    task.reference(addresses)
    task.reference(addresses, write=True)
    return (task.faults - before) / (time.process_time() - began)


def references() -> float:
    task, addresses = program(machine(FRAMES, PAGES, 1), RESIDENT)
    row = [addresses[at % RESIDENT] for at in range(REFERENCES)]
    task.reference(addresses)
    began = time.process_time()
    task.reference(row)
    return REFERENCES / (time.process_time() - began)


def bookkeeping() -> float:
    """Bytes of Python's memory for each frame of a gibibyte, all of them resident in an object and mapped by a task."""
    tracemalloc.start()
    runtime = NativeRuntime()
    host = Host(runtime, Ipc(runtime), GIBIBYTE_FRAMES * PAGE)
    host.resident.store.zero = lambda frame: None  # type: ignore[method-assign]  # the frames themselves stay untouched
    spare = host.resident.thresholds.free_target + 1  # the daemon has nothing to do
    task = host.task_create("program")
    address = task.vm_allocate((GIBIBYTE_FRAMES - spare) * PAGE)
    task.reference(range(address, address + (GIBIBYTE_FRAMES - spare) * PAGE, PAGE))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(task.pmap) == GIBIBYTE_FRAMES - spare
    return taken / GIBIBYTE_FRAMES
