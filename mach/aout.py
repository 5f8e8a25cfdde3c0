"""Executables in the a.out format of Mach on the i386: what its linker wrote and its loaders read (mach.md 1.3, 6.3).

Interface:
    Magic                                OMAGIC 0407, NMAGIC 0410, ZMAGIC 0413
    LoaderInfo                           where text, data, BSS and symbols are, in the file and in memory
    loader_info(header) -> LoaderInfo    of the first HEADER_BYTES of a file; NotExecutable
    Executable.parse(content, name)      a whole file taken apart; NotExecutable says which part is wrong
        .info .sizes() .text() .data() .symbols() .symbol_table()
    Symbol, make_executable(...)         the inverse: the bytes of an executable
    NotExecutable                        Mach's EX_NOT_EXECUTABLE, 6000, with words

Words are 32 bits, little-endian.  Not here: who loads what where (pager/bootstrap_loader.py, kernel/bootstrap.py); ELF.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from construct import Int8ul, Int16ul, Int32ul, Struct

EX_NOT_EXECUTABLE = 6000  # loader_info.h:76
TEXT_START = 0x10000  # where Mach's i386 linker put every user program
ADDRESS_SPACE = 1 << 32

EXEC = Struct(
    "a_magic" / Int32ul,
    "a_text" / Int32ul,
    "a_data" / Int32ul,
    "a_bss" / Int32ul,
    "a_syms" / Int32ul,
    "a_entry" / Int32ul,
    "a_trsize" / Int32ul,
    "a_drsize" / Int32ul,
)
NLIST = Struct("n_strx" / Int32ul, "n_type" / Int8ul, "n_other" / Int8ul, "n_desc" / Int16ul, "n_value" / Int32ul)
HEADER_BYTES: int = EXEC.sizeof()
NLIST_BYTES: int = NLIST.sizeof()
WORD_BYTES = 4


class Magic(enum.IntEnum):
    """How text and data follow each other."""

    OMAGIC = 0o407  # all is data, writable
    NMAGIC = 0o410  # text, then data at once
    ZMAGIC = 0o413  # the same, and the header is the first part of text


N_EXT = 0x01  # a bit of n_type: visible outside its file


class SymbolType(enum.IntEnum):
    """n_type, with N_EXT."""

    ABSOLUTE = 0x03
    TEXT = 0x05
    DATA = 0x07
    BSS = 0x09


class NotExecutable(Exception):
    """The file is no executable that Mach would take."""

    code = EX_NOT_EXECUTABLE


@dataclass(frozen=True, slots=True)
class LoaderInfo:
    """Where the parts of an executable are: `_start` in memory, `_offset` in the file, `_size` in bytes.

    `sym_size` counts the symbols alone; their strings follow.  Mach has three layouts of this; only the one in a boot
    image (mach/boot_image.py) is ever written down.
    """

    text_start: int
    text_size: int
    text_offset: int
    data_start: int
    data_size: int
    data_offset: int
    bss_size: int
    sym_offset: int
    sym_size: int
    entry_1: int
    entry_2: int = 0

    @property
    def data_end(self) -> int:
        """In memory: where BSS begins."""
        return self.data_start + self.data_size


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """A row of the paper's table 7-2; bytes."""

    text: int
    data: int
    bss: int
    symbols: int  # with their strings


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol of an executable."""

    name: str
    value: int
    type: int = SymbolType.TEXT

    @property
    def in_text(self) -> bool:
        return self.type | N_EXT == SymbolType.TEXT


def loader_info(header: bytes) -> LoaderInfo:
    """What the header of a file says.  Its sizes are not checked against the file: the header is all there is here."""
    if len(header) < HEADER_BYTES:
        raise NotExecutable(f"only {len(header)} bytes long")
    words = EXEC.parse(header)
    try:
        magic = Magic(words.a_magic)
    except ValueError:
        raise NotExecutable(f"its magic number is {words.a_magic:#o}, not 0407, 0410 or 0413") from None
    if magic is Magic.OMAGIC:
        text_size, text_offset = 0, HEADER_BYTES
        data_size = words.a_text + words.a_data
    else:
        if not words.a_text:
            raise NotExecutable(f"an executable of magic {magic:#o} without text")
        text_offset = 0 if magic is Magic.ZMAGIC else HEADER_BYTES
        text_size = words.a_text + (HEADER_BYTES if magic is Magic.ZMAGIC else 0)
        data_size = words.a_data
    if TEXT_START + text_size + data_size + words.a_bss > ADDRESS_SPACE:
        raise NotExecutable("its segments are larger than an address space")
    return LoaderInfo(
        text_start=TEXT_START,
        text_size=text_size,
        text_offset=text_offset,
        data_start=TEXT_START + text_size,
        data_size=data_size,
        data_offset=text_offset + text_size,
        bss_size=words.a_bss,
        # Mach's makeboot has data_offset + a_data, which is wrong for 0407, and forgets the relocations.
        sym_offset=HEADER_BYTES + words.a_text + words.a_data + words.a_trsize + words.a_drsize,
        sym_size=words.a_syms,
        entry_1=words.a_entry,
    )


@dataclass(frozen=True, slots=True)
class Executable:
    """A whole executable; everything that its header promises is there."""

    name: str
    content: bytes
    info: LoaderInfo
    strings_size: int  # bytes, with the word that says so; 0 without symbols

    @staticmethod
    def parse(content: bytes, name: str = "executable") -> Executable:
        info = loader_info(content[:HEADER_BYTES])
        for part, end in (("text", info.text_offset + info.text_size), ("data", info.data_offset + info.data_size)):
            if end > len(content):
                raise NotExecutable(f"cut short: its {part} ends at byte {end} of {len(content)}")
        return Executable(name, content, info, _strings_size(content, info))

    def text(self) -> bytes:
        return self.content[self.info.text_offset :][: self.info.text_size]

    def data(self) -> bytes:
        return self.content[self.info.data_offset :][: self.info.data_size]

    def symbol_table(self) -> tuple[bytes, bytes]:
        """Symbols and strings as they are in the file."""
        end = self.info.sym_offset + self.info.sym_size
        return self.content[self.info.sym_offset : end], self.content[end : end + self.strings_size]

    def symbols(self) -> Iterator[Symbol]:
        """The symbols that have a name."""
        return symbols_of(*self.symbol_table())

    def sizes(self) -> ImageSizes:
        words = EXEC.parse(self.content)
        return ImageSizes(words.a_text, words.a_data, words.a_bss, words.a_syms + self.strings_size)


def _strings_size(content: bytes, info: LoaderInfo) -> int:
    """The size of the string table, which is its first word; NotExecutable if the file does not hold that much."""
    if not info.sym_size:
        return 0
    at = info.sym_offset + info.sym_size
    if at + WORD_BYTES > len(content):
        raise NotExecutable(f"cut short: its symbols end at byte {at} of {len(content)}, and strings must follow")
    size = int.from_bytes(content[at : at + WORD_BYTES], "little")
    if size < WORD_BYTES or at + size > len(content):
        raise NotExecutable(f"its string table of {size} bytes at {at} is not in its {len(content)} bytes")
    return size


def symbols_of(table: bytes, strings: bytes) -> Iterator[Symbol]:
    """The symbols that have a name, of a symbol table and its strings; what points outside is passed over."""
    for at in range(0, len(table) - NLIST_BYTES + 1, NLIST_BYTES):
        entry = NLIST.parse(table[at : at + NLIST_BYTES])
        end = strings.find(b"\0", entry.n_strx)
        if entry.n_strx >= WORD_BYTES and end >= 0:
            yield Symbol(strings[entry.n_strx : end].decode("latin-1"), entry.n_value, entry.n_type)


def make_executable(
    magic: Magic,
    text: bytes,
    data: bytes = b"",
    bss_size: int = 0,
    symbols: Iterable[Symbol] = (),
    entry: int | None = None,
) -> bytes:
    """The bytes of an executable.  `entry` is the first byte of `text` where Mach's linker would put it."""
    table, strings = bytearray(), bytearray()
    for symbol in symbols:
        table += NLIST.build(
            {
                "n_strx": WORD_BYTES + len(strings),
                "n_type": symbol.type,
                "n_other": 0,
                "n_desc": 0,
                "n_value": symbol.value,
            }
        )
        strings += symbol.name.encode("latin-1") + b"\0"
    if entry is None:
        entry = TEXT_START + (HEADER_BYTES if magic is Magic.ZMAGIC else 0)
    header = EXEC.build(
        {
            "a_magic": int(magic),
            "a_text": len(text),
            "a_data": len(data),
            "a_bss": bss_size,
            "a_syms": len(table),
            "a_entry": entry,
            "a_trsize": 0,
            "a_drsize": 0,
        }
    )
    if table:
        table += (WORD_BYTES + len(strings)).to_bytes(WORD_BYTES, "little") + strings
    return bytes(header + text + data + table)
