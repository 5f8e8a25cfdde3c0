"""The disks on which other readers hang, crash or lie, one by one, in every format and byte order where they can be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bootfs.blocklist import Hole
from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.lookup import open_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for fixtures.disks and tests.fuzz, which are not installed

from fixtures.disks.contents import links  # noqa: E402
from fixtures.disks.ffs_image import Shape, make_image  # noqa: E402
from tests.fuzz.campaign import attempt  # noqa: E402
from tests.fuzz.mutate import SHAPES, Base, Mutant, bases  # noqa: E402

FORMATS = [f"{format_name}-{order}" for format_name in SHAPES for order in ("little", "big")]
TIB = 1 << 40


@pytest.fixture(params=FORMATS)
def base(request: pytest.FixtureRequest) -> Base:
    """A sound disk of each format and byte order."""
    return bases()[request.param]


class Disk:
    """A sound disk that is broken in places that are known by name."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.data = bytearray(base.data)
        self.sound = FileSystem.open(MemoryDevice(bytearray(base.data)))

    def ino(self, path: str) -> int:
        return self.sound.lookup(path, follow=False).ino

    def put(self, ending: str, value: int) -> Disk:
        """`value` into every place whose name ends so: a superblock field is put into all copies."""
        hits = [p for these in self.base.places.values() for p in these if p.name.endswith(ending)]
        assert hits, ending
        for place in hits:
            raw = (value % (1 << 8 * place.width)).to_bytes(place.width, self.base.byte_order)  # type: ignore[arg-type]
            self.data[place.offset : place.offset + place.width] = raw
        return self

    def put_superblock(self, name: str, value: int) -> Disk:
        for place in self.base.places["superblock"]:
            if place.name.split()[-1] == name:
                raw = (value % (1 << 8 * place.width)).to_bytes(place.width, self.base.byte_order)  # type: ignore[arg-type]
                self.data[place.offset : place.offset + place.width] = raw
        assert self.data != self.base.data
        return self

    def survived(self) -> FileSystem | None:
        """Everything is asked of the disk, under the bounds; the file system if it opens."""
        _, failure = attempt(Mutant("targeted", self.base, self.data, ()))
        assert failure is None
        try:
            return FileSystem.open(MemoryDevice(self.data))
        except FileSystemError:
            return None

    def opened(self) -> FileSystem:
        fs = self.survived()
        assert fs is not None
        return fs


@pytest.mark.parametrize("size", [(1 << 63) - 1, (1 << 64) - 1, TIB])
def test_a_file_size_beyond_all_bounds(base: Base, size: int) -> None:
    disk = Disk(base)
    disk.put(f"inode {disk.ino('/paging_file')} di_size", size)
    fs = disk.opened()
    if base.name.startswith("4.3bsd") and size == TIB:
        assert fs.lookup("/paging_file").size == 0  # these kernels count in 32 bits
        return
    with pytest.raises(FileSystemError):
        fs.block_list(fs.lookup("/paging_file"))


@pytest.mark.parametrize("size", [(1 << 63) - 1, (1 << 64) - 1, TIB])
def test_a_link_size_beyond_all_bounds(base: Base, size: int) -> None:
    disk = Disk(base)
    fs = disk.put(f"inode {disk.ino('/slow')} di_size", size).opened()
    if base.name.startswith("4.3bsd") and size == TIB:
        return
    with pytest.raises(FileSystemError):
        fs.lookup("/slow")


@pytest.mark.parametrize("size", [(1 << 63) - 1, TIB, TIB + 512, 1 << 30])
def test_a_root_directory_of_a_terabyte(base: Base, size: int) -> None:
    fs = Disk(base).put("inode 2 di_size", size).survived()
    if fs is None or (base.name.startswith("4.3bsd") and size & TIB):
        return
    with pytest.raises(FileSystemError):
        list(fs.walk())


@pytest.mark.parametrize("level", [0, 1, 2])
def test_an_indirect_block_that_points_to_itself(base: Base, level: int) -> None:
    disk = Disk(base)
    inode = disk.sound.lookup("/levels")
    fragment = inode.pointers[12 + level]
    if not fragment:
        pytest.skip("4.3BSD has no file that long")
    at = fragment * disk.sound.superblock.fs_fsize
    width = disk.sound.superblock.pointer_bytes
    raw = fragment.to_bytes(width, base.byte_order)  # type: ignore[arg-type]
    block = disk.sound.block_size
    disk.data[at : at + block] = raw * (block // width)
    fs = disk.opened()
    try:
        runs = list(fs.runs(fs.lookup("/levels")))
    except FileSystemError:
        return  # more blocks than the disk has
    # So few blocks of the file are left at this level that the loop was not gone round.
    assert sum(run.length for run in runs if not isinstance(run, Hole)) <= len(disk.data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("fs_fsbtodb", value) for value in (0x7FFFFFFF, -1, -0x80000000)),
        *((name, 0) for name in ("fs_inopb", "fs_nindir", "fs_ipg", "fs_frag", "fs_fsize", "fs_bsize", "fs_fpg")),
        *(("fs_fsize", value) for value in (0x7FFFFFFF, 1, -1)),
        *(("fs_bsize", value) for value in (0x7FFFFFFF, 4095, 1 << 30)),
        *(("fs_ncg", value) for value in (0, -1, 0x7FFFFFFF)),
        *(("fs_ipg", value) for value in (-1, 0x7FFFFFFF, 0x7FFFFFE0)),
        *(("fs_fpg", value) for value in (1, -8)),
        *(("fs_bshift", value) for value in (0, 63, -1)),
        *((name, 0x7FFFFFFF) for name in ("fs_iblkno", "fs_dblkno", "fs_cblkno", "fs_nindir", "fs_inopb", "fs_frag")),
    ],
)
def test_a_superblock_number_that_breaks_arithmetic_is_refused(base: Base, name: str, value: int) -> None:
    disk = Disk(base).put_superblock(name, value)
    assert disk.survived() is None
    with pytest.raises(FileSystemError) as refused:
        FileSystem.open(MemoryDevice(disk.data))
    assert refused.value.code == FsCode.FS_INVALID_FS


