"""`machsim replay`: one page, of which a real browser shows what the machine was like."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from daemons import refused, run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
STATES = ("free", "transit", "active", "inactive", "wired", "laundry")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The page of a run, and what the machine said of itself at its end."""
    place = tmp_path_factory.mktemp("replay")
    command = ("machsim", "run", "--memory", "512K", "--virtual", "1M", "--tasks", "1", "--trace", place / "run.trace")
    statistics = json.loads(run(*command, "--json").stdout)["statistics"]
    run("machsim", "replay", place / "run.trace", "--html", place / "run.html")
    return place / "run.html", statistics


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text()
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def browse(page: Path, wish: str = "", milliseconds: int = 200) -> str:
    """The document as chromium has it after so much of its own time."""
    profile = page.parent / "profile"
    done = subprocess.run(
        [
            *(
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                f"--user-data-dir={profile}",
            ),
            *(f"--virtual-time-budget={milliseconds}", "--dump-dom", f"{page.as_uri()}#{wish}"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts_of(document: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r'data-count="(\w+)">(\d+)<', document)}


def frames_after(data: dict[str, Any], steps: int) -> Counter[str]:
    """How many frames are in which state: what the page must show, computed another way."""
    where: dict[int, str] = dict.fromkeys(range(data["frames"]), "free")
    for step in data["steps"][:steps]:
        what, rest = step[1], step[3:]
        if what == "q":
            where[rest[0]] = data["words"][rest[1]]
        elif what in "axo":
            where[rest[0]] = {"a": "transit", "x": "free", "o": "laundry"}[what]
        elif what == "l" and where[rest[0]] != "laundry":
            where[rest[0]] = "wired"
    return Counter(where.values())


def test_the_page_needs_nothing_but_itself(played: tuple[Path, dict[str, int]]) -> None:
    text = played[0].read_text()
    for word in ("http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "XMLHttpRequest"):
        assert word not in text
    assert text.count("</script>") == 2


def test_every_step_names_what_is_there(played: tuple[Path, dict[str, int]]) -> None:
    data = data_of(played[0])
    assert {step[1] for step in data["steps"]} >= set("faqzioWRsrwex")
    for number, (time, what, thread, *rest) in enumerate(data["steps"]):
        assert time >= 0
        assert 0 <= thread < len(data["threads"])
        if what in "axqlozic!":
            assert 0 <= rest[0] < data["frames"]
        if what in "WR":
            assert rest[1] + rest[2] <= data["partitions"][rest[0]]["slots"]
        if what == "r":
            assert -1 <= rest[1] < number
            assert rest[1] < 0 or data["steps"][rest[1]][3] == rest[0], "a message received is the one that was sent"


def test_the_last_step_is_the_machine_s_own_figures(played: tuple[Path, dict[str, int]]) -> None:
    page, statistics = played
    data = data_of(page)
    counts = frames_after(data, len(data["steps"]))
    assert counts["free"] == statistics["free_count"]
    assert counts["active"] == statistics["active_count"]
    assert counts["inactive"] == statistics["inactive_count"]


@needs_chromium
def test_a_browser_shows_the_machine_at_any_step(played: tuple[Path, dict[str, int]]) -> None:
    page, _ = played
    data = data_of(page)
    steps = len(data["steps"])
    for step in (steps // 3, steps):
        document = browse(page, f"step={step}")
        assert f'data-step="{step}"' in document
        shown = counts_of(document)
        assert {name: shown[name] for name in STATES} == {name: frames_after(data, step)[name] for name in STATES}


@needs_chromium
def test_it_plays_by_itself_and_says_what_happens(played: tuple[Path, dict[str, int]]) -> None:
    document = browse(played[0], "play", 5_000)
    step = re.search(r'data-step="(\d+)"', document)
    assert step is not None
    assert int(step[1]) > 0
    assert ">Pause<" in document
    assert '<li class="now">' in document


@needs_chromium
def test_a_browser_draws_it(played: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    """The picture has the colours of frames and slots in it: something was drawn."""
    picture = tmp_path / "page.png"
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    more = [f"--screenshot={picture}", "--window-size=1280,900", f"{played[0].as_uri()}#step=4000&theme=light"]
    subprocess.run(command + more, capture_output=True, timeout=100, check=True)
    assert picture.stat().st_size > 40_000, "an empty page has 20 kB"


def test_more_steps_than_asked_for_are_cut_and_the_page_says_so(
    played: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    trace = played[0].parent / "run.trace"
    run("machsim", "replay", trace, "--html", tmp_path / "short.html", "--limit", "100")
    data = data_of(tmp_path / "short.html")
    assert len(data["steps"]) == 100
    assert data["cut"] is True
    refused("machsim", "replay", trace, "--html", tmp_path / "none" / "x.html", words="no such file")
    refused("machsim", "replay", tmp_path / "short.html", "--html", tmp_path / "x", words="is no trace of ours")
