"""Files, directories and links are read as they are on disk, whole or not at all."""

import struct

import pytest
from ffs_builder import CHAR, DIR, FILE, LINK, Builder, failing

from bootfs.blocklist import Hole, Run
from bootfs.device import MemoryDevice
from bootfs.errors import FsCode
from bootfs.filesystem import FileSystem

N = 1024  # pointers in a block of the builder's usual file system


def test_a_tree_is_walked_in_order_of_its_names(builder: Builder) -> None:
    file = builder.file(None, b"x" * 5000)
    inner = builder.directory(None, [(b"b\xff", file), (b"a b", file)])
    builder.directory("sub", [(b"inner", inner)])
    builder.file("file", b"hello\n")
    fs = builder.mount()
    paths = [path for path, _ in fs.walk()]
    assert paths == [b"/", b"/file", b"/sub", b"/sub/inner", b"/sub/inner/a b", b"/sub/inner/b\xff"]
    assert [path for path, _ in fs.walk(b"/sub/inner/")] == paths[3:]
    found = fs.lookup("/file")
    assert (found.kind, found.size, found.uid, found.mtime, found.nlink) == ("file", 6, 7, 1234, 1)
    assert b"".join(fs.contents(fs.lookup(b"/sub/inner/b\xff"))) == b"x" * 5000


def test_a_second_cylinder_group_is_found_through_its_shift() -> None:
    builder = Builder(size=16384, ncg=4)
    builder.next_ino = 3 * builder.ipg + 5
    builder.file("far", b"in the last group")
    fs = builder.mount()
    assert fs.lookup("far").ino == 3 * builder.ipg + 5
    assert fs.read(fs.lookup("far"), 7, 4) == b"last"


def test_only_the_low_word_of_a_4_3_size_counts() -> None:
    """4.3BSD keeps i_size in 32 bits and leaves the other word alone; so does Mach."""
    for order in ("little", "big"):
        builder = Builder(order, "4.3")
        ino = builder.file("file", b"hello")
        builder.nodes[ino]["size"] = (99 << 32) + 5
        fs = builder.mount()
        assert fs.inode(ino).size == 5


def test_reading_past_the_end_is_not_in_file(builder: Builder) -> None:
    """mach.md 8.32: 5005."""
    ino = builder.file("file", b"hello")
    fs = builder.mount()
    inode = fs.inode(ino)
    assert fs.read(inode, 0, 5) == b"hello"
    assert fs.read(inode, 5, 0) == b""
    for offset, length in ((0, 6), (5, 1), (6, 0), (-1, 1), (0, -1), (1 << 40, 1)):
        with failing(FsCode.FS_NOT_IN_FILE):
            fs.read(inode, offset, length)


def test_a_read_too_large_for_memory_is_refused() -> None:
    builder = Builder("little", "4.4")
    builder.node(FILE, 1 << 40, "huge")
    fs = builder.mount()
    with failing(FsCode.FS_INVALID_PARAMETER):
        fs.read(fs.lookup("huge"), 0, 1 << 40)


def test_a_fragment_tail_at_the_end_of_the_disk_is_read(builder: Builder) -> None:
    ino = builder.node(FILE, 700, "tail")
    builder.nodes[ino]["pointers"][0] = 4094
    builder.image[4094 * 512 :] = b"t" * 1024
    short = builder.node(FILE, 1100, "short")
    builder.nodes[short]["pointers"][0] = 4094
    fs = builder.mount()
    assert fs.read(fs.inode(ino), 0, 700) == b"t" * 700
    with failing(FsCode.FS_INVALID_FS, "beyond fs_size"):
        fs.read(fs.inode(short), 0, 1100)


@pytest.mark.parametrize("fragment", [0xFFFFFFFF, 0x80000000, 4096, 4089, 1, 16, 64, 72])
def test_a_block_outside_the_data_area_is_refused(builder: Builder, fragment: int) -> None:
    """Beyond the disk, in the boot block, the superblock, the inodes, the summary: not to be read or written."""
    direct = builder.node(FILE, 4096, "direct")
    builder.set_pointer(direct, 0, fragment)
    through = builder.node(FILE, 20 * 4096, "through")
    builder.set_pointer(through, 15, fragment)
    indirect = builder.node(FILE, 20 * 4096, "indirect")
    builder.nodes[indirect]["pointers"][12] = fragment
    fs = builder.mount()
    before = bytes(fs.device.read(0, fs.device.size))
    for ino in (direct, through, indirect):
        inode = fs.inode(ino)
        with failing(FsCode.FS_INVALID_FS):
            fs.read(inode, inode.size - 4096 if ino == direct else 15 * 4096, 4096)
        with failing(FsCode.FS_INVALID_FS):
            fs.write(inode, 0 if ino == direct else 15 * 4096, bytes(4096))
        with failing(FsCode.FS_INVALID_FS):
            list(fs.runs(inode))
    assert fs.device.read(0, fs.device.size) == before


