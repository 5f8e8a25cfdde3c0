"""Files without a name that are sound so: NetBSD's log and quotas, Solaris's access control lists."""

from __future__ import annotations

import struct

import pytest
from damage import Patient
from sound_disks import pristine

from bootfs.geometry import cgsblock, fsbtobyte
from bootfs.layout import FLAGS_AT, FS_FLAGS_UPDATED, NETBSD_INODES_AT, SUN_MASKS_AT

ORDERS = pytest.mark.parametrize("order", ["little", "big"])


def problems(patient: Patient) -> list[str]:
    return [str(problem) for problem in patient.checked().report.problems]


def put(patient: Patient, at: int, code: str, *values: int) -> None:
    """Into the superblock, at a byte of struct fs."""
    sign = "<" if patient.fs.byte_order == "little" else ">"
    struct.pack_into(sign + code, patient.data, patient.fs.location + at, *values)


def nameless(kind: str, order: str) -> tuple[Patient, int]:
    """A disk with one file whose name was taken away, and the file's number."""
    patient = Patient(pristine(f"{kind}-{order}"))
    entry = patient.entry_at("/bin", 24)
    ino = patient.get(*entry, "d_ino")
    patient.put(*entry, "d_ino", 0)
    if kind == "ufs1":
        patient.put(*patient.sb, "fs_flags", FS_FLAGS_UPDATED)
    assert any("that no directory names" in problem for problem in problems(patient))
    return patient, ino


@ORDERS
@pytest.mark.parametrize("kind", ["ufs1", "ufs2"])
def test_the_log_of_netbsd_has_no_name(kind: str, order: str) -> None:
    patient, ino = nameless(kind, order)
    put(patient, FLAGS_AT, "I", 0x100)
    put(patient, NETBSD_INODES_AT, "BB2xI4Q", 1, 2, 0, 4096, 64, 512, ino)
    assert problems(patient) == []
    put(patient, NETBSD_INODES_AT, "BB", 1, 1)  # behind the file system: no inode is the log's
    assert len(problems(patient)) == 1


@ORDERS
@pytest.mark.parametrize("kind", ["ufs1", "ufs2"])
def test_the_quotas_of_netbsd_have_no_names(kind: str, order: str) -> None:
    patient, ino = nameless(kind, order)
    put(patient, FLAGS_AT, "I", 0x200)
    put(patient, NETBSD_INODES_AT + 40, "IB3xQQ", 0xB746915E, 1, ino, 0)
    assert problems(patient) == []
    put(patient, NETBSD_INODES_AT + 40, "I", 0)
    assert len(problems(patient)) == 1


def of_solaris() -> Patient:
    """A big-endian disk with the marks of Solaris, its old directory entries and empty ic_shadow."""
    patient = Patient(pristine("ufs1-big"))
    fs = patient.fs
    for path, inode in patient.files.walk():
        patient.put(*patient.inode(path.decode()), "di_uid", 0)
        if inode.kind != "dir":
            continue
        for run in patient.files.runs(inode):
            at, end = run.device_offset, run.device_offset + run.length
            while at < end:
                patient.put(patient.entry, at, "d_type", 0)
                at += patient.get(patient.entry, at, "d_reclen")
    for at in (fs.location, *(fsbtobyte(fs, cgsblock(fs, cg)) for cg in range(fs.fs_ncg))):
        struct.pack_into(">5i2q", patient.data, at + SUN_MASKS_AT - 20, 0, 0, 0, 0, 0, fs.fs_bsize - 1, fs.fs_fsize - 1)
    assert Patient(bytes(patient.data)).fs.is_sun
    return patient


def test_an_access_control_list_of_solaris_is_named_by_the_inodes_that_have_it() -> None:
    patient = of_solaris()
    assert problems(patient) == []
    shadow = patient.lookup("/bin/adb").ino
    patient.put(*patient.inode("/bin/adb"), "di_mode", 0o130000)
    patient.put(*patient.inode("/bin/adb"), "di_nlink", 2)
    entry = patient.entry_at("/bin", 24)
    assert patient.get(*entry, "d_ino") == shadow
    patient.put(*entry, "d_ino", 0)
    patient.put(*patient.inode("/xtr"), "di_uid", shadow)
    assert problems(patient) == [f"inode {shadow}: link count 2, should be 1"]
    patient.put(*patient.inode("/boot"), "di_uid", shadow)
    assert problems(patient) == []


def test_an_access_control_list_must_be_one() -> None:
    patient = of_solaris()
    patient.put(*patient.inode("/xtr"), "di_uid", patient.lookup("/boot").ino)
    assert len(problems(patient)) == 1
    assert "access control list" in problems(patient)[0]


def test_on_other_disks_that_mode_is_of_no_known_type() -> None:
    patient = Patient(pristine("ufs1-big"))
    patient.put(*patient.inode("/xtr"), "di_mode", 0o130000)
    assert any("of no known type" in problem for problem in problems(patient))
