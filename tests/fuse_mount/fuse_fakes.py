"""A pager, a kernel and a disk's worth of names that answer from memory: what the view's tests show.

Interface:
    FakePager, FakeKernel    PagerReader and KernelReader; `gone` makes them die, `refusal` makes them say no
    failure(action, ...)     the errno with which a call fails
    Gone                     what a client raises when its other side is not there
    fake_operations          the view of them, and a directory of odd nodes beside it, as a file system
Run as a program it mounts that view: fuse_fakes.py MOUNTPOINT [-f] [--ready-fd N].  It does not outlive its alarm, so
that a test that waits for it fails instead of hanging.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from fuse_mount import binding, mountpoint, serving
from fuse_mount.operations import TIMEOUTS, ViewOperations
from fuse_mount.pager_view import Pager, paging_space
from fuse_mount.source import Source
from fuse_mount.tree import DataFile, Dir, Extent, Link, Node, TextFile, fixed
from fuse_mount.view import view
from mach.default_pager import (
    DefaultPagerInfoReply,
    ObjectRecord,
    PageRecord,
    PageState,
    PartitionRecord,
    RunRecord,
)
from mach.kern_return import KernReturn, MachError
from mach.mach_debug import QueueRecord, RegionRecord, TaskRecord, VmObjectRecord, VmPageRecord

PAGE = 4096
LIFETIME = 60  # seconds
SINCE = 1_000_000_000_123_456_789


Options = dict[str, str | int | float | bool]


class Gone(Exception):
    """Nobody is there."""


def pattern(page: int) -> bytes:
    """What page number `page` of every object holds: no two pages alike."""
    return (b"page %06d " % page * (PAGE // 12 + 1))[:PAGE]


def failure(action: Callable[..., object], *arguments: object) -> int | None:
    """The errno of the OSError that a call raises."""
    try:
        action(*arguments)
    except OSError as error:
        return error.errno
    raise AssertionError("it did not fail")


@dataclass
class FakePager:
    """Two objects: 7 of six pages with pages 1 and 4 paged out, 12 of one page with nothing."""

    gone: bool = False
    refusal: KernReturn | None = None
    objects_by_id: dict[int, ObjectRecord] = field(
        default_factory=lambda: {
            7: ObjectRecord(7, 6 * PAGE, 2 * PAGE, 1, 3, 5, 0),
            12: ObjectRecord(12, PAGE, 0, 0, 0, 0, 0),
        }
    )
    closed: int = 0
    paged: tuple[int, ...] = (1, 4)

    def _answer(self) -> None:
        if self.gone:
            raise Gone("nobody is there")
        if self.refusal is not None:
            raise MachError(self.refusal, "no")

    def _known(self, object_id: int) -> ObjectRecord:
        self._answer()
        if object_id not in self.objects_by_id:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"there is no object {object_id}")
        return self.objects_by_id[object_id]

    def info(self) -> DefaultPagerInfoReply:
        self._answer()
        return DefaultPagerInfoReply(KernReturn.KERN_SUCCESS, 200 * PAGE, 190 * PAGE, PAGE, 2, 65536)

    def objects(self) -> list[ObjectRecord]:
        self._answer()
        return list(self.objects_by_id.values())

    def pages(self, object_id: int) -> list[PageRecord]:
        if not self._known(object_id).paged:
            return []
        return [
            PageRecord(page * PAGE, 0, 10 + page, 81920 + page * PAGE, 2, PageState.IDLE, bytes([page]) * 32)
            for page in self.paged
        ]

    def partitions(self) -> list[PartitionRecord]:
        self._answer()
        runs = (RunRecord(0, 81920, 150 * PAGE), RunRecord(150 * PAGE, 9 << 20, 50 * PAGE))
        return [PartitionRecord(0, 200, 190, 1, 0, -1, "/mach_servers/paging_file", "disk.img", "buffered", runs, ())]

    def partition_map(self, index: int) -> bytes:
        self._answer()
        if index != 0:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"there is no partition {index}")
        return b"#" * 9 + b"x" + b"." * 190

    def statistics(self) -> dict[str, int]:
        self._answer()
        return {"pageins": 3, "pageouts": 5}

    def read(self, object_id: int, offset: int, length: int) -> bytes:
        record = self._known(object_id)
        image = bytearray(record.size)
        for page in self.paged if record.paged else ():
            image[page * PAGE : (page + 1) * PAGE] = pattern(page)
        assert 0 <= offset <= offset + length <= record.size, "the view asked for bytes that there are not"
        return bytes(image[offset : offset + length])

    def close(self) -> None:
        self.closed += 1


HIGH = 0x7FFF_0000_0000


@dataclass
class FakeKernel:
    """Task 1 with two regions far apart; object 3 that shadows 2, and 4, which shadows itself."""

    gone: bool = False
    broken_at: int | None = None  # an address whose page cannot be had

    def _answer(self) -> None:
        if self.gone:
            raise Gone("nobody is there")

    def vm_statistics(self) -> tuple[int, dict[str, int]]:
        self._answer()
        return PAGE, {"free_count": 5, "active_count": 9}

    def queues(self) -> list[QueueRecord]:
        self._answer()
        return [QueueRecord("free", 5, ""), QueueRecord("active", 9, "2:0 3:4096")]

    def tasks(self) -> list[TaskRecord]:
        self._answer()
        return [TaskRecord(1, 3, 5 * PAGE, 17, "work\nload")]

    def regions(self, task_id: int) -> list[RegionRecord]:
        self._answer()
        if task_id != 1:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, "no such task")
        return [
            RegionRecord(HIGH, HIGH + PAGE, 5, 7, 2, 1, 3, 0),
            RegionRecord(PAGE, 5 * PAGE, 3, 7, 1, 0, 2, 0),
        ]

    def objects(self) -> list[VmObjectRecord]:
        self._answer()
        return [
            VmObjectRecord(2, 4 * PAGE, 2, 2, 1, 0, 0, 0, "object 7", 2),
            VmObjectRecord(3, 2 * PAGE, 1, 1, 1, 2, PAGE, 0, "", 0),
            VmObjectRecord(4, PAGE, 0, 1, 1, 4, 0, 0, "", 0),
        ]

    def object_pages(self, object_id: int) -> list[VmPageRecord]:
        self._answer()
        return [VmPageRecord(0, 31, 0, "active dirty")] if object_id == 2 else []

    def read_object(self, object_id: int, offset: int, length: int) -> bytes:
        self._answer()
        return bytes([object_id]) * length

    def read_task(self, task_id: int, address: int, length: int) -> bytes:
        self._answer()
        if self.broken_at is not None and address <= self.broken_at < address + length:
            raise MachError(KernReturn.KERN_MEMORY_ERROR, "the page is lost")
        return b"".join(pattern(at // PAGE)[at % PAGE : at % PAGE + 1] for at in range(address, address + length))

    def close(self) -> None:
        pass


def _raise(cause: BaseException) -> object:
    raise cause


def odd_names() -> Dir:
    """Nodes as no honest source makes them, and names as disks have them."""

    def text(words: str) -> TextFile:
        return TextFile(lambda: words)

    def raising(cause: BaseException) -> TextFile:
        return TextFile(lambda: str(_raise(cause)))

    odd: dict[bytes, Node] = {
        b"caf\xe9": text("latin"),
        "snow☃".encode(): text("utf-8"),
        b"link": Link(lambda: b"caf\xe9"),
        b"no/name": text("left out"),
        b"": text("left out"),
        b"x" * 256: text("left out"),
    }
    bad: dict[bytes, Node] = {
        b"exception": raising(KeyError("a fault of ours")),
        b"exit": raising(SystemExit(3)),
        b"interrupt": raising(KeyboardInterrupt()),
        b"no_errno": raising(OSError("words only")),
        b"negative": raising(OSError(-5, "below zero")),
        b"timeout": raising(TimeoutError("too late")),
        b"short": DataFile(lambda: Extent(PAGE, PAGE), lambda offset, length: b"short"),
        b"buffer": DataFile(lambda: Extent(5, 5), lambda offset, length: bytearray(b"bytes"[offset:][:length])),  # type: ignore[arg-type, return-value]
    }
    return fixed({b"names": fixed(odd), b"bad": fixed(bad)})


def fake_operations(pager: FakePager, kernel: FakeKernel) -> ViewOperations:
    """The view of the fakes, with /odd beside /pager and /kernel, as a file system."""
    source: Pager = Source(lambda: pager, Gone)
    root = view(source, Source(lambda: kernel, Gone))
    return ViewOperations(fixed({**root.children(), b"odd": odd_names()}), SINCE, lambda: paging_space(source))


def main() -> None:
    place = mountpoint.resolve(sys.argv[1])
    ready_fd = int(sys.argv[sys.argv.index("--ready-fd") + 1]) if "--ready-fd" in sys.argv else None
    operations = fake_operations(FakePager(), FakeKernel())

    def prepare(ready: Callable[[], None]) -> None:
        signal.alarm(LIFETIME)

        def started() -> None:
            serving.stop_on_signals(place)
            ready()

        mountpoint.check(place, replace_stale=False)
        options: Options = {"fsname": "fakes", "subtype": "pagermount", "ro": True, "use_ino": True, "nonempty": True}
        binding.serve(binding.choose(), operations, place, {**options, **TIMEOUTS}, started)

    try:
        serving.launch(prepare, str, "-f" in sys.argv, ready_fd)
    except serving.Failed as failed:
        sys.exit(f"fuse_fakes: {failed}")


if __name__ == "__main__":
    main()
