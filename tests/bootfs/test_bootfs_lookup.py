"""Paths lead where Mach's open_file leads, with its error numbers; for commands the rules are milder."""

import pytest
from ffs_builder import Builder

from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.lookup import as_bytes, mach_mount, open_file, shown


@pytest.fixture
def devices(builder: Builder) -> dict[str, MemoryDevice]:
    """hd0a: files, links, chains of links; hd1a: another file system."""
    inner = builder.file(None, b"deep")
    builder.directory("mach_servers", [(b"paging_file", inner)])
    builder.file("file", b"contents")
    builder.file("a" * 255, b"longest")
    builder.link("relative", "mach_servers/paging_file")
    builder.link("absolute", "/mach_servers/paging_file")
    builder.link("to_dir", "mach_servers")
    builder.link("other", "/dev/hd1a/there")
    builder.link("other_dir", "/dev/hd1a/sub")
    builder.link("raw", "/dev/hd1a")
    builder.link("nowhere", "/dev/hd9/x")
    builder.link("self", "self")
    builder.link("long", "x" * 1000)
    up = builder.link(None, "../file")
    same = builder.link(None, "paging_file")
    builder.directory("links", [(b"up", up), (b"same", same), (b"paging_file", inner)])
    builder.link("chain0", "file")
    for number in range(1, 40):
        builder.link(f"chain{number}", f"chain{number - 1}")
    second = Builder(builder.order, builder.variant)
    second.file("there", b"on the other disk")
    second.directory("sub", [(b"back", second.link(None, "/dev/hd0a/file"))])
    return {"hd0a": builder.device(), "hd1a": second.device()}


@pytest.mark.parametrize(
    ("path", "contents"),
    [
        ("/dev/hd0a/file", b"contents"),
        ("/dev/hd0a//mach_servers///paging_file", b"deep"),
        ("/dev/hd0a/mach_servers/../mach_servers/./paging_file", b"deep"),
        ("/dev/hd0a/relative", b"deep"),
        ("/dev/hd0a/absolute", b"deep"),
        ("/dev/hd0a/to_dir/paging_file", b"deep"),
        ("/dev/hd0a/links/up", b"contents"),
        ("/dev/hd0a/links/same", b"deep"),
        ("/dev/hd0a/other", b"on the other disk"),
        ("/dev/hd0a/other_dir/back", b"contents"),
        ("/dev/hd0a/chain7", b"contents"),
        ("/dev/hd0a/" + "a" * 255, b"longest"),
    ],
)
def test_a_path_leads_to_its_file(devices: dict[str, MemoryDevice], path: str, contents: bytes) -> None:
    found = open_file(devices, path)
    assert found.file_system is not None
    assert found.inode is not None
    assert found.file_system.read(found.inode, 0, len(contents)) == contents
    assert found.device is devices[found.device_name]
    assert open_file(devices, path.encode()).inode == found.inode


@pytest.mark.parametrize(("path", "name"), [("/dev/hd0a", "hd0a"), ("/dev/hd0a/raw", "hd1a")])
def test_a_device_alone_is_the_raw_device(devices: dict[str, MemoryDevice], path: str, name: str) -> None:
    found = open_file(devices, path)
    assert (found.device_name, found.is_raw, found.file_system) == (name, True, None)
    assert found.device is devices[name]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", FsCode.FS_NO_ENTRY),
        ("mach_servers/x", FsCode.FS_NO_ENTRY),
        ("/mach_servers/x", FsCode.FS_NO_ENTRY),
        ("/dev", FsCode.FS_NO_ENTRY),
        ("/dev/", FsCode.D_NO_SUCH_DEVICE),
        ("/dev//file", FsCode.D_NO_SUCH_DEVICE),
        ("/dev/nosuch", FsCode.D_NO_SUCH_DEVICE),
        ("/dev/nosuch/x", FsCode.D_NO_SUCH_DEVICE),
        ("/dev/hd0a/nowhere", FsCode.D_NO_SUCH_DEVICE),
        ("/dev/hd0a/", FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/mach_servers/", FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/to_dir/", FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/other_dir/", FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/nothere", FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/File", FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/file/x", FsCode.FS_NOT_DIRECTORY),
        ("/dev/hd0a/file/", FsCode.FS_NOT_DIRECTORY),
        ("/dev/hd0a/" + "n" * 256, FsCode.FS_NO_ENTRY),
        ("/dev/hd0a/" + "n" * 257, FsCode.FS_NAME_TOO_LONG),
        ("/dev/hd0a/" + "n/" * 600, FsCode.FS_NAME_TOO_LONG),
        (b"/dev/hd0a/\x80", FsCode.FS_INVALID_PARAMETER),
        (b"/dev/hd0a/abc\xffd", FsCode.FS_INVALID_PARAMETER),
        (b"/dev/hd0a/" + b"n" * 255 + b"\x80" + b"n", FsCode.FS_INVALID_PARAMETER),
        (b"/dev/hd0a/" + b"n" * 256 + b"\x80", FsCode.FS_NAME_TOO_LONG),
        ("/dev/hd0a/chain8", FsCode.FS_SYMLINK_LOOP),
        ("/dev/hd0a/self", FsCode.FS_SYMLINK_LOOP),
        ("/dev/hd0a/long/" + "y" * 50, FsCode.FS_NAME_TOO_LONG),
    ],
)
def test_a_bad_path_gives_machs_number(devices: dict[str, MemoryDevice], path: str | bytes, code: FsCode) -> None:
    """mach.md 8.31."""
    with pytest.raises(FileSystemError) as error:
        open_file(devices, path)
    assert error.value.code == code


