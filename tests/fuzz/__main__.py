"""python -m tests.fuzz: break disks and see that bootfs survives. See --help."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.campaign import Report, attempt, bound_memory, run
from tests.fuzz.mutate import bases, mutate

BATCH = 250  # mutants that one process takes at a time


def _batch(work: tuple[list[str], int, int]) -> Report:
    return run(*work)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20000, help="mutants in all (20000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other mutants (1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--base", action="append", help="only these disks; may repeat: " + ", ".join(bases()))
    parser.add_argument("--replay", metavar="BASE:SEED:NUMBER", help="one mutant again, and what comes of it")
    parser.add_argument("--write", metavar="FILE", help="with --replay: the broken disk itself")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.replay:
        return _replay(options.replay, options.write)
    names = options.base or list(bases())
    batches = [(names, min(BATCH, options.count - at), options.seed + at) for at in range(0, options.count, BATCH)]
    total = Report()
    with ProcessPoolExecutor(options.jobs, initializer=bound_memory) as pool:
        for report in pool.map(_batch, batches):
            total.mutants += report.mutants
            total.opened += report.opened
            total.failures += report.failures
    if options.json:
        print(total.as_json())
    else:
        for failure in total.failures:
            print(f"{failure.mutant}: {failure.fault} at {failure.where}: {'; '.join(failure.edits)}")
        print(f"{total.mutants} mutants, {total.opened} opened, {len(total.failures)} failures")
    return 1 if total.failures else 0


def _replay(name: str, path: str | None) -> int:
    base, seed, number = name.rsplit(":", 2)
    mutant = mutate(bases()[base], int(seed), int(number))
    if path:
        with open(path, "wb") as image:
            image.write(mutant.data)
    print("; ".join(mutant.edits))
    opened, failure = attempt(mutant)
    print(f"{failure.fault} at {failure.where}" if failure else "survived; " + ("opened" if opened else "refused"))
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
