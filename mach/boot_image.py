"""The boot file that makeboot writes: a kernel and its first task in one image (paper §6.2; mach.md 6.2; boot_info.h).

    header | kernel text, data | boot_info | kernel symbols | bootstrap text, data, symbols | load_info
             loaded as one text segment, to contiguous physical memory; boot_info is where the kernel's BSS begins

Interface:
    glue(kernel, bootstrap, header=True) -> bytes
    dissect(content) -> BootImage        the parts of a boot file; BadBootImage says what is wrong (NoBootInfo: all)
    symbol_section(executable) -> bytes  a symbol table that describes itself
    described(table, strings) -> bytes   the same of the two parts of one
    symbols_in(section)                  the symbols in one
    BootInfo, find_boot_info(memory, edata)      as the kernel finds it: at edata, or within a page behind it
    pack_load_info, unpack_load_info     LoaderInfo as 11 words

Invariants:
    1. dissect(glue(kernel, bootstrap)) gives back each part, byte for byte.

Not here: moving and mapping the parts (kernel/bootstrap.py); files (disktools/makeboot.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from construct import Int32ul, Struct

from mach.aout import (
    EXEC,
    HEADER_BYTES,
    NLIST_BYTES,
    WORD_BYTES,
    Executable,
    LoaderInfo,
    Magic,
    NotExecutable,
    Symbol,
    symbols_of,
)

BOOT_MAGIC = 0x15BEEF15
SEARCH_BYTES = 4096  # how far behind edata the kernel looks (KB:255)

BOOT_INFO = Struct("magic" / Int32ul, "sym_size" / Int32ul, "boot_size" / Int32ul, "load_info_size" / Int32ul)
LOAD_INFO = Struct(
    "text_start" / Int32ul,
    "text_size" / Int32ul,
    "text_offset" / Int32ul,
    "data_start" / Int32ul,
    "data_size" / Int32ul,
    "data_offset" / Int32ul,
    "bss_size" / Int32ul,
    "sym_offset" / Int32ul,  # before sym_size here, behind it in the bootstrap's own struct: never mix them
    "sym_size" / Int32ul,
    "entry_1" / Int32ul,
    "entry_2" / Int32ul,
)
BOOT_INFO_BYTES: int = BOOT_INFO.sizeof()
LOAD_INFO_BYTES: int = LOAD_INFO.sizeof()
_MAGIC = BOOT_MAGIC.to_bytes(WORD_BYTES, "little")


class BadBootImage(Exception):
    """The file is no boot file, or its parts do not fit each other."""


class NoBootInfo(BadBootImage):
    """Nothing in the file looks like boot_info."""


@dataclass(frozen=True, slots=True)
class BootInfo:
    """struct boot_info, and where it was found; bytes."""

    offset: int
    sym_size: int
    boot_size: int
    load_info_size: int

    @property
    def symbols(self) -> int:
        """Where the kernel's symbols begin; the boot image and the load information follow."""
        return self.offset + BOOT_INFO_BYTES

    @property
    def end(self) -> int:
        return self.symbols + self.sym_size + self.boot_size + self.load_info_size


@dataclass(frozen=True, slots=True)
class BootImage:
    """A boot file, taken apart."""

    has_header: bool
    entry: int | None  # of the kernel; None without a header
    kernel: bytes  # text and data
    info: BootInfo  # its offset is in the file
    kernel_symbols: bytes
    bootstrap: bytes  # text, data and symbols
    load_info: LoaderInfo

    def sections(self) -> list[tuple[str, int, int]]:
        """Name, offset in the file and size of each part, in order."""
        info, load = self.info, self.load_info
        at = info.symbols + info.sym_size
        rows = [
            ("a.out header", 0, HEADER_BYTES if self.has_header else 0),
            ("kernel text and data", HEADER_BYTES if self.has_header else 0, len(self.kernel)),
            ("boot_info", info.offset, BOOT_INFO_BYTES),
            ("kernel symbols", info.symbols, info.sym_size),
            ("bootstrap text", at + load.text_offset, load.text_size),
            ("bootstrap data", at + load.data_offset, load.data_size),
            ("bootstrap symbols", at + load.sym_offset, load.sym_size),
            ("load_info", at + info.boot_size, info.load_info_size),
        ]
        return [row for row in rows if row[2]]


# -- making one --------------------------------------------------------------------------------------------------------


def symbol_section(executable: Executable) -> bytes:
    """The size of the symbols, the symbols, their strings, zeros up to a word; nothing if there are no symbols."""
    table, strings = executable.symbol_table()
    return described(table, strings) if table else b""


def described(table: bytes, strings: bytes) -> bytes:
    """As in a boot file, and as host_load_symbol_table takes it (mach.md 1.3)."""
    section: bytes = len(table).to_bytes(WORD_BYTES, "little") + table + strings
    return section + bytes(-len(section) % WORD_BYTES)


def symbols_in(section: bytes) -> Iterator[Symbol]:
    """The symbols of a section that symbol_section made; none if it is not sound."""
    size = int.from_bytes(section[:WORD_BYTES], "little")
    if size % NLIST_BYTES == 0 and WORD_BYTES + size <= len(section):
        yield from symbols_of(section[WORD_BYTES : WORD_BYTES + size], section[WORD_BYTES + size :])


