"""The default pager: its ports, its threads, its memory objects.

Interface:
    DefaultPager(runtime, ipc, page_size)
        .store                  the BackingStore: add partitions to it
        .port                   the receive right of its service: kernels make it their default memory manager
        .start(threads)         fork the threads that serve
        .serve_by_calls(enter)  have none: inside a kernel
        .idle                   whether no message is being handled
        .objects(), .find(id), .totals()
        .check()                every invariant of this room

Blocking code on mach.threads: the daemon runs it on real threads, the search on simulated ones.

Invariants:
    1. An object is registered from its creation until nobody has a right to it; object numbers are never used again.
    2. Every slot in use belongs to one page of one registered object, or to a write that is under way.
    3. Whatever a message is, handling it ends; a thread never dies of one.
    4. No privileged thread waits for one that is not: temporary objects, shared objects and calls have port sets and
       threads of their own.

Not here: sockets, processes and options (pagerd.py); the calls of the service (service.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

from mach.default_pager_figures import MeasureRecord, MemoryRecord
from mach.memory_object import MemoryObjectCreate
from mach.message import Message, Received
from mach.peer import Peer
from mach.ports import Ipc, PortSet, ReceiveRight, drop_rights
from mach.threads import LockRank, Runtime
from pager.backing_store import BackingStore
from pager.clients import Client, Clients, Limits
from pager.handlers import HANDLERS, unexpected
from pager.log import event
from pager.memory_object import MAX_OBJECT_BYTES, MemoryObject
from pager.metrics import Histogram, merged
from pager.own_memory import OwnMemory, ProcessMemory
from pager.service import CALLS
from pager.slots import OWNER_OBJECT_BITS
from pager.storage import Disks
from pager.water_marks import WaterMarks

OBJECT_BYTES = 512  # of our own memory: a memory object and the first block of its page map


class _Server:
    """What one server thread says of itself.  Only that thread writes it: figures cost no lock."""

    __slots__ = ("busy", "latencies", "messages")

    def __init__(self) -> None:
        self.busy = False
        self.messages = 0
        self.latencies: dict[type[Message], Histogram] = {}

    def took(self, kind: type[Message], seconds: float) -> None:
        histogram = self.latencies.get(kind)
        if histogram is None:
            histogram = self.latencies[kind] = Histogram()
        histogram.add(seconds)


class DefaultPager:
    """See the head of the module.  `report` is told of what a person should know, in words."""

    def __init__(
        self,
        runtime: Runtime,
        ipc: Ipc,
        page_size: int = 4096,
        report: Callable[[str], None] = lambda words: None,
        memory: OwnMemory | None = None,
        limits: Limits = Limits(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self.runtime = runtime
        self.ipc = ipc
        self.page_size = page_size
        self.store = BackingStore(runtime, page_size)
        self.port: ReceiveRight = ipc.allocate("default pager", payload=self)
        self.report = report
        self.memory: OwnMemory = memory or ProcessMemory(runtime)
        self.on_bug: Callable[[Exception], None] | None = None  # a daemon goes on; a test must not
        self.disks: Disks | None = None  # where storage that is added comes from
        self.wired_bytes: Callable[[], int] = lambda: 0
        self.own_memory: Callable[[], tuple[tuple[MemoryRecord, ...], tuple[MeasureRecord, ...]]] = lambda: ((), ())
        self.carrier_totals: Callable[[], dict[str, int]] = dict
        self.secret = bytes(32)  # what secret names are made with; a daemon makes up its own
        self.clients = Clients(runtime, limits, lambda words: self.report(words))
        self.water_marks = WaterMarks(runtime, lambda words: self.report(words))
        self._lock = runtime.mutex("pager", LockRank.PAGER)
        self._objects: dict[int, MemoryObject] = {}
        self._next_id = 1
        self._enter: Callable[[Callable[[], None]], None] | None = None
        self._servers: list[_Server] = []
        self._losing = False  # whether the last pageout lost pages
        self._totals: Counter[str] = Counter()
        self._internal = ipc.port_set("temporary objects")
        self._external = ipc.port_set("shared objects")
        self._calls = ipc.port_set("calls")
        self._calls.add(self.port)

    # -- objects -----------------------------------------------------------------------------------------------

    def create_object(self, size: int, internal: bool, receive: ReceiveRight, peer: Peer | None) -> MemoryObject | None:
        """Register a new memory object whose port is `receive`, for `peer`.  None if that has all it may have."""
        client = self.clients.admit(peer)
        if client is None:
            return None
        address = self.memory.allocate(OBJECT_BYTES)
        with self._lock:
            while self._low_bits_taken():
                self._next_id += 1
            obj = MemoryObject(self.runtime, self._next_id, size, internal, receive, self.page_size, client)
            obj.address = address
            self._objects[self._next_id] = obj
            self._next_id += 1
            self._totals["objects_created"] += 1
        receive.payload = obj
        receive.request_no_senders(receive.make_send_once())
        return obj

    def _low_bits_taken(self) -> bool:
        span = 1 << OWNER_OBJECT_BITS
        return any(number in self._objects for number in range(self._next_id % span, self._next_id, span))

    def serve_object(self, obj: MemoryObject) -> None:
        """Receive the object's messages from now on, those that have come already first."""
        if self._enter is not None:
            self._serve_by_calls(obj.receive, obj)
            return
        (self._internal if obj.internal else self._external).add(obj.receive)

    def forget(self, obj: MemoryObject) -> None:
        with self._lock:
            del self._objects[obj.object_id]
            self._totals["objects_terminated"] += 1
            self._totals["pageins"] += obj.pageins
            self._totals["pageouts"] += obj.pageouts
            self._totals["page_errors"] += obj.errors
        self.clients.leave(obj.client)
        self.memory.free(obj.address, OBJECT_BYTES)
        self.space_changed()

    def find(self, object_id: int) -> MemoryObject | None:
        with self._lock:
            return self._objects.get(object_id)

    def object_of(self, low_bits: int) -> MemoryObject | None:
        """The object alive whose number ends in these bits (slots.py)."""
        with self._lock:
            for object_id in range(low_bits, self._next_id, 1 << OWNER_OBJECT_BITS):
                if object_id in self._objects:
                    return self._objects[object_id]
        return None

    def objects(self) -> list[MemoryObject]:
        """In the order of their numbers."""
        with self._lock:
            return list(self._objects.values())

    def totals(self) -> dict[str, int]:
        """Counters since the start."""
        with self._lock:
            totals = Counter(pageins=0, pageouts=0, page_errors=0, objects_created=0, objects_terminated=0, refused=0)
            totals.update(self._totals)
            for obj in self._objects.values():
                totals.update(pageins=obj.pageins, pageouts=obj.pageouts, page_errors=obj.errors)
        totals["over_limits"] = self.clients.refused
        totals["messages"] = sum(server.messages for server in self._servers)
        pairs = self.runtime.lock_pairs()  # empty where nobody counts (mach/threads)
        totals["lock_pairs"] = sum(pairs.values())
        totals.update({f"lock_pairs_{name.replace(' ', '_')}": count for name, count in pairs.items()})
        return dict(totals) | self.carrier_totals()

    def latencies(self) -> dict[str, Histogram]:
        """How long messages took, by their kind, since the start."""
        kinds = {kind for server in self._servers for kind in tuple(server.latencies)}
        return {
            kind.__name__: merged([server.latencies[kind] for server in self._servers if kind in server.latencies])
            for kind in sorted(kinds, key=lambda kind: kind.msgh_id)
        }

    # -- messages ----------------------------------------------------------------------------------------------

    def start(self, threads: int = 3, one_pool: bool = False) -> None:
        """Fork the server threads: `threads` for temporary objects, one for shared objects, one for calls.

        Those on which pageout depends are privileged (thread_wire).  The one for shared objects is not: a burst of
        faults on them could drain the reserve, since only faults on temporary objects bring their page (reference 3.8);
        and it has a port set of its own, so that no privileged thread waits for it (paper §4).

        `one_pool` takes that away: as many threads, each of which serves whatever comes, with privilege only for what
        pageout depends on.  It is there to show what happens then.
        """
        if one_pool:
            self._external = self._internal
            self._internal.add(self.port)
            for number in range(threads + 2):
                self._fork(self._internal, f"pager {number}", privileged=True)
            return
        for number in range(threads):
            self._fork(self._internal, f"pager {number}", privileged=True)
        self._fork(self._external, "pager for shared objects", privileged=False)
        self._fork(self._calls, "pager for calls", privileged=True)

    def serve_by_calls(self, enter: Callable[[Callable[[], None]], None]) -> None:
        """Instead of start(): be a part of the kernel, without threads.  Whoever sends a message to one of our ports
        handles it, within `enter`."""
        self._enter = enter
        self._serve_by_calls(self.port, self)

    def _serve_by_calls(self, port: ReceiveRight, payload: object) -> None:
        enter, seqnos = self._enter, itertools.count()
        assert enter is not None
        port.become_kobject(lambda message: enter(lambda: self.handle(Received(payload, next(seqnos), message))))

    def _fork(self, port_set: PortSet, name: str, privileged: bool) -> None:
        server = _Server()
        self._servers.append(server)

        def serve() -> None:
            self.memory.begin(privileged)
            port_set.serve(lambda received: self._handle_safely(received, server))

        self.runtime.fork(serve, name, daemon=True)

    def _handle_safely(self, received: Received, server: _Server) -> None:
        server.messages += 1
        server.busy = True
        began = self.runtime.now()
        self.memory.run(type(received.message).__name__)
        if self._external is self._internal:
            self.memory.privilege(getattr(received.payload, "internal", True))
        try:
            self.handle(received)
        except Exception as bug:
            if self.on_bug is None:
                raise
            self.on_bug(bug)
        finally:
            server.busy = False
            server.took(type(received.message), self.runtime.now() - began)

    def handle(self, received: Received) -> None:
        """Do what one message asks for."""
        if isinstance(received.payload, MemoryObject):
            handler = HANDLERS.get(type(received.message), unexpected)
            handler(self, received.payload, received.seqno, received.message)
        else:
            self._serve_call(received.message)

    def _serve_call(self, message: Message) -> None:
        if isinstance(message, MemoryObjectCreate):
            self.memory_object_create(message)
            return
        call = CALLS.get(type(message))
        if call is None:
            self.refuse(message, f"{type(message).__name__} is sent to the default pager")
        else:
            call(self, message)

    def memory_object_create(self, message: MemoryObjectCreate) -> None:
        """A kernel made a temporary object; space is not reserved for it (overcommit is Mach's policy, 3.3)."""
        if message.page_size != self.page_size or message.size > MAX_OBJECT_BYTES:
            self.refuse(message, f"an object of {message.size} bytes in pages of {message.page_size}")
            return
        peer = message.control.port.peer
        obj = self.create_object(message.size, internal=True, receive=message.new_pager, peer=peer)
        if obj is None:
            self.refuse(message, f"an object more: {peer} has {self.clients.limits.objects}, its limit")
            return
        obj.control, obj.name = message.control, message.name
        self.serve_object(obj)

    def wrote(self, obj: MemoryObject, lost: int, slots_changed: bool) -> None:
        """After a pageout: say once when pages begin to be lost, and once when that is over (Mach: overcommitted)."""
        if slots_changed:
            self.space_changed()
        if lost and self.clients.at_limit(obj.client):
            return  # it has been told of (Clients), and the others write on
        if bool(lost) == self._losing:
            return
        with self._lock:
            changed, self._losing = self._losing != bool(lost), bool(lost)
        if changed and lost and not self.store.free_pages:
            words = f"out of paging space: what is paged out now is lost ({lost} pages of {obj!r}); more is needed"
            self.report(event("out_of_space", words, object=obj.object_id, pages=lost))
        elif changed and lost:
            words = f"the disk fails: {lost} pages of {obj!r} could not be written anywhere and are lost"
            self.report(event("pages_lost", words, object=obj.object_id, pages=lost))
        elif changed:
            self.report(event("pages_written", "pages are written again"))

    def space_changed(self) -> None:
        """Slots were given out or came back: tell who wants to know."""
        self.water_marks.check(self.store.free_pages * self.page_size, self.store.total_pages * self.page_size)

    def refuse(self, message: Message, why: str) -> None:
        """A message breaks the protocol: its rights are dropped, it is counted (P7)."""
        with self._lock:
            self._totals["refused"] += 1
        drop_rights(message)
        self.report(event("refused", f"refused: {why}", message_kind=type(message).__name__))

    @property
    def idle(self) -> bool:
        return not any(server.busy for server in self._servers)

    # -- self-examination --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Every invariant of this room that holds while nothing is under way."""
        named: list[tuple[int, int]] = []
        for obj in self.objects():
            obj.check()
            named += [(entry.partition, entry.slot) for _, entry in obj.map.pages(0) if entry.stored]
        assert len(named) == len(set(named)), "INV-2: two pages share a slot"
        used = {(p.index, slot) for p in self.store.partitions() for slot in p.used_slots()}
        assert used == set(named), f"INV-2: slots in use {len(used)}, named by page maps {len(named)}"
        for partition in self.store.partitions():
            partition.check()
        held: Counter[Client] = Counter()
        for obj in self.objects():
            held[obj.client] += len(obj.map)
        for client in self.clients.all():
            assert client.pages == held[client], f"{client} is charged for {client.pages} pages and has {held[client]}"