@pytest.mark.parametrize("value", [0x7FFFFFFF, -2])  # -1 is NeXT's
def test_the_longest_link_in_an_inode_beyond_the_inode_is_refused(base: Base, value: int) -> None:
    if base.name.startswith("4.3bsd"):
        pytest.skip("4.3BSD has no such field")
    assert Disk(base).put_superblock("fs_maxsymlinklen", value).survived() is None


def test_links_that_never_end(base: Base) -> None:
    shape = _shape(base)
    device = MemoryDevice(make_image(shape, links(shape)).data)
    fs = FileSystem.open(device)
    for path in ("/loop1", "/loop2", "/self", "/chain0"):
        with pytest.raises(FileSystemError) as refused:
            fs.lookup(path)
        assert refused.value.code == FsCode.FS_SYMLINK_LOOP
    assert fs.lookup("/chain13").ino == fs.lookup("/chain45").ino  # 32 links are followed
    with pytest.raises(FileSystemError):
        fs.lookup("/chain12")
    with pytest.raises(FileSystemError) as refused:  # Mach's own limit is 8
        open_file({"hd0a": device}, "/dev/hd0a/chain36")
    assert refused.value.code == FsCode.FS_SYMLINK_LOOP


def _shape(base: Base) -> Shape:
    format_name, _, order = base.name.partition("-")
    return Shape(format_name, order, *SHAPES[format_name])  # type: ignore[arg-type]


@pytest.mark.parametrize("reclen", [0, 1, 2, 4, 7, 10, 508, 516, 65532, 65535])
def test_an_entry_length_that_cannot_be(base: Base, reclen: int) -> None:
    disk = Disk(base)
    entry = next(p for p in base.places["directory"] if p.name == "inode 2 entry d_reclen")
    raw = reclen.to_bytes(2, base.byte_order)  # type: ignore[arg-type]
    disk.data[entry.offset : entry.offset + 2] = raw
    fs = disk.opened()
    if reclen == 508:  # the entries within it are skipped, as a kernel would; what is left of the chunk is none
        return
    with pytest.raises(FileSystemError):
        list(fs.listdir(fs.root()))


def test_a_name_longer_than_its_entry(base: Base) -> None:
    disk = Disk(base).put(f"inode {Disk(base).ino('/dir')} entry d_namlen", 200)
    fs = disk.opened()
    with pytest.raises(FileSystemError, match="d_namlen"):
        list(fs.listdir(fs.lookup("/dir")))


@pytest.mark.parametrize("beyond", [0, 1, 1 << 20, 0x7FFFFFFF])
def test_block_numbers_beyond_the_disk(base: Base, beyond: int) -> None:
    disk = Disk(base)
    ino = disk.ino("/paging_file")
    number = min(disk.sound.superblock.fs_size + beyond, 0x7FFFFFFF)
    for place in ("di_db[3]", "di_ib[0]"):
        broken = Disk(base).put(f"inode {ino} {place}", number)
        fs = broken.opened()
        with pytest.raises(FileSystemError):
            fs.block_list(fs.lookup("/paging_file"))


@pytest.mark.parametrize("fragment", [1, 16, 40])
def test_block_numbers_in_the_metadata(base: Base, fragment: int) -> None:
    disk = Disk(base)
    fs = disk.put(f"inode {disk.ino('/paging_file')} di_db[0]", fragment).opened()
    with pytest.raises(FileSystemError):
        fs.read(fs.lookup("/paging_file"), 0, 512)


def test_a_directory_that_contains_itself(base: Base) -> None:
    disk = Disk(base)
    ino = disk.ino("/dir")
    entries = [p for p in base.places["directory"] if p.name == f"inode {ino} entry d_ino"]
    raw = ino.to_bytes(4, base.byte_order)  # type: ignore[arg-type]
    for place in entries[2:]:
        disk.data[place.offset : place.offset + 4] = raw
    fs = disk.opened()
    assert len(list(fs.walk())) < 100
    assert fs.lookup("/dir/below/below/below/below").ino == ino


def test_a_file_that_is_its_own_directory_block(base: Base) -> None:
    disk = Disk(base)
    root = disk.sound.root().pointers[0]
    disk.put(f"inode {disk.ino('/dir')} di_db[0]", root)
    fs = disk.opened()
    with pytest.raises(FileSystemError):
        list(fs.walk())


@pytest.mark.parametrize("length", [0, 1, 511, 512, 8192, 9000, 16384, 65536, 70000, 90000, 150000, 200001])
def test_an_image_cut_short(base: Base, length: int) -> None:
    disk = Disk(base)
    del disk.data[length:]
    disk.survived()


def test_an_image_cut_inside_a_file_reads_up_to_there(base: Base) -> None:
    disk = Disk(base)
    ends = {
        run.device_offset: path
        for path, inode in disk.sound.walk()
        for run in disk.sound.runs(inode)
        if not isinstance(run, Hole) and inode.kind == "file"
    }
    place = max(ends)
    del disk.data[place + 1 :]
    fs = disk.opened()
    inode = disk.sound.lookup(ends[place])
    assert fs.read(inode, 0, 1) == disk.sound.read(inode, 0, 1)
    with pytest.raises(FileSystemError):
        fs.read(inode, 0, inode.size)
