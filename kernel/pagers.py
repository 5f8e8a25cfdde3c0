"""Memory objects from the kernel's side: which VM object is paged by whom, and what the kernel asks of pagers.

Interface:
    Pagers(processor, ipc, resident, objects, manager)
        .create(object) -> bool              memory_object_create: the default manager becomes its pager
        .enter(memory_object, size) -> VmObject    memory_object_init: any pager's object, to be mapped
        .data_request(object, offset, length, access) -> bool      False: the pager is dead
        .data_unlock(object, offset, length, access) -> bool
        .send_data(object, offset, data, ...) -> bool    data_write, data_initialize or data_return
        .terminate(object)                   memory_object_terminate
        .moved(old, new)                     collapse: another VM object has the memory object now
        .reclaim()                           tells the default pager of pages that nobody can reach any more
        .died(memory_object)                 its port is dead, or it gave the object up
        .fail(page)  .answered(object, page) what was asked for has an end
        .counts                              what came and went, by name

The kernel never waits for room in a pager's queue, as Mach's messages from the kernel do not: what bounds the pages in
flight is the laundry (kernel/laundry.py), and the limit of requests to an external pager (kernel/vm_fault.py).

Invariants (the kernel mutex is held in every method; those that send release it):
    1. by_port holds each memory object that some living VM object is paged by, with that VM object; one that is being
       terminated stays until its terminate message is sent, so that a new init cannot overtake it (mach.md 5.8).
    2. A page that a pager has been given, and cannot give back, ends in an error: never in zeros (P2, P5).

Not here: what pagers answer (kernel/memory_object.py); when to ask (kernel/vm_fault.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kernel.default_manager import DefaultManager
from kernel.existence import ExistenceMap
from kernel.page import ABSENT, BUSY, PLACEHOLDER, Page
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.vm_object import VmObject, VmObjects
from mach.memory_object import (
    MemoryObjectCreate,
    MemoryObjectDataInitialize,
    MemoryObjectDataReclaim,
    MemoryObjectDataRequest,
    MemoryObjectDataReturn,
    MemoryObjectDataUnlock,
    MemoryObjectDataWrite,
    MemoryObjectInit,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.notify import DeadName
from mach.ports import DeadPort, Ipc, Port, ReceiveRight, SendRight, drop_rights

PROTECTIONS = tuple(VmProt(bits) for bits in range(8))


class Pagers:
    """See the head of the module."""

    dispatch: Callable[[VmObject, Message], None]  # what an object's control port does with a message

    def __init__(
        self, processor: Processor, ipc: Ipc, resident: ResidentPages, objects: VmObjects, manager: DefaultManager
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.by_port: dict[Port, VmObject] = {}
        self._processor = processor
        self._ipc = ipc
        self._resident = resident
        self._objects = objects
        self._manager = manager
        self._page_size = resident.page_size
        self._unreachable: list[tuple[SendRight, int, int]] = []  # pager, offset, length
        self._notify = ipc.allocate("deaths of pagers", kobject=self._dead_name)

    # -- an object gets its pager ------------------------------------------------------------------------------

    def create(self, object: VmObject) -> bool:
        """Make the default manager the pager of an internal object (mach.md 5.3).  False if that manager is dead.

        Internal objects are ready at once: there is no handshake.  Who calls has begun paging.
        """
        manager = self._manager.reference()
        if manager is None:
            return False
        if object.pager is not None:  # it got one while we waited for a manager
            self._processor.wakeup((object, "ready"))
            manager.drop()
            return True
        new_pager = self._ipc.allocate(f"memory object {object.object_id}")
        pager = new_pager.make_send()
        control, name = self._attach(object, pager)
        object.existence = ExistenceMap(object.size + object.paging_offset, self._page_size)
        message = MemoryObjectCreate(new_pager, object.size, control.make_send(), name.make_send(), self._page_size)
        with self._processor.unlocked:
            sent = self._send(manager, message)
            manager.drop()
            pager.watch(self._notify.make_send_once(), pager)  # at once, if it is dead
        if object.pager is pager:
            object.pager_ready = True
            self._processor.wakeup((object, "ready"))
            self.counts["memory_object_create"] += sent
        return object.pager is pager

    def enter(self, memory_object: SendRight, size: int) -> VmObject:
        """vm_object_enter: the VM object that a memory object is, with a reference for the caller; made if this kernel
        does not know it yet.  The right is copied.  Its pager may not be ready yet, or already dead: faults will
        see."""
        while (known := self.by_port.get(memory_object.port)) is not None:
            if known.alive:
                self._objects.reference(known)
                known.size = max(known.size, size)
                return known
            self._processor.wait((known, "terminated"), f"the termination of object {known.object_id} to be sent")
        object = self._objects.allocate(size)
        object.internal = object.temporary = False
        object.use_shared_copy = True  # whoever else maps it writes to it too
        pager = memory_object.copy()
        control, name = self._attach(object, pager)
        self._objects.paging_begin(object)
        with self._processor.unlocked:
            self._send(pager, MemoryObjectInit(control.make_send(), name.make_send(), self._page_size))
            pager.watch(self._notify.make_send_once(), pager)
        self._objects.paging_end(object)
        self.counts["memory_object_init"] += 1
        return object

    def _attach(self, object: VmObject, pager: SendRight) -> tuple[ReceiveRight, ReceiveRight]:
        control = self._ipc.allocate(f"control of object {object.object_id}", payload=object, limit=1)
        control.become_kobject(lambda message: self.dispatch(control.payload, message))
        name = self._ipc.allocate(f"name of object {object.object_id}")
        object.pager, object.control, object.name = pager, control, name
        self.by_port[pager.port] = object
        return control, name

    def moved(self, old: VmObject, new: VmObject) -> None:
        """Collapse: the memory object is `new`'s now."""
        assert new.pager is not None
        assert new.control is not None
        self.by_port[new.pager.port] = new
        new.control.payload = new
        self._give_up_unreachable(new)

    def _give_up_unreachable(self, object: VmObject) -> None:
        """What the memory object has of pages outside the VM object that took it over, or hidden by one that is lost
        there, is nobody's (Mach keeps it)."""
        existence, pager = object.existence, object.pager
        if existence is None or pager is None:
            return
        reach = range(object.paging_offset, object.paging_offset + object.size)
        for offset in existence.offsets():
            if offset in reach and offset - object.paging_offset not in object.lost:
                continue
            existence.clear(offset)
            last = self._unreachable[-1] if self._unreachable else None
            if last is not None and last[0] is pager and last[1] + last[2] == offset:
                self._unreachable[-1] = pager, last[1], last[2] + self._page_size
            else:
                self._unreachable.append((pager, offset, self._page_size))
        if self._unreachable:
            self._resident.request_pageout()  # a fault cannot wait for a message

    def reclaim(self) -> None:
        """Tell the default pager what was given up.  By the pageout daemon, in its own time: nobody uses these
        pages."""
        while self._unreachable:
            pager, offset, length = self._unreachable.pop()
            object = self.by_port.get(pager.port)
            if object is None or object.pager is not pager or object.control is None:
                continue
            message = MemoryObjectDataReclaim(object.control.make_send(), offset, length)
            self.counts["pages_reclaimed"] += length // self._page_size
            self._objects.paging_begin(object)
            with self._processor.unlocked:
                self._send(pager, message)
            self._objects.paging_end(object)

    # -- kernel to pager ---------------------------------------------------------------------------------------

    def data_request(self, object: VmObject, offset: int, length: int, access: int) -> bool:
        """Ask the pager for pages; their frames are there, busy and absent."""
        pager, control = object.pager, object.control
        if pager is None or control is None:
            return False
        message = MemoryObjectDataRequest(
            control.make_send(), offset + object.paging_offset, length, PROTECTIONS[access]
        )
        self.counts["data_request"] += 1
        with self._processor.unlocked:
            return self._send(pager, message)

    def data_unlock(self, object: VmObject, offset: int, length: int, access: int) -> bool:
        """Ask the pager to allow what its lock forbids."""
        pager, control = object.pager, object.control
        if pager is None or control is None:
            return False
        start = offset + object.paging_offset
        message = MemoryObjectDataUnlock(control.make_send(), start, length, PROTECTIONS[access])
        self.counts["data_unlock"] += 1
        with self._processor.unlocked:
            return self._send(pager, message)

    def send_data(
        self, object: VmObject, offset: int, data: bytes, *, initial: bool, dirty: bool, kernel_copy: bool
    ) -> bool:
        """Send pages; the bit of each is set in the existence map before (mach.md 4.6).  False if the pager died before
        it had taken them all, as far as can be known; then it is as if they had not been sent."""
        pager, control, existence = object.pager, object.control, object.existence
        if pager is None or control is None:
            return False
        start = offset + object.paging_offset
        if existence is not None:
            for page_offset in range(start, start + len(data), self._page_size):
                existence.set(page_offset)
        message: Message
        if initial and object.internal:
            message = MemoryObjectDataInitialize(control.make_send(), start, data)
        elif object.use_old_pageout:
            message = MemoryObjectDataWrite(control.make_send(), start, data)
        else:
            message = MemoryObjectDataReturn(control.make_send(), start, dirty, kernel_copy, data)
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
            control.become_kobject(drop_rights)  # a pager that still sends must not wait for itself to receive
            self._send(pager, MemoryObjectTerminate(control, name))
            pager.drop()
        del self.by_port[pager.port]
        self._processor.wakeup((object, "terminated"))

    def _send(self, right: SendRight, message: Message) -> bool:
        try:
            right.send(message, always=True)
        except DeadPort:
            return False
        return True

    # -- the ends of requests, and of pagers -------------------------------------------------------------------

    def answered(self, page: Page) -> None:
        """A page that its pager owed: it is here, or known not to come."""
        object = page.object
        object.absent_count -= 1
        self._processor.wakeup((object, "absent"))
        self._resident.activate(page)
        self._resident.done(page)

    def fail(self, page: Page) -> None:
        """It cannot be had: whoever faults on it gets KERN_MEMORY_ERROR."""
        page.absent = False
        page.error = True
        self._resident.tell("page_error", page)
        self.answered(page)

    def _dead_name(self, message: Message) -> None:
        """The kobject of the port that hears of deaths."""
        if isinstance(message, DeadName) and isinstance(message.token, SendRight):
            self.died(message.token)

    def died(self, pager: SendRight) -> None:
        """Requests in progress fail; what only the pager had is lost; what is resident stands alone again, and will go
        to the default manager of then (mach.md 5.7, port death).  The kernel mutex is not held."""
        with self._processor.lock:
            object = self.by_port.get(pager.port)
            if object is None or object.pager is not pager:  # terminated, or known already
                return
            control, name, existence = object.control, object.name, object.existence
            object.pager = object.control = object.name = object.existence = None
            del self.by_port[pager.port]
            object.pager_ready = False
            self.counts["pagers_died"] += 1
            for page in list(object.pages.values()):
                if page.flags & (ABSENT | BUSY) == ABSENT | BUSY:
                    self.fail(page)
                elif existence is None or existence.sent(page.offset + object.paging_offset):
                    page.dirty = True  # the copy that made it clean is gone
                page.page_lock = page.unlock_request = 0
                self._resident.wake(page)
            if existence is None:
                object.orphan = object.internal = object.temporary = object.use_old_pageout = True
            else:
                offsets = (at - object.paging_offset for at in existence.offsets())
                object.lost.update(at for at in offsets if at >= 0 and self._is_lost(object, at))
            object.paging_offset = 0
            object.can_persist = False
            self._processor.wakeup((object, "ready"))
            self._processor.wakeup((object, "read"))
            self._objects.uncache(object)
        for right in (control, name):
            if right is not None:
                right.destroy()

    @staticmethod
    def _is_lost(object: VmObject, offset: int) -> bool:
        page = object.pages.get(offset)
        return page is None or page.flags & PLACEHOLDER != 0
