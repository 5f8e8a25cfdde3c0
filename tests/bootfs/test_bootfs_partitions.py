"""Every kind of partition table is read; the file system that is meant is opened, or a list given to choose from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ffs_builder import Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from label_builder import (
    apple_map,
    disk,
    disklabel,
    disklabel64,
    next_label,
    put,
    sun_label,
    vtoc,
    write_gpt,
    write_mbr,
)

from bootfs.command import cli
from bootfs.device import MemoryDevice
from bootfs.disk import find_file_systems, open_file_system
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.labels import partitions
from bootfs.layout import ByteOrder

MIB = 1 << 20


def small(name: str, order: ByteOrder = "little", variant: str = "4.4") -> bytes:
    """A file system of 1 MiB with one file, named `name`."""
    builder = Builder(order, variant, size=2048)
    builder.file(name, name.encode())
    return bytes(builder.build())


def names(device: MemoryDevice, partition: str | None = None) -> list[bytes]:
    return [path for path, _ in open_file_system(device, partition).walk()][1:]


def places(image: bytearray) -> dict[str, tuple[int, int]]:
    return {one.name: (one.offset, one.size) for one in partitions(MemoryDevice(image))}


def test_slices_of_an_mbr_and_of_its_extended_partition_have_freebsd_names() -> None:
    image = disk(16 * MIB, {2 * MIB: small("two"), 5 * MIB: small("five"), 7 * MIB: small("seven")})
    write_mbr(image, [(0x07, 2048, 2048), (0xA5, 4096, 2048), (0x05, 8192, 16384)])
    write_mbr(image, [(0x83, 2048, 2048), (0x05, 4096, 8192)], at=4 * MIB)
    write_mbr(image, [(0x83, 2048, 2048)], at=6 * MIB)
    assert places(image) == {
        "s1": (MIB, MIB),
        "s2": (2 * MIB, MIB),
        "s5": (5 * MIB, MIB),
        "s6": (7 * MIB, MIB),
    }
    device = MemoryDevice(image)
    assert names(device, "2") == names(device, "s2") == [b"/two"]
    assert names(device, "s5") == [b"/five"]
    assert names(device, "6") == [b"/seven"]


def test_a_chain_of_extended_partitions_that_comes_back_ends() -> None:
    image = disk(4 * MIB, {})
    write_mbr(image, [(0x05, 2048, 2048)])
    write_mbr(image, [(0x83, 100, 100), (0x05, 0, 2048)], at=MIB)
    assert list(places(image)) == ["s5"]


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("at_end", [False, True])
def test_a_gpt_is_read_by_either_of_its_copies(sector: int, at_end: bool) -> None:
    image = disk(4 * MIB, {MIB: small("one"), 2 * MIB: small("two")})
    write_gpt(
        image, [(MIB // sector, 2 * MIB // sector - 1), (2 * MIB // sector, 3 * MIB // sector - 1)], sector, at_end
    )
    assert places(image) == {"p1": (MIB, MIB), "p2": (2 * MIB, MIB)}
    assert names(MemoryDevice(image), "p2") == names(MemoryDevice(image), "2") == [b"/two"]


def test_a_gpt_whose_check_sum_is_wrong_is_none() -> None:
    image = disk(4 * MIB, {})
    write_gpt(image, [(2048, 4095)])
    image[512 + 16] ^= 1
    assert places(image) == {}


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("at", [0, 64, 128, 512])
def test_a_bsd_label_is_found_wherever_its_machine_has_it(order: ByteOrder, at: int) -> None:
    image = disk(4 * MIB, {MIB: small("root", order, "4.3"), 2 * MIB: small("usr", order, "4.3")})
    put(image, at, disklabel(order, [(2048, 2048), (0, 0), (0, 8192), (4096, 2048)]))
    assert places(image) == {"a": (MIB, MIB), "c": (0, 4 * MIB), "d": (2 * MIB, MIB)}
    assert names(MemoryDevice(image), "d") == [b"/usr"]


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ([(16, 2000), (0, 0), (0, 4096)], "from the slice"),
        ([(2064, 2000), (0, 0), (2048, 4096)], "from the disk: c is the slice, as FreeBSD and NetBSD had it"),
        ([(2064, 2000), (0, 0), (0, 8192)], "from the disk: c is the disk, as OpenBSD has it"),
    ],
)
def test_a_bsd_label_in_a_slice_counts_from_the_slice_or_from_the_disk(label: list[tuple[int, int]], why: str) -> None:
    image = disk(4 * MIB, {MIB + 8192: small("inner")})
    write_mbr(image, [(0xA5, 2048, 4096)])
    put(image, MIB + 512, disklabel("little", label))
    assert places(image)["s1a"] == (MIB + 8192, 2000 * 512), why
    assert names(MemoryDevice(image)) == [b"/inner"]


@pytest.mark.parametrize("sector", [2048, 4096])
def test_a_bsd_label_is_in_sector_1_of_larger_sectors_too(sector: int) -> None:
    image = disk(4 * MIB, {MIB: small("root")})
    put(image, sector, disklabel("little", [(MIB // sector, MIB // sector)], sector))
    assert places(image) == {"a": (MIB, MIB)}


def test_a_bsd_label_in_a_gpt_partition_divides_it_further() -> None:
    image = disk(4 * MIB, {MIB + 8192: small("inner")})
    write_gpt(image, [(2048, 6143)])
    put(image, MIB + 512, disklabel("little", [(16, 2000), (0, 0), (0, 4096)]))
    assert places(image) == {"p1": (MIB, 2 * MIB), "p1a": (MIB + 8192, 2000 * 512), "p1c": (MIB, 2 * MIB)}
    assert names(MemoryDevice(image)) == names(MemoryDevice(image), "p1a") == [b"/inner"]


def test_a_label_whose_check_sum_is_wrong_is_none() -> None:
    for label in (disklabel("little", [(2048, 2048)]), sun_label([(0, 2048)]), next_label(0x646C5633, 160, [(0, 100)])):
        image = disk(4 * MIB, {0: label})
        assert len(places(image)) == 1
        image[100] ^= 1
        assert places(image) == {}


def test_a_sun_label_counts_in_cylinders() -> None:
    image = disk(4 * MIB, {MIB: small("sun", "big", "4.3")})
    put(image, 0, sun_label([(0, 64), (0, 0), (0, 8192), (0, 0), (0, 0), (0, 0), (128, 2048)]))
    assert places(image) == {"a": (0, 32768), "c": (0, 4 * MIB), "g": (MIB, MIB)}
    assert names(MemoryDevice(image)) == [b"/sun"]


@pytest.mark.parametrize("version", [0x4E655854, 0x646C5632, 0x646C5633])
@pytest.mark.parametrize("copy", [0, 15 * 512, 30 * 1024])
def test_a_next_label_counts_from_its_front_porch(version: int, copy: int) -> None:
    image = disk(4 * MIB, {MIB: small("next", "big", "4.3")})
    put(image, copy, next_label(version, 160, [(864, 1024)]))
    assert places(image) == {"a": (MIB, MIB)}
    assert names(MemoryDevice(image)) == [b"/next"]


@pytest.mark.parametrize("base", [0, MIB])
def test_a_label_of_dragonfly_counts_bytes_from_its_slice(base: int) -> None:
    image = disk(4 * MIB, {base + MIB: small("dragonfly")})
    put(image, base, disklabel64([(MIB, MIB), (0, 0), (2 * MIB, 8 * MIB)]))
    name = ""
    if base:
        write_mbr(image, [(0xA5, 2048, 6144)])
        name = "s1"
    found = places(image)
    assert found[f"{name}a"] == (base + MIB, MIB)
    assert found[f"{name}c"] == (base + 2 * MIB, 2 * MIB - base)  # cut at the end of the disk
    assert f"{name}b" not in found
    assert names(MemoryDevice(image)) == [b"/dragonfly"]
    image[base + 512 + 100] ^= 1
    assert f"{name}a" not in places(image)


def test_a_label_of_solaris_on_x86_is_in_a_slice_and_counts_from_it() -> None:
    image = disk(4 * MIB, {2 * MIB: small("solaris")})
    write_mbr(image, [(0xBF, 2048, 6144)])
    put(image, MIB, vtoc([(2048, 2048), (0, 0), (0, 6144)]))
    assert places(image) == {"s1": (MIB, 3 * MIB), "s1a": (2 * MIB, MIB), "s1c": (MIB, 3 * MIB)}
    assert names(MemoryDevice(image)) == [b"/solaris"]
    image[MIB + 512 + 100] ^= 1
    assert places(image) == {"s1": (MIB, 3 * MIB)}


@pytest.mark.parametrize("sector", [512, 2048])
def test_a_map_of_apple_has_an_entry_a_block_and_its_parts_may_have_a_next_label(sector: int) -> None:
    image = disk(4 * MIB, {MIB: small("apple", "big"), 3 * MIB: small("rhapsody", "big", "4.3")})
    put(image, 0, apple_map([(MIB // sector, MIB // sector), (2 * MIB // sector, 2 * MIB // sector)], sector))
    put(image, 2 * MIB, next_label(0x646C5633, 160, [(864, 1024)]))
    found = places(image)
    assert found["s2"] == (MIB, MIB)
    assert found["s3a"] == (3 * MIB, MIB)
    assert names(MemoryDevice(image), "s2") == [b"/apple"]
    assert names(MemoryDevice(image), "s3a") == [b"/rhapsody"]
    image[sector] = 0
    assert places(image) == {}


def test_the_one_file_system_needs_no_name_and_several_are_listed() -> None:
    image = disk(4 * MIB, {MIB: small("one"), 2 * MIB: small("two", "big", "4.3")})
    write_mbr(image, [(0xA5, 2048, 2048), (0xA5, 4096, 2048)])
    with pytest.raises(FileSystemError) as error:
        open_file_system(MemoryDevice(image))
    assert error.value.code == FsCode.FS_INVALID_PARAMETER
    assert str(error.value) == (
        "several file systems, choose with --partition or --offset: s1 (ufs1, 1 MiB); s2 (4.3bsd, 1 MiB)"
    )
    image[2 * MIB : 3 * MIB] = bytes(MIB)
    assert names(MemoryDevice(image)) == [b"/one"]


def test_a_file_system_in_two_partitions_counts_once() -> None:
    """As on a VAX: a begins where the disk does, the label is in the boot block, and c is all of it."""
    image = disk(2 * MIB, {0: small("root")})
    put(image, 64, disklabel("little", [(0, 2048), (0, 0), (0, 4096)]))
    assert [one.partition for one in find_file_systems(MemoryDevice(image))] == [""]
    assert names(MemoryDevice(image)) == names(MemoryDevice(image), "a") == names(MemoryDevice(image), "c")


def test_a_partition_that_is_not_there_is_named_with_those_that_are() -> None:
    image = disk(4 * MIB, {MIB: small("one")})
    write_mbr(image, [(0xA5, 2048, 2048)])
    with pytest.raises(FileSystemError, match="partition s1e: no such partition; there are: s1") as error:
        open_file_system(MemoryDevice(image), "s1e")
    assert error.value.code == FsCode.FS_INVALID_PARAMETER
    with pytest.raises(FileSystemError, match="not both"):
        open_file_system(MemoryDevice(image), "s1", 0)
    with pytest.raises(UnknownFormat):
        open_file_system(MemoryDevice(bytearray(MIB)))


def test_every_command_takes_a_partition(tmp_path: Path) -> None:
    image = disk(4 * MIB, {MIB: small("one"), 2 * MIB: small("two")})
    write_gpt(image, [(2048, 4095), (4096, 6143)])
    path = tmp_path / "disk.img"
    path.write_bytes(image)
    for command, *rest in (["info"], ["ls"], ["stat", "/two"], ["cat", "/two"], ["blocks", "/two"], ["manifest"]):
        done = CliRunner().invoke(cli, [command, "--partition", "p2", str(path), *rest])
        assert done.exit_code == 0, done.output
        refused = CliRunner().invoke(cli, [command, str(path), *rest])
        assert refused.exit_code == 1
        assert refused.stderr.count("\n") == 1
        assert "p1 (ufs1, 1 MiB); p2 (ufs1, 1 MiB)" in refused.stderr
        both = CliRunner().invoke(cli, [command, "--partition", "p2", "--offset", "0", str(path), *rest])
        assert both.exit_code == 2
    found = json.loads(CliRunner().invoke(cli, ["info", "--json", "--partition", "2", str(path)]).stdout)
    assert found["offset"] == 2 * MIB


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["mbr", "gpt", "bsd", "sun", "next", "bsd64", "vtoc", "apple"]))
def test_a_damaged_table_gives_partitions_of_the_disk_or_none(data: st.DataObject, kind: str) -> None:
    image = disk(128 * 1024, {})
    if kind == "mbr":
        write_mbr(image, [(0xA5, 16, 64), (0x05, 32, 64)])
    elif kind == "gpt":
        write_gpt(image, [(16, 64)])
    elif kind == "vtoc":
        put(image, 1024, vtoc([(16, 64)]))
        write_mbr(image, [(0xBF, 2, 128)])
    else:
        labels = {"bsd": disklabel("big", [(16, 64)]), "sun": sun_label([(1, 64)])}
        labels |= {"bsd64": disklabel64([(8192, 65536)]), "apple": apple_map([(16, 64)])}
        put(image, 0, labels.get(kind) or next_label(0x646C5633, 16, [(0, 16)]))
    for _ in range(data.draw(st.integers(0, 4))):
        image[data.draw(st.integers(0, 2048))] = data.draw(st.integers(0, 255))
    for one in partitions(MemoryDevice(image)):
        assert 0 <= one.offset < one.offset + one.size <= len(image)
