"""Every kind of damage of the 4.3BSD judge's self-test is found in every format, also what its fsck does not see."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from damage import DAMAGES, UNSEEN_IN_1986, Patient, said
from sound_disks import DISKS, freebsd, pristine

from bootfs.device import MemoryDevice
from bootfs.geometry import cgimin, cgsblock, cgtod, fsbtobyte
from disktools.check_file_system import check_file_system
from disktools.geometry_plan import DiskGeometry
from disktools.newfs import NewFileSystem
from fixtures.disks import make_disk

MODERN = ("ufs1-little", "ufs1-big", "ufs2-little", "ufs2-big")


@pytest.mark.parametrize("name", DISKS)
def test_every_kind_of_damage_is_found(name: str) -> None:
    missed = []
    for kind, one in DAMAGES.items():
        patient = Patient(pristine(name))
        if not one.applies(patient):
            continue
        one.do(patient)
        assert patient.data != pristine(name), kind
        if not said(patient, one.expect):
            missed.append((kind, [str(problem) for problem in patient.checked().report.problems][:5]))
    assert not missed


def test_all_of_the_self_test_is_here() -> None:
    assert len(DAMAGES) == 47
    assert set(UNSEEN_IN_1986) <= set(DAMAGES)


# Further damage, each by its own story


@pytest.fixture(params=["4.3bsd-little", "4.3bsd-big", "ufs1-little", "ufs1-big", "ufs2-little", "ufs2-big"])
def patient(request: pytest.FixtureRequest) -> Patient:
    return Patient(pristine(request.param))


def test_damage_to_any_copy_of_the_superblock_is_found(patient: Patient) -> None:
    """The 1986 fsck looks at the last one only."""
    for cg in range(patient.fs.fs_ncg):
        damaged = Patient(bytes(patient.data))
        damaged.add(damaged.superblock, fsbtobyte(damaged.fs, cgsblock(damaged.fs, cg)), "fs_maxbpg", 1)
        assert said(damaged, f"superblock copy of cylinder group {cg}: fs_maxbpg is")


def test_a_copy_that_is_gone_is_found(patient: Patient) -> None:
    at = fsbtobyte(patient.fs, cgsblock(patient.fs, 1))
    patient.data[at : at + 8192] = bytes(8192)
    assert said(patient, "superblock copy of cylinder group 1: is not there")


def test_with_all_superblocks_broken_it_says_so_and_ends(patient: Patient) -> None:
    fs = patient.fs
    for at in (fs.location, *(fsbtobyte(fs, cgsblock(fs, cg)) for cg in range(fs.fs_ncg))):
        patient.put(patient.superblock, at, "fs_frag", 3)
    (problem,) = patient.checked().report.problems
    assert str(problem) == "superblock: broken relation: fs_frag = fs_bsize / fs_fsize, and no copy of it is usable"


def test_a_block_in_the_tables_of_the_file_system_is_found(patient: Patient) -> None:
    patient.put(*patient.inode("/xtr"), "di_db", cgtod(patient.fs, 1))
    assert said(patient, "inode .* /xtr: .* also to the tables of cylinder group 1")


def test_one_block_twice_in_a_file_is_found(patient: Patient) -> None:
    patient.put(*patient.inode("/boot"), "di_db", patient.lookup("/boot").pointers[0], 1)
    assert said(patient, "inode .* /boot: 8 fragments from .* belong also to itself")


def test_an_indirect_block_that_points_to_itself_is_found(patient: Patient) -> None:
    fragment = patient.lookup("/vmunix").pointers[12]
    at = fsbtobyte(patient.fs, fragment)
    patient.data[at : at + patient.pointer.size] = patient.pointer.struct.pack(fragment)
    assert said(patient, "inode .* /vmunix: .*belong")


def test_blocks_beyond_the_size_are_found(patient: Patient) -> None:
    patient.put(*patient.inode("/xtr"), "di_db", 4000, 5)
    assert said(patient, "inode .* /xtr: has block pointers beyond its size")
    patient.put(*patient.inode("/xtr"), "di_db", 0, 5)
    patient.put(*patient.inode("/xtr"), "di_ib", 4000, 1)
    assert said(patient, "inode .* /xtr: has block pointers beyond its size")


def test_a_block_that_begins_nowhere_is_found(patient: Patient) -> None:
    patient.add(*patient.inode("/boot"), "di_db", 1)
    assert said(patient, "inode .* /boot: 1 of its blocks do not begin where a block of the disk can")


def test_an_inode_freed_by_half_is_found(patient: Patient) -> None:
    patient.put(*patient.inode("/xtr"), "di_mode", 0)
    assert said(patient, "inode .* /xtr: is free .no mode., but not empty")


def test_a_directory_that_nobody_names_is_found_with_what_is_in_it(patient: Patient) -> None:
    ino = patient.lookup("/bin").ino
    at = next(at for at in range(0, 512, 4) if patient.get(*patient.entry_at("/", at), "d_ino") == ino and at > 12)
    patient.put(*patient.entry_at("/", at), "d_ino", 0)
    assert said(patient, f"inode {ino}: a directory that no directory names")


def test_a_ring_of_directories_is_found(patient: Patient) -> None:
    """/bin is taken out of the root and into itself."""
    ino = patient.lookup("/bin").ino
    at = next(at for at in range(0, 512, 4) if patient.get(*patient.entry_at("/", at), "d_ino") == ino and at > 12)
    patient.put(*patient.entry_at("/", at), "d_ino", 0)
    patient.put(*patient.entry_at("/bin", 24), "d_ino", ino)
    assert said(patient, f"inode {ino}: directories that name each other in a ring")


def test_a_name_twice_in_a_directory_is_found(patient: Patient) -> None:
    layout, first = patient.entry_at("/bin", 24)
    second = first + patient.get(layout, first, "d_reclen")
    patient.data[second + 6 : second + 12] = patient.data[first + 6 : first + 12]
    assert said(patient, "inode .* /bin: the name b'.*' is in it twice")


def test_a_hole_in_a_directory_is_found(patient: Patient) -> None:
    patient.put(*patient.inode("/bin"), "di_db", 0)
    assert said(patient, "inode .* /bin: a directory with holes: 0 of 1 blocks are there")
    assert said(patient, "inode .* /bin: its first entry is not '.'")


@pytest.mark.parametrize("kind", ["4.3bsd", "ufs1", "ufs2"])
def test_fragments_free_beyond_the_end_are_found(kind: Any, tmp_path: Path) -> None:
    groups: dict[str, Any] = {"geometry": DiskGeometry(16, 8, 16)} if kind == "4.3bsd" else {"group_blocks": 256}
    make_disk(tmp_path / "disk.img", NewFileSystem(2600 << 10, 4096, 512, "big", format=kind, **groups))
    patient = Patient((tmp_path / "disk.img").read_bytes())
    last = patient.fs.fs_ncg - 1
    end = patient.fs.fs_size - last * patient.fs.fs_fpg
    assert end < patient.fs.fs_fpg, "the last group should be a short one"
    patient.flip("free", end, last)
    assert said(patient, f"cylinder group {last}: fragments beyond its end are free in its map")


@pytest.mark.parametrize("name", MODERN)
def test_a_wrong_type_in_a_directory_entry_is_found(name: str) -> None:
    patient = Patient(pristine(name))
    patient.put(*patient.entry_at("/bin", 24), "d_type", 4)
    assert said(patient, "inode .* /bin: its entry .* has d_type 4, but the inode is a file")


@pytest.mark.parametrize("name", MODERN)
def test_wrong_summaries_of_clusters_are_found(name: str) -> None:
    patient = Patient(pristine(name))
    patient.add_to_table("clustersum", "i", 2)
    assert said(patient, r"cylinder group 0: cluster summary \[2\] is")
    patient.flip("cluster", 40)
    assert said(patient, "cylinder group 0: the cluster map is wrong at blocks 40 of the group")


def test_wrong_check_hashes_are_found() -> None:
    patient = Patient(freebsd())
    assert patient.fs.fs_metackhash == 7, "the disk should have them all"
    path = next(path.decode() for path, inode in patient.files.walk() if inode.kind == "file")
    patient.add(*patient.inode(path), "di_mtime", 1)
    patient.add(*patient.cg(1), "cg_time", 1)
    patient.add(*patient.sb, "fs_mtime", 1)
    found = [str(problem) for problem in patient.checked().report.problems]
    assert len(found) == 3
    assert all("ckhash is" in problem for problem in found)


def test_a_disk_cut_short_is_told_of_and_checked_as_far_as_it_goes(patient: Patient) -> None:
    del patient.data[len(patient.data) * 3 // 4 :]
    assert said(patient, "superblock: fs_size is .* fragments, but the device has only")
    patient.put(*patient.inode("/xtr"), "di_nlink", 9)
    assert said(patient, "inode .* /xtr: link count 9, should be 1")


def test_no_damage_ends_in_anything_but_a_report() -> None:
    """A few hundred disks with one to four bytes, words or blocks of theirs changed."""
    for name in DISKS[1:]:
        sound = pristine(name)
        fs = Patient(sound).fs
        chance = Random(name)
        metadata = [fs.location, fsbtobyte(fs, cgtod(fs, 0)), fsbtobyte(fs, cgimin(fs, 0)), fsbtobyte(fs, fs.fs_csaddr)]
        for _ in range(60):
            data = bytearray(sound)
            for _ in range(chance.randint(1, 4)):
                at = chance.choice(metadata) + chance.randrange(1500)
                value = chance.choice([b"\0\0\0\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\1", chance.randbytes(4)])
                data[at : at + len(value)] = value
            if chance.random() < 0.1:
                del data[chance.randrange(len(data)) :]
            checked = check_file_system(MemoryDevice(data))
            assert checked is None or checked.report.count >= 0
