"""A disk of the simulation: a device whose every operation takes virtual time and is a place to switch threads.

Interface:
    ModelledDisk(runtime, device, slowness=1.0)    a BlockDevice over another

One arm, one operation at a time: a seek that grows with the distance, half a turn, the transfer.  The figures are those
of a disk that a 25 MHz 386 of 1991 would have had (paper §7.2); `slowness` multiplies them: 20 is a floppy disk.
Operations that wait are taken in the order of BSD's disksort: the next one further on, then from the front again.  So
pages that adjoin each other are written in one sweep, whichever of the pager's threads comes to the disk first.

Invariants:
    1. The arm is at one operation at a time.
    2. An operation waits for two sweeps at the most: within one the arm only goes forward.

Not here: the bytes (bootfs.device); faults of the medium.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort

from bootfs.device import BlockDevice
from mach.threads import LockRank, Runtime, Thread

SETTLE_SECONDS = 0.003  # track to track
FULL_STROKE_SECONDS = 0.030
HALF_TURN_SECONDS = 0.0083  # 3600 turns a minute
BYTES_A_SECOND = 1_000_000


class ModelledDisk:
    """See the head of the module."""

    def __init__(self, runtime: Runtime, device: BlockDevice, slowness: float = 1.0) -> None:
        self._slowness = slowness
        self._runtime = runtime
        self._device = device
        self._queue = runtime.mutex("disk queue", LockRank.DEVICE)
        self._arm_is_free = runtime.condition(self._queue, "disk arm")
        self._waiting: list[tuple[int, int]] = []  # sorted: where an operation begins, in bytes, and its number
        self._numbers = itertools.count()
        self._moving: Thread | None = None  # whose operation the arm is at
        self._position = 0  # bytes, where the last operation ended

    @property
    def size(self) -> int:
        return self._device.size

    def read(self, offset: int, length: int) -> bytes:
        self._turn("disk read", offset, length)
        return self._device.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._turn("disk write", offset, memoryview(data).nbytes)
        self._device.write(offset, data)

    def sync(self) -> None:
        self._device.sync()

    def close(self) -> None:
        self._device.close()

    def _turn(self, what: str, offset: int, length: int) -> None:
        """Wait for the arm, and as long as the operation takes."""
        self._runtime.checkpoint(what)
        with self._queue:
            operation = (offset, next(self._numbers))
            insort(self._waiting, operation)
            while self._moving is not None or self._next() != operation:
                self._arm_is_free.wait(what, owed_by=self._mover)
            self._waiting.remove(operation)
            self._moving = self._runtime.current()
        try:
            self._runtime.sleep(self._seconds(offset, length) * self._slowness, what)
            self._position = offset + length
        finally:
            with self._queue:
                self._moving = None
                self._arm_is_free.broadcast()

    def _next(self) -> tuple[int, int]:
        """disksort's choice of those that wait."""
        further = bisect_left(self._waiting, (self._position, 0))
        return self._waiting[further % len(self._waiting)]

    def _mover(self) -> tuple[Thread, ...]:
        return () if self._moving is None else (self._moving,)

    def _seconds(self, offset: int, length: int) -> float:
        seconds = length / BYTES_A_SECOND
        distance = abs(offset - self._position)
        if distance:
            seconds += SETTLE_SECONDS + HALF_TURN_SECONDS
            seconds += (FULL_STROKE_SECONDS - SETTLE_SECONDS) * distance / max(self.size, 1)
        return seconds
