"""Sound disks to be checked, one of each format and byte order, and the genuine one."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
for place in (ROOT, Path(__file__).parent):  # for fixtures.disks and damage, which are not installed
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from bootfs.geometry import cgtod, fsbtobyte  # noqa: E402
from bootfs.layout import cylinder_group  # noqa: E402
from bootfs.layout_format import record  # noqa: E402
from disktools.geometry_plan import DiskGeometry  # noqa: E402
from disktools.newfs import NewFileSystem  # noqa: E402
from fixtures.disks import make_disk  # noqa: E402

MIB = 1 << 20
DISKS = ("miniroot", *(f"{name}-{order}" for name in ("4.3bsd", "ufs1", "ufs2") for order in ("little", "big")))


def grow_tree(top: Path) -> Path:
    """A tree with what the damages want: names of the miniroot, two entries and more in a directory."""
    for name in ("bin", "etc", "a", "dev"):
        (top / name).mkdir(parents=True)
    (top / "xtr").write_bytes(b"x" * 1500)
    (top / "boot").write_bytes(b"b" * 9000)
    (top / "vmunix").write_bytes(bytes(range(1, 256)) * 1000)
    for name in ("adb", "cat", "echo"):
        (top / "bin" / name).write_bytes(name.encode() * 300)
    (top / "etc" / "passwd").write_bytes(b"root::0:0:::\n")
    (top / "a" / "link").symlink_to("../xtr")
    (top / "a" / "long").symlink_to("/".join(["0123456789"] * 20))
    (top / "a" / "hard").hardlink_to(top / "xtr")
    (top / "a" / "hard").unlink()
    return top


@cache
def pristine(name: str) -> bytes:
    """The disk of that name, sound. Skips where the genuine one is not there."""
    if name == "miniroot":
        packed = SHARED / "disks" / "43bsd-miniroot.img.gz"
        if not packed.exists():
            pytest.skip("the genuine miniroot is not beside this tree (../shared/disks)")
        return gzip.decompress(packed.read_bytes())
    kind, order = name.split("-")
    more: dict[str, Any] = {"format": kind, "byte_order": order}
    more |= {"geometry": DiskGeometry(16, 8, 16)} if kind == "4.3bsd" else {"group_blocks": 512}
    with TemporaryDirectory() as directory:
        image = Path(directory) / "disk.img"
        make_disk(image, NewFileSystem(4 * MIB, 4096, 512, **more), 256 << 10, grow_tree(Path(directory) / "tree"))
        data = bytearray(image.read_bytes())
    return bytes(_with_rotation(data) if kind == "ufs1" else data)


def _with_rotation(data: bytearray) -> bytearray:
    """UFS1 as 4.4BSD kept it: with counts by rotation (one cylinder and position a group), and no FS_FLAGS_UPDATED."""
    from damage import Patient

    patient = Patient(data)
    assert patient.get(*patient.sb, "fs_cpg") == 1
    assert patient.get(*patient.sb, "fs_nrpos") == 1
    patient.put(*patient.sb, "fs_flags", 0)
    order = ">" if patient.fs.byte_order == "big" else "<"
    layout = record(cylinder_group(patient.fs.byte_order, "4.4"))
    for cg in range(patient.fs.fs_ncg):
        base = fsbtobyte(patient.fs, cgtod(patient.fs, cg))
        free = patient.get(layout, base, "cg_cs.cs_nbfree")
        struct.pack_into(order + "i", patient.data, base + patient.get(layout, base, "cg_btotoff"), free)
        struct.pack_into(order + "h", patient.data, base + patient.get(layout, base, "cg_boff"), free)
    return patient.data


@cache
def freebsd() -> bytes:
    """A disk by FreeBSD's newfs and kernel: check hashes, extended attributes, a sparse file of 512 GiB."""
    packed = SHARED / "disks" / "freebsd-ufs2-little.img.zst"
    zstd = shutil.which("zstd")
    if not packed.exists() or zstd is None:
        pytest.skip("no zstd, or the FreeBSD disk is not beside this tree (../shared/disks)")
    return subprocess.run([zstd, "-dqc", packed], check=True, capture_output=True).stdout
