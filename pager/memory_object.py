"""A memory object as the default pager keeps it: its turn, who is reading and writing, its page map.

Interface (all but the constructor with `lock` held):
    MemoryObject(runtime, object_id, size, internal, receive)
        .take_turn(seqno), .pass_turn()      messages act in the order in which they were received
        .await_written(pages)                until no earlier write of these pages is under way
        .await_quiet()                       until nothing at all is under way
        .begin_write(pages), .end_write(pages), .begin_read(), .end_read()

Ordering (Mach's default_pager.c, reference 3.6, made per page): a message waits for its turn; it then waits for
earlier writes of *its* pages, notes itself as a reader or a writer, and passes the turn on.  So writes of different
pages run in parallel, a read waits for the earlier writes of what it reads, of two writes of one page the later one
ends later, and terminate waits for all.

Invariants:
    1. seqno only grows, by one for each message received from the object's port, whatever the message was.
    2. `writing` holds the pages whose content is on its way to the disk; each is there at most once.
    3. A handler waits only for handlers whose messages came earlier: there is no circle.

Not here: the disk (page_io.py); what a message is answered with (handlers.py).
"""

from __future__ import annotations

from mach.ports import ReceiveRight, SendRight
from mach.threads import LockRank, Runtime
from pager.clients import Client
from pager.page_map import PageMap


class MemoryObject:
    """See the head of the module."""

    def __init__(
        self,
        runtime: Runtime,
        object_id: int,
        size: int,
        internal: bool,
        receive: ReceiveRight,
        page_size: int,
        client: Client,
    ) -> None:
        self.object_id = object_id
        self.size = size  # bytes; grows with what is written, up to the limit
        self.limit: int | None = None  # bytes, once it was set (default_pager_object_set_size)
        self.internal = internal
        self.receive = receive
        self.page_size = page_size
        self.control: SendRight | None = None  # of the kernel that maps it, until it terminates it
        self.name: SendRight | None = None
        self.lock = runtime.mutex("memory object", LockRank.MEMORY_OBJECT)
        self.client = client  # who made it, and is charged for its pages
        self.address = 0  # of what it takes in the pager's own memory
        self.map = PageMap()
        self.readers = 0
        self.writing: set[int] = set()
        self.pageins = 0  # pages
        self.pageouts = 0
        self.errors = 0
        self.dead = False
        self._seqno = 0
        self._changed = runtime.condition(self.lock, "memory object changed")

    def __repr__(self) -> str:
        return f"<memory object {self.object_id}>"

    def take_turn(self, seqno: int) -> None:
        """Wait until all messages received before this one have had their turn."""
        while self._seqno != seqno:
            self._changed.wait(lambda: f"its turn (message {seqno}, next is {self._seqno}) at {self!r}")

    def pass_turn(self) -> None:
        self._seqno += 1
        self._changed.broadcast()

    def await_written(self, pages: range) -> None:
        while self.writing and not self.writing.isdisjoint(pages):
            self._changed.wait(lambda: f"the writing of pages {pages.start} - {pages.stop - 1} of {self!r}")

    def await_quiet(self) -> None:
        while self.readers or self.writing:
            self._changed.wait(lambda: f"{self.readers} reads and {len(self.writing)} page writes of {self!r}")

    def begin_read(self) -> None:
        self.readers += 1

    def end_read(self) -> None:
        self.readers -= 1
        if not self.readers:
            self._changed.broadcast()

    def begin_write(self, pages: range) -> None:
        assert self.writing.isdisjoint(pages), "INV-2"
        self.writing.update(pages)

    def end_write(self, pages: range) -> None:
        self.writing.difference_update(pages)
        self._changed.broadcast()

    def page_range(self, offset: int, length: int) -> range | None:
        """The pages of a byte range, or None if it is not a row of whole pages that an object can have."""
        if offset % self.page_size or length % self.page_size or length == 0 or offset + length > MAX_OBJECT_BYTES:
            return None
        return range(offset // self.page_size, (offset + length) // self.page_size)

    def check(self) -> None:
        with self.lock:
            self.map.check()
            assert self.readers >= 0, "readers"
            assert self.map.last_page() * self.page_size < self.size or not len(self.map), "size covers what is paged"


MAX_OBJECT_BYTES = 1 << 45  # of pages of 512 bytes just as many as an owner's number can tell apart (slots.py)
