"""What others say of our disks: the fsck and kernel of June 1986, and Linux's driver. A run takes some ten seconds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT, SHARED
from whole_disk import manifest_of

ORACLE = SHARED / "oracles" / "bsd43"
Seen = Callable[[str, Path], dict[str, Any]]
DATA = Path(os.environ.get("BSD43_CACHE") or Path.home() / ".cache" / "bsd43-oracle") / "data"

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


def mkpagingfile(*words: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "disktools.mkpagingfile", *map(str, words)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def judged(image: Path, *words: str) -> dict[str, Any]:
    """The guest's manifest. fsck must be clean, and again after the genuine kernel wrote and removed files."""
    guest = image.with_suffix(".json")
    done = subprocess.run(
        [sys.executable, ORACLE / "oracle.py", image, "--manifest", guest, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "PROBLEM" in line) + done.stderr
    assert "verdict: CLEAN" in done.stdout
    found: dict[str, Any] = json.loads(guest.read_text())
    return found


def same_by_name(image: Path, guest: dict[str, Any]) -> None:
    """Every name that the guest lists, its inode and links, and every content that its tar brought out."""
    ours = manifest_of(image)
    compared = subprocess.run(
        [sys.executable, ORACLE / "compare.py", image, image.with_suffix(".json")], capture_output=True, text=True
    )
    assert compared.returncode == 0, compared.stdout
    contents = {one["path"]: one.get("sha256") for one in guest["files"] if one["type"] == "file"}
    assert contents
    for path, content in contents.items():
        assert ours[path]["sha256"] == content, path


def test_the_genuine_fsck_and_kernel_accept_a_new_disk(genuine: None, tmp_path: Path) -> None:
    image = tmp_path / "d.img"
    mkpagingfile(image, "--size", "64M", "--paging-size", "32M", "--from", ROOT / "fixtures" / "tree")
    same_by_name(image, judged(image, "--write-test"))


def test_the_genuine_fsck_and_kernel_accept_their_own_miniroot_with_a_paging_file(
    genuine: None, tmp_path: Path, miniroot: bytes
) -> None:
    image = tmp_path / "miniroot.img"
    image.write_bytes(miniroot)
    mkpagingfile(image, "--paging-size", "256K")
    same_by_name(image, judged(image, "--write-test"))


@pytest.mark.parametrize("recipe", ["with_tree", "big_endian"])
def test_linux_reads_the_same_tree(linux_ufs: Seen, tmp_path: Path, recipe: str) -> None:
    from fixtures.disks import RECIPES

    image = tmp_path / f"{recipe}.img"
    RECIPES[recipe](image)
    same_in_linux(linux_ufs, "old", image)


@pytest.mark.parametrize("words", ["ufs1 little 8192", "ufs1 big 4096", "ufs2 little 32768", "ufs2 big 16384"])
def test_linux_reads_later_formats_the_same(linux_ufs: Seen, tmp_path: Path, tree: Path, words: str) -> None:
    """A new disk, to which a second paging file was added."""
    kind, order, block = words.split()
    image = tmp_path / "disk.img"
    sizes = ("--size", "24M", "--paging-size", "4M", "--block-size", block)
    mkpagingfile(image, "--format", kind, "--byte-order", order, *sizes, "--from", tree)
    mkpagingfile(image, "--paging-size", "3M", "--path", "/second/file")
    same_in_linux(linux_ufs, "44bsd" if kind == "ufs1" else kind, image)


def same_in_linux(seen: Seen, kind: str, image: Path) -> None:
    """Every name, fact and content that Linux's driver sees."""
    theirs = seen(kind, image)
    ours = manifest_of(image)
    assert set(theirs) == set(ours)
    for path, facts in theirs.items():
        assert {key: ours[path].get(key) for key in facts} == facts, path
    paging = theirs["/mach_servers/paging_file"]
    assert hashlib.sha256(bytes(paging["size"])).hexdigest() == paging["sha256"]


def test_the_genuine_fsck_accepts_a_disk_that_a_machine_has_booted_from_and_paged_on(
    genuine: None, tmp_path: Path
) -> None:
    """P1: nothing but the content of the paging file has changed."""
    image, machsim = tmp_path / "d.img", [sys.executable, "-c", "from kernel.machsim import main; main()"]
    makeboot = [sys.executable, "-m", "disktools.makeboot", "-o", tmp_path / "mach.boot"]
    for command in (
        [*machsim, "images", tmp_path],
        [*makeboot, tmp_path / "mach_kernel", tmp_path / "bootstrap"],
    ):
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    mkpagingfile(image, "--size", "32M", "--paging-size", "8M", "--from", tmp_path / "tree")
    boot = [*machsim, "boot", tmp_path / "mach.boot", "--disk", image, "--memory", "3M"]
    console = subprocess.run(list(map(str, boot)), cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "every byte is right" in console
    same_by_name(image, judged(image))
