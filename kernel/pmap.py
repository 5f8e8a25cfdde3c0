"""The machine-dependent map of one task: which page is at which virtual page, and what may be done to it.

Interface:
    Pmap()    .readable, .writable: virtual page number -> Page, looked at by every reference of the task
              .enter(virtual_page, page, writable)  .remove(first, last)  .protect(first, last, readable, writable)
    remove_all(page)      pmap_page_protect(page, NONE): nobody maps it any more
    write_protect(page)   pmap_page_protect(page, READ)

The reference and modify bits live in the page: whoever reads through `readable` sets page.reference, whoever writes
through `writable` sets page.reference and page.modified.

Invariants:
    1. Every virtual page in `writable` is in `readable`, with the same page.
    2. page.mappings holds exactly the (pmap, virtual page) pairs that map it.

Not here: what should be mapped (kernel/vm_map.py, kernel/vm_fault.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel.resident import Page


class Pmap:
    """See the head of the module.  The kernel mutex is held in every method."""

    __slots__ = ("readable", "writable")

    def __init__(self) -> None:
        self.readable: dict[int, Page] = {}
        self.writable: dict[int, Page] = {}

    def enter(self, virtual_page: int, page: Page, writable: bool) -> None:
        """Map `page`, instead of whatever was mapped there."""
        old = self.readable.get(virtual_page)
        if old is not page:
            if old is not None:
                old.mappings.remove((self, virtual_page))
            self.readable[virtual_page] = page
            page.mappings.append((self, virtual_page))
        if writable:
            self.writable[virtual_page] = page
        else:
            self.writable.pop(virtual_page, None)

    def remove(self, first: int, last: int) -> None:
        """Unmap the virtual pages [first, last)."""
        for virtual_page in self._mapped(first, last):
            self.readable.pop(virtual_page).mappings.remove((self, virtual_page))
            self.writable.pop(virtual_page, None)

    def protect(self, first: int, last: int, *, readable: bool, writable: bool) -> None:
        """Take rights away from the virtual pages [first, last); more rights are given by faults."""
        if not readable:
            self.remove(first, last)
        elif not writable:
            for virtual_page in self._mapped(first, last):
                self.writable.pop(virtual_page, None)

    def _mapped(self, first: int, last: int) -> list[int]:
        """The mapped virtual pages of a range, which may be far longer than what is mapped."""
        if last - first <= len(self.readable):
            return [virtual_page for virtual_page in range(first, last) if virtual_page in self.readable]
        return [virtual_page for virtual_page in self.readable if first <= virtual_page < last]

    def check(self) -> None:
        for virtual_page, page in self.writable.items():
            assert self.readable.get(virtual_page) is page, "INV-1"
        for virtual_page, page in self.readable.items():
            assert page.mappings.count((self, virtual_page)) == 1, "INV-2"


def remove_all(page: Page) -> None:
    """Unmap `page` everywhere."""
    for pmap, virtual_page in page.mappings:
        del pmap.readable[virtual_page]
        pmap.writable.pop(virtual_page, None)
    page.mappings.clear()


def write_protect(page: Page) -> None:
    """Let nobody write to `page` without a fault."""
    for pmap, virtual_page in page.mappings:
        pmap.writable.pop(virtual_page, None)
