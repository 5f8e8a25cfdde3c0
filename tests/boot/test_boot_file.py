"""A boot file comes into physical memory, and its sections out of the kernel's BSS (mach.md 6.4, 8.34)."""

from __future__ import annotations

import pytest
from booting import KERNEL_BASE, bootstrap_executable, kernel_executable
from hypothesis import given
from hypothesis import strategies as st

from kernel.boot_file import CannotBoot, boot_kernel, load
from mach.aout import Executable, Magic, Symbol, SymbolType, make_executable
from mach.boot_image import dissect, glue, symbols_in

PAGE = 4096
MEMORY_BYTES = 2 << 20
START = KERNEL_BASE & 0x00FFFFFF


def memory() -> memoryview:
    """As the boot program finds it: not cleared."""
    return memoryview(bytearray(b"\xa5" * MEMORY_BYTES))


def loaded_and_moved(content: bytes):  # type: ignore[no-untyped-def]
    store = memory()
    kernel = load(store, content, PAGE)
    return store, kernel, boot_kernel(store, kernel, PAGE)


def test_a_boot_file_is_loaded_in_one_piece_where_its_entry_says() -> None:
    content = glue(kernel_executable(), bootstrap_executable())
    store = memory()
    kernel = load(store, content, PAGE)
    assert (kernel.start, kernel.size) == (START, len(content) - 32)
    assert bytes(store[START : START + kernel.size]) == content[32:]
    assert set(bytes(store[:START])) == {0xA5}
    assert set(bytes(store[START + kernel.size :])) == {0xA5}


@given(
    bss=st.integers(0, 30_000),
    text=st.integers(1, 3000),
    image=st.integers(1, 12_000),
    data=st.integers(0, 3000),
)
def test_the_sections_survive_their_move_out_of_the_bss(bss: int, text: int, image: int, data: int) -> None:
    """mach.md 8.34: also where source and destination overlap, for any size of the BSS."""
    kernel_file = kernel_executable(text=bytes(range(1, 5)) * text, bss=bss * 4)
    boot_file = bootstrap_executable(text_bytes=4 * image, data=b"boot" * data)
    content = glue(kernel_file, boot_file)
    parts = dissect(content)
    store, kernel, moved = loaded_and_moved(content)
    assert moved.info is not None
    assert moved.boot_start % PAGE == 0
    assert bytes(store[moved.symbols :][: moved.info.sym_size]) == parts.kernel_symbols
    assert bytes(store[moved.boot_start :][: moved.info.boot_size]) == parts.bootstrap
    assert moved.load_info == parts.load_info
    assert moved.symbols >= kernel.end
    assert moved.first_free == moved.boot_start + moved.info.boot_size + 44
    assert bytes(store[START : START + len(parts.kernel)]) == parts.kernel
    assert not any(store[kernel.edata : moved.symbols]), "the BSS is not clear"


def test_a_kernel_without_symbols_boots_too() -> None:
    """mach.md 8.34."""
    content = glue(kernel_executable(symbols=False), bootstrap_executable())
    store, _, moved = loaded_and_moved(content)
    assert bytes(store[moved.boot_start :][: moved.info.boot_size]) == dissect(content).bootstrap


@pytest.mark.parametrize(("slack", "found"), [(4, True), (2048, True), (4092, True), (4096, False), (8000, False)])
def test_boot_info_is_looked_for_in_the_page_behind_edata(slack: int, found: bool) -> None:
    """mach.md 8.34: the data segment may have been sized wrong by that much, and no more."""
    content = glue(kernel_executable(data=b"data" * 2500, slack=slack), bootstrap_executable())
    _, _, moved = loaded_and_moved(content)
    assert (moved.info is not None) is found


def test_without_boot_info_the_kernel_runs_alone() -> None:
    """mach.md 8.34, 6.4."""
    content = bytearray(glue(kernel_executable(), bootstrap_executable()))
    content[dissect(bytes(content)).info.offset] ^= 1
    _, kernel, moved = loaded_and_moved(bytes(content))
    assert (moved.info, moved.load_info) == (None, None)
    assert moved.first_free >= kernel.end


