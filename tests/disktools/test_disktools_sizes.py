"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disktools.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 << 20), ("64MiB", 64 << 20), ("1G", 1 << 30), ("4096", 4096), ("8k", 8192), ("1T", 1 << 40), ("0", 0)],
)
def test_a_size_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5M", "64MB", "64 X", "1e6", "0x10", "٣"])
def test_anything_else_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="write 64M, 64MiB, 1G or a number of bytes"):
        parse_size(text)


@given(st.integers(0, 1023), st.sampled_from(["", "K", "M", "G", "T"]))
def test_a_whole_size_is_shown_exactly(number: int, unit: str) -> None:
    size = parse_size(f"{number}{unit}")
    shown = format_size(size)
    assert shown == f"{size} bytes" if size < 1024 else parse_size(shown) == size