def glue(kernel: Executable, bootstrap: Executable, header: bool = True) -> bytes:
    """The boot file.  Nothing is aligned: the kernel aligns what it maps.

    The words behind the kernel's data must be on a word of the file, or the kernel cannot find them: NotExecutable.
    """
    for part, executable in (("kernel", kernel), ("bootstrap", bootstrap)):
        if (executable.info.text_size + executable.info.data_size) % WORD_BYTES:
            raise NotExecutable(f"the {part}'s text and data are not a whole number of {WORD_BYTES}-byte words")
    kernel_symbols = symbol_section(kernel)
    bootstrap_symbols = symbol_section(bootstrap)
    image = bootstrap.text() + bootstrap.data() + bootstrap_symbols
    info: bytes = BOOT_INFO.build(
        {
            "magic": BOOT_MAGIC,
            "sym_size": len(kernel_symbols),
            "boot_size": len(image),
            "load_info_size": LOAD_INFO_BYTES,
        }
    )
    load_info = pack_load_info(_within_image(bootstrap.info, len(bootstrap_symbols)))
    body = kernel.text() + kernel.data() + info + kernel_symbols + image + load_info
    return (_header(len(body), kernel.info.entry_1) if header else b"") + body


def _header(body_bytes: int, entry: int) -> bytes:
    """All that follows is text, so that a boot program loads it whatever it is; there is no BSS to clear over it."""
    words = {"a_data": 0, "a_bss": 0, "a_syms": 0, "a_trsize": 0, "a_drsize": 0}
    return bytes(EXEC.build(words | {"a_magic": int(Magic.OMAGIC), "a_text": body_bytes, "a_entry": entry}))


def _within_image(info: LoaderInfo, sym_size: int) -> LoaderInfo:
    """The same with offsets into the boot image, and the size of the symbols as a section."""
    return LoaderInfo(
        text_start=info.text_start,
        text_size=info.text_size,
        text_offset=0,
        data_start=info.data_start,
        data_size=info.data_size,
        data_offset=info.text_size,
        bss_size=info.bss_size,
        sym_offset=info.text_size + info.data_size,
        sym_size=sym_size,
        entry_1=info.entry_1,
        entry_2=info.entry_2,
    )


def pack_load_info(info: LoaderInfo) -> bytes:
    return bytes(LOAD_INFO.build({field.name: getattr(info, field.name) for field in LOAD_INFO.subcons}))


def unpack_load_info(content: bytes) -> LoaderInfo:
    """BadBootImage if there are too few bytes."""
    if len(content) < LOAD_INFO_BYTES:
        raise BadBootImage(f"load_info has {len(content)} bytes, not {LOAD_INFO_BYTES}")
    words = LOAD_INFO.parse(content)
    return LoaderInfo(**{field.name: words[field.name] for field in LOAD_INFO.subcons})


# -- taking one apart --------------------------------------------------------------------------------------------------


def find_boot_info(memory: memoryview | bytes, edata: int) -> BootInfo | None:
    """As the kernel looks for it: at `edata`, or word by word in the page that follows.  None: there is none."""
    for at in range(edata, min(edata + SEARCH_BYTES, len(memory) - BOOT_INFO_BYTES + 1), WORD_BYTES):
        if memory[at : at + WORD_BYTES] == _MAGIC:
            return _boot_info(memory, at)
    return None


def _boot_info(memory: memoryview | bytes, at: int) -> BootInfo:
    words = BOOT_INFO.parse(bytes(memory[at : at + BOOT_INFO_BYTES]))
    return BootInfo(at, words.sym_size, words.boot_size, words.load_info_size)


def dissect(content: bytes) -> BootImage:
    """The parts of a boot file, with a header or without.  Only the kernel knows its edata: here boot_info is what has
    the magic number and sizes that end where the file does."""
    has_header, entry = _read_header(content)
    info = _boot_info_by_size(content)
    at = info.symbols + info.sym_size
    load_info = unpack_load_info(content[at + info.boot_size :])
    check_load_info(load_info, info.boot_size)
    return BootImage(
        has_header=has_header,
        entry=entry,
        kernel=content[HEADER_BYTES if has_header else 0 : info.offset],
        info=info,
        kernel_symbols=content[info.symbols : at],
        bootstrap=content[at : at + info.boot_size],
        load_info=load_info,
    )


def _read_header(content: bytes) -> tuple[bool, int | None]:
    """Whether there is a header as glue makes one (a 0413 kernel brings one of its own), and its entry."""
    words = EXEC.parse(content) if len(content) >= HEADER_BYTES else None
    if words is None or words.a_magic != Magic.OMAGIC or words.a_data or words.a_bss or words.a_syms:
        return False, None
    size = HEADER_BYTES + words.a_text
    if size != len(content):
        raise BadBootImage(f"its header promises {size} bytes, and there are {len(content)}: is it cut short?")
    return True, words.a_entry


def _boot_info_by_size(content: bytes) -> BootInfo:
    found = None
    at = content.find(_MAGIC)
    while at >= 0 and at + BOOT_INFO_BYTES <= len(content):
        info = _boot_info(content, at)
        if info.end == len(content) and info.load_info_size == LOAD_INFO_BYTES:
            return info
        found = found or info
        at = content.find(_MAGIC, at + 1)
    if found is None:
        raise NoBootInfo("no boot_info in it: a kernel alone, or no boot file")
    raise BadBootImage(f"boot_info at byte {found.offset} promises {found.end} bytes, and there are {len(content)}")


def check_load_info(info: LoaderInfo, boot_size: int) -> None:
    """BadBootImage if the parts of the image are not within it, or would not fit into an address space."""
    parts = (
        ("text", info.text_offset, info.text_size),
        ("data", info.data_offset, info.data_size),
        ("symbols", info.sym_offset, info.sym_size),
    )
    for name, offset, size in parts:
        if offset + size > boot_size:
            raise BadBootImage(f"load_info: {name} ends at byte {offset + size} of an image of {boot_size}")
    if info.text_start + info.text_size > info.data_start or info.data_end + info.bss_size > 1 << 32:
        raise BadBootImage("load_info: text, data and BSS do not follow each other in an address space")
