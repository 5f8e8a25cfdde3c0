"""Mach's figures for reserve, pageout and flow control, as pure functions (reference 4.4, 4.7)."""

from __future__ import annotations

import pytest

from kernel.pageout import BURST_MAX, FlowControl, should_pause
from kernel.replacement.second_chance import inactive_target
from kernel.resident import thresholds


def test_the_thresholds_of_2048_free_pages_are_machs() -> None:
    """mach.md 8.7."""
    limits = thresholds(2048)
    assert (limits.free_min, limits.free_target, limits.reserved_internal, limits.reserved_really) == (45, 55, 10, 5)


@pytest.mark.parametrize("free", [64, 100, 256, 1000, 2048, 65536, 262144])
def test_the_target_is_above_the_minimum_and_that_above_the_reserve(free: int) -> None:
    limits = thresholds(free)
    assert limits.reserved_really < limits.reserved_internal < limits.reserved == 15
    assert limits.reserved + 10 <= limits.free_min <= limits.free_target - 5


def test_two_thirds_of_the_pageable_pages_should_be_inactive() -> None:
    assert inactive_target(100, 50) == 100
    assert inactive_target(0, 0) == 0


def test_pageout_pauses_at_ten_laundry_pages() -> None:
    """mach.md 8.8, first part."""
    limits = thresholds(2048)
    assert should_pause(limits, free=100, inactive=9, burst=0, laundry=10)
    assert not should_pause(limits, free=100, inactive=9, burst=0, laundry=9)


def test_pageout_pauses_for_a_burst_an_empty_queue_and_when_only_the_laundry_can_help() -> None:
    limits = thresholds(2048)
    assert should_pause(limits, free=100, inactive=9, burst=BURST_MAX, laundry=0)
    assert should_pause(limits, free=100, inactive=0, burst=0, laundry=0)
    assert should_pause(limits, free=4, inactive=9, burst=0, laundry=1)
    assert not should_pause(limits, free=4, inactive=9, burst=0, laundry=0)
    assert not should_pause(limits, free=5, inactive=9, burst=0, laundry=1)


def test_a_pause_lasts_thirty_milliseconds_a_page_and_two_hundred_when_nothing_is_inactive() -> None:
    flow = FlowControl()
    assert flow.pause_seconds(burst=10, laundry=3, inactive_is_empty=False) == pytest.approx(0.3)
    assert flow.pause_seconds(burst=1, laundry=12, inactive_is_empty=False) == pytest.approx(0.36)
    assert flow.pause_seconds(burst=0, laundry=0, inactive_is_empty=True) == pytest.approx(0.2)
    assert FlowControl(0.001).pause_seconds(10, 0, False) == pytest.approx(0.0003)


def test_pauses_grow_while_the_laundry_stays_and_shrink_after_eleven_idle_ones() -> None:
    """mach.md 8.8."""
    flow = FlowControl()
    flow.after_pause(laundry=6)
    assert flow.burst_wait == 31
    for _ in range(10):
        flow.after_pause(laundry=5)
    assert flow.burst_wait == 31
    flow.after_pause(laundry=5)
    assert flow.burst_wait == 23
    for _ in range(11 * 30):
        flow.after_pause(laundry=0)
    assert flow.burst_wait == 1
