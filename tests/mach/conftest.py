"""A server that listens, and its client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from parties import Party


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Party]:
    party = Party()
    party.network.listen(str(tmp_path / "socket"), party.service)
    yield party
    party.network.close()


@pytest.fixture
def client(server: Party, tmp_path: Path) -> Iterator[Party]:
    party = Party()
    party.right = party.network.connect(str(tmp_path / "socket"))
    yield party
    party.network.close()
