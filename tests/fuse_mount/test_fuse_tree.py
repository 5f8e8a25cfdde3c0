"""The tree by itself: nodes, names, snapshots."""

from __future__ import annotations

import errno
import stat

import pytest
from fuse_fakes import failure
from hypothesis import given
from hypothesis import strategies as st

from fuse_mount.tree import DataFile, Dir, Extent, Link, TextFile, fixed, lookup, numbered


def small_tree() -> Dir:
    return fixed({b"a": fixed({b"caf\xe9": TextFile(lambda: "x")}), b"link": Link(lambda: b"a")})


def test_a_path_leads_to_its_node_and_dots_and_double_slashes_lead_nowhere() -> None:
    root = small_tree()
    assert lookup(root, b"/") is root
    assert isinstance(lookup(root, b"/a//./caf\xe9"), TextFile)
    assert failure(lookup, root, b"/b") == errno.ENOENT
    assert failure(lookup, root, b"/a/caf\xe9/more") == errno.ENOTDIR
    assert failure(lookup, root, b"/link/caf\xe9") == errno.ENOTDIR


def test_an_open_text_file_stays_what_it_was_while_the_file_moves_on() -> None:
    words = iter(["first", "second text", "third"])
    file = TextFile(lambda: next(words))
    opened = file.open()
    assert file.attributes().size == len("second text")
    assert (opened.size(), opened.read(0, 100), opened.read(2, 2)) == (5, b"first", b"rs")
    assert not opened.cached


def test_a_data_file_says_how_much_of_it_is_there() -> None:
    file = DataFile(lambda: Extent(100_000, 4097), lambda offset, length: bytes(length))
    attributes = file.attributes()
    assert (attributes.size, attributes.blocks, stat.S_ISREG(attributes.mode)) == (100_000, 9, True)
    assert file.open().cached


@given(st.binary(max_size=64), st.integers(0, 100), st.integers(0, 100))
def test_a_data_file_reads_as_its_bytes_do(content: bytes, offset: int, size: int) -> None:
    def fetch(at: int, length: int) -> bytes:
        assert 0 <= at < at + length <= len(content)
        return content[at : at + length]

    file = DataFile(lambda: Extent(len(content), len(content)), fetch)
    assert file.open().read(offset, size) == content[offset : offset + size]


def test_a_data_file_that_grows_is_read_beyond_its_old_end() -> None:
    content = bytearray(b"old")
    opened = DataFile(lambda: Extent(len(content), 0), lambda at, length: bytes(content[at : at + length])).open()
    content += b" and new"
    assert opened.read(0, 100) == b"old and new"


def test_fewer_bytes_than_the_file_has_are_an_error_never_zeros() -> None:
    opened = DataFile(lambda: Extent(10, 10), lambda at, length: b"few").open()
    assert failure(opened.read, 0, 10) == errno.EIO


@pytest.mark.parametrize("name", [b"8", b"007", b"+7", b"-7", b"7 ", b"", b"\xb2", "٧".encode(), b"7" * 300])
def test_a_number_has_one_spelling(name: bytes) -> None:
    there = {7}
    root = numbered(lambda: there, lambda number: fixed({}, check=lambda: there.remove(number)))
    assert list(root.children()) == [b"7"]
    assert isinstance(root.child(b"7"), Dir)
    if name == b"8":
        with pytest.raises(KeyError):  # the node itself finds out that it has gone
            root.child(name).attributes()
    else:
        assert failure(root.child, name) == errno.ENOENT