@pytest.mark.parametrize(("bsize", "fsize"), [(16384, 2048), (65536, 8192)])
def test_mach_takes_blocks_up_to_8_kib_only(bsize: int, fsize: int) -> None:
    """mach.md 8.32: 5004 as in Mach for whoever asks as Mach does; otherwise they are read."""
    builder = Builder(bsize=bsize, fsize=fsize, size=(4 << 20) // fsize)
    builder.file("file", b"contents")
    devices = {"hd0a": builder.device()}
    assert open_file(devices, "/dev/hd0a/file").inode
    with pytest.raises(FileSystemError) as error:
        open_file(devices, "/dev/hd0a/file", mach_mount)
    assert error.value.code == FsCode.FS_INVALID_FS


def test_mach_takes_its_own_format(devices: dict[str, MemoryDevice], builder: Builder) -> None:
    if builder.variant == "ufs2":
        with pytest.raises(FileSystemError, match="superblock at byte 8192"):
            open_file(devices, "/dev/hd0a/file", mach_mount)
        return
    assert open_file(devices, "/dev/hd0a/file", mach_mount).inode


def test_a_device_without_a_file_system_is_invalid() -> None:
    devices = {"hd0a": MemoryDevice(bytearray(100_000))}
    assert open_file(devices, "/dev/hd0a").is_raw
    with pytest.raises(FileSystemError) as error:
        open_file(devices, "/dev/hd0a/x")
    assert error.value.code == FsCode.FS_INVALID_FS


@pytest.mark.parametrize("path", ["/", "", "//", ".", "/..", "/mach_servers/..", "/to_dir/.."])
def test_commands_find_the_root(devices: dict[str, MemoryDevice], path: str) -> None:
    from bootfs.filesystem import FileSystem

    assert FileSystem.open(devices["hd0a"]).lookup(path).ino == 2


def test_commands_follow_more_links_and_take_any_bytes(builder: Builder) -> None:
    builder.file(b"caf\xe9 \x01", b"x")
    builder.file("file", b"x")
    builder.link("chain0", "file")
    for number in range(1, 40):
        builder.link(f"chain{number}", f"chain{number - 1}")
    builder.directory("dir", [])
    builder.link("to_dir", "dir")
    fs = builder.mount()
    assert fs.lookup(b"/caf\xe9 \x01").size == 1
    assert fs.lookup("/caf\udce9 \x01").size == 1
    assert fs.lookup("/chain31").kind == "file"
    assert fs.lookup("/chain31", follow=False).kind == "link"
    assert fs.lookup("/dir/").kind == fs.lookup("to_dir/", follow=False).kind == "dir"
    for path, code in {
        "/chain32": FsCode.FS_SYMLINK_LOOP,
        "/file/": FsCode.FS_NOT_DIRECTORY,
        "/file/x": FsCode.FS_NOT_DIRECTORY,
        "/nothere": FsCode.FS_NO_ENTRY,
        "/" + "n" * 256: FsCode.FS_NAME_TOO_LONG,
        "/a\0b": FsCode.FS_INVALID_PARAMETER,
        "/\ud800": FsCode.FS_INVALID_PARAMETER,
    }.items():
        with pytest.raises(FileSystemError) as error:
            fs.lookup(path)
        assert error.value.code == code, path


def test_names_survive_as_text() -> None:
    every = bytes(range(1, 256)).replace(b"/", b"")
    assert as_bytes(shown(every)) == every
