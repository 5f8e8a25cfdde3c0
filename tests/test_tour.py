"""docs/tour.md shows what really happens: each chapter's commands are run in order, and must print what it prints.

Numbers may differ (sizes grow with the code, times with the machine): they are compared as "some number".
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tour.md"
SECONDS = 110
NUMBER = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Step:
    """A command of the page, and what it prints there; "..." stands for lines that are left out."""

    command: str
    output: list[str]


def chapters() -> dict[str, list[Step]]:
    """The steps in the console blocks of each chapter (##)."""
    found: dict[str, list[Step]] = {}
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title = part.splitlines()[0]
        steps = [
            step
            for block in re.findall(r"^```console\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
            for step in _steps(block)
        ]
        if steps:
            found[title] = steps
    return found


def _steps(block: str) -> list[Step]:
    steps: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:], []))
        elif line:
            steps[-1].output.append(line)
    return steps


def masked(line: str) -> str:
    """The line without its numbers, and without what their widths do to its spaces."""
    return " ".join(NUMBER.sub("#", line).split())


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether the page's lines are the printed ones, any number of them where it says "..."."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(matches(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and masked(shown[0]) == masked(printed[0]) and matches(shown[1:], printed[1:])


@pytest.mark.parametrize("title", chapters())
def test_a_chapter_of_the_tour_shows_what_its_commands_print(title: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOUR_TRACES": str(ROOT / "fixtures" / "traces"),
    }
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    for step in chapters()[title]:
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        printed = [line for line in done.stdout.splitlines() if line.strip()]
        assert matches(step.output, printed), (
            f"$ {step.command}\nprints\n{done.stdout}\nand the page has\n" + "\n".join(step.output)
        )


def test_a_page_that_lies_is_found() -> None:
    """The comparison itself: other numbers are the same, other words are not."""
    assert matches(["a 12 b", "...", "end"], ["a  7 b", "x", "y", "end"])
    assert matches(["...", "at 0x1f"], ["at 0xdeadbeef"])
    assert not matches(["a 12 b"], ["a 12 c"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "b"], ["a"])
