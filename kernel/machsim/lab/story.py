"""How a result is told: the circle of threads that wait for each other, drawn and in words; then who waits behind it.

Interface:
    story(experiment, without, with_protection) -> str    for a person
    facts(experiment, without, with_protection) -> dict   for a program
    shown(experiment, without, with_protection) -> bool   whether it went as the experiment says
    core_of(graph), is_idle(wait)                         what the story is about, and who has no part in it

Everything about threads, pages, ports and mutexes is read from the wait-for graph of the run; only what the protection
is, and which paragraph of the paper asks for it, is the experiment's text.

Not here: how the run was made (experiment.py).
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable

from kernel.machsim.lab.experiment import Experiment, Outcome, Result
from kernel.program import mach_name
from mach.threads import Wait, WaitGraph

WIDTH = 100
THE_RUN = "main"  # the thread that waits for the programs to end
PAGE_NAME = re.compile(r"\bpage (\d+):(0x[0-9a-f]+)")
IDLE = ("a message at ", "work for ", "a device operation to be done", "a shortage of memory")


def shown(experiment: Experiment, without: Result, with_protection: Result) -> bool:
    return without.outcome is experiment.expected and with_protection.outcome is Outcome.COMPLETED


def story(experiment: Experiment, without: Result, with_protection: Result) -> str:
    lines = [f"{experiment.name}: {experiment.title}   (paper, {_sections(experiment)})", ""]
    lines += _paragraph(experiment.because)
    lines.append("")
    if without.outcome is Outcome.DEADLOCK:
        lines += _deadlock(without)
    elif without.outcome is Outcome.LOSS:
        lines += [f"Without it, seed {without.seed}: {without.words}"]
    else:
        lines += [f"Without it, seed {without.seed}: all goes well; try another seed"]
    lines.append("")
    lines += _paragraph(f"The cure: {experiment.cure}.")
    lines.append(f"With it, seed {with_protection.seed}: {_end(with_protection)}.")
    return "\n".join(lines)


def _sections(experiment: Experiment) -> str:
    return ", ".join(f"§{number}" for number in experiment.sections.split(", "))


def _paragraph(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH)


def _end(result: Result) -> str:
    if result.outcome is not Outcome.COMPLETED:
        return f"{result.outcome.value} {result.words}".strip()
    done = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result.facts.items())
    return f"{done}, in {result.seconds:.3f} simulated seconds"


# -- a deadlock --------------------------------------------------------------------------------------------------------


def _deadlock(result: Result) -> list[str]:
    graph = WaitGraph(result.waits)
    core = core_of(graph)
    lines = [
        f"Without it, seed {result.seed}: since {result.seconds:.6f} s of simulated time nobody can go on.",
        "",
        *_picture(core, closed=bool(graph.circle())),
        "",
    ]
    named = {wait.thread for wait in core}
    lines += _legend(result, core)
    behind = [wait for wait in result.waits if wait.thread not in (*named, THE_RUN) and not is_idle(wait)]
    lines += _behind(result, behind)
    idle = [wait.thread for wait in result.waits if wait.thread not in named and is_idle(wait)]
    if idle:
        lines += textwrap.wrap(f"Idle, with nothing to do about it: {', '.join(idle)}.", WIDTH)
    return lines


def is_idle(wait: Wait) -> bool:
    return not wait.owed_by and wait.what.startswith(IDLE)


def core_of(graph: WaitGraph) -> list[Wait]:
    """The circle; or, if there is none, the longest chain to one who owes it all."""
    return graph.circle() or _end_of_chain(graph)


def _end_of_chain(graph: WaitGraph) -> list[Wait]:
    """No circle: everybody waits for somebody who owes nobody anything that will ever come.  The longest way there."""
    ends = {name for name, wait in graph.waits.items() if not wait.owed_by}
    owed = {name for wait in graph.waits.values() for name in wait.owed_by}
    ways = [graph.way(start, ends & owed) for start in graph.waits if start != THE_RUN]
    return max(ways, key=len, default=[])


def _picture(core: list[Wait], closed: bool) -> list[str]:
    """The circle, drawn:  ┌─> who
    │     waits for what, which ... owes it
    └──── and so on, back to the first."""
    lines = []
    for index, wait in enumerate(core):
        left = "┌─> " if closed and index == 0 else "│   " if closed else "    "
        hand = f", which has {mach_name(wait.handles)} in hand" if wait.handles else ""
        lines.append(f"  {left}{wait.thread}{hand}")
        holds = f" (it holds {', '.join(wait.holds)})" if wait.holds else ""
        edge = "│   " if closed else "    "
        words = textwrap.wrap(f"waits for {wait.what}{holds}", WIDTH - 14)
        lines += [f"  {edge}   │  {part}" for part in words]
        if closed and index == len(core) - 1:
            lines.append("  └──────┘  which only it could bring" if len(core) == 1 else "  └──────┘")
        elif index < len(core) - 1:
            lines.append(f"  {edge}   ▼")
    return lines


def _legend(result: Result, waits: Iterable[Wait]) -> list[str]:
    """Whose memory the pages are that were named."""
    lines = []
    for object_id, offset in dict.fromkeys(match for wait in waits for match in PAGE_NAME.findall(wait.what)):
        what = result.what_is(int(object_id), int(offset, 16))
        lines += textwrap.wrap(f"Page {object_id}:{offset} is {what}; memory object {object_id} holds it.", WIDTH)
    return [*lines, ""] if lines else []


def _behind(result: Result, waits: list[Wait]) -> list[str]:
    """Who else is stuck, together if they wait for the same."""
    together: dict[str, list[str]] = defaultdict(list)
    for wait in waits:
        together[PAGE_NAME.sub("a page", wait.what)].append(wait.thread)
    lines = []
    for what, threads in together.items():
        verb = "waits" if len(threads) == 1 else "wait"
        lines += textwrap.wrap(f"- {', '.join(threads)} {verb} for {what}", WIDTH, subsequent_indent="  ")
    return ["Behind it:", *lines] if lines else []


# -- facts -------------------------------------------------------------------------------------------------------------


def facts(experiment: Experiment, without: Result, with_protection: Result) -> dict[str, object]:
    return {
        "name": experiment.name,
        "title": experiment.title,
        "sections": experiment.sections.split(", "),
        "because": experiment.because,
        "cure": experiment.cure,
        "expected": experiment.expected.value,
        "shown": shown(experiment, without, with_protection),
        "seed": without.seed,
        "without": _run_facts(without),
        "with": _run_facts(with_protection),
    }


def _run_facts(result: Result) -> dict[str, object]:
    graph = WaitGraph(result.waits)
    return {
        "outcome": result.outcome.value,
        "steps": result.steps,
        "seconds": round(result.seconds, 6),
        "words": result.words,
        "circle": [wait.thread for wait in graph.circle()],
        "waits": [
            {"thread": wait.thread, "for": wait.what, "owed_by": list(wait.owed_by), "holds": list(wait.holds)}
            for wait in result.waits
        ],
        **result.facts,
    }
