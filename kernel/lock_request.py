"""memory_object_lock_request, in full (mach.md 5.7, Appendix A).

Interface:
    LockRequests(processor, resident, objects, laundry)
        .waiting                     requests that wait, by object; each object has a reference for it
        .handle(object, message)     does what is asked and says lock_completed; in a thread of its own if it must wait

For each page of the range that is in memory: access is restricted at once, by unmapping it, or loosened; what should be
returned goes to the pager, in rows of pages of one kind; what should be flushed leaves memory.  Only a page that is
wired keeps a flush waiting, until it is unwired; that it is given back need not wait, though in Mach it does (weakness
17): a copy goes.

Invariants:
    1. All of a request is done at once but the flushing of wired pages, and that makes no later request wait: whatever
       it asked for those pages is over when they leave.
    2. lock_completed is sent once, when nothing of the request is left to do.
    3. The thread that handles a message never waits, whatever its sender asks.

Not here: what a lock makes a fault do (kernel/vm_fault.py).
"""

from __future__ import annotations

from kernel.laundry import Laundry
from kernel.page import ABSENT, BUSY, DIRTY, ERROR, MODIFIED, PRECIOUS, Page
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.vm_object import VmObject, VmObjects
from mach.memory_object import MemoryObjectLockCompleted, MemoryObjectLockRequest, MemoryObjectReturn, VmProt
from mach.ports import DeadPort, drop_rights

NO_CHANGE = int(VmProt.ALL) + 1  # VM_PROT_NO_CHANGE
ROW_MAX = 32  # pages in one message (mach.md, Appendix A)
WAITING_MAX = 64  # requests of one object that wait for a wired page; what comes beyond is refused


class LockRequests:
    """See the head of the module."""

    def __init__(self, processor: Processor, resident: ResidentPages, objects: VmObjects, laundry: Laundry) -> None:
        self._processor = processor
        self._resident = resident
        self._objects = objects
        self._laundry = laundry
        self.waiting: dict[VmObject, list[MemoryObjectLockRequest]] = {}

    def handle(self, object: VmObject, message: MemoryObjectLockRequest) -> None:
        """In the sender's context."""
        with self._processor.lock:
            waiting = self.waiting.get(object, ())
            refused = not object.alive or len(waiting) >= WAITING_MAX
            complete = not refused and self._apply(object, message)
            if not refused and not complete:
                self._await_unwiring(object, message)
        if refused:
            drop_rights(message)
        elif complete:
            self._completed(object, message)

    def _await_unwiring(self, object: VmObject, message: MemoryObjectLockRequest) -> None:
        if object in self.waiting:
            self.waiting[object].append(message)
            return
        self.waiting[object] = [message]
        self._objects.reference(object)
        name = f"lock request of object {object.object_id}"
        self._processor.runtime.fork(lambda: self._go_on(object), name, daemon=True)

    def _go_on(self, object: VmObject) -> None:
        """The thread that waits for wired pages of the object."""
        requests = self.waiting[object]
        while True:
            with self._processor.lock:
                done = [message for message in list(requests) if self._apply(object, message)]
                for message in done:
                    requests.remove(message)
                ended = not requests
                if ended:
                    del self.waiting[object]
                    self._objects.deallocate(object)
                elif not done and all(self._is_held(object, message) for message in requests):
                    self._processor.wait(
                        (object, "unwired"), lambda: f"a wired page of object {object.object_id} to be unwired"
                    )
            for message in done:
                self._completed(object, message)
            if ended:
                return

    def _is_held(self, object: VmObject, message: MemoryObjectLockRequest) -> bool:
        """Whether a page is still wired: it may have been unwired while another was being sent."""
        start = max(message.offset - object.paging_offset, 0)
        return any(page.wire_count for _, page in object.pages.items(start, min(start + message.size, object.size)))

    def _completed(self, object: VmObject, message: MemoryObjectLockRequest) -> None:
        reply, control = message.reply, object.control
        if reply is None:
            return
        if control is not None:
            try:
                done = MemoryObjectLockCompleted(control.make_send(), message.offset, message.size)
                reply.send(done, always=True)
            except DeadPort:
                pass
        reply.drop()

    def _apply(self, object: VmObject, message: MemoryObjectLockRequest) -> bool:
        """All that can be done now; False if a wired page must be waited for.  The kernel mutex is held; it is released
        while pages are sent, and what is done already is found done when it is applied again."""
        start = max(message.offset - object.paging_offset, 0)
        end = min(start + message.size, object.size)
        complete, done = True, start
        for at in [offset for offset, _ in object.pages.items(start, end)]:
            page = object.pages.get(at)
            if at < done or page is None or page.flags & (BUSY | ABSENT | ERROR):  # sent with another; gone, or leaving
                continue
            self._restrict(page, message)
            flush = bool(message.should_flush)
            if flush and page.wire_count:
                complete = flush = False
            row = self._row(object, page, end, message)
            if row:
                done = at + len(row) * self._resident.page_size
                self._send(object, row, flush)
            elif flush:
                self._resident.free(page)
            elif message.should_return != MemoryObjectReturn.NONE and not page.wire_count:
                self._resident.deactivate(page)  # a hint, as in Mach
        return complete

    def _restrict(self, page: Page, message: MemoryObjectLockRequest) -> None:
        """The new lock.  What it forbids is unmapped now, what it allows comes with the next fault."""
        flags = page.flags
        if message.should_flush or (message.lock_value != NO_CHANGE and message.lock_value & ~page.page_lock):
            self._resident.pv.remove_all(page)
        if flags & MODIFIED:
            page.dirty, page.modified = True, False
            if page.wire_count:  # it stays, and the next write must be seen
                self._resident.pv.write_protect(page)
        if message.lock_value != NO_CHANGE and not message.should_flush:
            page.page_lock = message.lock_value
            page.unlock_request = 0
            self._resident.wake(page)

    @staticmethod
    def _must_return(page: Page, should_return: MemoryObjectReturn) -> int:
        """The kind of page that goes back: DIRTY or PRECIOUS; 0 if it need not."""
        if should_return != MemoryObjectReturn.NONE and page.flags & (DIRTY | MODIFIED):
            return DIRTY
        if should_return == MemoryObjectReturn.ALL and page.flags & PRECIOUS:
            return PRECIOUS
        return 0

    def _row(self, object: VmObject, first: Page, end: int, message: MemoryObjectLockRequest) -> list[Page]:
        """The page, and those after it that go back as it does; none if it need not go back."""
        kind = self._must_return(first, message.should_return)
        row: list[Page] = []
        at, page = first.offset, first
        while kind and len(row) < ROW_MAX:
            row.append(page)
            at += self._resident.page_size
            following = object.pages.get(at) if at < end else None
            if following is None or following.flags & (BUSY | ABSENT | ERROR):
                break
            if self._must_return(following, message.should_return) != kind:
                break
            if bool(following.wire_count) != bool(first.wire_count):
                break
            self._restrict(following, message)
            page = following
        return row

    def _send(self, object: VmObject, row: list[Page], flush: bool) -> None:
        for page in row:
            if flush:
                self._resident.take_off_queues(page)
                self._resident.pv.remove_all(page)
            page.busy = True
            page.dirty |= page.modified
        if flush:
            self._laundry.send(object, row)
        else:
            self._laundry.send(object, row, keep=True)
