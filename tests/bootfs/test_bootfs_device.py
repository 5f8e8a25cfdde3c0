"""Devices give exactly what was asked for, or one kind of error, and never leave their bounds."""

import os
from pathlib import Path

import pytest

from bootfs.device import BlockDevice, FileDevice, MemoryDevice, SliceDevice
from bootfs.errors import FileSystemError, FsCode


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * 16)
    return path


def devices(image: Path) -> list[BlockDevice]:
    whole = FileDevice(image, writable=True)
    return [
        whole,
        MemoryDevice(bytearray(image.read_bytes())),
        SliceDevice(FileDevice(image, writable=True), 0, whole.size),
    ]


def test_all_devices_read_and_write_alike(image: Path) -> None:
    for device in devices(image):
        assert device.size == 4096
        assert device.read(250, 10) == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])
        assert device.read(4096, 0) == b""
        device.write(100, memoryview(b"hello"))
        device.sync()
        assert device.read(99, 7) == b"\x63hello\x69"
        device.close()
        device.close()


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (4096, 1), (4090, 7), (0, 4097), (0, -1), (1 << 62, 1)])
def test_nothing_outside_the_device_is_read_or_written(image: Path, offset: int, length: int) -> None:
    before = image.read_bytes()
    for device in devices(image):
        with pytest.raises(FileSystemError) as error:
            device.read(offset, length)
        assert error.value.code == FsCode.D_INVALID_SIZE
        if length > 0:
            with pytest.raises(FileSystemError):
                device.write(offset, bytes(length))
        device.close()
    assert image.read_bytes() == before


def test_a_slice_touches_only_its_part(image: Path) -> None:
    with FileDevice(image, writable=True) as whole:
        part = SliceDevice(whole, 512, 1024)
        part.write(0, b"\xaa" * 1024)
        with pytest.raises(FileSystemError):
            part.write(1020, b"12345")
        with pytest.raises(FileSystemError):
            SliceDevice(whole, 4000, 97)
    data = image.read_bytes()
    assert data[512:1536] == b"\xaa" * 1024
    assert data[:512] + data[1536:] == (bytes(range(256)) * 16)[:512] + (bytes(range(256)) * 16)[1536:]


def test_a_device_opened_for_reading_refuses_writes(image: Path) -> None:
    for device in (FileDevice(image), MemoryDevice(bytearray(4096), writable=False)):
        with pytest.raises(FileSystemError) as error:
            device.write(0, b"x")
        assert error.value.code == FsCode.D_READ_ONLY
        device.close()


def test_what_is_no_device_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "nosuch", tmp_path, fifo, "a\0b"):
        with pytest.raises(FileSystemError) as error:
            FileDevice(path)
        assert error.value.code == FsCode.D_NO_SUCH_DEVICE


def test_transfers_that_come_in_pieces_are_put_together(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread, preadv, pwrite = os.pread, os.preadv, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 100), at))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:100]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:100], at))
    with FileDevice(image, writable=True) as device:
        assert device.read(1, 1000) == (bytes(range(256)) * 16)[1:1001]
        device.write(3, b"\x11" * 777)
    assert image.read_bytes()[3:780] == b"\x11" * 777


def test_a_device_that_shrinks_or_fails_gives_an_io_error(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileDevice(image, writable=True) as device:
        os.truncate(image, 1000)
        with pytest.raises(FileSystemError) as error:
            device.read(500, 1000)
        assert error.value.code == FsCode.D_IO_ERROR

        def broken(*_: object) -> int:
            raise OSError(5, "Input/output error")

        for name in ("pread", "pwrite", "fsync"):
            monkeypatch.setattr(os, name, broken)
        for act in (lambda: device.read(0, 1), lambda: device.write(0, b"x"), device.sync):
            with pytest.raises(FileSystemError) as error:
                act()
            assert error.value.code == FsCode.D_IO_ERROR
        monkeypatch.setattr(os, "pwrite", lambda *_: 0)
        with pytest.raises(FileSystemError, match="ended"):
            device.write(0, b"x")
