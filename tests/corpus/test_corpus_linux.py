"""Linux's own driver reads disks of the corpus as their recipes say: a judge that none of us wrote.

A disk of each group in `make test`; `make judges` (JUDGES=all) has all that this driver knows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus.expectation import differences, expected

from fixtures.disks.corpus import CORPUS, write_sparse

TYPES = {"4.3bsd": "old", "ufs1": "44bsd", "ufs2": "ufs2"}  # as its driver calls the formats
# Each group in another label that Linux knows; and the number of the partition.
CASES = {
    "4.3bsd-little-mbr": "@2",
    "4.3bsd-big-gpt": "@1",
    "ufs1-little-mbr_bsd": "@5",
    "ufs1-big-sun": "@1",
    "ufs2-little-gpt": "@1",
    "ufs2-big-everything": "",
}
LARGEST_FRAGMENT = 4096  # for Linux, a page
if os.environ.get("JUDGES") == "all":
    CASES |= {
        name: ""
        for name, disk in CORPUS.items()
        if not disk.label and not disk.shape.superblock_at and disk.shape.fragment_size <= LARGEST_FRAGMENT
    }


@pytest.mark.judge
@pytest.mark.parametrize("name", CASES)
def test_linux_reads_what_the_recipe_says(
    linux_ufs: Callable[[str, Path], dict[str, Any]], name: str, tmp_path: Path
) -> None:
    disk = CORPUS[name].make()
    image = tmp_path / "disk.img"
    write_sparse(image, disk.data)
    theirs = linux_ufs(TYPES[CORPUS[name].shape.format] + CASES[name], image)
    ours = {path: facts for path, facts in expected(disk).items() if facts["mtime"] >= 0}  # the judge has no others
    assert differences(theirs, ours, set()) == []
