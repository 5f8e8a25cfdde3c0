"""What a program's addresses are called: the symbol table that its loader gave the kernel (mach.md 1.3).

Interface:
    SymbolTable.parse(content)    as host_load_symbol_table takes it; MachError KERN_INVALID_ARGUMENT: it is none
        .where(address)           "_main+0x1c" for an address in the text; None before the first symbol

The content is that of an a.out file, with one word before it: the bytes of its symbols; strings follow them.  In Mach
the kernel's debugger reads it; here it is for the words that a program's exception leaves.

Not here: finding it in a file (pager/bootstrap_loader.py).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from mach.aout import NLIST_BYTES, SymbolType, symbols_of
from mach.kern_return import KernReturn, MachError

WORD_BYTES = 4
EXTERNAL = 1  # a bit of n_type


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """The functions of a program, in the order of their addresses."""

    addresses: tuple[int, ...]
    names: tuple[str, ...]

    @staticmethod
    def parse(content: bytes) -> SymbolTable:
        size = int.from_bytes(content[:WORD_BYTES], "little")
        strings = content[WORD_BYTES + size :]
        if size % NLIST_BYTES or len(strings) < WORD_BYTES:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"a symbol table of {len(content)} bytes")
        table = symbols_of(content[WORD_BYTES : WORD_BYTES + size], strings)
        functions = sorted({(s.value, s.name) for s in table if s.type & ~EXTERNAL == SymbolType.TEXT & ~EXTERNAL})
        return SymbolTable(tuple(value for value, _ in functions), tuple(name for _, name in functions))

    def where(self, address: int) -> str | None:
        at = bisect_right(self.addresses, address) - 1
        if at < 0:
            return None
        distance = address - self.addresses[at]
        return f"{self.names[at]}+{distance:#x}" if distance else self.names[at]
