"""`machsim deadlock`: take a protection of the paper away, and see what it was for.

Interface:
    deadlock    the click command

Not here: the experiments and how they are told (kernel/machsim/lab/).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kernel.machsim.lab.experiment import Experiment, Result

SEEDS = 20  # schedules that are tried when none is asked for


@click.command(epilog="Example: machsim deadlock no-wiring")
@click.argument("names", metavar="NAME...|all", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Tell which experiments there are.")
@click.option("--seed", type=click.IntRange(0), help="The schedule to run.  [default: the first that shows it]")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=SEEDS,
    show_default=True,
    metavar="N",
    help="Schedules to try, from 0 on.",
)
@click.option("--svg", metavar="OUT", help="Draw the graph of who waits for whom, too, of one experiment.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager")
def deadlock(
    names: tuple[str, ...], listing: bool, seed: int | None, seeds: int, svg: str | None, as_json: bool
) -> None:
    """Run a machine with one protection of the paper's sections 4 and 5 taken away, and tell the deadlock, or the loss,
    that it prevents: who waits for what, owed by whom.  Then run the same schedule with the protection.

    Exits 0 if each experiment went as it should: wrong without the protection, right with it.
    """
    from kernel.machsim.lab import EXPERIMENTS

    if listing:
        _list(as_json)
        return
    if not names:
        raise click.UsageError("name an experiment, or all; --list tells which there are")
    wanted = list(EXPERIMENTS) if "all" in names else list(names)
    unknown = [name for name in wanted if name not in EXPERIMENTS]
    if unknown:
        raise click.UsageError(f"there is no experiment {unknown[0]!r}; --list tells which there are")
    if svg is not None and len(wanted) != 1:
        raise click.UsageError("--svg draws one experiment: name it")
    if not _show(wanted, range(seeds) if seed is None else (seed,), svg, as_json):
        raise SystemExit(1)


def _list(as_json: bool) -> None:
    from kernel.machsim.lab import EXPERIMENTS

    if as_json:
        click.echo(json.dumps({name: {"title": e.title, "sections": e.sections} for name, e in EXPERIMENTS.items()}))
        return
    width = max(map(len, EXPERIMENTS))
    for name, experiment in EXPERIMENTS.items():
        click.echo(f"{name:{width}}  {experiment.title} (§{experiment.sections})")


def _show(names: list[str], seeds: Sequence[int], svg: str | None, as_json: bool) -> bool:
    """Run and tell each; whether all went as they should."""
    from kernel.machsim.lab import EXPERIMENTS
    from kernel.machsim.lab.experiment import perform, search
    from kernel.machsim.lab.story import facts, shown, story

    told: list[dict[str, object]] = []
    failed: list[str] = []
    for name in names:
        experiment = EXPERIMENTS[name]
        without = search(experiment, seeds)
        with_protection = perform(experiment, without.seed, protected=True)
        if svg is not None:
            _draw(experiment, without, svg)
        if as_json:
            told.append(facts(experiment, without, with_protection))
        else:
            click.echo(story(experiment, without, with_protection) + ("\n" if name != names[-1] else ""))
        if not shown(experiment, without, with_protection):
            failed.append(name)
    if as_json:
        click.echo(json.dumps(told))
    if failed:
        click.echo(f"Error: not as it should be: {', '.join(failed)}; try other schedules with --seeds 100", err=True)
    return not failed


def _draw(experiment: Experiment, without: Result, path: str) -> None:
    from kernel.machsim.lab.picture import deadlock_picture

    try:
        Path(path).write_text(deadlock_picture(experiment, without), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {(error.strerror or '').lower()}") from None