def test_a_plain_kernel_has_its_bss_where_its_header_says() -> None:
    plain = make_executable(Magic.OMAGIC, b"kern" * 10, b"data" * 10, 5000, (), KERNEL_BASE)
    _, kernel, moved = loaded_and_moved(plain)
    assert (kernel.edata, kernel.end) == (START + 80, START + 5080)
    assert moved.info is None


def test_the_entry_of_a_0413_kernel_is_behind_the_header_that_is_its_text() -> None:
    symbols = [Symbol("_end", KERNEL_BASE + 32 + 4000 + 9000, SymbolType.BSS)]
    made = make_executable(Magic.ZMAGIC, b"kern" * 1000, b"", 9000, symbols, KERNEL_BASE + 32)
    content = glue(Executable.parse(made), bootstrap_executable())
    store, kernel, moved = loaded_and_moved(content)
    assert kernel.start == START
    assert list(symbols_in(bytes(store[moved.symbols :][: moved.info.sym_size]))) == symbols


def _patched(content: bytes, section: str, at: int, word: int) -> bytes:
    (offset,) = (offset for name, offset, _ in dissect(content).sections() if name == section)
    place = offset + at
    return content[:place] + word.to_bytes(4, "little") + content[place + 4 :]


GOOD = glue(kernel_executable(), bootstrap_executable())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a boot file: only 0 bytes"),
        (b"\x7fELF" * 20, "not a boot file: its magic"),
        (GOOD[:-1], "cut short: its header promises"),
        (GOOD[:100], "cut short: its header promises"),
        (_patched(GOOD, "boot_info", 4, 1 << 20), "boot_info at byte 8432 promises"),
        (_patched(GOOD, "boot_info", 8, 0xFFFFFFFF), "boot_info at byte 8432 promises"),
        (_patched(GOOD, "boot_info", 12, 40), "boot_info at byte 8432 promises"),
        (_patched(GOOD, "load_info", 4, 1 << 30), "load_info: text ends at"),
        (_patched(GOOD, "load_info", 24, 0xFFFFFF00), "do not follow each other"),
        (_patched(GOOD, "a.out header", 20, 0xC0FFF000), "do not fit into 2097152 bytes"),
    ],
)
def test_what_cannot_boot_says_why(content: bytes, words: str) -> None:
    with pytest.raises(CannotBoot, match=words):
        loaded_and_moved(content)


@pytest.mark.parametrize(
    ("section", "at", "word", "words"),
    [
        ("boot_info", 4, 1 << 20, "boot_info promises sections up to"),
        ("boot_info", 8, 0xFFFFFFFF, "boot_info promises sections up to"),
        ("boot_info", 12, 40, "load_info has 40 bytes"),
        ("load_info", 24, 0xFFFFFF00, "do not follow each other"),
    ],
)
def test_the_kernel_trusts_no_boot_info_either(section: str, at: int, word: int, words: str) -> None:
    """Memory that went bad between the boot program and the kernel."""
    store = memory()
    kernel = load(store, GOOD, PAGE)
    store[START : START + kernel.size] = _patched(GOOD, section, at, word)[32:]
    with pytest.raises(CannotBoot, match=words):
        boot_kernel(store, kernel, PAGE)


def test_a_kernel_that_leaves_no_room_for_its_sections_says_so() -> None:
    content = glue(kernel_executable(bss=(1 << 20) - 9000), bootstrap_executable())
    with pytest.raises(CannotBoot, match=r"need \d+ bytes of memory, of 2097152"):
        loaded_and_moved(content)


@given(st.data())
def test_a_damaged_boot_file_boots_or_is_refused_and_nothing_else(data: st.DataObject) -> None:
    """P8, for what a boot program loads."""
    content = bytearray(GOOD)
    offsets = [at for _, offset, size in dissect(GOOD).sections() if size < 60 for at in range(offset, offset + size)]
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.sampled_from(offsets))] = data.draw(st.integers(0, 255))
    try:
        loaded_and_moved(bytes(content))
    except CannotBoot:
        pass
