"""What the default pager does when the disk fails or is full.  Numbers: reference mach.md, section 8."""

from __future__ import annotations

import pytest
from paging import PAGE, Disk, World, block_list, broken, pattern, worlds

from mach.memory_object import VmProt


def test_a_bad_block_costs_a_retry_not_a_page() -> None:
    """19, P3, weakness 9: the block is retired, the page goes elsewhere, its neighbours never notice."""

    def body(world: World) -> None:
        bad = (1 << 16) + 2 * PAGE

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "write" and offset <= bad < offset + length:
                raise broken(bad)

        world.disk.before = fail
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(8)))
        assert obj.read(0, count=8) == [pattern(n) for n in range(8)]
        partition = world.pager.store.partition(0)
        assert partition.bad == 1
        assert partition.map(0, 4) == b"##x#"

    worlds(body)


def test_a_page_that_cannot_be_written_anywhere_is_an_error_and_only_that_page() -> None:
    """19, 21: neither zeros nor its older content (P2)."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1))
        obj.read(0, count=2)

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "write":
                raise broken(offset)

        world.disk.before = fail
        obj.write(1, pattern(2))
        assert obj.read(0, count=2) == [pattern(0), "error"]
        world.disk.before = lambda kind, offset, length: None
        obj.write(1, pattern(3))
        assert obj.read(0, count=2) == [pattern(0), pattern(3)], "a new write makes it good again"
        assert ["the disk fails" in words for words in world.reports] == [True, False]
        assert world.reports[1] == "pages are written again"

    worlds(body)


def test_a_read_error_is_answered_once_and_may_pass() -> None:
    """20: the object is not poisoned."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1) + pattern(2))
        assert obj.read(0) == [pattern(0)]
        slot = (1 << 16) + PAGE

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "read" and offset <= slot < offset + length:
                raise broken(slot)

        world.disk.before = fail
        assert obj.read(0, count=3) == [pattern(0), "error", pattern(2)]
        world.disk.before = lambda kind, offset, length: None
        assert obj.read(0, count=3) == [pattern(0), pattern(1), pattern(2)]

    worlds(body)


@pytest.mark.parametrize("damage", ["flipped bit", "torn page", "another page", "older version", "zeros"])
def test_a_page_that_changed_on_the_disk_is_an_error_never_data(damage: str) -> None:
    """P2: BLAKE3, keyed by object, page and generation, sees rot, tears, misdirection and staleness."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1))
        obj.read(0)
        base = 1 << 16
        older = bytes(world.disk.data[base : base + PAGE])
        obj.write(0, pattern(2))
        assert obj.read(0, count=2) == [pattern(2), pattern(1)]
        page = memoryview(world.disk.data)[base : base + PAGE]
        if damage == "flipped bit":
            page[1234] ^= 4
        elif damage == "torn page":
            page[512:] = older[512:]
        elif damage == "another page":
            page[:] = world.disk.data[base + PAGE : base + 2 * PAGE]
        elif damage == "older version":
            page[:] = older
        else:
            page[:] = bytes(PAGE)
        assert obj.read(0, count=2) == ["error", pattern(1)]
        assert world.pager.totals()["page_errors"] == 1

    worlds(body, seeds=2)


def test_objects_span_partitions() -> None:
    """22, 24, 52: an object larger than any partition; what the first cannot take goes to the second."""

    def body(world: World) -> None:
        obj = world.object(64 * PAGE)
        second = Disk(world.runtime, 1 << 20)
        world.pager.store.add("second", second, block_list(8))
        obj.write(0, b"".join(pattern(n) for n in range(12)))
        assert obj.read(0, count=12) == [pattern(n) for n in range(12)]
        assert {entry.partition for _, entry in world.pager.objects()[0].map.pages(0)} == {0, 1}

    worlds(body, pages=8)


def test_without_space_one_write_fails_and_added_space_resumes() -> None:
    """23, 48, P4, weakness 24: what was paged out stays readable; shortage and its end are each told once."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(4)))
        obj.read(3)
        obj.write(4, pattern(4))
        obj.write(0, pattern(100))  # has a block: needs none
        assert obj.read(0, count=5) == [pattern(100), pattern(1), pattern(2), pattern(3), "error"]
        world.pager.store.add("more", Disk(world.runtime, 1 << 20), block_list(4))
        obj.write(4, pattern(5))
        assert obj.read(4) == [pattern(5)]
        world.settle()
        told = [words.split(":")[0] for words in world.reports if not words.startswith("paging space")]
        assert told == ["out of paging space", "pages are written again"]

    worlds(body, pages=4)


