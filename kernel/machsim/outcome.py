"""What a machine of `machsim run` was asked for, what came of it, and how that is told.

Interface:
    Order      what the machine is to be and do; Order.fitting refuses what cannot end well
    Outcome    what came of it; .ok
    conclude(outcome, as_json, hold)    prints, holds the machine up if asked, leaves with the right exit code

Not here: how the machine is put together (kernel/machsim/run.py).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass

import click

from kernel.host import Host
from kernel.machsim.size import MIB
from kernel.workload import Workload

DEFAULT_VIRTUAL = 64 * MIB
PAGERS = ("task", "process", "kernel")  # where the default pager runs


@dataclass(frozen=True, slots=True)
class Order:
    """What the machine is to be and do.  Sizes are bytes."""

    memory: int
    virtual: int
    tasks: int
    seed: int

    @staticmethod
    def fitting(memory: int, virtual: int | None, tasks: int, seed: int, space: int) -> Order:
        """The order, if a pager with `space` bytes can serve it.  What cannot end well is refused before it begins."""
        if virtual is None:
            virtual = max(MIB, min(DEFAULT_VIRTUAL, space // MIB * MIB))
        if virtual - memory > space:
            raise click.ClickException(
                f"{virtual / MIB:g} MiB of virtual memory need as much paging space, and the pager has "
                f"{space / MIB:g} MiB free; use --virtual {space // MIB}M, or a disk of "
                f"mkpagingfile --paging-size {-(-virtual // MIB)}M"
            )
        return Order(memory, virtual, tasks, seed)


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    order: Order
    host: Host
    workload: Workload
    seconds: float  # of the clock that the machine ran on
    simulated: bool
    pager: str  # where it ran: one of PAGERS
    paging_space: int  # bytes that the pager had free before
    statistics: dict[str, int]  # of the machine, afterwards

    @property
    def ok(self) -> bool:
        return not self.workload.failures and self.workload.verified == self.workload.pages


def conclude(outcome: Outcome, as_json: bool, hold: bool) -> None:
    """Print what came of it, and hold the machine up or leave with the right exit code."""
    facts = _facts(outcome)
    if as_json:
        click.echo(json.dumps(facts))
    elif outcome.ok:
        click.echo(_words(outcome))
    if not outcome.ok:
        click.echo(f"Error: {_why(outcome)}", err=True)
        sys.stdout.flush()
        raise SystemExit(1)
    if hold:
        _hold()


def _hold() -> None:
    """Until SIGTERM or SIGINT.  A signal wakes us through a descriptor, whichever thread it reaches."""
    wakened, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    click.echo(f"verified; holding: kill -TERM {os.getpid()} to end")
    sys.stdout.flush()
    os.read(wakened, 1)


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "verified": outcome.ok,
        "verified_pages": outcome.workload.verified,
        "pages": outcome.workload.pages,
        "page_size": outcome.host.page_size,
        "memory": outcome.order.memory,
        "virtual": outcome.order.virtual,
        "tasks": outcome.order.tasks,
        "seed": outcome.order.seed,
        "seconds": round(outcome.seconds, 6),
        "simulated": outcome.simulated,
        "pager": outcome.pager,
        "statistics": outcome.statistics,
        "failures": [words for _, words in outcome.workload.failures],
        "addresses": {task.task_id: outcome.workload.addresses[task.task_id] for task in outcome.workload.tasks},
    }


def _words(outcome: Outcome) -> str:
    statistics, order, workload = outcome.statistics, outcome.order, outcome.workload
    clock = "simulated " if outcome.simulated else ""
    tasks = "1 task" if order.tasks == 1 else f"{order.tasks} tasks"
    return (
        f"verified: {workload.pages} pages ({order.virtual / MIB:g} MiB) of {tasks} "
        f"on {statistics['memory_count']} frames ({order.memory / MIB:g} MiB), seed {order.seed}: every byte is right\n"
        f"faults: {statistics['faults']}, of which {statistics['zero_fill_count']} were filled with zeros and "
        f"{statistics['pageins']} paged in\n"
        f"pageout: {statistics['pageouts']} pages written, {statistics['clean_pages_freed']} dropped clean, "
        f"{statistics['reactivations']} given a second chance\n"
        f"time: {outcome.seconds:.3f} {clock}seconds"
    )


def _why(outcome: Outcome) -> str:
    """One line: why the run is a failure."""
    statistics, failures = outcome.statistics, outcome.workload.failures
    first = failures[0][1] if failures else f"only {outcome.workload.verified} pages were verified"
    if outcome.host.manager.dead or statistics["pagers_died"]:
        return f"the default pager died: {first}; start it again, and run again"
    if outcome.paging_space < outcome.order.virtual:
        space = f"{outcome.paging_space / MIB:g} MiB"
        return f"{first}; the pager had only {space} of paging space for {outcome.order.virtual / MIB:g} MiB"
    return first
