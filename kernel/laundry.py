"""The laundry: pages on their way to their pagers, still in memory until the pager has freed them (mach.md 4.6).

Interface:
    Laundry(processor, resident, objects, pagers)
        .send(object, pages, initial, keep, soon) -> bool    vm_pageout_page, for a row of pages
        .double_paging                                       the protection of external objects' pages: a switch

What a message carries stays in frames, as pages of an object that only the message names.  To the default manager they
are wired and counted (laundry_count): it promises to free them without waiting for memory (§5.5), and until it has, the
pageout daemon sends no more than ten.  To any other pager, who promises nothing, they are pageable: if it does not free
them, they go to the default manager like any memory of a program (double paging), at once when memory is short.

Invariants:
    1. While its message is being made and queued, a page is busy, unmapped and on no queue, in its own object: a fault
       waits for it, and then asks the pager, who hears of the page first.
    2. A page leaves its object only when the pager's queue has its content; else it is dirty there as before.
    3. Each frame of a message is freed once: when the receiver frees the data, or when nobody received it.

Not here: which pages, and when (kernel/pageout.py, kernel/lock_request.py).
"""

from __future__ import annotations

from kernel.page import DIRTY, MODIFIED, Page
from kernel.pagers import Pagers
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.vm_object import VmObject, VmObjects
from mach.page_list import PageList


class _Transit:
    """The pages of one message."""

    __slots__ = ("freed", "object", "settled")

    def __init__(self, object: VmObject) -> None:
        self.object = object  # holds the frames, with one reference: the message's
        self.freed = False  # by the receiver
        self.settled = False  # the sender has moved the pages


class Laundry:
    """See the head of the module.  The kernel mutex is held by who calls send, and released while it sends."""

    def __init__(self, processor: Processor, resident: ResidentPages, objects: VmObjects, pagers: Pagers) -> None:
        self.double_paging = True
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._pagers = pagers

    def return_pages(self, object: VmObject, pages: list[Page]) -> None:
        """For an object that is being terminated."""
        for page in pages:
            self._resident.take_off_queues(page)
            page.busy = True
        self.send(object, pages)

    def terminate(self, object: VmObject) -> None:
        self._pagers.terminate(object)

    def send(
        self, object: VmObject, pages: list[Page], *, initial: bool = False, keep: bool = False, soon: bool = False
    ) -> bool:
        """Send pages that follow each other, busy, unmapped, on no queue.  False if the pager is dead: they stay,
        dirty. `initial`: the pager's own version wins.  `keep`: the object keeps them too, clean, if there is memory
        for a copy; they need not be unmapped then.  `soon`: they are the next to be paged out, if their pager is
        external."""
        transit = _Transit(self._objects.allocate(len(pages) * self._resident.page_size))
        offset = pages[0].offset
        dirty = any(page.flags & (DIRTY | MODIFIED) for page in pages)
        data = b"".join(self._resident.store.read(page.frame) for page in pages)
        self._objects.paging_begin(object)
        kept = keep and self._keep(pages, transit.object)
        self._launder(object, list(transit.object.pages.values()) if kept else pages)
        freed = PageList(data, lambda: self._freed(transit))
        taken = self._pagers.send_data(object, offset, freed, initial=initial, dirty=dirty, kernel_copy=kept)
        if kept:
            self._settle_kept(object, range(offset, offset + len(data), self._resident.page_size), transit, taken)
        elif taken:
            self._move(pages, transit, soon)
        else:
            self._put_back(pages)
        transit.settled = True
        if transit.freed or not taken:
            transit.freed = True
            self._objects.deallocate(transit.object)
        self._objects.paging_end(object)
        return taken

    def _launder(self, object: VmObject, pages: list[Page]) -> None:
        """What goes to the default manager is locked down and counted (§5.5)."""
        for page in pages if object.internal or not self.double_paging else ():
            self._resident.wire(page)
            page.laundry = True
            self._resident.laundry_count += 1

    def _freed(self, transit: _Transit) -> None:
        """The receiver's vm_deallocate.  It may come before the sender is back: then the sender does the rest."""
        with self._processor.lock:
            if transit.settled and not transit.freed:
                transit.freed = True
                self._objects.deallocate(transit.object)
            transit.freed = True

    def _keep(self, pages: list[Page], transit: VmObject) -> bool:
        """Copies to send, so that the pages can stay, clean and usable at once.  Without memory for them the pages go
        themselves (as in Mach); but a wired page stays, and then the message occupies nothing."""
        for index, page in enumerate(pages):
            copy = self._resident.alloc(transit, index * self._resident.page_size)
            if copy is not None:
                self._resident.copy(page, copy)
                copy.dirty = True
                self._resident.done(copy)
            elif not page.wire_count:
                self._unkeep(pages, transit)
                return False
        for page in pages:
            page.dirty = page.modified = page.precious = False
            self._resident.pv.write_protect(page)  # the next write must be seen
            self._resident.done(page)
            self._resident.activate(page)
        return True

    def _unkeep(self, pages: list[Page], transit: VmObject) -> None:
        for made in list(transit.pages.values()):
            self._resident.free(made)
        for page in pages:
            self._resident.take_off_queues(page)
            self._resident.pv.remove_all(page)

    def _settle_kept(self, object: VmObject, offsets: range, transit: _Transit, taken: bool) -> None:
        for copy in transit.object.pages.values():
            if not copy.laundry:
                self._resident.activate(copy)
        for offset in offsets if not taken else ():
            page = object.pages.get(offset)
            if page is not None:
                page.dirty = True

    def _move(self, pages: list[Page], transit: _Transit, soon: bool) -> None:
        """INV-2: the frames are the message's now, or free if its receiver has been quick."""
        for index, page in enumerate(pages):
            if transit.freed:
                self._resident.free(page)
                continue
            self._resident.rename(page, transit.object, index * self._resident.page_size)
            page.dirty, page.precious = True, False
            self._resident.done(page)
            if page.laundry:
                continue
            if soon:
                self._resident.next_to_go(page)
            else:
                self._resident.activate(page)

    def _put_back(self, pages: list[Page]) -> None:
        """The pager is dead: the pages live on where they are (P5)."""
        for page in pages:
            if page.laundry:
                page.laundry = False
                self._resident.laundry_count -= 1
                self._resident.unwire(page)
            page.dirty = True
            self._resident.activate(page)
            self._resident.done(page)
