"""Which format is on a disk is found out; the rest of the system does not care (the paper, 6.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ext2_disks import Tiny

from bootfs import probe
from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.ext2 import Ext2FileSystem
from bootfs.filesystem import FileSystem
from bootfs.lookup import open_file, resolve


def ext2_image(**wrong: Any) -> bytearray:
    tiny = Tiny()
    tiny.super |= wrong
    inner = tiny.file("file", b"in an ext2")
    tiny.directory("mach_servers", [(b"paging_file", inner)])
    tiny.link("away", b"/dev/hd1a/file", fast=True)
    return tiny.build()


def test_an_ext2_is_found_and_read_by_path() -> None:
    fs = probe.open_any(MemoryDevice(ext2_image()))
    assert isinstance(fs, Ext2FileSystem)
    assert fs.info()["format"] == "ext2"
    inode = resolve(fs, "/mach_servers/paging_file")
    assert fs.read(inode, 0, inode.size) == b"in an ext2"


def test_a_file_system_that_begins_further_on_is_found_there() -> None:
    image = ext2_image()
    device = MemoryDevice(bytearray(12345) + image)
    fs = probe.open_any(device, 12345)
    (run,) = fs.runs(resolve(fs, "/file"))
    assert device.read(run.device_offset, run.length) == b"in an ext2"  # type: ignore[union-attr]
    with pytest.raises(UnknownFormat):
        probe.open_any(device)


def test_machs_open_file_takes_an_ext2_as_it_takes_an_ffs() -> None:
    devices = {"hd0a": MemoryDevice(ext2_image()), "hd1a": MemoryDevice(ext2_image())}
    found = open_file(devices, "/dev/hd0a/mach_servers/paging_file")
    assert found.inode is not None
    assert found.file_system is not None
    assert found.file_system.read(found.inode, 0, 10) == b"in an ext2"
    assert open_file(devices, "/dev/hd0a/away").device_name == "hd1a", "a link leads to another device"
    assert open_file(devices, "/dev/hd0a").is_raw


def test_what_is_no_file_system_is_refused_with_all_that_was_looked_for() -> None:
    with pytest.raises(UnknownFormat) as fault:
        probe.open_any(MemoryDevice(bytearray(1 << 17)))
    assert fault.value.code == FsCode.FS_INVALID_FS
    assert "no FFS superblock" in str(fault.value)
    assert "no ext2 superblock" in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("wrong", [{"s_log_block_size": 7}, {"s_feature_incompat": 0x80}])
def test_a_broken_ext2_is_told_as_such_though_other_formats_are_not_there(wrong: dict[str, int]) -> None:
    with pytest.raises(FileSystemError) as fault:
        probe.open_any(MemoryDevice(ext2_image(**wrong)))
    assert fault.value.place == "ext2 superblock"
    assert "FFS" not in str(fault.value)


def test_a_disk_that_fails_is_not_taken_for_another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mach's rule: a probe that fails with anything but FS_INVALID_FS is final."""
    tried = []

    def failing(code: FsCode) -> Callable[..., Any]:
        def open_it(device: object, offset: int) -> Any:
            tried.append(code)
            raise FileSystemError(code, "told", "a probe")

        return open_it

    formats = tuple(map(failing, (FsCode.FS_INVALID_FS, FsCode.D_IO_ERROR, FsCode.FS_NO_ENTRY)))
    monkeypatch.setattr(probe, "FORMATS", formats)
    with pytest.raises(FileSystemError) as fault:
        probe.open_any(MemoryDevice(ext2_image()))
    assert fault.value.code == FsCode.D_IO_ERROR
    assert tried == [FsCode.FS_INVALID_FS, FsCode.D_IO_ERROR]


def test_a_third_format_is_one_more_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Third(Ext2FileSystem):
        """Ours: an ext2 that is told by another mark."""

        @classmethod
        def open(cls, device: Any, offset: int = 0) -> Third:
            if device.read(offset, 5) != b"third":
                raise UnknownFormat("no third")
            found = super().open(device, offset)
            assert isinstance(found, cls)
            return found

    image = ext2_image()
    monkeypatch.setattr(probe, "FORMATS", (FileSystem.open, Third.open, Ext2FileSystem.open))
    assert type(probe.open_any(MemoryDevice(image))) is Ext2FileSystem
    image[:5] = b"third"
    assert type(probe.open_any(MemoryDevice(image))) is Third
