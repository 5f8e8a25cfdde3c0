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
    "Nobody but the default pager can bring a page of temporary memory back; so its own code and data must never leave "
    "memory (§4).",
    "what the pager allocates is wired by vm_wire before it is used (§5.4)",
    _no_wiring,
)
NO_RESERVE = Experiment(
    "no-reserve",
    "no pages are kept back for privileged threads",
    "4, 5.1",
    "Memory becomes free by paging out, and paging out is the default pager's work: it must never have to wait for "
    "free memory itself (§4).",
    "the last 15 free pages are for privileged threads only (vm_page_free_reserved)",
    _no_reserve,
)
NO_PRIVILEGE = Experiment(
    "no-privilege",
    "the default pager's threads are not privileged",
    "4, 5.1, 5.4",
    "A reserve helps only those who may use it. The default pager's threads must be among them: memory becomes free by "
    "their work alone (§4).",
    "thread_wire makes a thread one that may take the last pages (§5.1, §5.4)",
    _no_privilege,
)
