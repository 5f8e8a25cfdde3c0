"""The view through a real mount, with both bindings; the server is a process of its own, with fakes behind it."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from fuse_fakes import HIGH, PAGE, failure, pattern
from serving import HERE, SECONDS, Mounted, Start, run, why_no_fuse

from fuse_mount.mountpoint import MountPointError, check, mounted_at, unmount

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.timeout(60),
    pytest.mark.skipif(why_no_fuse() is not None, reason=str(why_no_fuse())),
]


def listed(path: Path) -> set[bytes]:
    return set(os.listdir(os.fsencode(path)))


def test_ls_r_and_cat_see_the_whole_view(shared: Path) -> None:
    names = subprocess.run(["ls", "-R", "."], cwd=shared, capture_output=True, timeout=SECONDS, check=True).stdout
    for name in (b"README", b"./pager/objects/7:", b"./kernel/tasks/1:", b"memory", b"map.json"):
        assert name in names.splitlines()
    shown = subprocess.run(
        ["cat", "pager/info", "pager/objects/7/pages"],
        cwd=shared,
        capture_output=True,
        timeout=SECONDS,
        check=True,
    ).stdout
    assert b"page size    4096\n" in shown
    assert shown.count(b"idle\n") == 2


def test_a_data_file_is_sparse_readable_and_can_be_mapped(shared: Path) -> None:
    path = shared / "pager/objects/7/data"
    seen = path.stat()
    assert (seen.st_size, seen.st_blocks) == (6 * PAGE, 2 * PAGE // 512)
    assert path.read_bytes()[4 * PAGE : 5 * PAGE] == pattern(4)
    with path.open("rb") as file:
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ) as mapped:
                assert mapped[PAGE : 2 * PAGE] == pattern(1)
                assert mapped[:PAGE] == bytes(PAGE)


def test_memory_is_read_at_its_addresses(shared: Path) -> None:
    descriptor = os.open(shared / "kernel/tasks/1/memory", os.O_RDONLY)
    try:
        assert os.fstat(descriptor).st_size == HIGH + PAGE
        assert os.pread(descriptor, PAGE, HIGH) == pattern(HIGH // PAGE)
        assert os.pread(descriptor, 16, 1 << 40) == bytes(16)
    finally:
        os.close(descriptor)


def test_names_are_bytes(shared: Path) -> None:
    names = shared / "odd/names"
    assert listed(names) == {b"caf\xe9", "snow☃".encode(), b"link"}
    assert os.readlink(os.fsencode(names) + b"/link") == b"caf\xe9"
    with open(os.fsencode(names) + b"/link", "rb") as file:
        assert file.read() == b"latin"


def test_whatever_a_node_raises_the_reader_gets_an_input_output_error_and_the_mount_lives(shared: Path) -> None:
    for name in ("exception", "exit", "interrupt", "no_errno", "negative", "timeout"):
        assert failure(os.stat, shared / "odd/bad" / name) == errno.EIO
        assert b"README" in listed(shared)


def test_a_source_that_gives_too_little_is_an_error_and_one_that_gives_a_buffer_is_read(shared: Path) -> None:
    assert failure((shared / "odd/bad/short").read_bytes) == errno.EIO
    assert (shared / "odd/bad/buffer").read_bytes() == b"bytes"


def test_nothing_can_be_written(shared: Path) -> None:
    assert failure(os.open, shared / "README", os.O_WRONLY) == errno.EROFS
    assert failure(os.mkdir, shared / "new") == errno.EROFS
    assert failure(os.unlink, shared / "README") == errno.EROFS
    assert failure(os.open, shared / "new", os.O_CREAT | os.O_WRONLY) == errno.EROFS


def test_df_shows_the_paging_space(shared: Path) -> None:
    seen = os.statvfs(shared)
    assert (seen.f_frsize, seen.f_blocks, seen.f_bavail) == (PAGE, 200, 190)


def test_every_file_has_its_own_number_in_listings_and_in_stat(shared: Path) -> None:
    with os.scandir(shared / "pager") as entries:
        numbers = {entry.inode(): entry.stat(follow_symlinks=False).st_ino for entry in entries}
    assert len(numbers) == 6
    assert all(listed == seen for listed, seen in numbers.items())


def test_a_clean_unmount_ends_the_server_with_0_and_leaves_nothing(mounted: Mounted) -> None:
    unmount(str(mounted.path))
    assert mounted.end() == (0, b"")
    assert mounted_at(str(mounted.path)) is None
    assert listed(mounted.path) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_and_ends_with_0(mounted: Mounted, number: signal.Signals) -> None:
    mounted.server.send_signal(number)
    assert mounted.end() == (0, b"")
    assert mounted_at(str(mounted.path)) is None


def test_a_signal_while_a_file_is_open_detaches_and_serves_it_to_its_end(mounted: Mounted) -> None:
    with (mounted.path / "pager/objects/7/data").open("rb") as file:
        mounted.server.send_signal(signal.SIGTERM)
        while mounted_at(str(mounted.path)) is not None:  # at once; its end is the test's timeout
            pass
        assert listed(mounted.path) == set()
        assert file.read()[PAGE : 2 * PAGE] == pattern(1)
        assert mounted.server.poll() is None
    assert mounted.end() == (0, b"")


def test_a_second_signal_ends_it_there_and_then(mounted: Mounted) -> None:
    descriptor = os.open(mounted.path / "pager/objects/7/data", os.O_RDONLY)
    mounted.server.send_signal(signal.SIGTERM)
    while mounted_at(str(mounted.path)) is not None:
        pass
    mounted.server.send_signal(signal.SIGTERM)
    assert mounted.end() == (0, b"")
    assert failure(os.read, descriptor, 1) == errno.ENOTCONN
    assert failure(os.close, descriptor) == errno.ENOTCONN


def test_an_unmount_while_in_use_says_so(mounted: Mounted) -> None:
    with (mounted.path / "README").open("rb"), pytest.raises(MountPointError, match="it is in use; leave it"):
        unmount(str(mounted.path))
    unmount(str(mounted.path))


def test_a_stale_mount_is_known_for_one_and_can_be_replaced(mounted: Mounted, start: Start, binding: str) -> None:
    mounted.server.kill()
    mounted.server.wait(timeout=SECONDS)
    assert failure(os.stat, mounted.path) == errno.ENOTCONN
    again = run(str(HERE / "fuse_fakes.py"), str(mounted.path), binding=binding)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "stale mount (Transport endpoint is not connected" in again.stderr
    check(str(mounted.path), replace_stale=True)
    assert b"README" in listed(start(binding=binding).path)


def test_a_mount_point_in_use_is_refused(mounted: Mounted, binding: str) -> None:
    again = run(str(HERE / "fuse_fakes.py"), str(mounted.path), binding=binding)
    assert (again.returncode, "already mounted" in again.stderr) == (1, True)
    assert b"README" in listed(mounted.path)


def test_in_the_background_the_caller_goes_on_when_the_mount_can_be_used(place: Path, binding: str) -> None:
    alive, held = os.pipe()  # the server holds one end: its end of file is the server's end
    started = run(str(HERE / "fuse_fakes.py"), str(place), binding=binding, pass_fds=(held,))
    os.close(held)
    assert (started.returncode, started.stderr) == (0, "")
    assert b"README" in listed(place)
    assert stat.S_ISDIR(os.stat(place / "pager/objects/7").st_mode)
    unmount(str(place))
    with open(alive, "rb") as server:
        assert server.read() == b""
    assert listed(place) == set()
