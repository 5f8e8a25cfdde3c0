"""The paging file: full blocks, no holes, no tail, in as few runs as can be, on a new disk or inside an existing one.

Interface:
    PagingFile(path, size)                        what is wanted; parse_path for the path
    plan_new_disk(new, wanted, source, time, zeroed) -> Plan      with the tree `source` of the host
    plan_in_existing(device, wanted, time) -> Plan                the paging file in a 4.3BSD, UFS1 or UFS2 file system
    Plan.write(device, progress), Plan.facts()
All plans raise Refusal or NoRoom, and FileSystemError where the disk is at fault; until `write` nothing is written.
Not here: files of the host (mkpagingfile), what a pager does with it.

Why so (reference: Mach bootstrap/file_io.c): Mach counts only whole blocks, fails at run time on a hole, and cannot
allocate. Fewer runs are fewer seeks for a pageout, and a shorter block list to keep wired.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.geometry import fsbtobyte
from bootfs.layout import FS_NEEDSFSCK, FS_UNCLEAN, SBSIZE, superblock
from bootfs.layout_format import record
from bootfs.superblock import Format, Superblock, find_superblock
from disktools.allocator import Allocator
from disktools.directory import check_name
from disktools.errors import NoRoom, Refusal
from disktools.graft import find_place, graft
from disktools.limits import LIMITS
from disktools.newfs import NewFileSystem, PlannedFileSystem, empty_root, plan_file_system
from disktools.sizes import format_size
from disktools.tree import DIRECTORY_MODE, Node, directory_at, scan
from disktools.write_plan import Progress, WritePlan

PAGING_FILE_MODE = stat.S_IFREG | 0o600
DEFAULT_PATH = "/mach_servers/paging_file"


@dataclass(frozen=True, slots=True)
class PagingFile:
    """`path` as components from the root; `size` in bytes, rounded up to blocks when it is planned."""

    path: tuple[bytes, ...]
    size: int


def parse_path(text: str) -> tuple[bytes, ...]:
    """The components of an absolute path. Refusal."""
    if not text.startswith("/") or text.endswith("/"):
        raise Refusal(f"{text!r} is not the path of a file from the root of the disk; give for example {DEFAULT_PATH}")
    names = tuple(name for name in os.fsencode(text).split(b"/") if name)
    for name in names:
        check_name(name)
    return names


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be done. `new` is set when a whole disk is made; `file` is the paging file, if one is wanted."""

    fs: Superblock
    allocator: Allocator
    writes: WritePlan
    time: int
    wanted: PagingFile | None
    file: Node | None
    new: PlannedFileSystem | None = None
    skipped: tuple[str, ...] = ()

    def write(self, device: BlockDevice, progress: Progress) -> None:
        """Do it. `progress` is called with numbers of bytes that add up to `writes.bytes_to_write()`."""
        if self.new:
            self.new.write(device, self.time, progress)
        else:
            self.writes.write(device, self.allocator, self.time, progress)

    def facts(self) -> dict[str, Any]:
        """What there is afterwards, for --json. Offsets and lengths are bytes of the file system."""
        fs, totals = self.fs, self.allocator.totals()
        facts: dict[str, Any] = {
            "created": self.new is not None,
            "format": fs.format,
            "byte_order": fs.byte_order,
            "size": fsbtobyte(fs, fs.fs_size),
            "block_size": fs.fs_bsize,
            "fragment_size": fs.fs_fsize,
            "fragments": fs.fs_size,
            "cylinder_groups": fs.fs_ncg,
            "inodes": fs.fs_ncg * fs.fs_ipg,
            "free_blocks": totals["cs_nbfree"],
            "free_fragments": totals["cs_nffree"],
            "free_inodes": totals["cs_nifree"],
            "skipped": list(self.skipped),
        }
        if self.file and self.wanted:
            facts |= {
                "path": "/" + os.fsdecode(b"/".join(self.wanted.path)),
                "ino": self.file.ino,
                "paging_size": self.file.size,
                "asked": self.wanted.size,
                "runs": self._runs(self.file),
            }
        return facts

    def _runs(self, file: Node) -> list[dict[str, int]]:
        runs, at = [], 0
        for run in file.runs:
            length = run.blocks * self.fs.fs_bsize
            runs.append({"file_offset": at, "device_offset": fsbtobyte(self.fs, run.fragment), "length": length})
            at += length
        return runs


