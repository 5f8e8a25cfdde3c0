"""How quickly bootfs reads a disk, beside pytsk3, dissect.ffs and the plain reading of bytes.

The disk: 320 MiB of UFS2, little-endian, blocks of 16384 and fragments of 2048, one file of 200 MiB and 20,000 files in
40 directories; made once by mkpagingfile into build/benchmarks. The page cache is warm. Each round runs every reader
once, in a process of its own; shown are medians, and the ratios of each round's times, of which also the median.
The peers are installed into build/benchmarks/peers on demand; without them their columns are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import CACHE, PYTHON, peers

ROOT = Path(__file__).resolve().parent.parent
READERS = Path(__file__).parent / "readers"
LARGE = "large"
DIRECTORIES, FILES = 40, 500
MEASURES = ("list", "read", "lookup, open included", "first lookup, open included", "block list", "import")
Times = dict[str, dict[str, list[float]]]  # reader -> measure -> seconds of each round
# What is asked of us: measure, the most allowed, and of what (a reader to divide by, or seconds).
BARS = (
    ("list", 0.5, "pytsk3"),
    ("read", 1.15, "floor"),
    ("lookup, open included", 0.0015, ""),
    ("block list", 0.002, ""),
    ("ffscheck", 1.5, ""),
    ("bootfs ls, whole process", 0.25, ""),
    ("1 TiB disk made", 2.0, ""),
)


def main(words: Sequence[str]) -> int:
    """Measure, print, write build/benchmarks/bootfs.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks bootfs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-peers", action="store_true", help="leave pytsk3 and dissect.ffs out")
    options = parser.parse_args(words)
    image = make_image()
    commands = {
        "ours": [sys.executable, str(READERS / "ours.py")],
        "floor": [sys.executable, str(READERS / "floor.py")],
    }
    found = [] if options.no_peers else peers()
    commands |= {name: [str(PYTHON), str(READERS / f"peer_{name}.py")] for name in found}
    _warm(image)
    times, facts = measure(image, commands, options.rounds)
    table(times, facts)
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
              "rounds": options.rounds, "facts": facts, "seconds": times, "bars": bars(times)}  # fmt: skip
    (CACHE / "bootfs.json").write_text(json.dumps(result, indent=1))
    print(f"\n{CACHE / 'bootfs.json'} has every round")
    return 0


# The disk


def make_image() -> Path:
    """The disk of the workload, from the cache if it is there."""
    image = CACHE / "ufs2-320m.img"
    if image.exists():
        return image
    CACHE.mkdir(parents=True, exist_ok=True)
    print("making the disk, once ...", file=sys.stderr)
    draw = random.Random(1)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        tree = Path(name)
        with (tree / LARGE).open("wb") as large:
            for _ in range(200):
                large.write(draw.randbytes(1 << 20))
        for directory in range(DIRECTORIES):
            path = tree / f"dir{directory:02}"
            path.mkdir()
            for number in range(FILES):
                (path / f"file{number:04}").write_bytes(b"%d\n" % number * 100)
        part = image.with_suffix(".part")
        part.unlink(missing_ok=True)
        words = ["--size", "320M", "--format", "ufs2", "--block-size", "16384", "--fragment-size", "2048"]
        command = [sys.executable, "-m", "disktools.mkpagingfile", part, *words, "--paging-size", "64K", "--from", tree]
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        part.rename(image)
    return image


def _warm(image: Path) -> None:
    with image.open("rb") as disk:
        while disk.read(1 << 20):
            pass


# Measuring


def measure(image: Path, commands: dict[str, list[str]], rounds: int) -> tuple[Times, dict[str, Any]]:
    """All the rounds, and what must be the same in each: names and bytes seen, memory."""
    times: Times = {name: {} for name in commands}
    facts: dict[str, Any] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            done = subprocess.run([*command, str(image), LARGE], cwd=ROOT, check=True, capture_output=True, text=True,
                                  env={**os.environ, "PYTHONPATH": str(ROOT)} if name == "ours" else None)  # fmt: skip
            for key, value in json.loads(done.stdout).items():
                if key in ("names", "bytes"):
                    facts.setdefault(name, {})[key] = value
                else:
                    times[name].setdefault(key, []).append(value)
        for key, act in whole_processes(image).items():
            began = time.perf_counter()
            code = act()
            times["ours"].setdefault(key, []).append(time.perf_counter() - began)
            if code:
                facts.setdefault("ours", {})[f"{key}: exit code"] = code
    facts["peak of any process, MiB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    return times, facts


def whole_processes(image: Path) -> dict[str, Callable[[], int]]:
    """Commands measured as a person would wait for them: the modules compiled before, as an installation has them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(module: str, *words: object) -> int:
        command = [sys.executable, "-c", f"from {module} import main; main()", *map(str, words)]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(command, cwd=ROOT, env=environment, **quiet).returncode

    def large_disk() -> int:
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            words = ("--size", "1T", "--format", "ufs2", "--paging-size", "32M")
            return run("disktools.mkpagingfile", Path(name) / "1t.img", *words)

    return {
        "bootfs ls, whole process": lambda: run("bootfs.command", "ls", image, "/dir07"),
        "ffscheck": lambda: run("disktools.ffscheck", image),
        "1 TiB disk made": large_disk,
    }


# Showing


def _milliseconds(times: Times, reader: str, key: str) -> str:
    rounds = times.get(reader, {}).get(key)
    return f"{statistics.median(rounds) * 1000:.1f}" if rounds else "-"


def bars(times: Times) -> list[dict[str, Any]]:
    """Each bar with our figure; `met` is None where there is nothing to compare with."""
    shown = []
    for key, most, of in BARS:
        ours = times["ours"].get(key)
        others = times.get(of, {}).get(key) if of else None
        figure = None
        if ours and of and others:
            figure = statistics.median(one / two for one, two in zip(ours, others, strict=True))
        elif ours and not of:
            figure = statistics.median(ours)
        met = None if figure is None else figure <= most
        shown.append({"measure": key, "figure": figure, "bar": most, "of": of or "seconds", "met": met})
    return shown


def table(times: Times, facts: dict[str, Any]) -> None:
    """Print it."""
    readers = [name for name in ("ours", "pytsk3", "dissect", "floor") if name in times]
    print(f"{'milliseconds, medians':30}" + "".join(f"{name:>10}" for name in readers))
    for key in (*MEASURES, *(key for key in times["ours"] if key not in MEASURES)):
        print(f"{key:30}" + "".join(f"{_milliseconds(times, name, key):>10}" for name in readers))
    print()
    for bar in bars(times):
        unit = f" x {bar['of']}" if bar["of"] != "seconds" else " s"
        figure = "nothing to compare with" if bar["figure"] is None else f"{bar['figure']:.4g}{unit}"
        verdict = {True: "met", False: "MISSED", None: ""}[bar["met"]]
        print(f"{bar['measure']:30} {figure:>24}, at most {bar['bar']}{unit}  {verdict}")
    print(f"seen: {json.dumps(facts)}")
