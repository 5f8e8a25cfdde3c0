"""The whole check of a file system, pass after pass.

Interface:
    check_file_system(device, step) -> Checked | None     None: no FFS there
    Checked            the disk (None when its superblock was of no use) and the report, its problems named
Invariants:
    1. Nothing is written. No exception comes out of it but what the device itself raises on being asked its size.
Not here: how it is shown (ffscheck).
"""

from __future__ import annotations

from dataclasses import dataclass

from bootfs.device import BlockDevice
from disktools.check_blocks import check_tails, settle
from disktools.check_disk import Disk, open_disk
from disktools.check_groups import check_groups
from disktools.check_hashes import check_hashes
from disktools.check_inodes import scan_inodes
from disktools.check_report import Interruption, Report, Step
from disktools.check_superblock import check_superblock
from disktools.check_tree import check_tree, find_paths


@dataclass(frozen=True, slots=True)
class Checked:
    """What came out. `disk` is None when no superblock was usable; `files` and `directories` count inodes in use."""

    report: Report
    disk: Disk | None = None
    files: int = 0
    directories: int = 0


def _no_step(done: int, whole: int) -> None:
    """For who does not want to know."""


def check_file_system(device: BlockDevice, step: Step = _no_step) -> Checked | None:
    """Checks the file system that begins at byte 0 of `device`; `step(done, whole)` is called as it goes on."""
    report = Report()
    disk: Disk | None = None
    try:
        disk = open_disk(device, report)
        if disk is None:
            return None
        check_superblock(disk)
    except Interruption:
        return Checked(report, disk)
    inodes = scan_inodes(disk, lambda done, whole: step(done * 60, whole * 100))
    check_tails(disk, inodes.tails, lambda done, whole: step(60 * whole + done * 10, whole * 100))
    check_tree(disk, inodes, lambda done, whole: step(70 * whole + done * 15, whole * 100))
    in_use = settle(disk, inodes.claims)
    check_groups(disk, inodes, in_use, lambda done, whole: step(85 * whole + done * 15, whole * 100))
    check_hashes(disk, inodes)
    wanted = {problem.ino for problem in report.problems if problem.ino}
    if wanted:
        paths = find_paths(disk, inodes, wanted)
        report.problems = [problem.named(paths) for problem in report.problems]
    return Checked(report, disk, len(inodes.modes) - len(inodes.directories), len(inodes.directories))
