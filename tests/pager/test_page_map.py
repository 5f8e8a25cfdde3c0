"""The page map against a plain model: a dictionary of pages."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pager.integrity import DIGEST_BYTES
from pager.page_map import LEAF_PAGES, NEVER_WRITTEN, Entry, Fate, PageMap, Row, absent, joined

PAGE = 4096
GENERATIONS = 1 << 22
NO_DIGEST = bytes(DIGEST_BYTES)


def stored(page: int, slot: int = 0, partition: int = 0, generation: int = 0, digest: bytes = NO_DIGEST) -> Row:
    return Row(page, Fate.STORED, partition, slot, [generation], digest)


@st.composite
def rows(draw: st.DrawFn, last_page: int = 3 * LEAF_PAGES) -> Row:
    """Stored, lost or given: up to more than a leaf of pages."""
    count = draw(st.integers(1, LEAF_PAGES + 40) | st.integers(1, 4))
    fate = draw(st.sampled_from(Fate))
    same = draw(st.booleans())
    generation = draw(st.integers(0, GENERATIONS - 1))
    numbers = [generation if same else (generation + at * 7) % GENERATIONS for at in range(count)]
    row = Row(
        draw(st.integers(0, last_page)), fate, 0, 0, numbers, draw(st.binary(min_size=1, max_size=1)) * 20 * count
    )
    if fate is not Fate.STORED:
        return row.homeless(fate)
    return row.placed(draw(st.integers(0, 255)), draw(st.integers(0, 2**32 - 1 - count)))


def entries_of(row: Row) -> dict[int, Entry]:
    """The pages of a row one by one."""
    assert row.fate is not None
    return {
        page: Entry(
            row.partition,
            row.slot + at if row.stored else 0,
            row.generations[at],
            row.digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES],
            row.fate,
        )
        for at, page in enumerate(row.pages)
    }


@given(st.lists(rows(), max_size=8), st.integers(0, 4 * LEAF_PAGES), st.integers(1, 2 * LEAF_PAGES))
@settings(deadline=None, max_examples=200)
def test_rows_cover_the_pages_with_what_was_stored_last_and_are_as_few_as_can_be(
    written: list[Row], first: int, count: int
) -> None:
    page_map, model = PageMap(), dict[int, Entry]()
    for row in written:
        page_map.store(row)
        model |= entries_of(row)
    assert dict(page_map.pages(0)) == model
    assert len(page_map) == sum(entry.stored for entry in model.values())
    found = page_map.rows(range(first, first + count))
    assert [page for row in found for page in row.pages] == list(range(first, first + count))
    for row in found:
        if row.fate is None:
            assert not any(page in model for page in row.pages)
            assert row.generations == [NEVER_WRITTEN] * row.page_count
        else:
            assert entries_of(row) == {page: model[page] for page in row.pages}
    assert joined(found) == found
    assert all(one.fate is not other.fate or one.stored for one, other in pairwise(found))


@given(rows(), st.data())
@settings(deadline=None)
def test_a_part_of_a_row_is_the_row_of_these_pages(row: Row, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, row.page_count - 1))
    stop = data.draw(st.integers(start + 1, row.page_count))
    its = {page: entry for page, entry in entries_of(row).items() if start <= page - row.page < stop}
    assert entries_of(row.part(start, stop)) == its
    assert joined([row.part(0, start), row.part(start, row.page_count)] if start else [row]) == [row]


@given(st.dictionaries(st.integers(0, 2**36), st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 255)), max_size=30))
@settings(deadline=None)
def test_a_page_map_gives_back_what_was_stored_however_sparse(places: dict[int, tuple[int, int]]) -> None:
    page_map = PageMap()
    for page, (slot, partition) in places.items():
        page_map.store(stored(page, slot, partition))
    assert [page for page, _ in page_map.pages(0)] == sorted(places)
    assert {page: (entry.slot, entry.partition) for page, entry in page_map.pages(0)} == places
    assert page_map.entry(2**37) is None
    assert sorted(page_map.remove_all()) == sorted((partition, slot) for slot, partition in places.values())
    assert len(page_map) == 0


def test_a_page_far_out_makes_one_second_level_block_only() -> None:
    """mach.md 8, test 42."""
    page_map = PageMap()
    page_map.store(stored(100 * 1024 * 1024 // PAGE))
    assert len(page_map._leaves) == 1


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.GIVEN])
def test_a_page_without_a_slot_is_remembered_and_its_generations_go_on(fate: Fate) -> None:
    page_map = PageMap()
    page_map.store(stored(5, 7, 1, generation=3))
    page_map.store(stored(5, generation=4).homeless(fate))
    assert len(page_map) == 0
    (row,) = page_map.rows(range(5, 6))
    assert (row.fate, row.stored, row.next_generations()) == (fate, False, [5])
    assert page_map.remove_all() == []


def test_the_first_generation_is_0_and_the_last_is_followed_by_it() -> None:
    assert absent(range(3, 5)).next_generations() == [0, 0]
    assert stored(0, generation=GENERATIONS - 1).next_generations() == [0]


def test_pages_are_listed_from_any_page_on_with_their_exact_numbers() -> None:
    """mach.md 8, test 37: Mach's offsets are wrong above 64 pages."""
    page_map = PageMap()
    numbers = [0, 63, 64, 65, LEAF_PAGES - 1, LEAF_PAGES, 3 * LEAF_PAGES + 1]
    for slot, page in enumerate(numbers):
        page_map.store(stored(page, slot))
    for first in (0, 1, 64, LEAF_PAGES, 3 * LEAF_PAGES + 2):
        assert [page for page, _ in page_map.pages(first)] == [page for page in numbers if page >= first]
