"""Whether a thread hands its duty on before it asks a device: by how soon that has lately answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from paging import PAGE, Disk, block_list, broken

from mach.threads import NativeRuntime
from pager.partition import BackingStoreError, PagingPartition
from pager.response_time import QUICK_SECONDS, SHORT_BYTES

QUICK, SLOW = QUICK_SECONDS / 3, 0.02


class Clocked(NativeRuntime):
    """Threads with duties, and a clock that stands still but for what the disk takes."""

    clock = 0.0

    def now(self) -> float:
        return self.clock


class Asked:
    """A partition on a disk that takes `seconds`, and a thread with a duty that asks it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.runtime = Clocked()
        self.disk = Disk(self.runtime, 1 << 20)
        self.disk.before = lambda kind, offset, length: self._take_time()
        self.partition = PagingPartition(self.runtime, 0, "p", self.disk, block_list(64), PAGE)

    def _take_time(self) -> None:
        self.runtime.clock += self.seconds

    def keeps_its_duty(self, operation: Callable[[], object]) -> bool:
        me, given_up = self.runtime.current(), []
        me.duty = lambda: given_up.append(True)
        operation()
        me.duty = None
        return not given_up

    def read(self) -> bool:
        return self.keeps_its_duty(lambda: self.partition.read(0, 1))

    def write(self, length: int = PAGE) -> bool:
        return self.keeps_its_duty(lambda: self.partition.write(0, memoryview(bytes(length))))


@pytest.mark.parametrize("kind", ["read", "write"])
def test_the_duty_is_kept_once_a_device_has_shown_that_it_is_quick(kind: str) -> None:
    asked = Asked(QUICK)
    kept = [getattr(asked, kind)() for _ in range(60)]
    assert not kept[0], "it has shown nothing yet"
    assert kept == sorted(kept), "and never again"
    assert kept[-1]


def test_a_device_of_1991_never_keeps_anybody_from_the_lead() -> None:
    asked = Asked(SLOW)
    assert not any(asked.read() or asked.write() for _ in range(60))


def test_one_operation_that_was_slow_and_the_next_hands_the_duty_on() -> None:
    asked = Asked(QUICK)
    for _ in range(60):
        asked.write()
    asked.seconds = SLOW
    assert asked.write()
    assert not asked.write()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_operation_that_fails_after_long_counts_as_slow_too(kind: str) -> None:
    asked = Asked(QUICK)
    for _ in range(60):
        getattr(asked, kind)()

    def fail_slowly(kind: str, offset: int, length: int) -> None:
        asked.runtime.clock += SLOW
        raise broken(offset)

    asked.disk.before = fail_slowly
    operation = getattr(asked.partition, kind)
    with pytest.raises(BackingStoreError):
        operation(0, memoryview(bytes(PAGE)) if kind == "write" else 1)
    asked.disk.before = lambda kind, offset, length: None
    assert not getattr(asked, kind)()


def test_a_long_transfer_hands_the_duty_on_however_quick_short_ones_are() -> None:
    asked = Asked(QUICK)
    for _ in range(60):
        asked.write()
    assert not asked.write(2 * SHORT_BYTES)
    assert asked.write()


def test_reads_that_wait_for_the_disk_say_nothing_of_writes_into_a_cache() -> None:
    asked = Asked(QUICK)
    for _ in range(60):
        asked.write()
    asked.seconds = SLOW
    assert not asked.read()
    asked.seconds = QUICK
    assert asked.write()
