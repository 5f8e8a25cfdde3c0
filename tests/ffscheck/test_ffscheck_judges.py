"""The fsck of June 1986 beside ours: what it repairs is sound for us, and it complains where we do. 10 s a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from damage import DAMAGES, Patient
from sound_disks import SHARED, pristine

ORACLE = SHARED / "oracles" / "bsd43"
DATA = Path(os.environ.get("BSD43_CACHE") or Path.home() / ".cache" / "bsd43-oracle") / "data"
TOGETHER = ("link_count", "free_bitmap_used_as_free", "cg_frsum", "block_count", "dir_entry_removed", "csum_area")

pytestmark = pytest.mark.judge


@pytest.fixture(scope="module")
def genuine() -> None:
    """The 4.3BSD machine, prepared once."""
    if not (ORACLE / "oracle.py").exists():
        pytest.skip("no judges beside this tree (../shared/oracles)")
    if not (DATA / "root43.img.gz").exists():
        done = subprocess.run([ORACLE / "prepare.sh"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the 4.3BSD machine cannot be prepared here: {done.stderr.strip()[-200:]}")


def test_what_the_genuine_fsck_repairs_is_sound_for_us(genuine: None, tmp_path: Path) -> None:
    """And before that, both of us complain."""
    patient = Patient(pristine("4.3bsd-little"))
    for kind in TOGETHER:
        DAMAGES[kind].do(patient)
    assert patient.checked().report.count >= len(TOGETHER)
    image, repaired, told = (tmp_path / name for name in ("d.img", "repaired.img", "told.json"))
    image.write_bytes(patient.data)
    subprocess.run(
        [sys.executable, ORACLE / "oracle.py", image, "--fix", "--save", repaired, "--json", told], capture_output=True
    )
    complaints = json.loads(told.read_text())["steps"]["fsck"]["complaints"]
    assert len(complaints) >= len(TOGETHER)
    after = Patient(repaired.read_bytes())
    assert [str(problem) for problem in after.checked().report.problems] == []
