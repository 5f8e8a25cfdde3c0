"""Reading memory without touching it: what an object holds, resident pages first, then its pager's, then zeros.

Interface:
    CoherentReader(processor, ipc, resident)
        .read_object(object, offset, length) -> bytes    MachError: KERN_MEMORY_ERROR, KERN_NO_ACCESS
        .read_map(vm_map, address, length) -> bytes      MachError: KERN_INVALID_ADDRESS; ends at the first hole

A page that only the pager has is asked for as any page is, with read access, so that the pager keeps it; but the
request names a control port of the reader's own.  The default pager answers to the port that the request names, and
so nothing becomes resident.  A user pager may do as it likes, and give its only copy away: it is not asked, and what
only it has cannot be seen from outside (KERN_NO_ACCESS).

Invariants:
    1. No page's state, queue or residence changes, and no reference bit.
    2. What is on its way (paged in after we looked) is looked for again, and is never taken for zeros.

Not here: messages to and from whoever looks (kernel/debug_server.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel.pagers import PROTECTIONS
from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.vm_map import VmMap
from kernel.vm_object import VmObject
from mach.kern_return import KernReturn, MachError
from mach.memory_object import (
    MemoryObjectDataError,
    MemoryObjectDataRequest,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    VmProt,
)
from mach.message import Message
from mach.notify import NoSenders
from mach.ports import DeadPort, Ipc, drop_rights

ATTEMPTS = 8  # a page may leave for the pager while we look for it in memory, and come back while we ask
MAX_REQUEST_PAGES = 64  # in one data_request (DESIGN 3)


@dataclass(slots=True)
class _Request:
    """Consecutive pages that only a pager has."""

    owner: VmObject
    offset: int  # bytes, in the owner
    places: list[int]  # where each page belongs: its offset in the object that is read


@dataclass(slots=True)
class _Answers:
    """What has come for one request; offsets are the pager's."""

    left: set[int]
    data: dict[int, bytes] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    failed: bool = False


