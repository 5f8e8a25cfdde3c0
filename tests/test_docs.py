"""The pages that are made from the code are those of this code, and the README names only what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("bootfs", "ffscheck", "machsim", "makeboot", "mkpagingfile", "pagerctl", "pagerd", "pagermount")


def make(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "docs" / script), *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


def test_the_protocol_page_is_that_of_the_messages() -> None:
    assert make("make_protocol.py", "--check").returncode == 0, "run: python docs/make_protocol.py"


def test_each_of_machs_behaviours_and_weaknesses_has_tests_that_are_there() -> None:
    """The page may be behind: whoever cites a number more need not write it. It may not claim a test that is gone."""
    sys.path.insert(0, str(ROOT / "docs"))
    from make_mach_tests import BEHAVIOUR, PAGE, WEAKNESS, citations

    found = citations()
    assert set(found.behaviour) == set(BEHAVIOUR)
    assert set(found.weakness) == set(WEAKNESS)
    there = set().union(*found.behaviour.values(), *found.weakness.values())
    claimed = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert claimed
    assert claimed - there == set(), "run: python docs/make_mach_tests.py"


@pytest.fixture(scope="module")
def man(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    done = make("make_man.py", str(directory))
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_man_page_with_its_options(man: Path, command: str) -> None:
    page = (man / f"{command}.1").read_text()
    for part in (
        f".TH {command.upper()} 1",
        ".SH NAME",
        ".SH SYNOPSIS",
        ".SH OPTIONS",
        ".SH EXIT STATUS",
    ):
        assert part in page
    assert "example" in page.lower()
    assert r"\-\-version" in page


def test_the_readme_names_commands_and_make_targets_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make (\w+)\b(?= |`|$)", readme, re.MULTILINE)) & targets >= {"demo", "test", "simulate"}
    for command in re.findall(r"^\$ (\w+)", readme, re.MULTILINE):
        assert command in (*COMMANDS, "head", "cat"), command
    for link in re.findall(r"\]\((?!http)([^)]+)\)", readme):
        assert (ROOT / link).exists(), link


def test_the_promises_name_tests_that_exist() -> None:
    page = (ROOT / "docs" / "promises.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", page):
        assert f"def {name}(" in sources, name
    for path in re.findall(r"`(tests/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path
    assert all(f"**P{number}**" in page for number in range(1, 9))
