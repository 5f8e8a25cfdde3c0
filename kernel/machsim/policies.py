"""`machsim policies`: the replacement policies compared, each by the same machine under the same references.

Interface:
    policies          the click command
    PATTERNS          name -> the row of pages that a program references
    measure(policy, references, pages, memory) -> Measure

The policies are those of kernel/replacement/, as the pageout daemon asks them: with its reserve, its thresholds and its
pager, and with reference bits instead of the references.  `opt` is Belady's bound for as many frames as the machine has
above its reserve, all of them and the future known (kernel/references/policies.py).

Not here: real programs' traces (machsim misses).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

import click
import numpy as np

from kernel.host import Host
from kernel.machsim.machine import Machine
from kernel.machsim.size import MIB, Size
from kernel.references.policies import PageTrace, opt
from kernel.replacement import POLICIES
from kernel.resident import FREE_RESERVED
from kernel.workload import Pattern
from mach.threads.simulated import SimulatedRuntime

PAGE = 4096
BATCH = 32  # references between two looks at the clock
WRITES_OF = 4  # every so many pages is written to, the others only read


def _loop(pages: int) -> Iterator[int]:
    """All pages in turn, again and again."""
    while True:
        yield from range(pages)


def _local(pages: int) -> Iterator[int]:
    """Four references of five go to a fifth of the pages, which changes slowly."""
    draws = Pattern(0, PAGE).draws("local", 1 << 20)
    while True:
        for start in range(0, pages, 3):
            for _ in range(40):
                near, where = next(draws) % 5, next(draws)
                yield (start + where % (pages // 5)) % pages if near else where % pages


def _scan(pages: int) -> Iterator[int]:
    """A sixth of the pages in constant use, while all are read through once and again."""
    draws = Pattern(0, PAGE).draws("scan", 1 << 20)
    while True:
        for page in range(pages):
            yield page
            for _ in range(4):
                yield next(draws) % (pages // 6)


PATTERNS: dict[str, Callable[[int], Iterator[int]]] = {"loop": _loop, "local": _local, "scan": _scan}


@dataclass(frozen=True, slots=True)
class Measure:
    """What a policy came to.  Pages."""

    policy: str
    faults: int  # that a page had to be brought for, or made
    pageins: int
    pageouts: int
    spared: int  # at the last moment, because they had been used


def measure(policy: str, references: list[int], pages: int, memory: int) -> Measure:
    """Run the references on a machine of `memory` bytes with that policy."""
    runtime = SimulatedRuntime(0)
    hosts: list[Host] = []

    def body() -> None:
        machine = Machine(runtime, memory, 2 * pages * PAGE + MIB, "kernel", replacement=policy)
        hosts.append(machine.host)
        task = machine.host.task_create("program")
        address = task.vm_allocate(pages * PAGE)
        for at in range(0, len(references), BATCH):
            batch = references[at : at + BATCH]
            task.reference([address + page * PAGE for page in batch if page % WRITES_OF])
            task.reference([address + page * PAGE for page in batch if not page % WRITES_OF], write=True)
            runtime.sleep(0.001, "the program's own work")

    runtime.run(body)
    host = hosts[0]
    brought = host.vm_fault.counts["zero_fills"] + host.pagers.counts["pageins"]
    return Measure(
        policy,
        brought,
        host.pagers.counts["pageins"],
        host.pageout.counts["pageouts"],
        host.resident.policy.reactivations,
    )


@click.command(epilog="Example: machsim policies --memory 512K --virtual 768K")
@click.option("--memory", type=Size(), default="512K", show_default=True, help="Physical memory of the machine.")
@click.option("--virtual", type=Size(), default="768K", show_default=True, help="Memory that the program uses.")
@click.option("--references", "count", type=click.IntRange(100), default=4000, show_default=True, metavar="N")
@click.option("--policy", type=click.Choice(sorted(POLICIES)), multiple=True, help="May repeat.  [default: all]")
@click.option("--pattern", type=click.Choice(sorted(PATTERNS)), multiple=True, help="May repeat.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager")
def policies(
    memory: int, virtual: int, count: int, policy: tuple[str, ...], pattern: tuple[str, ...], as_json: bool
) -> None:
    """Compare the replacement policies: the same references, on machines that differ in nothing else."""
    pages, frames = virtual // PAGE, memory // PAGE
    if frames < 64 or pages < frames // 2:
        raise click.UsageError("too small to compare: --memory 256K and --virtual half of --memory at the least")
    facts: dict[str, dict[str, object]] = {}
    for name in pattern or tuple(PATTERNS):
        references = list(islice(PATTERNS[name](pages), count))
        measures = [measure(which, references, pages, memory) for which in policy or tuple(sorted(POLICIES))]
        bound = opt(PageTrace(np.array(references, dtype=np.int64)), frames - FREE_RESERVED)
        facts[name] = {"policies": [asdict(found) for found in measures], "opt": bound}
        if not as_json:
            _tell(name, measures, bound)
    if as_json:
        click.echo(json.dumps({"frames": frames, "pages": pages, "references": count, "patterns": facts}))


def _tell(name: str, measures: list[Measure], bound: int) -> None:
    click.echo(f"{name}: {(PATTERNS[name].__doc__ or '').strip()}")
    click.echo(f"  {'policy':14} {'faults':>8} {'pageins':>8} {'pageouts':>8} {'spared':>8}")
    for found in sorted(measures, key=lambda found: found.faults):
        row = (found.faults, found.pageins, found.pageouts, found.spared)
        click.echo(f"  {found.policy:14} " + " ".join(f"{number:8}" for number in row))
    click.echo(f"  {'opt':14} {bound:8}   (the bound: the future known, every frame for the program)")
