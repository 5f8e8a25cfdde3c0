"""ext2 disks made by the real mke2fs and debugfs, read right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ext2_disks import Tiny, consistent, debugfs, debugfs_blocks, mke2fs, mount, needs_e2fsprogs, tool, whole

from bootfs.blocklist import Hole
from bootfs.errors import FileSystemError, FsCode

pytestmark = needs_e2fsprogs
VARIANTS = {
    "1 KiB": ("-t", "ext2", "-b", "1024"),
    "2 KiB": ("-t", "ext2", "-b", "2048"),
    "4 KiB": ("-t", "ext2", "-b", "4096"),
    "inodes of 128 bytes": ("-t", "ext2", "-b", "1024", "-I", "128"),
    "inodes of 1024 bytes": ("-t", "ext2", "-b", "4096", "-I", "1024"),
    "revision 0": ("-t", "ext2", "-r", "0", "-b", "1024"),
    "no file types, a superblock in every group": (
        *("-t", "ext2", "-b", "1024", "-g", "1024"),
        *("-O", "^filetype,^sparse_super,^resize_inode,^dir_index"),
    ),
    "many small groups": ("-t", "ext2", "-b", "1024", "-g", "512"),
    "sparse_super2": ("-t", "ext2", "-b", "1024", "-g", "1024", "-O", "sparse_super2,^resize_inode"),
    "ext3": ("-t", "ext3", "-b", "1024"),
    "ext4 without what ext2 has not": ("-t", "ext4", "-b", "1024", "-O", "^extent,^64bit,^flex_bg"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("tree")
    (top / "dir" / "inner").mkdir(parents=True)
    (top / "dir" / "hello").write_bytes(b"hello\n")
    (top / "dir" / "inner" / "empty").write_bytes(b"")
    (top / "large").write_bytes(bytes(range(256)) * 3000 + b"tail")
    os.link(top / "large", top / "dir" / "again")
    for length in (1, 59, 60, 61, 900):
        (top / f"link{length}").symlink_to(("./" * 500 + "dir/hello")[-length:])
    name = os.fsencode(top) + b"/caf\xe9"
    with open(name, "wb") as file:
        file.write(b"latin 1")
    (top / "many").mkdir()
    for number in range(300):
        (top / "many" / f"a name of some length, number {number}").touch()
    os.utime(top / "dir" / "hello", (1000000000, 1111111111))
    os.chmod(top / "dir" / "hello", 0o640)
    return top


@pytest.fixture(scope="module", params=VARIANTS)
def disk(request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("disk") / "image"
    return mke2fs(image, "8M", *VARIANTS[request.param], tree=tree)


def test_every_name_and_content_of_the_tree_is_there(disk: Path, tree: Path) -> None:
    fs = mount(disk)
    found = {path: inode for path, inode in fs.walk() if not path.startswith(b"/lost+found")}
    expected = {b"/"} | {
        b"/" + os.path.relpath(os.path.join(top, name), os.fsencode(tree))
        for top, dirs, files in os.walk(os.fsencode(tree))
        for name in dirs + files
    }
    assert set(found) == expected
    for path, inode in found.items():
        there = os.fsencode(tree) + path
        status = os.lstat(there)
        if path != b"/":  # which mke2fs makes itself
            assert (inode.mode, inode.mtime) == (status.st_mode, int(status.st_mtime)), path
        if inode.kind == "file":
            with open(there, "rb") as file:
                assert whole(fs, inode) == file.read(), path
        elif inode.kind == "link":
            assert fs.readlink(inode) == os.readlink(there), path


def test_a_hard_link_is_one_inode(disk: Path) -> None:
    fs = mount(disk)
    assert fs.lookup("/large").ino == fs.lookup("/dir/again").ino
    assert fs.lookup("/large").nlink == 2


def test_block_lists_are_those_of_debugfs(disk: Path) -> None:
    fs = mount(disk)
    blocks = fs.block_list(fs.lookup("/large"))
    assert blocks.size == 768004 // fs.block_size * fs.block_size
    assert blocks.tail == 768004 % fs.block_size
    places = [
        run.device_offset // fs.block_size + index
        for run in blocks.runs
        for index in range(run.length // fs.block_size)
    ]
    assert places == debugfs_blocks(disk, "/large")[: len(places)]


def test_info_says_what_the_superblock_says(disk: Path) -> None:
    info = mount(disk).info()
    said = dict(line.split(":", 1) for line in tool("dumpe2fs", "-h", disk).splitlines() if ":" in line)
    assert info["format"] == "ext2"
    assert info["byte_order"] == "little"
    assert info["block_size"] == info["fragment_size"] == int(said["Block size"])
    assert info["fragments"] == int(said["Block count"])
    assert info["inodes"] == int(said["Inode count"])
    assert info["free_blocks"] == int(said["Free blocks"])
    assert info["free_inodes"] == int(said["Free inodes"])
    assert info["clean"] is True
    assert info["cylinder_groups"] == tool("dumpe2fs", disk).count("\nGroup ")


def edges(n: int) -> list[int]:
    """Blocks of a file on either side of where each level begins, if a block holds `n` pointers."""
    return [0, 11, 12, 13, n + 11, n + 12, n + 13, 2 * n + 11, 2 * n + 12, *(n * n + n + at for at in (11, 12, 13))]


def marked(block: int, size: int) -> bytes:
    return block.to_bytes(8, "big") * (size // 8)


@pytest.mark.parametrize("block_size", [1024, 2048, 4096])
def test_blocks_at_each_level_of_pointers_and_the_holes_between(tmp_path: Path, block_size: int) -> None:
    places = edges(block_size // 4)
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree" / "sparse", "wb") as file:
        for place in places[1:]:
            file.seek(place * block_size)
            file.write(marked(place, block_size))
        file.truncate((places[-1] + 3) * block_size)
        file.seek(0)
        file.write(b"first")
    image = mke2fs(tmp_path / "image", "4M", "-t", "ext2", "-b", str(block_size), tree=tmp_path / "tree")
    fs = mount(image)
    inode = fs.lookup("/sparse")
    assert inode.size == (places[-1] + 3) * block_size
    full: list[int] = []
    for run in fs.runs(inode):
        first, count = run.file_offset // block_size, run.length // block_size
        full += [] if isinstance(run, Hole) else range(first, first + count)
    assert full == places

    def expected(block: int) -> bytes:
        text = b"first" if block == 0 else marked(block, block_size) if block in places else b""
        return text.ljust(block_size, b"\0")

    for place in places:
        for at in {max(place - 1, 0), place, place + 1}:
            assert fs.read(inode, at * block_size, block_size) == expected(at)
        across = b"".join(expected(at) for at in range(place, place + 3))
        assert fs.read(inode, place * block_size + 100, 2 * block_size + 50) == across[100 : 2 * block_size + 150]


def test_a_file_of_more_than_4_gib_has_its_whole_size(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree" / "huge", "wb") as file:
        file.seek(5 << 30)
        file.write(b"the end")
    fs = mount(mke2fs(tmp_path / "image", "4M", "-t", "ext2", "-b", "1024", tree=tmp_path / "tree"))
    inode = fs.lookup("/huge")
    assert inode.size == (5 << 30) + 7
    assert fs.read(inode, (5 << 30) - 3, 10) == b"\0\0\0the end"
    with pytest.raises(FileSystemError, match="a hole of 5368709120 bytes at file offset 0"):
        fs.block_list(inode)


def test_a_directory_with_an_index_is_listed_like_another(tmp_path: Path, tree: Path) -> None:
    image = mke2fs(tmp_path / "image", "8M", "-t", "ext2", "-b", "1024", tree=tree)
    tool("e2fsck", "-f", "-y", "-D", image, status=None)  # 0 or 1, by version: it changed something
    assert "Flags: 0x1000" in debugfs(image, "stat /many")
    fs = mount(image)
    assert {name for name, _ in fs.listdir(fs.lookup("/many"))} == set(os.listdir(os.fsencode(tree / "many")))
    assert fs.lookup("/many/a name of some length, number 299").kind == "file"


def test_devices_owners_and_links_with_attributes(tmp_path: Path) -> None:
    image = mke2fs(tmp_path / "image", "2M", "-t", "ext2", "-b", "1024", "-I", "128")
    (tmp_path / "value").write_bytes(b"v" * 200)
    debugfs(
        image,
        "mknod tty c 4 64",
        "mknod pipe p",
        "symlink short /some/where",
        f"ea_set -f {tmp_path / 'value'} short user.test",
        "sif tty uid 70000",
        "sif tty gid 80000",
        write=True,
    )
    fs = mount(image)
    tty = fs.lookup("/tty")
    assert (tty.kind, tty.rdev, tty.uid, tty.gid) == ("other", (4, 64), 70000, 80000)
    assert fs.lookup("/pipe").rdev is None
    short = fs.lookup("/short", follow=False)
    assert short.details.blocks == 2, "its attributes take a block"
    assert fs.readlink(short) == b"/some/where"
    with pytest.raises(FileSystemError) as fault:
        fs.read(tty, 0, 1)
    assert fault.value.code == FsCode.FS_INVALID_PARAMETER


def test_device_numbers_beyond_16_bits() -> None:
    tiny = Tiny()
    tiny.node("wide", 0o060600, 0, (0, 259 << 8 | 70000 & 0xFF | (70000 & 0xFFF00) << 12))
    assert tiny.mount().lookup("/wide").rdev == (259, 70000)


def test_a_deleted_file_is_not_there_and_the_rest_is(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(disk.read_bytes())
    debugfs(image, "rm /dir/hello", write=True)
    fs = mount(image)
    with pytest.raises(FileSystemError) as fault:
        fs.lookup("/dir/hello")
    assert fault.value.code == FsCode.FS_NO_ENTRY
    assert fs.lookup("/dir/inner/empty").size == 0


def test_the_disks_of_these_tests_are_sound(disk: Path) -> None:
    consistent(disk)
