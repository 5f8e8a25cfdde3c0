"""What the kernel does with what pagers send to an object's control port: one handler a message, named as it is.

Interface:
    MemoryObjects(processor, resident, objects, pagers, laundry)
        .dispatch(object, message)       the kobject of every control port

The handlers run in the context of the pager's thread that sends (mach.md 4.8), or of the thread that takes its message
from a socket: the one that polls, or one that waits for a page.
None of them sleeps for a page or for memory, and none raises: a pager can harm nobody's memory but that of its own
objects.  A lock_request that would have to wait goes on in a thread of its own (kernel/lock_request.py).

Invariants:
    1. A reply changes only pages that were asked for, busy and absent; but a pager of an external object may supply a
       page that is not in memory unasked, as in Mach.  All else is refused, and counted.
    2. Nothing that a pager sends raises an exception out of a handler.
    3. The default manager cannot turn a page that it was given into zeros (P2).

Not here: when to ask or to write (kernel/vm_fault.py, kernel/pageout.py); what is sent (kernel/pagers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel.laundry import Laundry
from kernel.lock_request import LockRequests
from kernel.page import ABSENT, BUSY, Page
from kernel.pagers import Pagers
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.vm_object import VmObject, VmObjects
from mach.kern_return import KernReturn
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectChangeAttributes,
    MemoryObjectChangeCompleted,
    MemoryObjectDataError,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDestroy,
    MemoryObjectLockRequest,
    MemoryObjectReady,
    MemoryObjectSetAttributes,
    MemoryObjectSupplyCompleted,
    VmProt,
)
from mach.message import Message
from mach.ports import DeadPort, SendRight, drop_rights

Handler = Callable[[VmObject, Any], None]


class MemoryObjects:
    """See the head of the module."""

    def __init__(
        self, processor: Processor, resident: ResidentPages, objects: VmObjects, pagers: Pagers, laundry: Laundry
    ) -> None:
        self.counts = pagers.counts
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._pagers = pagers
        self._page_size = resident.page_size
        self.lock_requests = LockRequests(processor, resident, objects, laundry)
        pagers.dispatch = self.dispatch
        self._handlers: dict[type[Message], Handler] = {
            MemoryObjectDataSupply: self.memory_object_data_supply,
            MemoryObjectDataUnavailable: self.memory_object_data_unavailable,
            MemoryObjectDataError: self.memory_object_data_error,
            MemoryObjectSetAttributes: self.memory_object_set_attributes,
            MemoryObjectReady: self.memory_object_ready,
            MemoryObjectChangeAttributes: self.memory_object_change_attributes,
            MemoryObjectLockRequest: self.memory_object_lock_request,
            MemoryObjectDestroy: self.memory_object_destroy,
        }

    def dispatch(self, object: VmObject, message: Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            self.counts["messages_ignored"] += 1
            drop_rights(message)
        else:
            handler(object, message)

    # -- pages -------------------------------------------------------------------------------------------------

    def memory_object_data_supply(self, object: VmObject, message: MemoryObjectDataSupply) -> None:
        """The pages that were asked for (mach.md 5.7): they become clean, active, and no longer busy."""
        result, error_offset = KernReturn.KERN_SUCCESS, 0
        with self._processor.lock:
            if message.offset % self._page_size or len(message.data) % self._page_size or not message.data:
                result = KernReturn.KERN_INVALID_ARGUMENT
            else:
                error_offset = self._supply(object, message)
                if error_offset < len(message.data):
                    result = KernReturn.KERN_MEMORY_PRESENT
            if result:
                self.counts["replies_refused"] += 1
        if message.reply is not None:
            self._supply_completed(object, message, result, error_offset)

    def _supply(self, object: VmObject, message: MemoryObjectDataSupply) -> int:
        """Fill the pages that wait; returns how many bytes were used until one did not (Mach stops there)."""
        page_size, data = self._page_size, memoryview(message.data)
        for used in range(0, len(data), page_size):
            offset = message.offset + used - object.paging_offset
            page = self._awaited(object, offset)
            asked = page is not None
            if page is None:
                page = self._unasked(object, offset)
            if page is None:
                return used
            self._resident.store.write(page.frame, data[used : used + page_size])
            page.absent = False
            page.precious = bool(message.precious)
            self._resident.tell("page_in", page)
            if object.internal:
                self._pagers.answered(page)  # a lock is for pagers that several kernels share: not for this one
            else:
                page.page_lock = message.lock_value
                self._place(page, asked)
            self.counts["pageins"] += 1
        return len(data)

    def _place(self, page: Page, asked: bool) -> None:
        if asked:
            self._pagers.answered(page)
        else:  # nobody has used it yet
            self._resident.done(page)
            self._resident.deactivate(page)

    def _unasked(self, object: VmObject, offset: int) -> Page | None:
        """Room for a page that was supplied unasked.  In a temporary object it could only be stale or forged, and it
        would stand where zeros or lost pages must (P2); in an external one its pager is the authority."""
        if object.internal or not object.pager_ready or not object.alive or not 0 <= offset < object.size:
            return None
        page = object.pages.get(offset)
        if page is not None and (page.busy or not page.absent):
            return None
        if page is not None:
            self._resident.free(page)
        return self._resident.alloc(object, offset)

    def _supply_completed(
        self, object: VmObject, message: MemoryObjectDataSupply, result: KernReturn, error_offset: int
    ) -> None:
        control = object.control
        if message.reply is not None and control is not None:
            length = len(message.data)
            answer(
                message.reply,
                MemoryObjectSupplyCompleted(control.make_send(), message.offset, length, result, error_offset),
            )
        elif message.reply is not None:
            message.reply.drop()

    def memory_object_data_unavailable(self, object: VmObject, message: MemoryObjectDataUnavailable) -> None:
        """The pager has nothing: the page is below, or zeros.  But a page that it was given must be there (P2)."""
        with self._processor.lock:
            for page in self._awaited_range(object, message.offset, message.size):
                if object.was_sent(page.offset):
                    self.counts["pages_lost_by_pager"] += 1
                    self._pagers.fail(page)
                else:
                    self.counts["data_unavailable"] += 1
                    self._pagers.answered(page)

    def memory_object_data_error(self, object: VmObject, message: MemoryObjectDataError) -> None:
        """The pages cannot be had: whoever faults on them gets KERN_MEMORY_ERROR (mach.md 5.7, 8 test 21)."""
        with self._processor.lock:
            for page in self._awaited_range(object, message.offset, message.size):
                self.counts["data_error"] += 1
                self._pagers.fail(page)

    def _awaited(self, object: VmObject, offset: int) -> Page | None:
        page = object.pages.get(offset) if offset >= 0 else None
        return page if page is not None and page.flags & (BUSY | ABSENT) == BUSY | ABSENT else None

    def _awaited_range(self, object: VmObject, offset: int, size: int) -> list[Page]:
        """The pages of a reply that wait for it; a reply that fits none is counted.  `size` may be anything."""
        start = offset - object.paging_offset
        if size == self._page_size:  # as nearly all are
            page = self._awaited(object, start)
            pages = [] if page is None else [page]
        else:
            found = object.pages.items(max(start, 0), max(start + size, 0))
            pages = [page for _, page in found if page.flags & (BUSY | ABSENT) == BUSY | ABSENT]
        if not pages:
            self.counts["replies_refused"] += 1
        return pages

    # -- the object --------------------------------------------------------------------------------------------

    def memory_object_set_attributes(self, object: VmObject, message: MemoryObjectSetAttributes) -> None:
        """The older form: dirty pages go back by data_write."""
        self._attributes(object, bool(message.object_ready), bool(message.may_cache), message.copy_strategy, True)

    def memory_object_ready(self, object: VmObject, message: MemoryObjectReady) -> None:
        """The newer form: pages go back by data_return."""
        self._attributes(object, True, bool(message.may_cache), message.copy_strategy, False)

    def memory_object_change_attributes(self, object: VmObject, message: MemoryObjectChangeAttributes) -> None:
        self._attributes(object, False, bool(message.may_cache), message.copy_strategy, None)
        control = object.control
        if message.reply is None:
            return
        if control is None:
            message.reply.drop()
        else:
            answer(
                message.reply,
                MemoryObjectChangeCompleted(control.make_send(), message.may_cache, message.copy_strategy),
            )

    def _attributes(
        self, object: VmObject, ready: bool, may_cache: bool, strategy: CopyStrategy, old_pageout: bool | None
    ) -> None:
        """A temporary object is ready from the start, is never cached, and is copied as the kernel likes."""
        with self._processor.lock:
            if object.internal or object.pager is None:
                return
            if strategy == CopyStrategy.TEMPORARY:
                object.temporary, strategy = True, CopyStrategy.DELAY
            object.copy_strategy = strategy
            if old_pageout is not None:
                object.use_old_pageout = old_pageout
            if ready and not object.pager_ready:
                object.pager_ready = True
                self._processor.wakeup((object, "ready"))
            object.can_persist = may_cache
            if not may_cache:
                self._objects.uncache(object)

    def memory_object_lock_request(self, object: VmObject, message: MemoryObjectLockRequest) -> None:
        """Restrict or loosen access, give pages back, flush them (mach.md 5.7, Appendix A)."""
        whole = message.offset % self._page_size == message.size % self._page_size == 0
        if object.internal or not whole or message.lock_value > VmProt.ALL + 1:
            self.counts["replies_refused"] += 1
            drop_rights(message)
            return
        self.lock_requests.handle(object, message)

    def memory_object_destroy(self, object: VmObject, message: MemoryObjectDestroy) -> None:
        """The pager gives the object up: as if it had died (mach.md 5.7)."""
        pager = object.pager
        if pager is not None:
            self._pagers.died(pager)


def answer(reply: SendRight, message: Message) -> None:
    """Send a pager what it wants to be told, and give the right up."""
    try:
        reply.send(message, always=True)
    except DeadPort:
        pass
    reply.drop()