def test_a_terabyte_of_hole_costs_nothing() -> None:
    builder = Builder("big", "4.4")
    builder.node(FILE, 1 << 40, "huge")
    fs = builder.mount()
    assert list(fs.runs(fs.lookup("huge"))) == [Hole(0, 1 << 40)]


def test_short_links_are_where_their_format_keeps_them() -> None:
    old = Builder("little", "4.3")
    old.link("slow", "target")
    old.link("fast", "target", fast=True)
    modern = Builder("little", "4.4")
    modern.link("fast", "t" * 59)
    modern.link("slow", "t" * 60)
    ino = modern.link("nodump", "target")
    modern.nodes[ino]["flags"] = 1
    for builder in (old, modern):
        fs = builder.mount()
        for name, inode in fs.listdir(fs.root()):
            assert fs.readlink(inode).startswith(b"t"), name
            assert (inode.text is not None) == (name != b"slow")
    with failing(FsCode.FS_INVALID_PARAMETER):
        fs.readlink(fs.root())


def test_a_link_longer_than_a_block_or_than_its_inode_is_refused() -> None:
    builder = Builder("little", "4.3")
    long = builder.node(LINK, 5000, "long")
    inside = builder.node(LINK, 61, "inside", flags=1)
    fs = builder.mount()
    with failing(FsCode.FS_INVALID_FS):
        fs.readlink(fs.inode(long))
    with failing(FsCode.FS_INVALID_FS):
        fs.readlink(fs.inode(inside))


def entry(ino: int, reclen: int, namlen: int, name: bytes) -> bytes:
    return struct.pack("<IHH", ino, reclen, namlen) + name


@pytest.mark.parametrize(
    "data",
    [
        entry(3, 0, 1, b"a"),
        entry(3, 1, 1, b"a"),
        entry(3, 4, 1, b"a"),
        entry(3, 14, 1, b"a"),
        entry(3, 516, 1, b"a"),
        entry(3, 65532, 1, b"a"),
        entry(3, 12, 5, b"abcde"),
        entry(3, 12, 0, b""),
        entry(3, 512, 256, b"a" * 256),
        entry(3, 512, 65535, b"a"),
        entry(3, 512, 3, b"a/b"),
        entry(3, 512, 3, b"a\0b"),
        entry(0, 0, 0, b""),
        entry(0, 508, 0, b"").ljust(508, b"\0") + bytes(4),
        entry(2, 12, 1, b".\0\0\0") + entry(0, 504, 0, b""),
    ],
)
def test_a_broken_directory_entry_is_refused(data: bytes) -> None:
    builder = Builder("little", "4.3")
    fs = FileSystem.open(MemoryDevice(builder.build(data.ljust(512, b"\0"))))
    for act in (lambda: list(fs.entries(fs.root())), lambda: fs.lookup("/x"), lambda: list(fs.walk())):
        with failing(FsCode.FS_INVALID_FS, "broken entry at byte"):
            act()


def test_a_directory_entry_that_is_free_is_passed_over() -> None:
    builder = Builder("little", "4.3")
    data = entry(0, 12, 9999, b"\0/\0\0") + entry(2, 500, 1, b".")
    fs = FileSystem.open(MemoryDevice(builder.build(data.ljust(512, b"\0"))))
    assert [found.name for found in fs.entries(fs.root())] == [b"."]


def test_a_directory_with_a_hole_or_an_odd_size_is_refused(builder: Builder) -> None:
    hole = builder.node(DIR, 8192, "hole")
    builder.set_pointer(hole, 1, builder.allocate(builder.entries([(b"x", 2)]) * 8))
    huge = builder.node(DIR, 1 << 30, "huge")
    odd = builder.directory("odd", [])
    builder.nodes[odd]["size"] = 500
    fs = builder.mount()
    for ino, reason in ((hole, "hole"), (huge, "hole"), (odd, "multiple of 512")):
        with failing(FsCode.FS_INVALID_FS, reason):
            list(fs.entries(fs.inode(ino)))


def test_a_name_of_an_inode_that_cannot_be_is_refused(builder: Builder) -> None:
    for ino in (1, 64, 0xFFFFFFFF):
        builder.root_entries.append((b"bad%d" % ino, ino))
    fs = builder.mount()
    for ino in (1, 64, 0xFFFFFFFF):
        with failing(FsCode.FS_INVALID_FS, "no such inode"):
            fs.lookup(f"bad{ino}")


def test_directories_that_contain_themselves_are_entered_once(builder: Builder) -> None:
    ino = builder.next_ino
    builder.directory("a", [(b"self", ino), (b"root", 2)])
    paths = [path for path, _ in builder.mount().walk()]
    assert paths == [b"/", b"/a", b"/a/root", b"/a/self"]


