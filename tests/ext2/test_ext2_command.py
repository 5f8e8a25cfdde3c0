"""The commands a person types, on an ext2: `bootfs` finds the format out by itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from daemons import refused, run
from ext2_disks import mke2fs, needs_e2fsprogs

pytestmark = needs_e2fsprogs


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("command")
    (top / "tree" / "dir").mkdir(parents=True)
    (top / "tree" / "dir" / "file").write_bytes(b"contents\n" * 1000)
    (top / "tree" / "link").symlink_to("dir/file")
    return mke2fs(top / "image", "2M", "-t", "ext2", "-b", "1024", tree=top / "tree")


def test_info_says_ext2(disk: Path) -> None:
    info = json.loads(run("bootfs", "info", "--json", disk).stdout)
    assert (info["format"], info["byte_order"], info["block_size"], info["clean"]) == ("ext2", "little", 1024, True)
    assert "ext2" in run("bootfs", "info", disk).stdout


def test_ls_stat_and_cat_show_what_is_there(disk: Path) -> None:
    listed = run("bootfs", "ls", disk, "/").stdout
    assert "link -> dir/file" in listed
    assert "lost+found" in listed
    assert run("bootfs", "cat", disk, "/link").stdout == "contents\n" * 1000
    stat = json.loads(run("bootfs", "stat", "--json", disk, "/dir/file").stdout)
    assert (stat["kind"], stat["size"]) == ("file", 9000)


def test_blocks_and_manifest_are_those_of_any_format(disk: Path) -> None:
    blocks = json.loads(run("bootfs", "blocks", "--json", disk, "/dir/file").stdout)
    assert (blocks["size"], blocks["tail"], blocks["holes"]) == (9000, 9000 % 1024, [])
    with open(disk, "rb") as image:
        image.seek(blocks["runs"][0]["device_offset"])
        assert image.read(9) == b"contents\n"
    found = json.loads(run("bootfs", "manifest", "--json", disk).stdout)
    assert found["/dir/file"]["sha256"] == hashlib.sha256(b"contents\n" * 1000).hexdigest()
    assert found["/link"]["target"] == "dir/file"


def test_no_such_file_is_one_line(disk: Path) -> None:
    refused("bootfs", "cat", disk, "/nothing", words="/nothing: no such file or directory")
