"""What a reader does with a broken disk, under bounds: only results and FileSystemError are right.

Interface:
    exercise(data, offset, partition) -> bool      all that can be asked of a disk; whether it opened at all
    attempt(mutant) -> (opened, Failure | None)    the same under the bounds of time and memory
    run(names, count, seed) -> Report              a campaign; the count is shared out among the bases
    bound_memory()                                 call once in a process of its own: it limits the process for good
Invariants:
    1. A campaign is a function of its arguments; only a bound that is met depends on the machine.
Not here: breaking disks (mutate), the command line.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from bootfs.device import MemoryDevice, SliceDevice
from bootfs.disk import find_file_systems, open_file_system
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.inode import Inode
from bootfs.lookup import open_file
from bootfs.manifest import manifest
from disktools.check_file_system import check_file_system
from disktools.check_paging import check_paging
from disktools.check_place import choose
from tests.fuzz.mutate import Mutant, bases, mutate

SECONDS = 2.0  # of this process's own work, so that a busy machine fails nothing
MEMORY = 500 << 20  # bytes of address space beyond what the process had
HASHED = 64 << 20  # bytes of files up to which a manifest is made with hashes
ROOMS = re.compile("/(bootfs|disktools)/")
MAX_FILES = 500  # a broken directory may name the same inodes many times


class Overtime(BaseException):
    """The bound of time was met; no handler for ordinary exceptions may catch it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """`mutant` is the name to replay; `fault` the exception or bound, `where` the innermost line of ours."""

    mutant: str
    edits: tuple[str, ...]
    fault: str
    where: str


@dataclass(slots=True)
class Report:
    """What a campaign found: `opened` disks gave a file system, the others were refused."""

    mutants: int = 0
    opened: int = 0
    failures: list[Failure] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def bound_memory() -> None:
    """Address space of the process as it is now, and MEMORY more. MemoryError beyond."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(_signal: int, _frame: object) -> None:
        raise Overtime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(mutant: Mutant) -> tuple[bool, Failure | None]:
    """One mutant, bounded."""
    try:
        with _bounded():
            return exercise(mutant.data, mutant.base.fs_offset, mutant.base.partition), None
    except (Exception, Overtime) as error:
        frames = [
            one
            for one in traceback.extract_tb(error.__traceback__)
            if "/bootfs/" in one.filename or "/disktools/" in one.filename
        ]
        where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} {frames[-1].name}" if frames else "?"
        return False, Failure(mutant.name, mutant.edits, f"{type(error).__name__}: {error}", where)


def run(names: Sequence[str], count: int, seed: int, progress: Callable[[int], Any] = lambda _: None) -> Report:
    """`count` mutants of the bases `names`, as evenly as can be."""
    report = Report()
    every = bases()
    for at in range(count):
        number, which = divmod(at, len(names))
        opened, failure = attempt(mutate(every[names[which]], seed, number))
        report.mutants += 1
        report.opened += opened
        if failure is not None:
            report.failures.append(failure)
        progress(at)
    return report


# What is asked


def exercise(data: bytearray, offset: int = 0, partition: str = "") -> bool:
    """Open, info, walk, read, block list, manifest, check. Whatever is not a proper FileSystemError comes out."""
    device = MemoryDevice(data, writable=False)
    for partition_name in {None, partition} - {""}:
        found_by_table = _ask(lambda name=partition_name: open_file_system(device, name))  # type: ignore[misc]
        _ask(lambda found=found_by_table: found and found.info())  # type: ignore[misc]
    _ask(lambda: list(find_file_systems(device)))
    _ask(lambda: choose(device, partition or None, None))
    _ask(lambda: _check(device, offset))
    fs = _ask(lambda: FileSystem.open(device, offset))
    if fs is None:
        fs = _ask(lambda: open_file_system(device, offset=offset))
    if not isinstance(fs, FileSystem):
        return False
    _ask(fs.info)
    found: dict[int, Inode] = {}
    _ask(lambda: _walk(fs, found))
    _ask(lambda: found.setdefault(2, fs.root()))
    total = 0
    for inode in list(found.values())[:MAX_FILES]:
        total += inode.size if inode.kind == "file" else 0
        _ask_of(fs, inode)
    for path in ("/fast", "/slow", "/loop", "/dir/below/file", "/paging_file/x"):
        _ask(lambda path=path: fs.lookup(path))  # type: ignore[misc]
        _ask(lambda path=path: open_file({"hd0a": device}, "/dev/hd0a" + path))  # type: ignore[misc]
    _ask(lambda: manifest(fs, "sha256" if total <= HASHED else "none"))
    return True


def _check(device: MemoryDevice, offset: int) -> None:
    """ffscheck of it: whatever it finds, it ends with a report."""
    part = SliceDevice(device, offset, device.size - offset)
    checked = check_file_system(part)
    if checked is not None and checked.disk is not None:
        check_paging(part, checked.disk, "/paging_file")


def _walk(fs: FileSystem, found: dict[int, Inode]) -> None:
    for _, inode in fs.walk():
        found[inode.ino] = inode


def _ask_of(fs: FileSystem, inode: Inode) -> None:
    """Everything about one file."""
    _ask(lambda: fs.readlink(inode))
    _ask(lambda: list(fs.listdir(inode)))
    _ask(lambda: fs.block_list(inode))
    _ask(lambda: fs.blocks(inode))
    _ask(lambda: fs.attributes(inode))
    _ask(lambda: fs.read(inode, 0, min(inode.size, 1 << 16)))
    _ask(lambda: fs.read(inode, max(0, inode.size - 9000), min(inode.size, 9000)))


def _ask(question: Callable[[], Any]) -> Any:
    """The answer, or None for a FileSystemError, which must be a line with a code."""
    try:
        return question()
    except FileSystemError as error:
        if not isinstance(error.code, FsCode) or "\n" in str(error) or not error.message:
            raise TypeError(f"badly made: {error!r}") from error
        return None
