"""Every disk of the corpus is sound, inside its label too: what reads right is also kept right."""

from __future__ import annotations

import pytest
from sound_disks import MIB

from bootfs.device import MemoryDevice
from disktools.check_file_system import check_file_system
from disktools.check_place import choose
from fixtures.disks.corpus import CORPUS

LARGEST = 400 * MIB  # of a disk in memory


@pytest.mark.parametrize("name", CORPUS)
def test_a_disk_of_the_corpus_has_no_problems(name: str) -> None:
    disk = CORPUS[name].make()
    assert len(disk.data) < LARGEST
    device, place = choose(MemoryDevice(disk.data, writable=False), disk.partition or None, None)
    checked = check_file_system(device)
    assert place == disk.offset
    assert checked is not None
    assert [str(problem) for problem in checked.report.problems] == []
    expected = disk.image.expected.values()
    assert checked.directories == sum(facts["kind"] == "dir" for facts in expected)
    assert checked.files == len({facts["ino"] for facts in expected if facts["kind"] != "dir"})