def reserved(size: int, block_size: int, time: int, kind: Format) -> Node:
    """The file itself, of whole blocks."""
    whole = -(-size // block_size) * block_size
    if size <= 0:
        raise Refusal("a paging file of 0 bytes holds nothing; give a --paging-size of at least one block")
    most = LIMITS[kind].file_bytes
    if whole > most:
        raise Refusal(
            f"a paging file of {format_size(whole)} is beyond the format's {format_size(most + 1)}; "
            "give a smaller --paging-size"
        )
    return Node(PAGING_FILE_MODE, mtime=time, size=whole)


def plan_new_disk(
    new: NewFileSystem, wanted: PagingFile | None, source: bytes | None, time: int, zeroed: bool = True
) -> Plan:
    """A new disk. The tree gets its places first, and the paging file what is left in the largest stretches."""
    root = empty_root(new.block_size, time)
    skipped: list[str] = []
    if source is not None:
        copied, skipped = scan(source, LIMITS[new.format])
        lost = copied.children.pop(b"lost+found", Node(DIRECTORY_MODE))
        if not lost.is_directory:
            raise Refusal(f"{os.fsdecode(source)}/lost+found is not a directory, and on a disk it has to be one")
        root.children[b"lost+found"].children |= lost.children
        root.children |= copied.children
        root.mode, root.uid, root.gid = copied.mode, copied.uid, copied.gid
        root.mtime, root.mtimensec = copied.mtime, copied.mtimensec
    file = None
    if wanted:
        file = reserved(wanted.size, new.block_size, time, new.format)
        directory = directory_at(root, list(wanted.path[:-1]), time)
        if wanted.path[-1] in directory.children:
            raise Refusal(f"{os.fsdecode(b'/' + b'/'.join(wanted.path))} is in the tree to copy; choose another --path")
        directory.children[wanted.path[-1]] = file
    try:
        made = plan_file_system(new, root, time, zeroed)
    except NoRoom as error:
        raise NoRoom(f"{error}; or make the disk larger than {format_size(new.size)} with --size") from error
    return Plan(made.fs, made.allocator, made.plan, time, wanted, file, made, tuple(skipped))


def plan_in_existing(device: BlockDevice, wanted: PagingFile, time: int) -> Plan:
    """The paging file inside the file system at byte 0 of `device`. All else stays as it is."""
    fs = find_superblock(device)
    check_fit(device, fs)
    file = reserved(wanted.size, fs.fs_bsize, time, fs.format)
    place = find_place(device, fs, wanted.path)
    branch = file
    for name in reversed(place.missing[1:]):
        branch = Node(DIRECTORY_MODE, mtime=time, children={name: branch})
    allocator, writes = Allocator.open(device, fs), WritePlan(zeroed=False)
    try:
        graft(device, allocator, writes, place, branch, time)
    except NoRoom as error:
        raise NoRoom(f"{error}; nothing was changed") from error
    return Plan(fs, allocator, writes, time, wanted, file)


def check_fit(device: BlockDevice, fs: Superblock) -> None:
    """FileSystemError unless the file system can be changed from outside: it is clean, and no snapshot must follow."""
    why = None
    values = record(superblock(fs.byte_order, fs.tables)).unpack(device.read(fs.location, SBSIZE))
    if fs.format == "4.3bsd":
        if fs.tables != "4.3":
            why = "is a later 4.3bsd, with dynamic tables; files can be added only to 4.2/4.3BSD, UFS1 and UFS2"
    elif not fs.fs_clean & 1:
        why = "was not unmounted cleanly; repair the file system with fsck first"
    elif fs.tables == "ufs2":
        if fs.fs_flags & (FS_UNCLEAN | FS_NEEDSFSCK):
            why = "asks to be checked; repair the file system with fsck first"
        elif any(values["fs_snapinum"]):
            why = "has snapshots, which must follow every change; remove them first"
    if why:
        raise FileSystemError(FsCode.FS_INVALID_FS, why, "the disk")
