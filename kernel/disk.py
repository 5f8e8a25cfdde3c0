"""A disk of the simulation: a device whose every operation takes virtual time and is a place to switch threads.

Interface:
    ModelledDisk(runtime, device, slowness=1.0)    a BlockDevice over another

One arm, one operation at a time: a seek that grows with the distance, half a turn, the transfer.  The figures are those
of a disk that a 25 MHz 386 of 1991 would have had (paper §7.2); `slowness` multiplies them: 20 is a floppy disk.

Not here: the bytes (bootfs.device); faults of the medium.
"""

from __future__ import annotations

from bootfs.device import BlockDevice
from mach.threads import LockRank, Runtime

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
        self._arm = runtime.mutex("disk arm", LockRank.DEVICE)
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
        with self._arm:
            distance = abs(offset - self._position)
            seconds = length / BYTES_A_SECOND
            if distance:
                seconds += SETTLE_SECONDS + HALF_TURN_SECONDS
                seconds += (FULL_STROKE_SECONDS - SETTLE_SECONDS) * distance / max(self.size, 1)
            self._position = offset + length
            self._runtime.sleep(seconds * self._slowness, what)
