"""pytsk3 and dissect.ffs read the disks of the corpus as their recipes say: two more readers that none of us wrote.

For `make judges`, which installs them in an environment of their own. What they cannot read is left out, and why is
said here; a peer that has learnt it is no failure.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from corpus.expectation import differences, expected

from benchmarks.peers import PYTHON
from fixtures.disks.corpus import CORPUS, CorpusDisk, write_sparse

READERS = Path(__file__).parent / "readers"
SECONDS = 60
MOST_BYTES = 16 << 30  # both look at every block of a file, so that one with large holes takes them for ever


def longest_file(disk: CorpusDisk) -> int:
    """Bytes; of the contents that are named for it, the reach of double indirect blocks."""
    reach = disk.shape.block_size * disk.shape.nindir**2
    return {"sparse": 512 << 30, "everything": 512 << 30, "boundaries": reach}.get(disk.content, 0)


def pytsk3_can(disk: CorpusDisk) -> bool:
    """Not the directories of 4.3BSD, but big-endian ones by luck (and not all of those); no UFS2 at byte 8192."""
    shape = disk.shape
    if shape.format == "4.3bsd":
        return shape.byte_order == "big" and disk.content in ("tree", "holes")
    return shape.superblock_at != 8192 and longest_file(disk) == 0


def dissect_can(disk: CorpusDisk) -> bool:
    """Little-endian only, and not the directories of 4.3BSD."""
    shape = disk.shape
    return shape.byte_order == "little" and shape.format != "4.3bsd" and longest_file(disk) <= MOST_BYTES


CASES = [
    (peer, name)
    for peer, can in (("pytsk3", pytsk3_can), ("dissect", dissect_can))
    for name, disk in CORPUS.items()
    if not disk.label and can(disk)  # of labels they know nothing
]


@pytest.fixture(scope="module")
def python() -> Path:
    if os.environ.get("JUDGES") != "all":
        pytest.skip("a minute of other readers: for make judges")
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}: make peers installs pytsk3 and dissect.ffs there")
    return PYTHON


@pytest.mark.judge
@pytest.mark.parametrize(("peer", "name"), CASES)
def test_a_peer_reads_what_the_recipe_says(python: Path, peer: str, name: str, tmp_path: Path) -> None:
    disk = CORPUS[name].make()
    image = tmp_path / "disk.img"
    write_sparse(image, disk.data)
    command = [python, READERS / f"read_{peer}.py", image, "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    # 4.3BSD has its owners, of 16 bits, where pytsk3 does not look for them.
    leave_out = {"uid", "gid"} if CORPUS[name].shape.format == "4.3bsd" else set()
    assert differences(json.loads(done.stdout), expected(disk), leave_out) == []


def test_each_format_is_read_by_a_peer() -> None:
    groups = {(CORPUS[name].shape.format, CORPUS[name].shape.byte_order) for _, name in CASES}
    assert groups == {("4.3bsd", "big"), *((kind, order) for kind in ("ufs1", "ufs2") for order in ("little", "big"))}
