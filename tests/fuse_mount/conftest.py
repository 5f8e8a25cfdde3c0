"""Mounts for the tests: a server in a process of its own, and nothing left of it afterwards."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Mounted, Start, detach, servers


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on; what a test leaves mounted there is detached."""
    path = tmp_path / "mount point"  # the blank is on purpose: the kernel's list escapes it
    path.mkdir()
    yield path
    detach(path)


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """To start servers at `place`, ended with the test."""
    with servers(place) as begin:
        yield begin


@pytest.fixture(scope="module", params=["fusepy", "mfusepy"])
def binding(request: pytest.FixtureRequest) -> str:
    """Each of the two bindings, where it is installed."""
    name = str(request.param)
    if importlib.util.find_spec({"fusepy": "fuse", "mfusepy": "mfusepy"}[name]) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def mounted(start: Start, binding: str) -> Mounted:
    """The fakes' view, mounted, with either binding; for this test alone."""
    return start(binding=binding)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, binding: str) -> Iterator[Path]:
    """The same, for all tests that only look at it."""
    place = tmp_path_factory.mktemp("shared")
    with servers(place) as begin:
        yield begin(binding=binding).path
