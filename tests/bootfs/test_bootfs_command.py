"""The command `bootfs`: the JSON that scripts depend on, text for people, and errors in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from click.testing import CliRunner, Result
from ffs_builder import CHAR, Builder

from bootfs.command import cli


@pytest.fixture
def image(tmp_path: Path, builder: Builder) -> Path:
    """A small tree: a file with a hole and a tail, a link, a device, a directory, a name that is not UTF-8."""
    ino = builder.file("sparse", b"s" * (20 * 4096 + 100))
    builder.set_pointer(ino, 14, 0)
    builder.link("link", "dir/inner")
    device = builder.node(CHAR | 0o600, 0, "tty")
    builder.nodes[device]["pointers"][0] = 0x0102
    builder.directory("dir", [(b"inner", builder.file(None, b"hello\n"))])
    builder.file(b"caf\xe9\x1b[31m", b"")
    path = tmp_path / "disk.img"
    path.write_bytes(builder.build())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def result(*arguments: object) -> object:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_info_has_the_keys_of_the_contract(image: Path, builder: Builder) -> None:
    assert result("info", "--json", image) == {
        "format": {"4.3": "4.3bsd", "4.4": "ufs1", "ufs2": "ufs2"}[builder.variant],
        "byte_order": builder.order,
        "offset": 0,
        "block_size": 4096,
        "fragment_size": 512,
        "fragments": 4096,
        "cylinder_groups": 1,
        "inodes": 64,
        "free_blocks": 0,
        "free_fragments": 0,
        "free_inodes": 0,
        "clean": None if builder.variant == "4.3" else True,
        "last_mounted": "/test",
    }
    assert f"byte order       {builder.order}" in run("info", image).stdout


def test_the_offset_is_honoured_in_bytes_and_in_sizes(image: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted.img"
    shifted.write_bytes(bytes(64 * 1024) + image.read_bytes())
    for offset in ("64K", "64KiB", "65536"):
        found = result("info", "--json", "--offset", offset, shifted)
        assert isinstance(found, dict)
        assert found["offset"] == 65536
    assert run("cat", "--offset", "64K", shifted, "/dir/inner").stdout == "hello\n"
    assert run("info", "--offset", "sixty", shifted).exit_code == 2
    assert run("info", "--offset", "1T", shifted).exit_code == 1


def test_manifest_has_every_name_and_the_keys_of_the_contract(image: Path) -> None:
    found = result("manifest", "--json", image)
    assert isinstance(found, dict)
    assert list(found) == ["/", "/caf\udce9\x1b[31m", "/dir", "/dir/inner", "/link", "/sparse", "/tty"]
    common = {"uid": 7, "gid": 0, "nlink": 1, "mtime": 1234}
    assert found["/dir/inner"] == {
        "kind": "file",
        "ino": 6,
        "size": 6,
        "mode": 0o644,
        "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        **common,
    }
    assert found["/link"] == {"kind": "link", "ino": 4, "size": 9, "mode": 0o777, "target": "dir/inner", **common}
    assert found["/tty"]["kind"] == "other"
    assert found["/tty"]["rdev"] == [1, 2]
    assert found["/dir"]["kind"] == "dir"


def test_manifest_hashes_as_asked(image: Path) -> None:
    found = result("manifest", "--json", "--hash", "blake3", image, "/dir")
    assert isinstance(found, dict)
    assert list(found) == ["/dir", "/dir/inner"]
    assert found["/dir/inner"]["blake3"] == blake3(b"hello\n").hexdigest()
    plain = result("manifest", "--json", "--hash", "none", image)
    assert isinstance(plain, dict)
    assert not {"sha256", "blake3"} & set(plain["/sparse"])
    assert "/dir/inner" in run("manifest", image).stdout


def test_blocks_gives_runs_holes_and_the_tail(image: Path) -> None:
    found = result("blocks", "--json", image, "/sparse")
    assert isinstance(found, dict)
    assert (found["path"], found["size"], found["tail"]) == ("/sparse", 20 * 4096 + 100, 100)
    assert found["holes"] == [{"file_offset": 14 * 4096, "length": 4096}]
    data = image.read_bytes()
    for piece in found["runs"]:
        at = piece["device_offset"]
        assert data[at : at + piece["length"]] == b"s" * piece["length"]
    assert sum(piece["length"] for piece in found["runs"]) == 19 * 4096
    text = run("blocks", image, "/sparse").stdout
    assert "1 holes" in text
    assert "tail of 100 bytes" in text


def test_ls_lists_as_ls_l_and_keeps_the_terminal_safe(image: Path) -> None:
    text = run("ls", image).stdout
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert "drwxr-xr-x   1     7     0   512 1970-01-01 00:20:34 dir\n" in text
    assert "lrwxrwxrwx" in text
    assert "link -> dir/inner" in text
    assert " 1, 2 1970" in text
    assert run("ls", image, "/dir").stdout.endswith(" inner\n")
    assert run("ls", image, "/dir/inner").stdout.endswith(" /dir/inner\n")
    both = run("ls", image, "/", "/dir").stdout
    assert "/dir:" in both
    found = result("ls", "--json", image, "/dir")
    assert isinstance(found, list)
    assert [(entry["name"], entry["kind"], entry["ino"]) for entry in found] == [("inner", "file", 6)]


def test_stat_shows_the_inode_and_the_link_itself(image: Path) -> None:
    found = result("stat", "--json", image, "/link")
    assert isinstance(found, dict)
    assert (found["kind"], found["target"], found["path"]) == ("link", "dir/inner", "/link")
    assert "-rw-r--r-- 100644" in run("stat", image, "/dir/inner").stdout


def test_cat_writes_the_bytes_holes_and_all(image: Path) -> None:
    done = run("cat", image, "/sparse")
    assert done.stdout_bytes == b"s" * 14 * 4096 + bytes(4096) + b"s" * (5 * 4096 + 100)
    assert run("cat", image, "/link", "dir/inner").stdout == "hello\nhello\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cat", "IMAGE", "/nothere"], "/nothere: no such file or directory"),
        (["cat", "IMAGE", "/dir/inner", "/nothere"], "/nothere: no such file or directory"),
        (["cat", "IMAGE", "/dir"], "not a regular file"),
        (["stat", "IMAGE", "/sparse/x"], "not a directory"),
        (["ls", "IMAGE", "/nothere\n"], "\\x0a: no such file"),
        (["blocks", "IMAGE", "/tty"], "no contents"),
        (["info", "/nonexistent"], "/nonexistent: cannot be opened: No such file or directory"),
        (["info", "/"], "/: neither a regular file nor a block device"),
        (["info", "/dev/null"], "neither a regular file nor a block device"),
        (["info", __file__], "no FFS superblock"),
        (["info", "--offset", "512", "IMAGE"], "no FFS superblock"),
    ],
)
def test_a_failure_is_one_line_and_exit_1(image: Path, arguments: list[str], words: str) -> None:
    done = run(*(str(image) if argument == "IMAGE" else argument for argument in arguments))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("bootfs: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_use_is_exit_2() -> None:
    for arguments in (["info"], ["nonsense"], ["cat", "x"], ["manifest", "--hash", "md5", "x"]):
        assert run(*arguments).exit_code == 2


def test_help_has_an_example_and_there_is_a_version() -> None:
    for name in ("info", "ls", "stat", "cat", "blocks", "manifest"):
        assert "Example:  bootfs " + name in run(name, "--help").stdout
    assert "Example:" in run("--help").stdout
    assert run("--version").exit_code == 0


def test_a_reader_that_goes_away_is_no_complaint(tmp_path: Path) -> None:
    builder = Builder(size=16384)
    builder.file("large", b"x" * (1 << 20))
    path = tmp_path / "disk.img"
    path.write_bytes(builder.build())
    script = "from bootfs.command import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", script, "cat", str(path), "/large"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.stderr == b""


def test_names_that_are_not_utf_8_go_out_as_their_bytes(image: Path) -> None:
    script = "from bootfs.command import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "ls", str(image)], capture_output=True, check=True)
    assert b" caf\xe9\\x1b[31m\n" in done.stdout


def test_the_image_is_as_it_was(image: Path) -> None:
    before = image.read_bytes()
    for arguments in (["info"], ["ls"], ["manifest"]):
        run(*arguments, image)
    for name in ("stat", "cat", "blocks"):
        run(name, image, "/sparse")
    assert image.read_bytes() == before
