"""P8: however an image is damaged, there is a result or a FileSystemError, soon, and with little memory."""

import random
import time
from collections.abc import Callable

import pytest
from ffs_builder import FILE, Builder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.lookup import open_file
from bootfs.manifest import manifest

WORDS = (0, 1, 2, 3, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def sample(order: str, variant: str) -> bytes:
    builder = Builder(order, variant, size=1024)
    ino = builder.file("file", b"f" * (14 * 4096))
    builder.set_pointer(ino, 5, 0)
    builder.link("slow", "dir/inner", fast=False)
    builder.link("fast", "dir/inner", fast=True)
    builder.directory("dir", [(b"inner", builder.file(None, b"hello")), (b"self", builder.next_ino)])
    builder.node(FILE, 1 << 31, "sparse")
    return bytes(builder.build())


SAMPLES = {(order, variant): sample(order, variant) for order in ("little", "big") for variant in ("4.3", "4.4")}
# Where damage tells: the superblock, the inodes, the data.
PLACES = st.one_of(
    st.integers(8192, 8192 + 1379),
    st.integers(Builder().inode_place(2), Builder().inode_place(12)),
    st.integers(Builder().inode_place(2), len(SAMPLES["little", "4.3"]) - 4),
)


def attempt(act: Callable[[], object]) -> None:
    fault = None
    try:
        act()
    except FileSystemError as error:
        fault = error
    assert fault is None or isinstance(fault.code, FsCode)
    assert "\n" not in str(fault)


def use_everything(image: bytearray) -> None:
    try:
        fs = FileSystem.open(MemoryDevice(image))
    except FileSystemError:
        return
    attempt(lambda: manifest(fs, "none"))
    attempt(lambda: open_file({"hd0a": fs.device}, "/dev/hd0a/slow"))
    inodes = []
    attempt(lambda: inodes.extend(inode for _, inode in fs.listdir(fs.root())))
    for inode in inodes:
        attempt(lambda inode=inode: fs.readlink(inode))  # type: ignore[misc]
        attempt(lambda inode=inode: fs.block_list(inode))  # type: ignore[misc]
        attempt(lambda inode=inode: fs.read(inode, max(0, inode.size - 9000), 9000))  # type: ignore[misc]
        attempt(lambda inode=inode: fs.write(inode, 0, b"x" * 5000))  # type: ignore[misc]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(SAMPLES)),
    edits=st.lists(st.tuples(PLACES, st.sampled_from(WORDS) | st.integers(0, 0xFFFFFFFF)), min_size=1, max_size=4),
    length=st.none() | st.integers(0, len(SAMPLES["little", "4.3"])),
)
def test_a_damaged_image_gives_a_result_or_the_one_exception(
    kind: tuple[str, str], edits: list[tuple[int, int]], length: int | None
) -> None:
    image = bytearray(SAMPLES[kind])
    for place, word in edits:
        image[place : place + 4] = word.to_bytes(4, "little" if kind[0] == "little" else "big")
    use_everything(image[:length])


@pytest.mark.parametrize("seed", range(20))
def test_the_genuine_disk_damaged_at_random_is_survived(miniroot: bytes, seed: int) -> None:
    choose = random.Random(seed)
    image = bytearray(miniroot)
    for _ in range(30):
        area = choose.choice([(8192, 9572), (56 * 512, 100 * 512), (280 * 512, 600 * 512)])
        at = choose.randrange(*area) & ~3
        image[at : at + 4] = choose.choice(WORDS).to_bytes(4, "little")
    fs_image = bytearray(miniroot)
    fs_image[9572:] = image[9572:]
    use_everything(image)
    use_everything(fs_image)


def test_many_files_that_share_their_blocks_are_refused_before_they_are_hashed() -> None:
    builder = Builder("little", "4.4", size=4096)
    first = builder.file("file", b"x" * (300 * 4096))
    for number in range(40):
        ino = builder.node(FILE, 300 * 4096, f"copy{number}")
        builder.nodes[ino]["pointers"] = builder.nodes[first]["pointers"]
    with pytest.raises(FileSystemError, match="more than the disk holds"):
        manifest(builder.mount())


def test_a_file_of_terabytes_of_holes_is_listed_without_its_hash() -> None:
    builder = Builder("little", "4.4")
    builder.node(FILE, 1 << 42, "huge")
    builder.file("small", b"hello")
    started = time.process_time()
    found = manifest(builder.mount())
    assert time.process_time() - started < 5
    assert found["/huge"]["sha256"] is None
    assert found["/huge"]["size"] == 1 << 42
    assert found["/small"]["sha256"]
