"""Machines with a user pager, for the tests of external memory objects.

Interface:
    plain_pager(machine)      a user pager without habits
    with_user_pager(body)     a machine with one, and an object of its
    mapped(machine, offered)  a task that maps the object, and where
"""

from __future__ import annotations

from collections.abc import Callable

from simulated_machine import PAGE, Machine, on_machine
from system.user_pager import Offered, UserPager

from mach.memory_object import (
    CopyStrategy,
)


def plain_pager(machine: Machine) -> UserPager:
    """A user pager without habits."""
    pager = UserPager(machine.runtime, machine.ipc, 0)
    pager.latency, pager.locks, pager.gives_away, pager.repeats = 0.0, False, False, False
    return pager


def with_user_pager(body: Callable[[Machine, UserPager, Offered], None], seeds: int = 3, pages: int = 12) -> None:
    def run(machine: Machine) -> None:
        pager = plain_pager(machine)
        pager.start()
        offered = pager.offer(pages)
        offered.strategy, offered.may_cache, offered.new_protocol = CopyStrategy.DELAY, False, True
        body(machine, pager, offered)
        assert pager.broken == []

    for seed in range(seeds):
        on_machine(run, seed=seed)


def mapped(machine: Machine, offered: Offered, name: str = "program", **how: object) -> tuple[object, int]:
    task = machine.host.task_create(name)
    right = offered.port.make_send()
    address = task.vm_map(right, offered.pages * PAGE, **how)  # type: ignore[arg-type]
    right.drop()
    return task, address
