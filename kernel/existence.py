"""What the kernel remembers of which pages a default pager has been given (mach.md 5.4; VEXT).

Interface:
    Existence                          what is known of one page
    ExistenceMap(size, page_size)      .set(offset)  .clear(offset)  .sent(offset)  .state(offset)  .offsets()

Offsets are those of the memory object, which a VM object reaches by adding its paging_offset: so a map can pass to
another VM object with the memory object itself (kernel/shadow.py, collapse).

Mach keeps no map for an object of more than 8192 pages, and answers UNKNOWN for it.  So do we; but which pages were
sent is remembered all the same, to tell a page that a pager has lost from one that never was (P2).

Not here: pages; pagers.
"""

from __future__ import annotations

import enum

EXISTENCE_MAP_PAGES = 8192  # vm_external: no map for larger objects, so their pager is always asked (mach.md 5.4)


class Existence(enum.Enum):
    """vm_external_state_t: does the pager have a page?"""

    EXISTS = enum.auto()
    ABSENT = enum.auto()
    UNKNOWN = enum.auto()


class ExistenceMap:
    """One bit a page, set at each pageout; it grows with what is set."""

    __slots__ = ("_bits", "_page_size", "count", "unknown")

    def __init__(self, size: int, page_size: int) -> None:
        self.unknown = Existence.UNKNOWN if -(-size // page_size) > EXISTENCE_MAP_PAGES else Existence.ABSENT
        self.count = 0
        self._page_size = page_size
        self._bits = bytearray()

    def set(self, offset: int) -> None:
        page = offset // self._page_size
        if page >> 3 >= len(self._bits):
            self._bits.extend(bytes((page >> 3) + 1 - len(self._bits)))
        if not self._bits[page >> 3] & 1 << (page & 7):
            self._bits[page >> 3] |= 1 << (page & 7)
            self.count += 1

    def clear(self, offset: int) -> None:
        """The pager has been told to forget the page."""
        if self.sent(offset):
            page = offset // self._page_size
            self._bits[page >> 3] &= ~(1 << (page & 7))
            self.count -= 1

    def sent(self, offset: int) -> bool:
        """Whether the page has been sent to the pager."""
        page = offset // self._page_size
        return page >> 3 < len(self._bits) and bool(self._bits[page >> 3] & 1 << (page & 7))

    def state(self, offset: int) -> Existence:
        return Existence.EXISTS if self.sent(offset) else self.unknown

    def offsets(self) -> list[int]:
        """All that were sent."""
        return [
            (index * 8 + bit) * self._page_size
            for index, byte in enumerate(self._bits)
            if byte
            for bit in range(8)
            if byte >> bit & 1
        ]
