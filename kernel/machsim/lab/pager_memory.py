"""Experiments on the memory of the default pager: wired code and buffers, the page reserve, privileged threads.

Interface:
    NO_WIRING, NO_RESERVE, NO_PRIVILEGE
"""

from __future__ import annotations

from kernel.machsim.lab.experiment import Bench, Experiment
from kernel.machsim.machine import Switches
from kernel.program import Protections

FRAMES = 96


def _no_wiring(bench: Bench) -> None:
    bench.build(FRAMES, Switches(pager=Protections(wire=False)))
    bench.work(pages=3 * FRAMES, tasks=2)


def _no_reserve(bench: Bench) -> None:
    bench.build(FRAMES, Switches(reserve=False))
    bench.work(pages=4 * FRAMES, tasks=8)


def _no_privilege(bench: Bench) -> None:
    bench.build(FRAMES, Switches(pager=Protections(privileged=False)))
    bench.work(pages=4 * FRAMES, tasks=8)


NO_WIRING = Experiment(
    "no-wiring",
    "the default pager's code, stacks and buffers are not wired",
    "4, 5.4",
    "The default memory manager must be resident: nobody else can page its code and data into memory (§4).",
    "its memory allocator uses vm_wire on all that it allocates (§5.4)",
    _no_wiring,
)
NO_RESERVE = Experiment(
    "no-reserve",
    "no pages are kept back for privileged threads",
    "4, 5.1",
    "The default memory manager cannot block to wait for more physical memory, since freeing physical memory requires "
    "that its contents be paged out through the default memory manager (§4).",
    "the last 15 pages are only for threads that are wired: vm_page_free_reserved (§4, §5.1)",
    _no_reserve,
)
NO_PRIVILEGE = Experiment(
    "no-privilege",
    "the default pager's threads are not privileged",
    "4, 5.1, 5.4",
    "There is a reserve, but not for the pager: its threads wait for memory like everybody's, and memory becomes free "
    "only by their own work (§4).",
    "thread_wire lets the threads of the default memory manager always allocate memory (§5.1, §5.4)",
    _no_privilege,
)
