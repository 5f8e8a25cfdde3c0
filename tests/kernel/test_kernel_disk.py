"""The modelled disk: one arm, and what waits for it is taken in disksort's order."""

from __future__ import annotations

import random

import pytest

from bootfs.device import MemoryDevice
from kernel.disk import BYTES_A_SECOND, HALF_TURN_SECONDS, SETTLE_SECONDS, ModelledDisk
from mach.threads.simulated import SimulatedRuntime

SIZE = 1 << 20
PAGE = 4096


class Order(MemoryDevice):
    """Notes where it is written."""

    def __init__(self) -> None:
        super().__init__(bytearray(SIZE))
        self.written: list[int] = []

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.written.append(offset)
        super().write(offset, data)


def in_a_machine(body: object, seed: int = 0) -> SimulatedRuntime:
    runtime = SimulatedRuntime(seed)
    runtime.run(lambda: body(runtime))
    return runtime


@pytest.mark.parametrize("seed", range(8))
def test_what_waits_is_taken_going_forward_and_then_from_the_front(seed: int) -> None:
    device = Order()

    def body(runtime: SimulatedRuntime) -> None:
        disk = ModelledDisk(runtime, device)
        first = runtime.fork(lambda: disk.write(SIZE // 2, bytes(PAGE)), "first")
        runtime.sleep(0.001)  # it is under way: all the others wait
        places = [number * SIZE // 8 for number in (0, 1, 2, 5, 6, 7)]
        random.Random(seed).shuffle(places)
        others = [runtime.fork(lambda at=at: disk.write(at, bytes(PAGE)), f"at {at}") for at in places]
        for thread in [first, *others]:
            thread.join()

    in_a_machine(body, seed)
    assert [at * 8 // SIZE for at in device.written] == [4, 5, 6, 7, 0, 1, 2]


@pytest.mark.parametrize("seed", range(8))
def test_pages_that_adjoin_are_written_in_one_sweep_whoever_comes_first(seed: int) -> None:
    """Ten pages by ten threads, from where the arm is: the transfer, and a seek for the first at the most."""
    took: list[float] = []

    def body(runtime: SimulatedRuntime) -> None:
        disk = ModelledDisk(runtime, MemoryDevice(bytearray(SIZE)))
        disk.write(0, bytes(PAGE))
        began = runtime.now()
        threads = [runtime.fork(lambda at=at: disk.write(at * PAGE, bytes(PAGE)), f"{at}") for at in range(1, 11)]
        for thread in threads:
            thread.join()
        took.append(runtime.now() - began)

    in_a_machine(body, seed)
    sweep, seek = 10 * PAGE / BYTES_A_SECOND, SETTLE_SECONDS + HALF_TURN_SECONDS
    assert sweep <= took[0] < sweep + 2.5 * seek, "it may begin with another, and come back for the rest"


def test_an_operation_that_fails_leaves_the_disk_to_the_others() -> None:
    def body(runtime: SimulatedRuntime) -> None:
        disk = ModelledDisk(runtime, MemoryDevice(bytearray(SIZE)))
        with pytest.raises(Exception, match="are not within"):
            disk.read(SIZE, PAGE)
        disk.write(0, b"x" * PAGE)
        assert disk.read(0, PAGE) == b"x" * PAGE

    in_a_machine(body)
