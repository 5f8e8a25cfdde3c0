"""A coverage-guided driver, for whoever has atheris: `python -m tests.fuzz.atheris_bootfs [libFuzzer options]`.

The input edits a sound disk: one byte chooses it, then each 11 bytes are an edit (3 of place, 8 of value).
atheris is no dependency of this project: `pip install atheris`, with a Python that it supports.
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

EDIT = 11
MAX_EDITS = 8
CORPUS = Path(__file__).resolve().parents[2] / "build" / "atheris" / "corpus"


def edited(data: bytes) -> tuple[bytearray, int, str]:
    """The disk that an input stands for, where its file system begins, and the partition."""
    from tests.fuzz.mutate import bases  # not above: what is to be instrumented must not be imported before

    names = list(bases())
    base = bases()[names[(data[0] if data else 0) % len(names)]]
    places = [place for these in base.places.values() for place in these]
    image = bytearray(base.data)
    for at in range(1, min(len(data) - EDIT, 1 + MAX_EDITS * EDIT), EDIT):
        place = places[int.from_bytes(data[at : at + 3], "little") % len(places)]
        image[place.offset : place.offset + place.width] = data[at + 3 : at + 3 + place.width]
    return image, base.fs_offset, base.partition


def one_input(data: bytes) -> None:
    """Anything but results and FileSystemError comes out, and stops the fuzzer with the input that did it."""
    from tests.fuzz.campaign import exercise

    exercise(*edited(data))


def seeds(directory: Path) -> None:
    """An input for every disk, each with as many edits as there may be: from one byte the fuzzer would not get far."""
    from tests.fuzz.mutate import bases

    draw = random.Random(1)
    for number, name in enumerate(bases()):
        (directory / name).write_bytes(bytes((number,)) + draw.randbytes(MAX_EDITS * EDIT))


def main() -> None:
    """Run until stopped, or as long as -max_total_time says. What it learns is in build/atheris."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not here: pip install atheris (it is no dependency of this project)")
    with atheris.instrument_imports(include=["bootfs", "disktools"]):
        importlib.import_module("tests.fuzz.campaign")
    CORPUS.mkdir(parents=True, exist_ok=True)
    seeds(CORPUS)
    bounds = ["-len_control=0", f"-max_len={1 + MAX_EDITS * EDIT}", "-timeout=60", "-rss_limit_mb=1000"]
    atheris.Setup([sys.argv[0], *bounds, f"-artifact_prefix={CORPUS.parent}/", *sys.argv[1:], str(CORPUS)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
