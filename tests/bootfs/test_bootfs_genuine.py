"""Disks that others made: the 4.3BSD distribution's miniroot, and images of Debian's makefs in both byte orders."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from ffs_builder import SHARED

from bootfs.blocklist import Run
from bootfs.command import cli
from bootfs.device import FileDevice, MemoryDevice
from bootfs.filesystem import FileSystem
from bootfs.layout import CG_MAGIC, cylinder_group
from bootfs.layout_format import record

KINDS = {"file": "file", "dir": "dir", "symlink": "link"}
MAKEFS = shutil.which("makefs") or shutil.which("makefs", path="/usr/sbin")


def test_the_genuine_miniroot_agrees_with_its_manifest_in_every_name(miniroot: bytes, tmp_path: Path) -> None:
    image = tmp_path / "miniroot.img"
    image.write_bytes(miniroot)
    done = CliRunner().invoke(cli, ["manifest", "--json", str(image)])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    wanted = json.loads((SHARED / "disks" / "43bsd-miniroot.manifest.json").read_text())["files"]
    assert len(wanted) == len(found) == 228  # 227 names and the root
    for entry in wanted:
        ours = found[entry["path"]]
        assert ours["kind"] == KINDS.get(entry["type"], "other")
        for key, other in {"ino": "inode", "size": "size", "nlink": "nlink", "uid": "uid", "gid": "gid"}.items():
            assert ours[key] == entry[other], entry["path"]
        assert ours["mode"] == int(entry["mode"], 8)
        assert ours["mtime"] == entry["mtime"]
        assert ours.get("target") == entry.get("target")
        assert ours.get("rdev") == entry.get("rdev")
        if ours["kind"] == "file":
            assert ours["sha256"] == entry["sha256"]


def test_the_genuine_superblock_and_cylinder_group_are_as_their_makers_say(miniroot: bytes) -> None:
    fs = FileSystem.open(MemoryDevice(bytearray(miniroot)))
    wanted = json.loads((SHARED / "disks" / "43bsd-miniroot.manifest.json").read_text())["superblock"]
    for name, value in wanted.items():
        ours = getattr(fs.superblock, name if name.startswith("cs_") else f"fs_{name}", None)
        if ours is not None and name != "fsmnt":
            assert ours == value, name
    assert fs.info()["format"] == "4.3bsd"
    group = record(cylinder_group("little", "4.3")).unpack(miniroot, fs.superblock.fs_cblkno * 512)
    assert group["cg_magic"] == CG_MAGIC
    assert group["cg_cs.cs_nbfree"] == wanted["cs_nbfree"] == sum(group["cg_btot"])


def test_the_block_list_of_a_genuine_file_gives_its_bytes(miniroot: bytes) -> None:
    fs = FileSystem.open(MemoryDevice(bytearray(miniroot)))
    kernel = fs.lookup("/vmunix")
    found = fs.block_list(kernel)
    data = b"".join(miniroot[run.device_offset : run.device_offset + run.length] for run in found.runs)
    assert data == fs.read(kernel, 0, found.size)
    assert found.size + found.tail == kernel.size
    assert (
        hashlib.sha256(b"".join(fs.contents(kernel))).hexdigest()
        == hashlib.sha256(fs.read(kernel, 0, kernel.size)).hexdigest()
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "dir" / "deeper").mkdir(parents=True)
    (top / "empty").write_bytes(b"")
    (top / "dir" / "large").write_bytes(bytes(range(251)) * 2000)
    (top / "dir" / "deeper" / "very large").write_bytes(bytes(range(241)) * 9000)
    for length in (1, 58, 59, 60, 61, 500):
        os.symlink("t" * length, top / f"link{length}")
    for number in range(200):
        (top / "dir" / f"a name of some length, number {number}").write_text(str(number))
    os.link(top / "empty", top / "again")
    return top


@pytest.mark.skipif(MAKEFS is None, reason="makefs is not installed (Debian package makefs)")
@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize(("bsize", "fsize"), [(4096, 512), (8192, 1024), (16384, 2048), (32768, 32768)])
def test_images_of_makefs_are_read_right(tmp_path: Path, tree: Path, order: str, bsize: int, fsize: int) -> None:
    image = tmp_path / "out.img"
    options = f"version=1,bsize={bsize},fsize={fsize}"
    assert MAKEFS is not None
    command = [MAKEFS, "-t", "ffs", "-B", order, "-o", options, "-s", "24m", str(image), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    with FileDevice(image) as device:
        fs = FileSystem.open(device)
        info = fs.info()
        assert (info["format"], info["byte_order"]) == ("ufs1", {"le": "little", "be": "big"}[order])
        assert (info["block_size"], info["fragment_size"], info["clean"]) == (bsize, fsize, True)
        found = {os.fsdecode(path): inode for path, inode in fs.walk()}
        wanted = {"/"} | {"/" + str(path.relative_to(tree)) for path in tree.rglob("*")}
        assert set(found) == wanted
        for path, inode in found.items():
            host = tree / path[1:]
            status = host.lstat()
            assert (inode.mode, inode.uid, int(status.st_mtime)) == (status.st_mode, status.st_uid, inode.mtime)
            if inode.kind == "link":
                assert fs.readlink(inode) == os.fsencode(os.readlink(host))
            elif inode.kind == "file":
                assert b"".join(fs.contents(inode)) == host.read_bytes()
                assert all(isinstance(run, Run) for run in fs.runs(inode))
        assert found["/again"] == found["/empty"]
        assert found["/again"].nlink == 2
