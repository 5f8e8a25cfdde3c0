"""The boot file: byte for byte as mach.md 6.2 lays it out, and what is no boot file (8.34)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mach.aout import Executable, Magic, NotExecutable, Symbol, SymbolType, make_executable
from mach.boot_image import (
    BOOT_INFO_BYTES,
    BadBootImage,
    dissect,
    find_boot_info,
    glue,
    pack_load_info,
    symbol_section,
    symbols_in,
    unpack_load_info,
)


def executable(magic: Magic, text: bytes, data: bytes = b"", bss: int = 0, *symbols: Symbol, entry: int | None = None):  # type: ignore[no-untyped-def]
    return Executable.parse(make_executable(magic, text, data, bss, symbols, entry))


KERNEL = executable(Magic.OMAGIC, b"KERNELTX", b"KDAT", 64, Symbol("_end", 0xC0101000), entry=0xC0100000)
BOOTSTRAP = executable(Magic.NMAGIC, b"bootstraptxt", b"bootdata", 100, Symbol("_main", 0x10000), entry=0x10004)


def test_a_small_boot_file_is_exact_to_the_byte() -> None:
    """mach.md 8.34, 6.2."""
    kernel_symbols = (
        struct.pack("<I", 12) + struct.pack("<IBBHI", 4, 5, 0, 0, 0xC0101000) + b"\x09\0\0\0_end\0" + bytes(3)
    )
    boot_symbols = struct.pack("<I", 12) + struct.pack("<IBBHI", 4, 5, 0, 0, 0x10000) + b"\x0a\0\0\0_main\0" + bytes(2)
    assert (len(kernel_symbols), len(boot_symbols)) == (28, 28)
    body = (
        b"KERNELTXKDAT"
        + struct.pack("<4I", 0x15BEEF15, 28, 12 + 8 + 28, 44)
        + kernel_symbols
        + b"bootstraptxtbootdata"
        + boot_symbols
        + struct.pack("<11I", 0x10000, 12, 0, 0x1000C, 8, 12, 100, 20, 28, 0x10004, 0)
    )
    header = struct.pack("<8I", 0o407, len(body), 0, 0, 0, 0xC0100000, 0, 0)
    assert glue(KERNEL, BOOTSTRAP) == header + body
    assert glue(KERNEL, BOOTSTRAP, header=False) == body


def test_a_kernel_without_symbols_has_no_symbol_section() -> None:
    """mach.md 8.34: zero bytes, not an empty table."""
    bare = executable(Magic.OMAGIC, b"KERNELTX")
    image = dissect(glue(bare, executable(Magic.OMAGIC, b"boot")))
    assert (image.info.sym_size, image.kernel_symbols) == (0, b"")
    assert image.load_info.sym_size == 0
    assert [name for name, _, _ in image.sections()] == [
        "a.out header",
        "kernel text and data",
        "boot_info",
        "bootstrap data",
        "load_info",
    ]


@pytest.mark.parametrize("length", range(1, 9))
def test_symbols_are_padded_to_a_word(length: int) -> None:
    """mach.md 8.34: and sym_size counts header and padding."""
    section = symbol_section(executable(Magic.OMAGIC, b"text", b"", 0, Symbol("x" * length, 7)))
    assert len(section) == -(-(4 + 12 + 4 + length + 1) // 4) * 4
    assert section[4 + 12 + 4 + length + 1 :] == bytes(-(4 + 12 + 4 + length + 1) % 4)


def test_a_0407_kernel_keeps_its_symbols() -> None:
    """mach.md 6.3: Mach's makeboot takes the table from `text` bytes too early; the bytes of the text came out."""
    (symbol,) = symbols_in(dissect(glue(KERNEL, BOOTSTRAP)).kernel_symbols)
    assert symbol == Symbol("_end", 0xC0101000)


def test_a_0413_bootstrap_brings_its_header_along() -> None:
    """mach.md 6.2: without it the text would be mapped 32 bytes too low."""
    image = dissect(glue(KERNEL, executable(Magic.ZMAGIC, b"text")))
    assert image.bootstrap[:4] == struct.pack("<I", 0o413)
    assert (image.load_info.text_size, image.load_info.data_offset) == (36, 36)


