"""mkpagingfile as a person or a script meets it: exit codes, one line when refused, and IMAGE as it was."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from whole_disk import check_file, check_whole, disk_of, manifest_of

from bootfs.device import FileDevice, MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from disktools.mkpagingfile import main
from disktools.newfs import NewFileSystem
from disktools.write_plan import WritePlan

ROOT = Path(__file__).resolve().parents[2]


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def refused(*words: object) -> str:
    """The one line of a refusal."""
    result = run(*words, code=1)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("mkpagingfile: ")
    assert not result.stdout
    return lines[0]


@pytest.fixture(autouse=True)
def epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "518472000")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


SMALL = ("--size", "4M", "--paging-size", "1M")


def test_a_new_disk_is_made_and_its_runs_are_printed(image: Path, tree: Path) -> None:
    out = run(image, *SMALL, "--from", tree).stdout.splitlines()
    assert "a new 4.3bsd disk, little-endian, 4 MiB in 1 cylinder groups" in out[0]
    assert out[1].split() == ["file", "offset", "device", "offset", "length"]
    assert "/mach_servers/paging_file: 1 MiB in 1 run, inode" in out[-1]
    check_file(image)
    assert image.stat().st_size == 4 << 20
    assert os.listdir(image.parent) == ["disk.img"]


def test_the_facts_come_as_json(image: Path) -> None:
    facts = json.loads(run(image, *SMALL, "--json").stdout)
    assert facts["created"] is True
    assert facts["format"] == "4.3bsd"
    assert (facts["path"], facts["paging_size"]) == ("/mach_servers/paging_file", 1 << 20)
    assert sum(one["length"] for one in facts["runs"]) == 1 << 20
    assert facts["ino"] == manifest_of(image)["/mach_servers/paging_file"]["ino"]


def test_defaults_are_64_and_32_mib_and_the_image_is_sparse(image: Path) -> None:
    run(image)
    assert image.stat().st_size == 64 << 20
    assert image.stat().st_blocks * 512 < 4 << 20
    assert manifest_of(image)["/mach_servers/paging_file"]["size"] == 32 << 20


def test_the_epoch_makes_images_identical_and_dates_them(image: Path, tree: Path) -> None:
    run(image, *SMALL, "--from", tree)
    first = image.read_bytes()
    image.unlink()
    run(image, *SMALL, "--from", tree)
    assert image.read_bytes() == first
    assert max(one["mtime"] for one in manifest_of(image).values()) <= 518472000


@pytest.mark.parametrize("epoch", ["yesterday", "-1", "99999999999"])
def test_an_epoch_that_is_no_time_is_refused(image: Path, monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert "SOURCE_DATE_EPOCH" in refused(image, *SMALL)
    assert not image.exists()


def test_a_dry_run_prints_the_plan_and_makes_nothing(image: Path) -> None:
    assert "would be" in run(image, *SMALL, "-n").stdout
    assert os.listdir(image.parent) == []
    planned = json.loads(run(image, *SMALL, "-n", "--json").stdout)
    done = json.loads(run(image, *SMALL, "--json").stdout)
    assert planned | {"dry_run": False} == done
    before = image.read_bytes()
    run(image, "-n", "--path", "/second", "--paging-size", "64K")
    assert image.read_bytes() == before


def test_in_an_existing_disk_only_the_file_is_added(image: Path, miniroot: bytes) -> None:
    image.write_bytes(miniroot)
    facts = json.loads(run(image, "--paging-size", "256K", "--json").stdout)
    assert facts["created"] is False
    assert facts["block_size"] == 4096
    assert set(manifest_of(image)) - set(manifest_of(bytearray(miniroot))) == {
        "/mach_servers",
        "/mach_servers/paging_file",
    }


def test_a_size_that_is_not_whole_blocks_is_rounded_up_and_says_so(image: Path) -> None:
    assert "100000 bytes are not whole blocks: rounded up to 106496" in run(
        image, "--size", "4M", "--paging-size", "100000"
    ).stdout  # fmt: skip
    assert manifest_of(image)["/mach_servers/paging_file"]["size"] == 106496


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--size", "0"), "too small"),
        (("--size", "512K"), "too small"),
        (("--paging-size", "0"), "holds nothing"),
        (("--size", "4M"), "give at most --paging-size"),
        (("--size", "4G", "--paging-size", "2G"), "2 GiB"),
        (("--block-size", "1K"), "block size must be"),
        (("--fragment-size", "512"), "fragment size must be"),
        (("--path", "here"), "not the path of a file"),
        (("--from", "/nowhere/at/all"), "cannot be read"),
        (("--offset", "512"), "begins at byte 0"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(image: Path, words: tuple[str, ...], why: str) -> None:
    assert why in refused(image, *words)
    assert os.listdir(image.parent) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    line = refused(tmp_path / "no" / "disk.img", *SMALL)
    assert "No such file or directory" in line
    assert str(tmp_path / "no" / "disk.img") in line


@pytest.mark.parametrize("content", [b"", b"a letter to a friend\n", bytes(100_000)])
def test_a_file_that_is_no_disk_is_refused_untouched_and_made_one_with_force(image: Path, content: bytes) -> None:
    image.write_bytes(content)
    assert "use -f to make a new disk over it" in refused(image, *SMALL)
    assert image.read_bytes() == content
    run(image, *SMALL, "-f")
    check_file(image)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "neither a file nor a block device" in refused(tmp_path, *SMALL)
    assert "neither a file nor a block device" in refused(tmp_path, *SMALL, "-f")


def test_what_only_a_new_disk_can_have_is_refused_for_an_existing_one(image: Path) -> None:
    run(image, *SMALL)
    before = image.read_bytes()
    assert "which --size cannot change" in refused(image, "--size", "4M", "--path", "/b")
    assert image.read_bytes() == before


def test_a_second_file_of_the_same_name_is_refused_untouched(image: Path) -> None:
    run(image, *SMALL)
    before = image.read_bytes()
    assert "exists already" in refused(image, "--paging-size", "64K")
    assert "does not fit" in refused(image, "--paging-size", "64M", "--path", "/b")
    assert image.read_bytes() == before


def test_a_disk_at_an_offset_gets_its_file_there(image: Path, tmp_path: Path) -> None:
    run(image, *SMALL)
    whole = tmp_path / "whole.img"
    whole.write_bytes(b"label" * 1024 + image.read_bytes())
    facts = json.loads(run(whole, "--offset", "5120", "--path", "/b", "--paging-size", "8K", "--json").stdout)
    data = whole.read_bytes()
    assert data[:5120] == b"label" * 1024
    check_whole(MemoryDevice(bytearray(data[5120:])))
    assert facts["runs"][0]["device_offset"] % 512 == 0
    assert facts["offset"] == 5120


def partitioned(image: Path, *disks: bytes) -> None:
    """An MBR with a slice of 4.4BSD's type for each disk."""
    sectors = [63 + sum(len(disk) // 512 for disk in disks[:at]) for at in range(len(disks))]
    entries = [
        struct.pack("<4B4BII", 0, 0, 0, 0, 0xA5, 0, 0, 0, at, len(disk) // 512)
        for at, disk in zip(sectors, disks, strict=True)
    ]
    head = bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"
    image.write_bytes(head.ljust(63 * 512, b"\0") + b"".join(disks))


def test_a_disk_in_a_partition_gets_its_file_there(image: Path) -> None:
    disk = bytes(disk_of(NewFileSystem(2 << 20, format="ufs2")))
    partitioned(image, disk, disk)
    before = image.read_bytes()
    assert "--partition" in refused(image, "--path", "/b", "--paging-size", "64K")
    assert "no such partition" in refused(image, "--partition", "s3", "--path", "/b", "--paging-size", "64K")
    assert image.read_bytes() == before
    facts = json.loads(run(image, "--partition", "s2", "--path", "/b", "--paging-size", "64K", "--json").stdout)
    data = image.read_bytes()
    start = 63 * 512 + len(disk)
    assert (facts["offset"], facts["format"]) == (start, "ufs2")
    assert facts["runs"][0]["device_offset"] > start
    assert data[:start] == before[:start]
    check_whole(MemoryDevice(bytearray(data[start:])))
    partitioned(image, disk)
    run(image, "--path", "/b", "--paging-size", "64K")
    check_whole(MemoryDevice(bytearray(image.read_bytes()[63 * 512 :])))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--format", "ufs1"), ("ufs1", "little", 8192, 1024)),
        (("--format", "ufs2", "--byte-order", "big"), ("ufs2", "big", 8192, 1024)),
        (("--format", "ufs2", "--block-size", "64K"), ("ufs2", "little", 65536, 8192)),
        (("--format", "ufs1", "--block-size", "4K"), ("ufs1", "little", 4096, 1024)),
        (("--format", "ufs2", "--size", "9G"), ("ufs2", "little", 32768, 4096)),
    ],
)
def test_every_format_has_its_sizes(image: Path, words: tuple[str, ...], wanted: tuple[object, ...]) -> None:
    facts = json.loads(run(image, *SMALL, *words, "--json").stdout)
    assert tuple(facts[name] for name in ("format", "byte_order", "block_size", "fragment_size")) == wanted
    before = image.stat().st_mtime_ns
    assert "which --format cannot change" in refused(image, "--format", "ufs1", "--path", "/b")
    assert image.stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", ["ufs1", "ufs2"])
def test_the_epoch_makes_later_formats_identical_too(image: Path, tree: Path, kind: str) -> None:
    run(image, *SMALL, "--format", kind, "--from", tree)
    first = image.read_bytes()
    image.unlink()
    run(image, *SMALL, "--format", kind, "--from", tree)
    assert image.read_bytes() == first
    assert max(one["mtime"] for one in manifest_of(image).values()) <= 518472000


def test_a_broken_disk_is_refused_untouched(image: Path, miniroot: bytes) -> None:
    broken = bytearray(miniroot)
    broken[8192 + 196] ^= 1
    image.write_bytes(broken)
    assert "repair the file system with fsck first" in refused(image, "--paging-size", "64K")
    assert image.read_bytes() == broken


@pytest.mark.parametrize("words", [("--path", "/b", "--paging-size", "8K"), ("-f", *SMALL)])
def test_a_disk_that_is_paged_on_is_refused_but_a_dry_run_may_look(image: Path, words: tuple[str, ...]) -> None:
    run(image, *SMALL)
    before = image.read_bytes()
    with FileDevice(image, writable=True, exclusive=True):
        assert "another process pages on it" in refused(image, *words)
        run(image, *words, "-n")
    assert image.read_bytes() == before


def test_an_image_behind_a_link_stays_behind_it(image: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    run(tmp_path / "link", *SMALL)
    assert image.is_file()
    assert (tmp_path / "link").is_symlink()


def test_a_new_image_has_the_permissions_of_any_new_file(image: Path) -> None:
    run(image, *SMALL)
    (image.parent / "plain").touch()
    assert image.stat().st_mode == (image.parent / "plain").stat().st_mode


@pytest.mark.parametrize("error", [FileSystemError(FsCode.D_IO_ERROR, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_no_file_behind(
    image: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(self: WritePlan, *_: object) -> None:
        raise error

    monkeypatch.setattr(WritePlan, "write", fail)
    run(image, *SMALL, code=1)
    assert os.listdir(image.parent) == []


@pytest.mark.parametrize("words", [("--size", "lots"), ("--format", "fat"), ()])
def test_usage_errors_exit_2(image: Path, words: tuple[str, ...]) -> None:
    run(*((image, *words) if words else ()), code=2)


def test_help_shows_an_example_and_version_a_version() -> None:
    assert "mkpagingfile disk.img --size 64M" in run("--help").stdout
    assert "mkpagingfile" in run("--version").stdout


def test_every_recipe_makes_a_sound_disk(tmp_path: Path) -> None:
    from fixtures.disks import RECIPES

    assert len(RECIPES) >= 8
    for name, recipe in RECIPES.items():
        recipe(tmp_path / f"{name}.img")
        check_file(tmp_path / f"{name}.img")
