"""A coverage-guided driver, for whoever has atheris: `python -m tests.fuzz.atheris_bootfs [libFuzzer options]`.

The input edits a sound disk: one byte chooses it, then each 11 bytes are an edit (3 of place, 8 of value).
atheris is no dependency of this project: `pip install atheris`, with a Python that it supports.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tests.fuzz.campaign import exercise
from tests.fuzz.mutate import bases

EDIT = 11
MAX_EDITS = 8


def edited(data: bytes) -> tuple[bytearray, int, str]:
    """The disk that an input stands for, where its file system begins, and the partition."""
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
    exercise(*edited(data))


def main() -> None:
    """Run until stopped."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not here: pip install atheris (it is no dependency of this project)")
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
