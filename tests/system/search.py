"""The search: stories told in worlds, each a function of its seed; one that fails is made short.

python -m system.search --seeds 500 [--first N] [--steps N] [--shrink]     (from tests/; make simulate SEEDS=500)
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from dataclasses import dataclass

from mach.threads.simulated import SimulatedRuntime
from system.scenes import Scenes
from system.story import Step, draw_story
from system.world import World

STEPS = 32
LIMIT_SECONDS = 1e9  # of virtual time
Stories = list[list[Step]]


@dataclass
class Failure:
    """What went wrong, and what had been done until then."""

    error: BaseException
    told: list[str]

    @property
    def kind(self) -> str:
        return f"{type(self.error).__name__}: {str(self.error)[:40]}"


def stories_of(seed: int, steps: int = STEPS) -> Stories:
    """One family of tasks, or two that run at the same time."""
    families = 1 + (seed % 3 == 0)
    return [draw_story(seed * 10 + number, steps // families) for number in range(families)]


def run(seed: int, stories: Stories) -> Failure | None:
    """Tell the stories in the world of `seed`."""
    runtime = SimulatedRuntime(seed)
    told: list[str] = []

    def live(world: World, number: int, story: list[Step]) -> None:
        family = Scenes(world, number)
        family.tell = told.append  # type: ignore[method-assign]
        for step in story:
            family.act(step)
            world.host.check(at_rest=len(stories) == 1)
        for task, _ in family.tasks:
            task.terminate()

    def main() -> None:
        world = World(runtime, seed)
        threads = [
            runtime.fork(lambda at=number, story=story: live(world, at, story), f"family {number}")  # type: ignore[misc]
            for number, story in enumerate(stories)
        ]
        for thread in threads:
            thread.join()
        told.append("all tasks have ended")
        world.check_empty()

    try:
        runtime.run(main, LIMIT_SECONDS)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Failure(error, told)
    return None


def shrink(seed: int, stories: Stories, failure: Failure, tries: int = 300) -> tuple[Stories, Failure]:
    """Leave out what the failure does not need: halves first, then smaller pieces, then single steps."""
    size = max(len(story) for story in stories)
    while size and tries > 0:
        for number in range(len(stories)):
            at = 0
            while at < len(stories[number]) and tries > 0:
                fewer = [list(story) for story in stories]
                del fewer[number][at : at + size]
                tries -= 1
                found = run(seed, fewer)
                if found is not None and type(found.error) is type(failure.error):
                    stories, failure = fewer, found
                else:
                    at += size
        size //= 2
    return stories, failure


def report(seed: int, failure: Failure) -> str:
    told = "\n".join(f"  {number}. {words}" for number, words in enumerate(failure.told, 1))
    where = traceback.extract_tb(failure.error.__traceback__)[-1]
    what = f"{type(failure.error).__name__}: {failure.error or where.line}"
    return f"seed {seed}: {what}\n  at {where.filename}:{where.lineno} in {where.name}\nwhat happened:\n{told}"


def search(seeds: range, steps: int = STEPS, make_short: bool = True) -> str | None:
    """The report of the first seed that fails, or None."""
    for seed in seeds:
        stories = stories_of(seed, steps)
        failure = run(seed, stories)
        if failure is not None:
            if make_short:
                stories, failure = shrink(seed, stories, failure)
            return report(seed, failure)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="search schedules and stories for a failure")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--no-shrink", action="store_true")
    given = parser.parse_args()
    began = time.process_time()
    found = search(range(given.first, given.first + given.seeds), given.steps, not given.no_shrink)
    if found:
        print(found)
        return 1
    print(f"{given.seeds} seeds from {given.first}: no failure, {time.process_time() - began:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    random.seed(0)
    sys.exit(main())
