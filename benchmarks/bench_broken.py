"""What bootfs, pytsk3 and dissect.ffs make of the same broken disks: results, refusals, crashes, hangs.

The disks are mutants as of `tests/fuzz`, of the two formats that all three read (ufs1 and ufs2, little-endian), and
without the large sparse file, on which the others hang even when nothing is broken. A reader hangs when it takes more
than LIMIT seconds of one disk of 1 MiB; it is then started anew.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_bootfs import READERS, ROOT
from benchmarks.peers import CACHE, PYTHON, peers

LIMIT = 10.0  # seconds; a busy machine must not be taken for a hang
FORMATS = ("ufs1", "ufs2")
LARGEST = 1 << 28  # bytes of a file
SEED = 42


class Reader:
    """A process that reads one disk after the other."""

    def __init__(self, command: list[str], env: dict[str, str] | None) -> None:
        self.command, self.env = command, env
        self.process: subprocess.Popen[str] | None = None

    def verdict(self, path: Path) -> str:
        """What became of it: read, refused, an exception's name, hang, or a signal."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL)  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], LIMIT)[0]:
            self.close()
            return "hang"
        line = self.process.stdout.readline().strip()
        if not line:
            code = self.process.wait()
            self.process = None
            return f"killed by signal {-code}" if code < 0 else f"exit {code}"
        return line

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def main(words: Sequence[str]) -> int:
    """Count, print, write build/benchmarks/broken.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks broken", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="broken disks (300)")
    options = parser.parse_args(words)
    CACHE.mkdir(parents=True, exist_ok=True)
    commands = {"ours": [sys.executable, str(READERS / "broken_ours.py")]}
    commands |= {name: [str(PYTHON), str(READERS / f"broken_{name}.py")] for name in peers()}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    readers = {name: Reader(command, env if name == "ours" else None) for name, command in commands.items()}
    counts = count(readers, options.count)
    table(counts, options.count)
    facts: dict[str, Any] = {"disks": options.count, "limit_seconds": LIMIT, "verdicts": counts}
    (CACHE / "broken.json").write_text(json.dumps(facts, indent=1))
    return 0


def count(readers: dict[str, Reader], disks: int) -> dict[str, Counter[str]]:
    """Every reader on every disk."""
    from fixtures.disks.ffs_image import Shape, make_image
    from tests.fuzz.content import fuzz_tree
    from tests.fuzz.mutate import SHAPES, make_base, mutate

    bases = []
    for kind in FORMATS:
        shape = Shape(kind, "little", *SHAPES[kind])  # type: ignore[arg-type]
        items = [item for item in fuzz_tree(shape) if item.size < LARGEST]
        bases.append(make_base(kind, bytes(make_image(shape, items).data), "little"))
    counts: dict[str, Counter[str]] = {name: Counter() for name in readers}
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        for at in range(disks):
            number, which = divmod(at, len(bases))
            path = Path(directory) / f"{at}.img"
            path.write_bytes(mutate(bases[which], SEED, number).data)
            for name, reader in readers.items():
                counts[name][reader.verdict(path)] += 1
            path.unlink()
    for reader in readers.values():
        reader.close()
    return counts


def table(counts: dict[str, Counter[str]], disks: int) -> None:
    """Print it."""
    print(f"{disks} broken disks".ljust(28) + "".join(f"{name:>10}" for name in counts))
    verdicts = {verdict for one in counts.values() for verdict in one}
    for verdict in sorted(verdicts, key=lambda one: (one not in ("read", "refused"), one)):
        print(f"{verdict:28}" + "".join(f"{one[verdict]:>10}" for one in counts.values()))
    untyped = [sum(n for verdict, n in one.items() if verdict not in ("read", "refused")) for one in counts.values()]
    print("not as documented, in all".ljust(28) + "".join(f"{n:>10}" for n in untyped))