class CoherentReader:
    """See the head of the module."""

    def __init__(self, processor: Processor, ipc: Ipc, resident: ResidentPages) -> None:
        self._processor = processor
        self._ipc = ipc
        self._resident = resident
        self._page_size = resident.page_size

    def read_map(self, vm_map: VmMap, address: int, length: int) -> bytes:
        """What a task sees, up to the first hole.  The kernel mutex is not held."""
        parts: list[bytes] = []
        while length > 0:
            with self._processor.lock:
                entry = vm_map.lookup(address)
                if entry is None:
                    break
                count = min(length, entry.end - address)
                object, offset = entry.object, entry.offset + address - entry.start
            parts.append(bytes(count) if object is None else self.read_object(object, offset, count))
            address += count
            length -= count
        if length > 0 and not parts:
            raise MachError(KernReturn.KERN_INVALID_ADDRESS, f"nothing is allocated at {address:#x}")
        return b"".join(parts)

    def read_object(self, object: VmObject, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer at the end of the object.  The kernel mutex is not held."""
        end = min(offset + length, object.size)
        if offset >= end:
            return b""
        first = offset - offset % self._page_size
        found: dict[int, bytes] = {}
        absent: set[tuple[int, int]] = set()  # (object number, offset): its pager has said that it has nothing
        for _ in range(ATTEMPTS):
            with self._processor.lock:
                requests = self._look(object, range(first, end, self._page_size), found, absent)
                for request in requests:
                    self._ask(request, found, absent)
            if not requests:
                data = b"".join(found[page] for page in range(first, end, self._page_size))
                return data[offset - first : end - first]
        raise MachError(KernReturn.KERN_MEMORY_ERROR, f"object {object.object_id} does not hold still")

    def _look(
        self, object: VmObject, wanted: range, found: dict[int, bytes], absent: set[tuple[int, int]]
    ) -> list[_Request]:
        """Take what is in memory; return what must be asked for."""
        requests: list[_Request] = []
        for place in wanted:
            if place in found:
                continue
            here = self._find(object, place, absent)
            if isinstance(here, bytes):
                found[place] = here
                continue
            owner, offset = here
            last = requests[-1] if requests else None
            if (
                last is not None
                and last.owner is owner
                and last.offset + len(last.places) * self._page_size == offset
                and len(last.places) < MAX_REQUEST_PAGES
            ):
                last.places.append(place)
            else:
                requests.append(_Request(owner, offset, [place]))
        return requests

    def _find(self, object: VmObject, offset: int, absent: set[tuple[int, int]]) -> bytes | tuple[VmObject, int]:
        """The content of a page, or who must be asked for it: the walk of vm_fault, leaving no trace."""
        at: VmObject | None = object
        while at is not None:
            page = at.pages.get(offset)
            if page is not None and not page.absent and not page.error:
                return self._resident.store.read(page.frame)
            if at.is_lost(offset):  # whether or not a placeholder stands there
                raise MachError(KernReturn.KERN_MEMORY_ERROR, f"a page of object {at.object_id} died with its pager")
            asked_in_vain = page is not None and page.absent and not page.busy
            if at.may_have(offset) and not asked_in_vain and (at.object_id, offset) not in absent:
                if not at.internal:
                    raise MachError(KernReturn.KERN_NO_ACCESS, f"a page of object {at.object_id} is its user pager's")
                if at.pager_ready:
                    return at, offset
            offset += at.shadow_offset
            at = at.shadow
        return bytes(self._page_size)

    def _ask(self, request: _Request, found: dict[int, bytes], absent: set[tuple[int, int]]) -> None:
        """Ask the pager on our own behalf, and wait.  The kernel mutex is held, and released meanwhile."""
        owner, page_size = request.owner, self._page_size
        pager = owner.pager
        if pager is None:
            return  # it has just died: the next look says so
        start, length = request.offset + owner.paging_offset, len(request.places) * page_size
        answers = _Answers(set(range(start, start + length, page_size)))
        port = self._ipc.allocate(
            "a reader's control port", kobject=lambda message: self._answer(owner, answers, message)
        )
        control = port.make_send()
        owner.paging_in_progress += 1  # it must not be terminated meanwhile, nor change its pager
        with self._processor.unlocked:
            port.request_no_senders(port.make_send_once())  # a pager that drops the request answers it so
            try:
                pager.send(MemoryObjectDataRequest(control, start, length, PROTECTIONS[VmProt.READ]))
            except DeadPort:
                answers.failed = True
        while answers.left and not answers.failed and owner.pager is pager:
            self._processor.wait((owner, "read"), f"the pager of object {owner.object_id} to answer a reader")
        owner.paging_in_progress -= 1
        if owner.paging_in_progress == 0 and not owner.alive:
            self._processor.wakeup(owner)
        with self._processor.unlocked:
            port.destroy()
        self._take(request, answers, found, absent)

    def _take(
        self, request: _Request, answers: _Answers, found: dict[int, bytes], absent: set[tuple[int, int]]
    ) -> None:
        owner = request.owner
        if answers.failed and owner.pager is not None:
            raise MachError(KernReturn.KERN_MEMORY_ERROR, f"the pager of object {owner.object_id} has an error")
        for index, place in enumerate(request.places):
            offset = request.offset + index * self._page_size
            data = answers.data.get(offset + owner.paging_offset)
            if data is not None:
                found[place] = data
            elif offset + owner.paging_offset in answers.absent and not owner.was_sent(offset):
                absent.add((owner.object_id, offset))  # INV-2: a page that was sent is in memory now, or lost

    def _answer(self, owner: VmObject, answers: _Answers, message: Message) -> None:
        """The kobject of a reader's control port."""
        page_size = self._page_size
        with self._processor.lock:
            if isinstance(message, MemoryObjectDataSupply):
                for at in range(0, len(message.data) - page_size + 1, page_size):
                    if message.offset + at in answers.left:
                        answers.left.remove(message.offset + at)
                        answers.data[message.offset + at] = message.data[at : at + page_size]
            elif isinstance(message, MemoryObjectDataUnavailable):
                gone = {at for at in answers.left if message.offset <= at < message.offset + message.size}
                answers.left -= gone
                answers.absent |= gone
            elif isinstance(message, MemoryObjectDataError) or (isinstance(message, NoSenders) and answers.left):
                answers.failed = True
            self._processor.wakeup((owner, "read"))
        drop_rights(message)
