"""The machine-dependent map of one task: which page is at which virtual page, and what may be done to it.

Interface:
    PvTable(frames)       who maps each frame; .mappings(page), .is_mapped(frame)
                          .remove_all(page)      pmap_page_protect(page, NONE): nobody maps it any more
                          .write_protect(page)   pmap_page_protect(page, READ)
    Pmap(pv)              .frame(virtual_page, write), what each reference of the task looks at; .mapped()
                          .enter(virtual_page, page, writable)  .remove(first, end)  .protect(first, end, ...)
                          .shootdown   called with each virtual page whose mapping is taken away or restricted

The reference and modify bits live in the frame: whoever reads through a mapping sets REFERENCED, whoever writes sets
MODIFIED too (kernel/page.py).

Invariants:
    1. The pv table holds exactly the mappings of all pmaps: a frame's first in an array, more in a dictionary, as
       nearly all pages are mapped once.
    2. Every loss of a mapping, or of the right to write through one, passes through Pmap._restrict: there a processor
       that caches translations drops its own (Mach's TLB shootdown).

Not here: what should be mapped (kernel/vm_map.py, kernel/vm_fault.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from kernel.page import Frames, Page, SparseTable

PMAP_SHIFT = 40  # a mapping in the pv table: number of the pmap, then the virtual page
VIRTUAL_PAGE = (1 << PMAP_SHIFT) - 1
WRITABLE = 1  # an entry of a pmap: frame + 1, shifted, and this bit


class PvTable:
    """Physical to virtual: pv_head_table.  Also a registry of the pmaps, which it numbers from 1."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self._first = array("Q", bytes(8 * frames.count))
        self._more: dict[int, list[int]] = {}
        self._pmaps: dict[int, Pmap] = {}
        self._next = 1

    def register(self, pmap: Pmap) -> int:
        number, self._next = self._next, self._next + 1
        self._pmaps[number] = pmap
        return number

    def forget(self, number: int) -> None:
        """The pmap is gone; it maps nothing any more."""
        self._pmaps.pop(number, None)

    def add(self, frame: int, mapping: int) -> None:
        if self._first[frame]:
            self._more.setdefault(frame, []).append(mapping)
        else:
            self._first[frame] = mapping

    def discard(self, frame: int, mapping: int) -> None:
        more = self._more.get(frame)
        if self._first[frame] == mapping:
            self._first[frame] = more.pop() if more else 0
        else:
            assert more is not None, "INV-1: an unknown mapping"
            more.remove(mapping)
        if more is not None and not more:
            del self._more[frame]

    def is_mapped(self, frame: int) -> bool:
        return self._first[frame] != 0

    def mappings(self, page: Page) -> list[tuple[Pmap, int]]:
        """Who maps the page, at which virtual page."""
        if not self._first[page.frame]:
            return []
        packed = [self._first[page.frame], *self._more.get(page.frame, ())]
        return [(self._pmaps[mapping >> PMAP_SHIFT], mapping & VIRTUAL_PAGE) for mapping in packed]

    def remove_all(self, page: Page) -> None:
        """pmap_page_protect(page, NONE): nobody maps it any more."""
        for pmap, virtual_page in self.mappings(page):
            pmap.remove_one(virtual_page)

    def write_protect(self, page: Page) -> None:
        """pmap_page_protect(page, READ): nobody writes to it without a fault."""
        for pmap, virtual_page in self.mappings(page):
            pmap.protect_one(virtual_page)


class Pmap:
    """See the head of the module.  The kernel mutex is held in every method."""

    __slots__ = ("_number", "_pv", "_table", "shootdown")

    def __init__(self, pv: PvTable) -> None:
        self._pv = pv
        self._table = SparseTable()
        self._number = pv.register(self)
        self.shootdown: Callable[[int], None] | None = None

    def __len__(self) -> int:
        """How many pages are mapped."""
        return self._table.count

    def frame(self, virtual_page: int, write: bool = False) -> int:
        """The frame that a reference finds, or -1: it faults."""
        entry = self._table.get(virtual_page)
        return (entry >> 1) - 1 if entry and (not write or entry & WRITABLE) else -1

    def mapped(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int, bool]]:
        """(virtual page, frame, writable) of what is mapped in [first, end), in order."""
        for virtual_page, entry in self._table.items(first, end):
            yield virtual_page, (entry >> 1) - 1, bool(entry & WRITABLE)

    def enter(self, virtual_page: int, page: Page, writable: bool) -> None:
        """Map `page`, instead of whatever was mapped there."""
        old = self._table.get(virtual_page)
        if old and (old >> 1) - 1 != page.frame:
            self.remove_one(virtual_page)
            old = 0
        if not old:
            self._pv.add(page.frame, self._number << PMAP_SHIFT | virtual_page)
        elif old & WRITABLE and not writable:
            self._restrict(virtual_page, old & ~WRITABLE)
        self._table.set(virtual_page, page.frame + 1 << 1 | writable)

    def remove(self, first: int, end: int) -> None:
        """Unmap the virtual pages [first, end)."""
        for virtual_page, _, _ in list(self.mapped(first, end)):
            self.remove_one(virtual_page)

    def protect(self, first: int, end: int, *, readable: bool, writable: bool) -> None:
        """Take rights away from the virtual pages [first, end); more rights are given by faults."""
        if not readable:
            self.remove(first, end)
        elif not writable:
            for virtual_page, _, was_writable in list(self.mapped(first, end)):
                if was_writable:
                    self.protect_one(virtual_page)

    def remove_one(self, virtual_page: int) -> None:
        entry = self._table.get(virtual_page)
        if entry:
            self._pv.discard((entry >> 1) - 1, self._number << PMAP_SHIFT | virtual_page)
            self._restrict(virtual_page, 0)

    def protect_one(self, virtual_page: int) -> None:
        entry = self._table.get(virtual_page)
        if entry & WRITABLE:
            self._restrict(virtual_page, entry & ~WRITABLE)

    def _restrict(self, virtual_page: int, entry: int) -> None:
        """INV-2: the one place where a mapping is taken away (`entry` is 0) or restricted."""
        if entry:
            self._table.set(virtual_page, entry)
        else:
            self._table.clear(virtual_page)
        if self.shootdown is not None:
            self.shootdown(virtual_page)

    def destroy(self) -> None:
        """The task is gone."""
        self.remove(0, VIRTUAL_PAGE)
        self._pv.forget(self._number)

    def check(self) -> None:
        for virtual_page, frame, _ in self.mapped():
            mappings = self._pv.mappings(self._pv.frames.page(frame))
            assert mappings.count((self, virtual_page)) == 1, "INV-1"
