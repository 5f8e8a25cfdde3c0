"""The laboratory: what each protection of the paper prevents is found without it, and told as it was found."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from kernel.machsim import main
from kernel.machsim.lab import EXPERIMENTS
from kernel.machsim.lab import experiment as experiment_module
from kernel.machsim.lab.experiment import Experiment, Outcome
from kernel.machsim.lab.picture import deadlock_picture
from kernel.machsim.lab.story import core_of, story
from mach.threads import Wait, WaitGraph

perform = cache(experiment_module.perform)  # a run is a function of these arguments: see below
EACH = pytest.mark.parametrize("name", EXPERIMENTS)
PROTECTED_SEEDS = 2


def found(experiment: Experiment) -> int:
    """The first schedule that shows it."""
    return next(seed for seed in range(10) if perform(experiment, seed, False).outcome is experiment.expected)


def machsim(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["deadlock", *arguments])


@EACH
def test_a_protection_that_is_taken_away_is_missed_and_with_it_the_same_schedule_completes(name: str) -> None:
    """P6; mach.md 8.6, 8.35: each protection of the paper's sections 4 and 5 by itself."""
    experiment = EXPERIMENTS[name]
    seed = found(experiment)
    without = perform(experiment, seed, False)
    assert without.outcome is experiment.expected
    with_protection = perform(experiment, seed, True)
    assert with_protection.outcome is Outcome.COMPLETED, with_protection.words
    assert with_protection.facts["pages_verified"] > 0
    assert with_protection.facts["pageouts"] > 0


@EACH
def test_with_all_protections_no_schedule_deadlocks(name: str) -> None:
    """P6."""
    for seed in range(100, 100 + PROTECTED_SEEDS):
        result = perform(EXPERIMENTS[name], seed, True)
        assert result.outcome is Outcome.COMPLETED, (seed, result.words, result.waits)


@EACH
def test_a_run_is_a_function_of_its_seed(name: str) -> None:
    seed = found(EXPERIMENTS[name])
    one, other = perform(EXPERIMENTS[name], seed, False), experiment_module.perform(EXPERIMENTS[name], seed, False)
    assert (one.outcome, one.steps, one.waits, one.words) == (other.outcome, other.steps, other.waits, other.words)


@pytest.mark.parametrize("name", [name for name, e in EXPERIMENTS.items() if e.expected is Outcome.DEADLOCK])
def test_the_story_tells_the_graph_that_was_found(name: str) -> None:
    """Every thread of the circle or chain is in the picture, in order, with what it waits for; all others are named."""
    experiment = EXPERIMENTS[name]
    seed = found(experiment)
    without, with_protection = (perform(experiment, seed, protected) for protected in (False, True))
    told = story(experiment, without, with_protection)
    one_line = re.sub(r"[\s│]+", " ", told)
    position = 0
    for wait in WaitGraph(without.waits).circle():
        position = told.index(wait.thread, position)
        assert wait.what.split(",")[0] in one_line
    for wait in without.waits:
        assert wait.thread == "main" or re.search(rf"\b{wait.thread}\b", one_line), wait.thread
    for section in experiment.sections.split(", "):
        assert f"§{section}" in told
    assert f"With it, seed {seed}: " in told


def test_a_deadlock_without_a_circle_is_told_as_a_chain_to_who_owes_it_all() -> None:
    waits = (
        Wait("program", "a page of memory", ("pageout",)),
        Wait("pageout", "its laundry", ("rogue",)),
        Wait("rogue", "nothing that will come", ()),
        Wait("idle", "a message at temporary objects", ()),
    )
    experiment = next(iter(EXPERIMENTS.values()))
    from kernel.machsim.lab.experiment import Result as Run

    without = Run(0, False, Outcome.DEADLOCK, 5, 1.0, waits=waits)
    told = story(experiment, without, Run(0, True, Outcome.COMPLETED, 5, 1.0))
    assert told.index("  program") < told.index("  pageout") < told.index("  rogue")
    assert "┌" not in told
    assert "Idle, with nothing to do about it: idle." in told


def test_the_command_lists_tells_and_exits_by_whether_it_went_as_it_should() -> None:
    listing = machsim("--list")
    assert listing.exit_code == 0
    assert [line.split()[0] for line in listing.output.splitlines()] == list(EXPERIMENTS)
    assert set(json.loads(machsim("--list", "--json").output)) == set(EXPERIMENTS)
    told = machsim("no-wiring", "--seed", "0")
    assert told.exit_code == 0, told.output
    assert "no-wiring" in told.output.splitlines()[0]
    assert "pages verified" in told.output.splitlines()[-1]


def test_its_facts_are_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    result = machsim("no-privilege", "--json")
    assert result.exit_code == 0, result.output
    (facts,) = json.loads(result.output)
    assert facts["shown"] is True
    assert facts["without"]["outcome"] == "deadlock"
    assert facts["with"]["outcome"] == "completed"
    waits = {wait["thread"]: wait["owed_by"] for wait in facts["without"]["waits"]}
    circle = facts["without"]["circle"]
    for thread, owing in zip(circle, [*circle[1:], circle[0]], strict=True):
        assert owing in waits[thread]


@pytest.mark.parametrize("name", ["device-task", "rogue-pager"])
def test_the_picture_has_everybody_in_it(name: str) -> None:
    """A circle, and a chain: well-formed, with as many arrows as there are debts in the core."""
    experiment = EXPERIMENTS[name]
    result = perform(experiment, found(experiment), False)
    picture = ElementTree.fromstring(deadlock_picture(experiment, result))
    text = " ".join(picture.itertext())
    for wait in result.waits:
        assert wait.thread == "main" or wait.thread in text
    graph = WaitGraph(result.waits)
    rings = [path for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("class") == "ring"]
    assert len(rings) == (len(graph.circle()) or len(core_of(graph)) - 1) > 0


def test_a_picture_is_written_of_one_experiment_only(tmp_path: Path) -> None:
    assert machsim("all", "--svg", str(tmp_path / "x.svg")).exit_code == 2
    result = machsim("no-wiring", "--seed", "0", "--svg", str(tmp_path / "nowhere" / "x.svg"))
    assert result.exit_code == 1
    assert "no such file or directory" in result.stderr


def test_an_experiment_that_shows_nothing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def harmless(bench: object) -> None:
        """Nothing is taken away."""

    experiment = Experiment("harmless", "nothing", "4", "Nothing.", "none", harmless)
    monkeypatch.setitem(EXPERIMENTS, "harmless", experiment)
    result = machsim("harmless", "--seeds", "2")
    assert result.exit_code == 1
    assert "Error: not as it should be: harmless" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("no-such",), ("no-wiring", "--seed", "-1"), ("all", "--seeds", "0")])
def test_what_it_cannot_do_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = machsim(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
