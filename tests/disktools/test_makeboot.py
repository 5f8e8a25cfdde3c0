"""The command makeboot, as a person or a script meets it (mach.md 6.1, 8.34)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from disktools.makeboot import main
from mach.aout import Executable, Magic, Symbol, make_executable
from mach.boot_image import glue

KERNEL = make_executable(Magic.OMAGIC, b"kernel code.", b"data", 4096, [Symbol("_end", 0xC0102000)], 0xC0100000)
BOOTSTRAP = make_executable(Magic.ZMAGIC, b"boot code...", b"data", 100, [Symbol("_main", 0x10020)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in (("kernel", KERNEL), ("bootstrap", BOOTSTRAP)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def makeboot(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def refused(*arguments: str) -> str:
    """The one line of a refusal."""
    result = makeboot(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("makeboot: ")
    return line


def test_it_writes_mach_boot_as_the_format_has_it(folder: Path) -> None:
    assert makeboot("kernel", "bootstrap").exit_code == 0
    assert (folder / "mach.boot").read_bytes() == glue(Executable.parse(KERNEL), Executable.parse(BOOTSTRAP))


def test_without_header_it_writes_the_same_less_32_bytes(folder: Path) -> None:
    makeboot("kernel", "bootstrap")
    assert makeboot("-s", "-o", "bare", "kernel", "bootstrap").exit_code == 0
    assert (folder / "bare").read_bytes() == (folder / "mach.boot").read_bytes()[32:]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_the_boot_file_is_executable_for_whom_the_umask_lets(folder: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        makeboot("kernel", "bootstrap")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "mach.boot").stat().st_mode) == mode


def test_what_it_shows_is_what_it_wrote(folder: Path) -> None:
    made = json.loads(makeboot("--json", "kernel", "bootstrap").stdout)
    shown = json.loads(makeboot("--json", "--show", "mach.boot").stdout)
    assert made.pop("executables") == {
        "kernel": {"text": 12, "data": 4, "bss": 4096, "symbols": 12 + 4 + 5},
        "bootstrap": {"text": 12, "data": 4, "bss": 100, "symbols": 12 + 4 + 6},
    }
    assert made == shown
    assert shown["boot_info"]["offset"] == 32 + 16
    assert shown["symbols"] == {"kernel": 1, "bootstrap": 1}
    assert shown["load_info"]["entry_1"] == 0x10020
    drawing = makeboot("--show", "mach.boot").stdout
    for section in shown["sections"]:
        assert f"{section['offset']:>9} | {section['name']:<22} | {section['size']:>8} bytes" in drawing.splitlines()


@pytest.mark.parametrize(
    ("name", "content", "mode", "words"),
    [
        ("plain", KERNEL, 0o644, "plain: not an executable file: nobody may execute it"),
        (
            "script",
            b"#!/bin/sh\necho hello, at some length\n",
            0o755,
            "script: not an executable file: its magic",
        ),
        ("short", KERNEL[:40], 0o755, "short: not an executable file: cut short"),
        ("nosyms", BOOTSTRAP[:-6], 0o755, "nosyms: not an executable file: its string table"),
        ("odd", make_executable(Magic.OMAGIC, b"x"), 0o755, "whole number of 4-byte words"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_bad_input_is_named_and_nothing_is_made(
    folder: Path, name: str, content: bytes, mode: int, words: str, place: int
) -> None:
    (folder / name).write_bytes(content)
    (folder / name).chmod(mode)
    files = ["kernel", "bootstrap"]
    files[place] = name
    assert words in refused(*files)
    assert not (folder / "mach.boot").exists()


def test_what_is_no_file_at_all_is_named(folder: Path) -> None:
    (folder / "dir").mkdir()
    os.mkfifo(folder / "fifo")
    assert "nosuch: no such file or directory" in refused("kernel", "nosuch")
    assert "dir: not an executable file" in refused("dir", "bootstrap")
    assert "fifo: not an executable file" in refused("fifo", "bootstrap")
    assert "nosuch: no such file or directory" in refused("--show", "nosuch")
    assert "fifo: not a regular file" in refused("--show", "fifo")
    assert "no boot_info in it" in refused("--show", "kernel")


def test_a_failure_leaves_the_old_boot_file_and_no_litter(folder: Path) -> None:
    (folder / "mach.boot").write_bytes(b"the old one")
    refused("kernel", "nosuch")
    assert (folder / "mach.boot").read_bytes() == b"the old one"
    assert sorted(path.name for path in folder.iterdir()) == ["bootstrap", "kernel", "mach.boot"]


def test_a_write_that_fails_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mach.md 6.1: Mach's makeboot does not look whether its writes succeed."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "mach.boot: no space left on device" in refused("kernel", "bootstrap")
    assert sorted(path.name for path in folder.iterdir()) == ["bootstrap", "kernel"]


def test_a_directory_is_no_place_for_a_boot_file(folder: Path) -> None:
    (folder / "dir").mkdir()
    assert "dir: not a regular file" in refused("-o", "dir", "kernel", "bootstrap")
    assert "no such file or directory" in refused("-o", "nosuch/mach.boot", "kernel", "bootstrap")


@pytest.mark.parametrize(
    "arguments", [[], ["kernel"], ["kernel", "bootstrap", "third"], ["--show", "x", "kernel"], ["-z", "a", "b"]]
)
def test_wrong_usage_exits_2(folder: Path, arguments: list[str]) -> None:
    result = makeboot(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
