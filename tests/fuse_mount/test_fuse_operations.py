"""The tree as a file system, and the guard around it, without FUSE."""

from __future__ import annotations

import errno
import os
import stat
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from fuse_fakes import PAGE, SINCE, FakeKernel, FakePager, failure, fake_operations, pattern

from fuse_mount import binding
from fuse_mount.binding import BindingUnavailable, _CallableGuard, _Guard
from fuse_mount.operations import ViewOperations


@pytest.fixture
def pager() -> FakePager:
    return FakePager()


@pytest.fixture
def operations(pager: FakePager) -> ViewOperations:
    return fake_operations(pager, FakeKernel())


def everything(operations: ViewOperations, path: bytes = b"/") -> list[bytes]:
    """All paths below `path`, as find(1) would walk."""
    found = []
    for name, seen in operations.readdir(path):
        here = path.rstrip(b"/") + b"/" + name
        found.append(here)
        if stat.S_ISDIR(seen["st_mode"]) and not here.startswith(b"/odd"):
            found += everything(operations, here)
    return found


def test_numbers_are_unique_and_listings_agree_with_stat(operations: ViewOperations) -> None:
    paths = [path for path in everything(operations) if not path.startswith(b"/odd")]
    stats = {path: operations.getattr(path, None) for path in paths}
    assert len({seen["st_ino"] for seen in stats.values()}) == len(paths) > 60
    for directory in (b"/", b"/pager", b"/pager/objects", b"/kernel/tasks/1"):
        for name, listed in operations.readdir(directory):
            seen = operations.getattr(directory.rstrip(b"/") + b"/" + name, None)
            assert (listed["st_mode"], listed["st_ino"]) == (seen["st_mode"], seen["st_ino"])


def test_stat_has_owner_time_links_and_blocks(operations: ViewOperations) -> None:
    seen = operations.getattr(b"/pager/objects/7/data", None)
    assert (seen["st_size"], seen["st_blocks"], seen["st_nlink"]) == (6 * PAGE, 16, 1)
    assert (seen["st_uid"], seen["st_gid"], seen["st_mtime"]) == (os.getuid(), os.getgid(), SINCE)
    assert stat.filemode(seen["st_mode"]) == "-r--------"


def test_a_handle_keeps_its_snapshot_until_released(operations: ViewOperations, pager: FakePager) -> None:
    handle, cached = operations.open(b"/pager/objects/7/info", os.O_RDONLY)
    assert not cached
    size = operations.getattr(b"/pager/objects/7/info", handle)["st_size"]
    pager.gone = True
    assert len(operations.read(handle, 0, 1 << 20)) == size
    assert operations.getattr(b"/pager/objects/7/info", handle)["st_size"] == size
    operations.release(handle)
    assert failure(operations.read, handle, 0, 1) == errno.EBADF


def test_handles_are_never_given_twice(operations: ViewOperations) -> None:
    first, _ = operations.open(b"/README", os.O_RDONLY)
    operations.release(first)
    assert operations.open(b"/README", os.O_RDONLY)[0] != first


def test_data_may_be_cached_and_reads_at_any_offset(operations: ViewOperations) -> None:
    handle, cached = operations.open(b"/pager/objects/7/data", os.O_RDONLY)
    assert cached
    assert operations.read(handle, PAGE + 5, 10) == pattern(1)[5:15]
    assert operations.read(handle, 6 * PAGE - 1, 100) == b"\0"
    assert operations.read(handle, 99 * PAGE, 100) == b""


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_nothing_is_opened_for_writing(operations: ViewOperations, flags: int) -> None:
    assert failure(operations.open, b"/README", flags) == errno.EROFS


def test_what_is_no_file_is_not_opened_and_what_is_no_directory_not_listed(operations: ViewOperations) -> None:
    assert failure(operations.open, b"/pager", os.O_RDONLY) == errno.EISDIR
    assert failure(operations.open, b"/odd/names/link", os.O_RDONLY) == errno.ENXIO
    assert failure(lambda: list(operations.readdir(b"/README"))) == errno.ENOTDIR
    assert failure(operations.readlink, b"/README") == errno.EINVAL
    assert operations.readlink(b"/odd/names/link") == b"caf\xe9"


