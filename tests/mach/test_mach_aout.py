"""a.out executables: address arithmetic, symbol tables, and everything that is refused (mach.md 1.3, 6.3, 8.33)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mach.aout import (
    EX_NOT_EXECUTABLE,
    HEADER_BYTES,
    Executable,
    Magic,
    NotExecutable,
    Symbol,
    SymbolType,
    loader_info,
    make_executable,
)


def header(magic: int = 0o410, text: int = 16, data: int = 8, bss: int = 4, syms: int = 0, **more: int) -> bytes:
    words = (magic, text, data, bss, syms, more.get("entry", 0x10000), more.get("trsize", 0), more.get("drsize", 0))
    return struct.pack("<8I", *words)


def test_0407_is_all_data() -> None:
    """mach.md 8.33, 1.3: text empty, data from 0x10000, text + data bytes from byte 32 of the file."""
    info = loader_info(header(0o407, text=0x1234, data=0x10, bss=0x20))
    assert (info.text_start, info.text_size) == (0x10000, 0)
    assert (info.data_start, info.data_size, info.data_offset) == (0x10000, 0x1244, 32)
    assert (info.bss_size, info.data_end) == (0x20, 0x11244)


def test_0410_has_data_right_behind_its_text() -> None:
    """mach.md 8.33: the data is not rounded to a page."""
    info = loader_info(header(0o410, text=0x1234, data=0x10))
    assert (info.text_start, info.text_size, info.text_offset) == (0x10000, 0x1234, 32)
    assert (info.data_start, info.data_size, info.data_offset) == (0x11234, 0x10, 32 + 0x1234)


def test_0413_has_its_header_in_the_text() -> None:
    """mach.md 8.33: the header is the first 32 bytes of the text."""
    info = loader_info(header(0o413, text=0x1234, data=0x10, entry=0x10020))
    assert (info.text_start, info.text_size, info.text_offset) == (0x10000, 0x1254, 0)
    assert (info.data_start, info.data_size, info.data_offset) == (0x11254, 0x10, 0x1254)
    assert (info.entry_1, info.entry_2) == (0x10020, 0)


@pytest.mark.parametrize("magic", Magic)
def test_symbols_stand_behind_data_and_relocations_in_every_magic(magic: Magic) -> None:
    """mach.md 6.3: Mach's makeboot looks `text` bytes too early in a 0407, and forgets relocations."""
    info = loader_info(header(magic, text=0x100, data=0x40, syms=24, trsize=8, drsize=16))
    assert (info.sym_offset, info.sym_size) == (32 + 0x100 + 0x40 + 8 + 16, 24)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "only 0 bytes"),
        (header()[:31], "only 31 bytes"),
        (header(0o411), "magic number is 0o411"),
        (b"\x7fELF" + bytes(60), "magic number is"),
        (header(0o410, text=0), "without text"),
        (header(0o413, text=0), "without text"),
        (header(0o407, text=0xFFFFFFFF, data=0xFFFFFFFF), "address space"),
        (header(0o410, bss=0xFFFFFFF0), "address space"),
        (header(0o410, text=16, data=8) + bytes(15), "its text ends at byte 48 of 47"),
        (header(0o410, text=16, data=8) + bytes(23), "its data ends at byte 56 of 55"),
        (header(0o410, syms=12) + bytes(24) + bytes(12), "strings must follow"),
        (header(0o410, syms=12) + bytes(24) + bytes(12) + b"\x03\0\0\0", "string table of 3 bytes"),
        (header(0o410, syms=12) + bytes(24) + bytes(12) + b"\x09\0\0\0abcd", "string table of 9 bytes"),
        (header(0o410, syms=0xFFFFFFFF) + bytes(24), "strings must follow"),
    ],
)
def test_what_is_no_executable_is_named(content: bytes, words: str) -> None:
    """mach.md 8.33: 6000 for a bad magic number and for no text in a 0410 or 0413."""
    with pytest.raises(NotExecutable, match=words) as raised:
        Executable.parse(content)
    assert raised.value.code == EX_NOT_EXECUTABLE == 6000


SYMBOL = st.builds(
    Symbol,
    st.text("abcdefgh_0123", min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
    st.sampled_from(SymbolType),
)


@given(
    magic=st.sampled_from(Magic),
    text=st.binary(min_size=1, max_size=80),
    data=st.binary(max_size=80),
    bss=st.integers(0, 1 << 20),
    symbols=st.lists(SYMBOL, max_size=6),
)
def test_what_is_made_is_read_back(magic: Magic, text: bytes, data: bytes, bss: int, symbols: list[Symbol]) -> None:
    made = make_executable(magic, text, data, bss, symbols)
    read = Executable.parse(made)
    assert read.text() + read.data() == (made[:HEADER_BYTES] if magic is Magic.ZMAGIC else b"") + text + data
    assert list(read.symbols()) == symbols
    sizes = read.sizes()
    assert (sizes.text, sizes.data, sizes.bss) == (len(text), len(data), bss)
    assert sizes.symbols == len(made) - HEADER_BYTES - len(text) - len(data)
    assert read.info.entry_1 - read.info.text_start == (HEADER_BYTES if magic is Magic.ZMAGIC else 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_executable_or_are_not(content: bytes) -> None:
    """P8, for executables: one kind of error, whatever they hold."""
    for prefix in (b"", *(struct.pack("<I", magic) for magic in Magic)):
        try:
            list(Executable.parse(prefix + content).symbols())
        except NotExecutable:
            pass
