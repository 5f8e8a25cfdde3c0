"""What a program's addresses are called: the symbol table that its loader gave the kernel (mach.md 1.3).

Interface:
    SymbolTable.parse(content)    as host_load_symbol_table takes it; MachError KERN_INVALID_ARGUMENT: no function in it
        .where(address)           "_main+0x1c" for an address in the text; None before the first symbol

The content is that of an a.out file in the form that describes itself (mach/boot_image.py).  In Mach the kernel's
debugger reads it; here it is for the words that a program's exception leaves.

Not here: finding it in a file (pager/bootstrap_loader.py).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from mach.boot_image import symbols_in
from mach.kern_return import KernReturn, MachError


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """The functions of a program, in the order of their addresses."""

    addresses: tuple[int, ...]
    names: tuple[str, ...]

    @staticmethod
    def parse(content: bytes) -> SymbolTable:
        functions = sorted({(symbol.value, symbol.name) for symbol in symbols_in(content) if symbol.in_text})
        if not functions:
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"no function in {len(content)} bytes of symbols")
        return SymbolTable(tuple(value for value, _ in functions), tuple(name for _, name in functions))

    def where(self, address: int) -> str | None:
        at = bisect_right(self.addresses, address) - 1
        if at < 0:
            return None
        distance = address - self.addresses[at]
        return f"{self.names[at]}+{distance:#x}" if distance else self.names[at]
