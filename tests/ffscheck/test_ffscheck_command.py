"""The command: one line a problem, exit codes, JSON, the paging file, and never a traceback."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES, Patient
from sound_disks import ROOT, pristine

from bootfs.device import FileDevice
from bootfs.geometry import fsbtobyte
from disktools.ffscheck import main
from disktools.newfs import NewFileSystem
from fixtures.disks import make_disk
from fixtures.disks.labels import LABELS


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def ffscheck(*words: object) -> Done:
    """The command, in this process: a new one takes longer than the check."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main.main([str(word) for word in words], prog_name="ffscheck")
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, *texts)


def facts(*words: object) -> Any:
    return json.loads(ffscheck("--json", *words).stdout)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(pristine("4.3bsd-little"))
    return path


def damaged(image: Path, *kinds: str) -> None:
    patient = Patient(image.read_bytes())
    for kind in kinds:
        DAMAGES[kind].do(patient)
    image.write_bytes(patient.data)


def test_a_sound_disk_exits_0_with_one_line(image: Path) -> None:
    done = ffscheck(image)
    assert done.returncode == 0
    assert done.stdout == f"{image}: consistent; 4.3bsd, little-endian, 7 directories and 10 other files\n"
    assert done.stderr == ""


def test_problems_exit_1_with_a_line_each(image: Path) -> None:
    damaged(image, "link_count", "cg_frsum")
    done = ffscheck(image)
    assert done.returncode == 1
    link, frsum, last = done.stdout.splitlines()
    assert link.endswith(" /xtr: link count 2, should be 1")
    assert frsum.startswith("cylinder group 0: cg_frsum[2] is")
    assert last == f"{image}: 2 problems"


def test_what_holds_no_bsd_file_system_exits_2(tmp_path: Path) -> None:
    empty, zeros = tmp_path / "empty", tmp_path / "zeros"
    empty.touch()
    zeros.write_bytes(bytes(1 << 20))
    for path in (empty, zeros, tmp_path / "absent", tmp_path):
        done = ffscheck(path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"ffscheck: {path}: ")


def test_a_file_system_further_on_is_found_by_its_offset(image: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.img"
    moved.write_bytes(bytes(64 << 10) + image.read_bytes())
    assert ffscheck(moved, "--offset", "64K").returncode == 0
    assert ffscheck(moved, "--offset", "1G").returncode == 2
    assert ffscheck(moved, "--offset", "far").returncode == 2


@pytest.mark.parametrize("label", ["mbr", "gpt", "bsd_sector_1", "sun"])
def test_a_file_system_in_a_partition_is_found(label: str, tmp_path: Path) -> None:
    data, name, offset = LABELS[label](bytearray(pristine("ufs1-big")), "big")
    image = tmp_path / "labelled.img"
    image.write_bytes(data)
    found = facts(image)
    assert (found["offset"], found["consistent"], found["problems"]) == (offset, True, [])
    assert ffscheck(image, "--partition", name).returncode == 0
    wrong = ffscheck(image, "--partition", "s7")
    assert wrong.returncode == 2
    assert "has no partition s7; there are: " in wrong.stderr
    assert ffscheck(image, "--partition", name, "--offset", "0").returncode == 2


def test_json_has_the_facts(image: Path) -> None:
    damaged(image, "link_count")
    found = facts(image)
    assert (found["format"], found["byte_order"], found["consistent"]) == ("4.3bsd", "little", False)
    (problem,) = found["problems"]
    assert problem["what"] == "link count 2, should be 1"
    assert problem["where"] == f"inode {problem['ino']} /xtr"
    assert found["problem_count"] == 1


def test_many_problems_are_cut_unless_all_are_wanted(image: Path) -> None:
    patient = Patient(image.read_bytes())
    layout = patient.dinode
    with FileDevice(image) as device:
        ipg = patient.fs.fs_ipg
        start = fsbtobyte(patient.fs, patient.fs.fs_iblkno)
        assert device.size > start
    for number in range(40, ipg):
        patient.put(layout, start + number * layout.size, "di_size", 1)
    image.write_bytes(patient.data)
    short, whole = ffscheck(image), ffscheck(image, "--all")
    assert len(short.stdout.splitlines()) == 51
    assert short.stdout.splitlines()[-1].endswith(f"{ipg - 40} problems (50 shown; --all shows more)")
    assert len(whole.stdout.splitlines()) == ipg - 40 + 1
    assert len(facts(image)["problems"]) == 50


def test_names_cannot_steer_the_terminal(image: Path) -> None:
    patient = Patient(image.read_bytes())
    at = patient.entry_at("/bin", 24)[1] + 8
    patient.data[at : at + 2] = b"\x1b\xff"
    patient.put(*patient.inode("/bin/adb"), "di_nlink", 3)
    image.write_bytes(patient.data)
    done = subprocess.run(
        [sys.executable, "-m", "disktools.ffscheck", image], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"/bin/\\x1b\xffb: link count 3, should be 1" in done.stdout
    assert json.loads(ffscheck("--json", image).stdout)["problems"][0]["where"].endswith("/bin/\x1b\udcffb")


# The paging file


def test_a_paging_file_is_called_fit(image: Path) -> None:
    done = ffscheck("--paging", image)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == (
        "/mach_servers/paging_file: fit to be paged on by Mach itself too; 256 KiB in 1 run, no holes"
    )
    found = facts("--paging", image)["paging"]
    assert (found["fit"], found["fit_for_mach"], found["usable"], found["tail"]) == (True, True, 256 << 10, 0)
    assert sum(run["length"] for run in found["runs"]) == 256 << 10


def test_a_paging_file_with_a_hole_is_not_fit(image: Path) -> None:
    patient = Patient(image.read_bytes())
    patient.put(*patient.inode("/mach_servers/paging_file"), "di_db", 0, 3)
    image.write_bytes(patient.data)
    done = ffscheck("--paging", image)
    assert done.returncode == 1
    assert "not fit to be paged on: a hole of 4096 bytes at 12288" in done.stdout
    found = facts("--paging", image)["paging"]
    assert found["holes"] == [{"file_offset": 12288, "length": 4096}]
    assert not found["fit"]


def test_a_paging_file_with_a_tail_is_fit_but_its_tail_is_told(image: Path) -> None:
    done = ffscheck("--paging", "--path", "/xtr", image)
    assert done.returncode == 1
    assert "less than a block of 4096: no room for a page" in done.stdout
    boot = ffscheck("--paging", "--path", "/boot", image)
    assert boot.returncode == 0
    assert "/boot: Mach itself: the last 808 bytes are less than a block" in boot.stdout


@pytest.mark.parametrize("path", ["/nothing", "/bin", "/xtr/further"])
def test_what_is_no_file_is_no_paging_file(image: Path, path: str) -> None:
    done = ffscheck("--paging", "--path", path, image)
    assert done.returncode == 1
    assert f"{path}: not fit to be paged on: " in done.stdout


def test_what_mach_would_not_take_is_told(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    make_disk(image, NewFileSystem(16 << 20, 16384, 2048, "big", format="ufs2"), 1 << 20)
    found = facts("--paging", image)["paging"]
    assert found["fit"]
    assert not found["fit_for_mach"]
    reasons = " ".join(found["beyond_mach"])
    for word in ("UFS2", "byte 65536", "blocks of 16384", "big-endian"):
        assert word in reasons