def test_a_cluster_too_big_for_what_is_left_is_stored_as_far_as_it_goes() -> None:
    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(6)))
        answers = obj.read(0, count=6)
        assert sorted(answers, key=str).count("error") == 2
        assert all(answer in ("error", pattern(n)) for n, answer in enumerate(answers))

    worlds(body, pages=4)


def test_zero_bytes_from_a_device_do_not_loop_for_ever() -> None:
    """45, 46: a device that gives less than asked is an error of its page, not a loop."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        obj.read(0)
        whole = world.disk.read
        for short in (0, 512):
            world.disk.read = lambda offset, length, short=short: whole(offset, length)[:short]
            assert obj.read(0) == ["error"]
        world.disk.read = whole
        assert obj.read(0) == [pattern(1)]

    worlds(body, seeds=2)


def test_while_space_is_short_a_page_wanted_for_writing_is_precious_and_never_forgotten() -> None:
    """11, 40, weakness 8: its block is used for others; asked for again, it is an error, not zeros."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, b"".join(pattern(n) for n in range(6)))
        assert obj.read(0, access=VmProt.READ) == [pattern(0)]
        assert obj.precious == {}
        before = world.free
        assert obj.read(1, count=2, access=VmProt.DEFAULT) == [pattern(1), pattern(2)]
        assert obj.precious == {1: pattern(1), 2: pattern(2)}
        world.settle()
        assert world.free == before + 2
        assert obj.read(1) == ["error"], "the kernel has lost the only copy"
        obj.initialize(2, pattern(99))
        assert obj.read(2) == ["error"], "older data does not stand in for it"
        obj.write(1, pattern(1))
        assert obj.read(0, count=2) == [pattern(0), pattern(1)]

    worlds(body, pages=8)


def test_while_there_is_room_no_page_is_given_away() -> None:
    """A clean page then needs no write when it is evicted again."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0))
        assert obj.read(0, access=VmProt.DEFAULT) == [pattern(0)]
        assert obj.precious == {}

    worlds(body)


def test_a_disk_that_vanishes_costs_what_was_on_it_and_nothing_else() -> None:
    """19, P3, P4: pages on the other disk stay, what is written from now on goes there, and the pager goes on."""

    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0) + pattern(1))
        obj.read(1)
        other = Disk(world.runtime, 1 << 20)
        world.pager.store.add("other", other, block_list(16))
        obj.write(2, b"".join(pattern(n) for n in range(2, 8)))
        assert obj.read(2, count=6) == [pattern(n) for n in range(2, 8)]
        there = {page for page, entry in world.pager.objects()[0].map.pages(0) if entry.partition == 1}

        def gone(kind: str, offset: int, length: int) -> None:
            raise broken(offset)

        world.disk.before = gone
        answers = obj.read(0, count=8)
        assert answers == [pattern(n) if n in there else "error" for n in range(8)]
        assert 0 < len(there) < 8
        for page in range(8):
            obj.write(page, pattern(page, 1))
        assert obj.read(0, count=8) == [pattern(page, 1) for page in range(8)]

    worlds(body, pages=4)


@pytest.mark.parametrize("at", range(1, 9))
def test_an_error_at_the_nth_call_costs_at_most_the_page_that_it_strikes(at: int) -> None:
    """19, 20, P2, P3: whichever device operation fails, reading or writing, once."""

    def body(world: World) -> None:
        calls = [0]

        def fail(kind: str, offset: int, length: int) -> None:
            calls[0] += 1
            if calls[0] == at:
                raise broken(offset)

        world.disk.before = fail
        obj = world.object()
        for page in range(0, 6, 2):
            obj.write(page, pattern(page) + pattern(page + 1))
        for page in range(6):
            answer = obj.read(page)[0]
            assert answer in (pattern(page), "error")
            if answer == "error":
                assert obj.read(page) == [pattern(page)], "a read error passes"
        assert obj.read(0, count=6) == [pattern(page) for page in range(6)]

    worlds(body, seeds=3)
