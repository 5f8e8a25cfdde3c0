"""`bootfs extract` copies a tree as it is and never leaves its directory; `bootfs put` writes existing blocks only."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ffs_builder import CHAR, DIR, FILE, Builder

from bootfs.command import cli

FIFO = 0o010000


@pytest.fixture
def tree(builder: Builder) -> Builder:
    """A file with holes, two names of one file, links, a FIFO, a device, modes, a directory that cannot be written."""
    ino = builder.file("sparse", b"s" * (20 * 4096 + 100))
    builder.set_pointer(ino, 3, 0)
    builder.set_pointer(ino, 20, 0)
    shared = builder.file("first", b"shared\n", FILE | 0o4751)
    builder.nodes[shared]["nlink"] = 2
    builder.root_entries.append((b"second", shared))
    builder.link("link", "/etc/passwd")
    builder.link("long", "x/" * 100)
    builder.node(FIFO | 0o600, 0, "fifo")
    builder.node(CHAR | 0o600, 0, "tty")
    inner = builder.file(None, b"hello\n")
    builder.nodes[builder.directory("dir", [(b"caf\xe9", inner)])]["mode"] = DIR | 0o555
    return builder


def written(builder: Builder, tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(builder.build())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_tree_is_copied_as_it_is(tree: Builder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("extract", "--json", written(tree, tmp_path), out)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["files"], found["directories"], found["links"], found["hard_links"]) == (3, 1, 2, 1)
    data = (out / "sparse").read_bytes()
    assert data == b"s" * 3 * 4096 + bytes(4096) + b"s" * 16 * 4096 + bytes(100)
    assert (out / "sparse").stat().st_mtime == 1234
    assert (out / "first").samefile(out / "second")
    assert stat.S_IMODE((out / "first").stat().st_mode) == (0o4751 if os.geteuid() == 0 else 0o751)
    assert os.readlink(out / "link") == "/etc/passwd"
    assert os.readlink(out / "long") == "x/" * 100
    assert stat.S_ISFIFO((out / "fifo").stat().st_mode)
    assert stat.S_IMODE((out / "dir").stat().st_mode) == 0o555
    assert (out / "dir").stat().st_mtime == 1234
    assert (os.fsencode(out / "dir") + b"/caf\xe9").endswith(os.listdir(os.fsencode(out / "dir"))[0])
    assert found["others"] + len(found["skipped"]) == 2
    if os.geteuid() == 0:
        assert (out / "first").stat().st_uid == 7


def test_a_part_of_the_tree_or_one_file_is_copied(tree: Builder, tmp_path: Path) -> None:
    image = written(tree, tmp_path)
    assert run("extract", image, "/dir", tmp_path / "part").exit_code == 0
    assert [name for _, _, names in os.walk(os.fsencode(tmp_path / "part")) for name in names] == [b"caf\xe9"]
    assert run("extract", image, "/first", tmp_path / "one").stdout.startswith("1 files, ")
    assert (tmp_path / "one" / "first").read_bytes() == b"shared\n"
    assert run("extract", image, "dir/", tmp_path / "again").exit_code == 0
    assert len(os.listdir(tmp_path / "again")) == 1


def test_only_an_empty_directory_is_taken(tree: Builder, tmp_path: Path) -> None:
    image = written(tree, tmp_path)
    done = run("extract", image, tmp_path)
    assert done.exit_code == 1
    assert "is not empty" in done.stderr
    assert run("extract", image, "/nothere", tmp_path / "new").exit_code == 1
    assert run("extract", image).exit_code == 2
    assert run("extract", image, image).exit_code == 1


@pytest.mark.parametrize("first", ["link", "directory"])
def test_a_name_that_is_there_twice_does_not_lead_out(tmp_path: Path, first: str) -> None:
    """A link to a directory outside, and a directory of the same name with a file for it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    builder = Builder(variant="4.4")
    inner = builder.file(None, b"evil")
    makers = [
        lambda: builder.link("name", str(outside)),
        lambda: builder.directory("name", [(b"file", inner)]),
    ]
    for make in makers if first == "link" else makers[::-1]:
        make()
    done = run("extract", written(builder, tmp_path), tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert os.listdir(outside) == []


def test_a_second_dot_dot_does_not_lead_out(tmp_path: Path) -> None:
    builder = Builder(variant="4.4")
    inner = builder.file(None, b"evil")
    above = builder.directory(None, [(b"file", inner)])
    builder.root_entries += [(b"..", above), (b".", above)]
    assert run("extract", written(builder, tmp_path), tmp_path / "out").exit_code == 0
    assert os.listdir(tmp_path / "out") == []
    assert sorted(os.listdir(tmp_path)) == ["disk.img", "out"]


def test_a_directory_that_contains_itself_ends(tmp_path: Path) -> None:
    builder = Builder(variant="4.4")
    ino = builder.next_ino
    builder.directory("loop", [(b"again", ino)])
    assert run("extract", written(builder, tmp_path), tmp_path / "out").exit_code == 0
    assert os.listdir(tmp_path / "out" / "loop" / "again") == []


def test_files_that_share_their_blocks_do_not_fill_the_disk(tmp_path: Path) -> None:
    builder = Builder(variant="4.4", size=1024)
    ino = builder.file("f", b"x" * 100_000)
    for number in range(20):
        other = builder.node(FILE | 0o644, 100_000, f"g{number}")
        builder.nodes[other]["pointers"] = builder.nodes[ino]["pointers"]
    done = run("extract", written(builder, tmp_path), tmp_path / "out")
    assert done.exit_code == 1
    assert "map more than the disk holds" in done.stderr


# put


def test_put_writes_the_blocks_that_are_there(tree: Builder, tmp_path: Path) -> None:
    image = written(tree, tmp_path)
    before = image.read_bytes()
    (tmp_path / "new").write_bytes(b"SHARED!")
    done = run("put", image, "/first", tmp_path / "new")
    assert (done.exit_code, done.stdout) == (0, "7 bytes written\n")
    assert run("cat", image, "/second").stdout == "SHARED!"
    changed = [at for at, (one, two) in enumerate(zip(before, image.read_bytes(), strict=True)) if one != two]
    assert changed == list(range(changed[0], changed[0] + 7))
    (tmp_path / "new").write_bytes(b"sh")
    assert "the last 5 bytes of /first are as they were" in run("put", image, "/first", tmp_path / "new").stdout
    assert run("cat", image, "/second").stdout == "shARED!"


@pytest.mark.parametrize(
    ("path", "size", "words"),
    [
        ("/first", 8, "8 bytes do not fit in its 7"),
        ("/sparse", 20 * 4096, "a hole at file offset 12288 cannot be written"),
        ("/dir", 1, "not a regular file"),
        ("/fifo", 0, "not a regular file"),
        ("/nothere", 1, "no such file"),
    ],
)
def test_put_refuses_and_the_image_is_as_it_was(
    tree: Builder, tmp_path: Path, path: str, size: int, words: str
) -> None:
    image = written(tree, tmp_path)
    before = image.read_bytes()
    (tmp_path / "new").write_bytes(b"n" * size)
    done = run("put", image, path, tmp_path / "new")
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert image.read_bytes() == before


def test_put_takes_only_a_regular_file_and_a_part_before_the_hole(tree: Builder, tmp_path: Path) -> None:
    image = written(tree, tmp_path)
    (tmp_path / "new").write_bytes(b"n" * 3 * 4096)
    assert run("put", image, "/sparse", tmp_path / "new").exit_code == 0
    assert run("cat", image, "/sparse").stdout_bytes[: 3 * 4096] == b"n" * 3 * 4096
    assert "not a regular file" in run("put", image, "/first", "/dev/null").stderr
    assert run("put", image, "/first", tmp_path / "none").exit_code == 1
