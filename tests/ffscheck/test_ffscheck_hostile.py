"""Disks made to hurt a reader: each ends in a report, soon."""

from __future__ import annotations

import pytest
from damage import Patient
from sound_disks import MIB, pristine

from bootfs.device import MemoryDevice
from bootfs.geometry import cgsblock, fsbtobyte
from disktools.check_file_system import check_file_system
from disktools.check_report import MAX_KEPT

KINDS = ("4.3bsd-little", "ufs1-big", "ufs2-little")


@pytest.fixture(params=KINDS)
def patient(request: pytest.FixtureRequest) -> Patient:
    return Patient(pristine(request.param))


@pytest.mark.parametrize("path", ["/", "/bin", "/vmunix", "/a/long"])
@pytest.mark.parametrize("size", [1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1], ids=hex)
def test_a_monstrous_size(patient: Patient, path: str, size: int) -> None:
    """Of a regular file it may be a sparse one's; all else has no holes."""
    patient.put(*patient.inode(path), "di_size", size)
    assert patient.checked().report.count or path == "/vmunix"


@pytest.mark.parametrize("field", ["fs_fpg", "fs_ipg", "fs_bsize", "fs_fsize", "fs_frag", "fs_nindir", "fs_inopb",
                                   "fs_fsbtodb", "fs_size", "fs_ncg", "fs_sblkno", "fs_dblkno", "fs_cgsize",
                                   "fs_cssize", "fs_csaddr", "fs_sbsize"])  # fmt: skip
@pytest.mark.parametrize("value", [0, -1, 1, 0x7FFFFFFF])
def test_a_superblock_field_that_makes_no_sense_in_any_copy(patient: Patient, field: str, value: int) -> None:
    sound = patient.get(*patient.sb, field)
    for place in (patient.fs.location, *_copies(patient)):
        patient.put(patient.superblock, place, field, value)
    assert patient.checked().report.count or value == sound


def _copies(patient: Patient) -> list[int]:
    fs = patient.fs
    return [fsbtobyte(fs, cgsblock(fs, cg)) for cg in range(fs.fs_ncg)]


def test_a_disk_that_claims_to_be_huge_in_all_copies(patient: Patient) -> None:
    """fs_size and fs_ncg agree, so every relation holds; only the device knows better."""
    groups = 50_000
    for place in (patient.fs.location, *_copies(patient)):
        patient.put(patient.superblock, place, "fs_size", groups * patient.fs.fs_fpg)
        patient.put(patient.superblock, place, "fs_ncg", groups)
        summary = -(-16 * groups // patient.fs.fs_fsize) * patient.fs.fs_fsize
        patient.put(patient.superblock, place, "fs_cssize", summary)
    assert any("but the device has only" in str(problem) for problem in patient.checked().report.problems)


def test_every_pointer_of_an_indirect_block_leads_to_itself_through_three_levels(patient: Patient) -> None:
    fragment = patient.lookup("/vmunix").pointers[12]
    at = fsbtobyte(patient.fs, fragment)
    patient.data[at : at + patient.fs.fs_bsize] = patient.pointer.struct.pack(fragment) * patient.fs.fs_nindir
    for level in range(3):
        patient.put(*patient.inode("/vmunix"), "di_ib", fragment, level)
    patient.put(*patient.inode("/vmunix"), "di_size", (1 << 31) - 1)
    assert patient.checked().report.count


def test_problems_without_end_are_counted_and_not_all_kept() -> None:
    patient = Patient(pristine("ufs2-little"))
    fs = patient.fs
    for cg in range(fs.fs_ncg):
        base = fsbtobyte(fs, fs.fs_fpg * cg + fs.fs_iblkno)
        for number in range(3, fs.fs_ipg):
            patient.put(patient.dinode, base + number * patient.dinode.size, "di_mode", 0o170000)
        patient.put(*patient.cg(cg), "cg_initediblk", fs.fs_ipg)
    report = patient.checked().report
    assert report.count >= fs.fs_ncg * (fs.fs_ipg - 3)
    assert len(report.problems) <= MAX_KEPT


def test_what_is_no_disk_at_all_is_no_file_system() -> None:
    for data in (b"", b"\0", bytes(8192), bytes(MIB), b"\xff" * MIB, bytes(range(256)) * 4096):
        assert check_file_system(MemoryDevice(bytearray(data))) is None