@pytest.mark.parametrize("part", ["kernel", "bootstrap"])
def test_parts_that_the_kernel_could_not_move_by_words_are_refused(part: str) -> None:
    odd = executable(Magic.NMAGIC, b"oddly")
    with pytest.raises(NotExecutable, match=f"the {part}'s text and data"):
        glue(odd if part == "kernel" else KERNEL, odd if part == "bootstrap" else BOOTSTRAP)


WORDS = st.binary(min_size=1, max_size=10).map(lambda part: part * 4)
SYMBOLS = st.lists(
    st.builds(Symbol, st.text("abc_", min_size=1, max_size=9), st.integers(0, 2**32 - 1), st.sampled_from(SymbolType)),
    max_size=4,
)
EXECUTABLES = st.builds(
    lambda magic, text, data, bss, symbols: executable(magic, text, data, bss, *symbols),
    st.sampled_from(Magic),
    WORDS,
    st.one_of(st.just(b""), WORDS),
    st.integers(0, 100_000),
    SYMBOLS,
)


@given(kernel=EXECUTABLES, bootstrap=EXECUTABLES, header=st.booleans())
def test_what_is_glued_comes_apart_again(kernel: Executable, bootstrap: Executable, header: bool) -> None:
    """mach/boot_image.py INV-1."""
    content = glue(kernel, bootstrap, header)
    image = dissect(content)
    assert image.kernel == kernel.text() + kernel.data()
    assert image.entry == (kernel.info.entry_1 if header else None)
    assert list(symbols_in(image.kernel_symbols)) == list(kernel.symbols())
    load = image.load_info
    assert image.bootstrap[load.text_offset :][: load.text_size] == bootstrap.text()
    assert image.bootstrap[load.data_offset :][: load.data_size] == bootstrap.data()
    assert list(symbols_in(image.bootstrap[load.sym_offset :])) == list(bootstrap.symbols())
    for field in ("text_start", "text_size", "data_start", "data_size", "bss_size", "entry_1"):
        assert getattr(load, field) == getattr(bootstrap.info, field)
    ends = [offset + size for _, offset, size in image.sections()]
    assert [offset for _, offset, _ in image.sections()] == [0, *ends[:-1]]
    assert ends[-1] == len(content)


@given(st.integers(0, len(glue(KERNEL, BOOTSTRAP)) - 1))
def test_a_boot_file_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(BadBootImage):
        dissect(glue(KERNEL, BOOTSTRAP)[:length])


@given(st.data())
def test_a_damaged_boot_file_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    """P8, for boot files."""
    content = bytearray(glue(KERNEL, BOOTSTRAP))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = dissect(bytes(content))
    except BadBootImage:
        return
    list(symbols_in(image.kernel_symbols))
    assert image.load_info.data_offset + image.load_info.data_size <= len(image.bootstrap)


def test_a_magic_number_in_the_kernel_itself_is_not_taken_for_boot_info() -> None:
    kernel = executable(Magic.OMAGIC, b"code" + struct.pack("<I", 0x15BEEF15) * 3, b"data")
    assert dissect(glue(kernel, BOOTSTRAP)).kernel == kernel.data()


@pytest.mark.parametrize("slack", [0, 4, 2048, 4092])
def test_the_kernel_finds_boot_info_within_a_page_behind_edata(slack: int) -> None:
    """mach.md 8.34, 6.4: the data segment may not be properly sized."""
    memory = bytes(512 + slack) + struct.pack("<4I", 0x15BEEF15, 8, 12, 44)
    info = find_boot_info(memory, 512)
    assert info is not None
    assert (info.offset, info.sym_size, info.boot_size, info.load_info_size) == (512 + slack, 8, 12, 44)


@pytest.mark.parametrize("place", [508, 512 + 4096, 514])
def test_the_kernel_does_not_find_what_is_not_on_a_word_of_that_page(place: int) -> None:
    """mach.md 8.34."""
    memory = bytearray(512 + 4096 + 64)
    memory[place : place + BOOT_INFO_BYTES] = struct.pack("<4I", 0x15BEEF15, 0, 0, 0)
    assert find_boot_info(bytes(memory), 512) is None


def test_load_information_is_eleven_words_with_sym_offset_before_sym_size() -> None:
    """mach.md 6.2: the bootstrap's own struct has them the other way round."""
    info = dissect(glue(KERNEL, BOOTSTRAP)).load_info
    packed = pack_load_info(info)
    assert struct.unpack("<11I", packed)[7:9] == (info.sym_offset, info.sym_size) == (20, 28)
    assert unpack_load_info(packed) == info
