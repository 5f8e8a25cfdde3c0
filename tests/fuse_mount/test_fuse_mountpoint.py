"""Mount points, told from a list like the kernel's own; nothing is mounted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fuse_mount import mountpoint
from fuse_mount.mountpoint import MountPointError

LINE = "36 35 0:39 / {} rw,relatime shared:1 master:2 - {} pagerd rw,user_id=0\n"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of mounts, empty."""
    path = tmp_path / "mountinfo"
    path.write_text("")
    monkeypatch.setattr(mountpoint, "MOUNTINFO", str(path))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "a b"
    path.mkdir()
    return path


def listed(mounts: Path, path: Path, kind: str) -> None:
    with mounts.open("a") as file:
        file.write(LINE.format(str(path).replace(" ", "\\040"), kind))


def test_the_topmost_mount_of_exactly_that_name_is_found(mounts: Path, place: Path) -> None:
    listed(mounts, place.parent, "ext4")
    assert mountpoint.mounted_at(str(place)) is None
    listed(mounts, place, "tmpfs")
    listed(mounts, place, "fuse.pagermount")
    assert mountpoint.mounted_at(str(place)) == "fuse.pagermount"


def test_a_free_directory_will_do_even_if_it_is_not_empty(mounts: Path, place: Path) -> None:
    (place / "something").touch()
    mountpoint.check(str(place), replace_stale=False)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("fuse.pagermount", "already mounted .*pagermount --unmount"), ("tmpfs", "tmpfs is mounted there")],
)
def test_a_busy_one_is_refused(mounts: Path, place: Path, kind: str, words: str) -> None:
    listed(mounts, place, kind)
    with pytest.raises(MountPointError, match=words):
        mountpoint.check(str(place), replace_stale=True)


def test_what_is_no_directory_or_not_there_is_refused(mounts: Path, place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(MountPointError, match="not a directory"):
        mountpoint.check(str(place / "file"), replace_stale=False)
    with pytest.raises(MountPointError, match=r"mkdir -p '.*none'"):
        mountpoint.check(str(place / "none"), replace_stale=False)


def test_a_stale_mount_is_refused_with_the_command_that_removes_it(
    mounts: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(mounts, place, "fuse.pagermount")

    def dead(path: str) -> os.stat_result:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", dead)
        patch.setattr("shutil.which", lambda name: name if name == "fusermount3" else None)
        with pytest.raises(MountPointError, match=r"stale mount .*: fusermount3 -u '.*a b'  or use --replace-stale"):
            mountpoint.check(str(place), replace_stale=False)


def test_only_a_fuse_mount_is_unmounted(mounts: Path, place: Path) -> None:
    with pytest.raises(MountPointError, match="nothing is mounted there"):
        mountpoint.unmount(str(place))
    listed(mounts, place, "ext4")
    with pytest.raises(MountPointError, match="ext4 is mounted there, no FUSE"):
        mountpoint.unmount(str(place))


def test_a_link_to_a_mount_point_is_resolved_and_a_mounted_name_is_not_asked(mounts: Path, place: Path) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    assert mountpoint.resolve(str(link)) == str(place)
    listed(mounts, link, "fuse.dead")
    assert mountpoint.resolve(str(link)) == str(link)