def test_statfs_is_the_paging_space_and_nothing_while_the_pager_is_gone(
    operations: ViewOperations, pager: FakePager
) -> None:
    seen = operations.statfs()
    assert (seen["f_bsize"], seen["f_blocks"], seen["f_bavail"]) == (PAGE, 200, 190)
    pager.gone = True
    assert operations.statfs()["f_blocks"] == 0


# The guard: what the bindings call.


@pytest.fixture
def guard(operations: ViewOperations) -> _Guard:
    return _Guard(operations, lambda: None)


@pytest.mark.parametrize("name", ["exception", "exit", "interrupt", "no_errno", "negative", "timeout"])
def test_whatever_a_node_raises_is_an_input_output_error(
    guard: _Guard, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert failure(guard.getattr, f"/odd/bad/{name}") == errno.EIO
    said = capfd.readouterr().err
    assert said.startswith("pagermount: getattr: ")
    assert said.count("\n") == 1


def test_an_errno_passes_the_guard(guard: _Guard) -> None:
    assert failure(guard.getattr, "/nowhere") == errno.ENOENT


def test_names_go_through_as_their_bytes_and_impossible_ones_stay_out(guard: _Guard) -> None:
    names = [name.encode("latin-1") for name, _, _ in guard.readdir("/odd/names", 0)]
    assert names == [b".", b"..", b"caf\xe9", "snow☃".encode(), b"link"]
    assert guard.getattr("/odd/names/caf\xe9")["st_size"] == len("latin")
    assert guard.readlink("/odd/names/link") == "caf\xe9"


def test_read_gives_bytes_and_never_more_than_asked_for() -> None:
    class Generous:
        def read(self, handle: int, offset: int, size: int) -> memoryview:
            return memoryview(b"more than was asked for")

    guard = _Guard(Generous(), lambda: None)  # type: ignore[arg-type]
    data = guard.read(None, 4, 0, SimpleNamespace(fh=1))
    assert (type(data), data) == (bytes, b"more")


def test_open_chooses_direct_io_by_file(guard: _Guard) -> None:
    for path, direct in (("/pager/info", True), ("/pager/objects/7/data", False)):
        info = SimpleNamespace(fh=0, flags=os.O_RDONLY, direct_io=None)
        guard.open(path, info)
        assert bool(info.direct_io) is direct
        assert info.fh > 0
        guard.release(path, info)


def test_every_change_is_refused_as_on_a_read_only_file_system(guard: _Guard) -> None:
    for name in binding.REFUSED:
        assert failure(getattr(guard, name), "/README", 0, 0) == errno.EROFS


def test_only_fusepys_guard_can_be_called(operations: ViewOperations) -> None:
    assert not callable(_Guard(operations, lambda: None))
    assert _CallableGuard(operations, lambda: None)("readlink", "/odd/names/link") == "caf\xe9"


# Which binding.


def test_an_unknown_binding_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGERMOUNT_BINDING", "fuse4")
    with pytest.raises(BindingUnavailable, match="fuse4: it can be mfusepy or fusepy"):
        binding.choose()


def everything_exists(path: str) -> bool:
    return True


def test_fusepy_is_refused_on_a_machine_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGERMOUNT_BINDING", "fusepy")
    monkeypatch.setattr("os.path.exists", everything_exists)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(BindingUnavailable, match="does not know riscv64 machines: pip install mfusepy"):
        binding.choose()


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OSError("Unable to find libfuse"), "^libfuse is not installed: apt-get install libfuse2 "),
        (ImportError("no"), "^mfusepy is not installed: pip install mfusepy; fusepy is not installed: "),
    ],
)
def test_what_is_missing_is_named_with_its_package_in_one_line(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, words: str
) -> None:
    def fail(name: str) -> Any:
        raise cause

    monkeypatch.delenv("PAGERMOUNT_BINDING", raising=False)
    monkeypatch.setattr("os.path.exists", everything_exists)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(BindingUnavailable, match=words) as caught:
        binding.choose()
    assert "\n" not in str(caught.value)


def test_no_dev_fuse_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: False)
    with pytest.raises(BindingUnavailable, match=r"no /dev/fuse here"):
        binding.choose()


def test_nothing_of_fuse_is_loaded_until_it_is_chosen() -> None:
    # This very process has the whole adapter, and neither binding.
    assert not {"fuse", "mfusepy"} & set(sys.modules)
