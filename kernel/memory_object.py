"""The kernel's side of the memory object protocol: what it sends to pagers, and what it does with their answers.

Interface:
    MemoryObjects(processor, ipc, resident, objects, manager, page_size)
        .create(object) -> bool                          memory_object_create: the default manager becomes its pager
        .data_request(object, offset, length, access) -> bool
        .data_write(object, offset, data) -> bool        False: the pager is dead
        .terminate(object)
        .memory_object_data_supply ... one handler for each message, named as it is
        .counts                                          what came and went, by name

The handlers are the kobject of each object's control port: they run in the context of the pager's thread that sends
(mach.md 4.8), or of the thread that polls a socket.  None of them sleeps, none of them needs memory: the frame for a
page was taken before the page was asked for (mach.md 4.10).

A message is a plain value, so the data of a data_write has left the page when send() returns.  Hence the laundry: a
page is wired and in the laundry from when its message is made until send() returns, which is until the pager's queue
has taken it.  In Mach it stays so until the pager deallocates the data.  What bounds the pages in flight here is the
queue of the memory object's port, or of the socket; that a later read sees the write is promised by the order of
messages at that port, and the pager's own rule that reads wait for earlier writes.

Invariants:
    1. A reply changes only pages that were asked for: busy and absent.  All else is ignored, and counted.
    2. Nothing that a pager sends raises an exception out of a handler.
    3. A page that a pager has been given, and cannot give back, ends in an error: never in zeros (P2, P5).

Not here: when to ask or to write (kernel/vm_fault.py, kernel/pageout.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from kernel.default_manager import DefaultManager
from kernel.processor import Processor
from kernel.resident import Page, ResidentPages
from kernel.vm_object import ExistenceMap, VmObject, VmObjects
from mach.kern_return import KernReturn
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataError,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectDataWrite,
    MemoryObjectDestroy,
    MemoryObjectReady,
    MemoryObjectSetAttributes,
    MemoryObjectSupplyCompleted,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.notify import DeadName
from mach.ports import DeadPort, Ipc, SendRight, drop_rights

PROTECTIONS = tuple(VmProt(bits) for bits in range(8))

Handler = Callable[[VmObject, Any], None]


class MemoryObjects:
    """See the head of the module.  What is sent is sent out of the kernel: its callers hold the kernel mutex."""

    def __init__(
        self, processor: Processor, ipc: Ipc, resident: ResidentPages, objects: VmObjects, manager: DefaultManager
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._processor = processor
        self._ipc = ipc
        self._resident = resident
        self._objects = objects
        self._manager = manager
        self._page_size = resident.page_size
        self._notify = ipc.allocate("deaths of pagers", kobject=self._dead_name)
        objects.terminate = self.terminate
        self._handlers: dict[type[Message], Handler] = {
            MemoryObjectDataSupply: self.memory_object_data_supply,
            MemoryObjectDataUnavailable: self.memory_object_data_unavailable,
            MemoryObjectDataError: self.memory_object_data_error,
            MemoryObjectSetAttributes: self.memory_object_set_attributes,
            MemoryObjectReady: self.memory_object_ready,
            MemoryObjectDestroy: self.memory_object_destroy,
        }

    # -- kernel to pager ---------------------------------------------------------------------------------------

    def create(self, object: VmObject) -> bool:
        """Make the default manager the pager of an internal object (mach.md 5.3).  False if that manager is dead.

        Internal objects are ready at once: there is no handshake.
        """
        manager = self._manager.reference()
        if manager is None:
            return False
        new_pager = self._ipc.allocate(f"memory object {object.object_id}")
        object.control = self._ipc.allocate(f"control of object {object.object_id}", limit=1)
        object.control.become_kobject(partial(self._dispatch, object))
        object.name = self._ipc.allocate(f"name of object {object.object_id}")
        object.pager = pager = new_pager.make_send()
        object.existence = ExistenceMap(object.size + object.paging_offset, self._page_size)
        message = MemoryObjectCreate(
            new_pager, object.size, object.control.make_send(), object.name.make_send(), self._page_size
        )
        with self._processor.unlocked:
            sent = self._send(manager, message)
            manager.drop()
            pager.watch(self._notify.make_send_once(), (object, pager))  # at once, if it is dead
        if object.pager is pager:
            object.pager_ready = True
            self._processor.wakeup((object, "ready"))
            self.counts["memory_object_create"] += sent
        return object.pager is pager

    def data_request(self, object: VmObject, offset: int, length: int, access: int) -> bool:
        """Ask the pager for pages; their frames are there, busy and absent.  False if the pager is dead."""
        pager, control = object.pager, object.control
        if pager is None or control is None:
            return False
        message = MemoryObjectDataRequest(
            control.make_send(), offset + object.paging_offset, length, PROTECTIONS[access]
        )
        self.counts["data_request"] += 1
        with self._processor.unlocked:
            return self._send(pager, message)

    def data_write(self, object: VmObject, offset: int, data: bytes) -> bool:
        """Send dirty pages; the bit of each is set in the existence map before (mach.md 4.6).  False if the pager died
        before it had taken them all, as far as can be known."""
        pager, control, existence = object.pager, object.control, object.existence
        if pager is None or control is None or existence is None:
            return False
        for page_offset in range(offset, offset + len(data), self._page_size):
            existence.set(page_offset)
        message = MemoryObjectDataWrite(control.make_send(), offset + object.paging_offset, data)
        with self._processor.unlocked:
            sent = self._send(pager, message)
        return sent and object.pager is pager

    def terminate(self, object: VmObject) -> None:
        """The object is gone: its control and name ports go to the pager, then our right to it (mach.md 5.8)."""
        pager, control, name = object.pager, object.control, object.name
        object.pager = object.control = object.name = None
        if pager is None or control is None or name is None:
            return
        with self._processor.unlocked:
            control.resign_kobject()
            self._send(pager, MemoryObjectTerminate(control, name))
            pager.drop()

    def _send(self, right: SendRight, message: Message) -> bool:
        try:
            right.send(message)
        except DeadPort:
            return False
        return True

    # -- pager to kernel ---------------------------------------------------------------------------------------

    def _dispatch(self, object: VmObject, message: Message) -> None:
        """The kobject of every control port."""
        handler = self._handlers.get(type(message))
        if handler is None:  # lock_request and its like come with external pagers
            self.counts["messages_ignored"] += 1
            drop_rights(message)
        else:
            handler(object, message)

    def memory_object_data_supply(self, object: VmObject, message: MemoryObjectDataSupply) -> None:
        """The pages that were asked for (mach.md 5.7): they become clean, active, and no longer busy.

        Mach would also insert pages that nobody asked for.  In a temporary object such a page can only be a stale or a
        forged one, and it would stand where zeros or lost pages must (P2): here it is refused.  So is the lock that
        only a pager of an external object may set.
        """
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
        resident, page_size, data = self._resident, self._page_size, memoryview(message.data)
        for used in range(0, len(data), page_size):
            page = self._awaited(object, message.offset + used)
            if page is None:
                return used
            resident.store.write(page.frame, data[used : used + page_size])
            page.absent = False
            page.precious = bool(message.precious)
            resident.activate(page)
            resident.tell("page_in", page)
            resident.done(page)
            self.counts["pageins"] += 1
        return len(data)

    def _supply_completed(
        self, object: VmObject, message: MemoryObjectDataSupply, result: KernReturn, error_offset: int
    ) -> None:
        reply, control = message.reply, object.control
        if reply is not None and control is not None:
            length = len(message.data)
            answer = MemoryObjectSupplyCompleted(control.make_send(), message.offset, length, result, error_offset)
            try:
                reply.send(answer, always=True)
            except DeadPort:
                pass
        if reply is not None:
            reply.drop()

    def memory_object_data_unavailable(self, object: VmObject, message: MemoryObjectDataUnavailable) -> None:
        """The pager has nothing: the page is below, or zeros.  But a page that it was given must be there (P2)."""
        with self._processor.lock:
            for page in self._awaited_range(object, message.offset, message.size):
                if object.existence is not None and object.existence.sent(page.offset):
                    self.counts["pages_lost_by_pager"] += 1
                    self._fail(page)
                else:
                    self.counts["data_unavailable"] += 1
                    self._resident.activate(page)
                    self._resident.done(page)

    def memory_object_data_error(self, object: VmObject, message: MemoryObjectDataError) -> None:
        """The pages cannot be had: whoever faults on them gets KERN_MEMORY_ERROR (mach.md 5.7, 8 test 21)."""
        with self._processor.lock:
            for page in self._awaited_range(object, message.offset, message.size):
                self.counts["data_error"] += 1
                self._fail(page)

    def memory_object_set_attributes(self, object: VmObject, message: MemoryObjectSetAttributes) -> None:
        """A temporary object is ready from the start, is never cached, and is copied as the kernel likes."""

    def memory_object_ready(self, object: VmObject, message: MemoryObjectReady) -> None:
        """As memory_object_set_attributes."""

    def memory_object_destroy(self, object: VmObject, message: MemoryObjectDestroy) -> None:
        """The pager gives the object up: as if it had died (mach.md 5.7)."""
        if object.pager is not None:
            self._pager_died(object, object.pager)

    def _awaited(self, object: VmObject, offset: int) -> Page | None:
        page = object.pages.get(offset - object.paging_offset)
        return page if page is not None and page.busy and page.absent else None

    def _awaited_range(self, object: VmObject, offset: int, size: int) -> list[Page]:
        """The pages of a reply that wait for it; a reply that fits none is counted.  `size` may be anything."""
        start = offset - object.paging_offset
        if size == self._page_size:  # as nearly all are
            page = self._awaited(object, offset)
            pages = [] if page is None else [page]
        else:
            waiting = [page for page in object.pages.values() if page.absent and page.busy]
            pages = [page for page in waiting if start <= page.offset < start + size]
        if not pages:
            self.counts["replies_refused"] += 1
        return pages

    def _fail(self, page: Page) -> None:
        page.absent = False
        page.error = True
        self._resident.tell("page_error", page)
        self._resident.activate(page)
        self._resident.done(page)

    # -- the death of pagers -----------------------------------------------------------------------------------

    def _dead_name(self, message: Message) -> None:
        """The kobject of the port that hears of deaths."""
        if isinstance(message, DeadName) and isinstance(message.token, tuple):
            self._pager_died(*message.token)

    def _pager_died(self, object: VmObject, pager: SendRight) -> None:
        """Requests in progress fail; what only the pager had is lost; what is resident stands alone again, and will
        go to the default manager of then (mach.md 5.7, port death)."""
        with self._processor.lock:
            if object.pager is not pager:  # terminated, or known already
                return
            control, name, existence = object.control, object.name, object.existence
            object.pager = object.control = object.name = object.existence = None
            object.pager_ready = False
            self.counts["pagers_died"] += 1
            for page in list(object.pages.values()):
                if page.absent and page.busy:
                    self._fail(page)
                elif existence is not None and existence.sent(page.offset):
                    page.dirty = True  # the copy that made it clean is gone
            if existence is not None:
                object.lost.update(offset for offset in existence.offsets() if self._is_lost(object, offset))
            self._processor.wakeup((object, "ready"))
            self._processor.wakeup((object, "read"))
        for right in (control, name):
            if right is not None:
                right.destroy()

    @staticmethod
    def _is_lost(object: VmObject, offset: int) -> bool:
        page = object.pages.get(offset)
        return page is None or page.error or page.absent