def test_directories_that_share_a_block_are_refused(builder: Builder) -> None:
    one = builder.directory("one", [(b"x", 2)])
    two = builder.directory("two", [])
    builder.nodes[two]["pointers"] = builder.nodes[one]["pointers"]
    with failing(FsCode.FS_INVALID_FS, "twice"):
        list(builder.mount().walk())


def test_a_tree_deeper_than_any_path_is_refused() -> None:
    builder = Builder("little", "4.4")
    inner = builder.directory(None, [])
    for _ in range(20):
        inner = builder.directory(None, [(b"d" * 250, inner)])
    builder.root_entries.append((b"top", inner))
    with failing(FsCode.FS_NAME_TOO_LONG):
        list(builder.mount().walk())


def test_a_truncated_image_gives_what_is_left_and_an_error_for_the_rest(builder: Builder) -> None:
    kept = builder.file("kept", b"here")
    builder.file("lost", b"gone")
    builder.root_entries.reverse()
    image = builder.build()
    inode = FileSystem.open(MemoryDevice(image)).inode(kept)
    fs = FileSystem.open(MemoryDevice(image[: inode.pointers[0] * 512 + 512]))
    assert fs.read(inode, 0, 4) == b"here"
    with failing(FsCode.D_INVALID_SIZE, "cut short"):
        fs.lookup("lost")


def test_a_file_system_at_an_offset_gives_offsets_of_the_whole_device(builder: Builder) -> None:
    ino = builder.file("file", b"a" * 4096)
    image = builder.build()
    fs = FileSystem.open(MemoryDevice(bytearray(12345) + image), 12345)
    (run,) = fs.runs(fs.inode(ino))
    assert isinstance(run, Run)
    assert fs.device.read(run.device_offset, 4096) == b"a" * 4096
    for offset in (-1, 1 << 40):
        with failing(FsCode.FS_INVALID_FS):
            FileSystem.open(MemoryDevice(image), offset)


def test_writing_changes_the_bytes_of_the_file_and_no_others(builder: Builder) -> None:
    ino = builder.file("file", b"a" * 60000)
    fs = builder.mount()
    before = fs.device.read(0, fs.device.size)
    inode = fs.inode(ino)
    fs.write(inode, 4000, b"B" * 50000)
    assert fs.read(inode, 0, 60000) == b"a" * 4000 + b"B" * 50000 + b"a" * 6000
    own = [(run.device_offset, run.length) for run in fs.runs(inode) if isinstance(run, Run)]
    after = bytearray(fs.device.read(0, fs.device.size))
    for place, length in own:
        after[place : place + length] = before[place : place + length]
    assert bytes(after) == before


def test_writing_refuses_to_grow_a_file_or_fill_a_hole_and_then_writes_nothing(builder: Builder) -> None:
    ino = builder.file("file", b"a" * 12288)
    builder.set_pointer(ino, 1, 0)
    builder.root_entries.append((b"dir", builder.directory(None, [])))
    fs = builder.mount()
    before = fs.device.read(0, fs.device.size)
    inode = fs.inode(ino)
    for offset, length, reason in (
        (0, 12289, "grow"),
        (12288, 1, "grow"),
        (-1, 5, "grow"),
        (0, 12288, "hole at file offset 4096"),
    ):
        with failing(FsCode.FS_NOT_IN_FILE, reason):
            fs.write(inode, offset, b"x" * length)
    with failing(FsCode.FS_INVALID_PARAMETER):
        fs.write(fs.root(), 0, b"x")
    assert fs.device.read(0, fs.device.size) == before


def test_a_device_has_numbers_and_no_contents(builder: Builder) -> None:
    ino = builder.node(CHAR | 0o600, 0, "tty")
    builder.nodes[ino]["pointers"][0] = 0x0305
    fs = builder.mount()
    inode = fs.inode(ino)
    assert (inode.kind, inode.rdev) == ("other", (3, 5))
    assert list(fs.contents(inode)) == []
    with failing(FsCode.FS_INVALID_PARAMETER):
        fs.read(inode, 0, 0)


def test_facts_of_the_disk_cannot_be_changed(builder: Builder) -> None:
    fs = builder.mount()
    with pytest.raises(AttributeError):
        fs.root().size = 5  # type: ignore[misc]


def test_a_listing_reads_few_inodes_ahead_and_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a directory of a million names takes the memory of their names."""
    builder = Builder(size=8192)
    file = builder.file(None, b"x")
    builder.directory("large", [(b"%04d" % number, file) for number in range(1000, 0, -1)])
    fs = builder.mount()
    asked: list[int] = []
    inodes = fs.inodes
    monkeypatch.setattr(fs, "inodes", lambda inos: asked.append(len(inos)) or inodes(inos))
    listing = fs.listdir(fs.lookup("/large"))
    assert next(listing)[0] == b"0001"
    assert len(asked) == 1
    assert [name for name, _ in listing] == [b"%04d" % number for number in range(2, 1001)]
    assert max(asked) <= 256
