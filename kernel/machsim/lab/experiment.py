"""One protection taken away: what is run, with it and without, and what comes of it.

Interface:
    Experiment      a protection: its name, what it is, which paragraph asks for it, and a program that needs it
    Bench           where one run of it happens: a simulated runtime, a machine, whether the protection is there
    perform(experiment, seed, protected) -> Result
    search(experiment, seeds) -> Result    of the first seed whose unprotected run ends as it is expected to
    WrongResult     raised by an experiment's program: what it read is not what it wrote

Invariants:
    1. A run is a function of experiment, seed and protection: with and without it, all else is the same.

Not here: how a result is told (story.py); the experiments themselves.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kernel.machsim.machine import Machine, Switches
from kernel.processor import KernelPanic
from kernel.workload import Workload
from mach.kern_return import MachError
from mach.threads import Deadlock, Wait
from mach.threads.simulated import SimulatedRuntime

PAGE = 4096
STALL_SECONDS = 100.0  # of pauses and nothing else: far more than the slowest operation of the disk
SPACE_BYTES = 8 << 20  # of the paging file


class Outcome(enum.Enum):
    COMPLETED = "completed"
    DEADLOCK = "deadlock"
    LOSS = "loss"


class WrongResult(Exception):
    """Memory does not hold what was stored there, or cannot be had."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """See the head of the module.  The words are for a reader; what happens is found by running `program`."""

    name: str
    title: str  # what is taken away
    sections: str  # of the paper
    because: str  # what those sections say
    cure: str
    program: Callable[[Bench], None]
    expected: Outcome = Outcome.DEADLOCK


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run."""

    seed: int
    protected: bool
    outcome: Outcome
    steps: int  # scheduling decisions
    seconds: float  # of virtual time; since when nobody goes on, in a deadlock
    words: str = ""  # of a loss
    waits: tuple[Wait, ...] = ()  # of a deadlock
    facts: dict[str, int] = field(default_factory=dict)
    what_is: Callable[[int, int], str] = lambda object_id, offset: "memory"


class Bench:
    """See the head of the module."""

    def __init__(self, runtime: SimulatedRuntime, seed: int, protected: bool) -> None:
        self.runtime = runtime
        self.seed = seed
        self.protected = protected
        self.machine: Machine | None = None
        self.facts: dict[str, int] = {}

    def build(self, frames: int, switches: Switches, prepare: Callable[[Machine], None] | None = None) -> Machine:
        """A machine of so many frames: with all protections, or with `switches` instead."""
        switches = Switches() if self.protected else switches
        prepare = prepare or (lambda machine: None)
        self.machine = Machine(self.runtime, frames * PAGE, SPACE_BYTES, switches=switches, prepare=prepare)
        return self.machine

    def work(self, pages: int, tasks: int) -> None:
        """Programs that use so many pages together; each byte verified."""
        assert self.machine is not None
        workload = Workload(self.machine.host, pages * PAGE, tasks, self.seed)
        workload.run()
        if workload.failures:
            raise WrongResult(workload.failures[0][1])
        self.facts["pages_verified"] = workload.verified
        self.facts["pageouts"] = self.machine.host.vm_statistics()["pageouts"]


def perform(experiment: Experiment, seed: int, protected: bool) -> Result:
    runtime = SimulatedRuntime(seed)
    bench = Bench(runtime, seed, protected)
    outcome, words = Outcome.COMPLETED, ""
    waits: tuple[Wait, ...] = ()
    seconds: float | None = None
    try:
        runtime.run(lambda: experiment.program(bench), stall_seconds=STALL_SECONDS)
    except Deadlock as deadlock:
        outcome, waits, seconds = Outcome.DEADLOCK, deadlock.waits, deadlock.since
    except (WrongResult, MachError, KernelPanic) as loss:
        outcome, words = Outcome.LOSS, str(loss)
    if seconds is None:
        seconds = runtime.clock
    what_is = bench.machine.what_is if bench.machine is not None else (lambda object_id, offset: "memory")
    return Result(seed, protected, outcome, runtime.steps, seconds, words, waits, dict(bench.facts), what_is)


def search(experiment: Experiment, seeds: Iterable[int]) -> Result:
    """The first run of these schedules that ends as it is expected to without the protection; or else the last one."""
    for seed in seeds:
        result = perform(experiment, seed, protected=False)
        if result.outcome is experiment.expected:
            break
    return result
