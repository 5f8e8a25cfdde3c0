"""Message queues, and the threads that receive from them (Mach's ipc_mqueue).

Interface:
    Flow(limit)                     how much of one peer's waits here, and who is to hear when that is little again
    MessageQueue(receivers, name)   what waits at a port, or at all ports of a set; and the threads that wait there
    Receivers(runtime)              .receive(queue, timeout), .serve(queue, handle): for receivers
                                    .announce(queue), .announce_fed(queue), .close(queue, why), .resign(): for
                                    senders, with .lock held
                                    .relieve(): now and then, for a leader that is stuck

With a feeder (mach/feeder.py), one thread at a time has the *lead*: it polls the feeder when its own queue is empty.
A thread that serves keeps the lead while it handles what came, and passes it on before it may sleep (its *duty*,
mach/threads): to hand a message to another thread costs more than to handle most of them.  What was to be quick may
take long after all, a disk that hangs say: then it is relieved.

Invariants:
    1. If there is a feeder and a thread sleeps here, some thread has the lead or has been woken to take it.
    2. A thread's duty is set only while it has the lead and handles a message, so never inside the feeder.
    3. A sleeper is woken for each message that the leader will not find in its own queue.
    4. What is held back in a flow is let go once half of what it may hold has been received.

Not here: rights, and what a message is (mach/ports.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from mach.feeder import Feeder
from mach.message import Message, Received
from mach.threads import LockRank, OwedBy, Runtime, Thread

if TYPE_CHECKING:
    from mach.ports import Port


class Flow:
    """The messages of one peer that wait at ports of ours, and what is held back meanwhile.  Ipc's lock guards it."""

    __slots__ = ("held_back", "limit", "queued")
    LIMIT = 16  # messages; with the largest clusters that is as many MiB

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.queued = 0
        self.held_back: list[Callable[[], None]] = []  # what lets it go; takes no lock

    @property
    def is_full(self) -> bool:
        return self.queued > self.limit

    def left(self, count: int) -> None:
        """So many of its messages wait no more."""
        self.queued -= count
        if self.held_back and self.queued <= self.limit // 2:
            waiting, self.held_back = self.held_back, []
            for let_go in waiting:
                let_go()


class MessageQueue:
    """Where the receivers of a port, or of all ports of a set, wait."""

    def __init__(self, receivers: Receivers, name: str, of_set: bool = False) -> None:
        self.name = name
        self.of_set = of_set
        self.closed: Exception | None = None  # what who receives here gets: its port, or its set, has died
        self.messages: deque[tuple[Port, Message]] = deque()
        self.arrived = receivers.runtime.condition(receivers.lock, f"{name}.arrived")
        self.waiting = 0  # threads that sleep on `arrived`
        self.hands: dict[Thread, tuple[Port, Message] | None] = {}  # who receives here, what of; kept for reports only


class Receivers:
    """The threads of one party that receive, and the mutex of all its ports."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.lock = runtime.mutex("ipc", LockRank.IPC)
        self.feeder: Feeder | None = None
        self._leader: Thread | None = None
        self._leading: MessageQueue | None = None  # the leader's queue
        self._fed: MessageQueue | None = None  # where the feeder has brought something to, if not to the leader's
        self._sleeping_at: list[MessageQueue] = []  # one entry a thread that sleeps
        self._led = 0  # messages that a leader has taken
        self._led_before = 0  # when relieve() was called last

    def receive(self, queue: MessageQueue, timeout: float | None, owed_by: OwedBy | None = None) -> Received | None:
        """The next message, or None after `timeout` seconds."""
        self._comes_to(queue, owed_by)
        deadline = None if timeout is None else self.runtime.now() + timeout
        try:
            while True:
                with self.lock:
                    if queue.messages:
                        return self._take(queue)
                    if queue.closed is not None:
                        raise queue.closed
                    left = None if deadline is None else deadline - self.runtime.now()
                    if left is not None and left <= 0:
                        return None
                    lead = self._lead_or_sleep(queue, left, owed_by)
                if lead and self.feeder is not None:
                    self.feeder.poll(left)
        finally:
            if self.feeder is not None:
                self.give_up_lead()

    def serve(self, queue: MessageQueue, handle: Callable[[Received], None]) -> None:
        """Receive and handle for ever, keeping the lead from one message to the next."""
        me = self.runtime.current()
        try:
            while True:
                received, lead = self._next(queue, me)
                if received is not None:
                    handle(received)
                    me.duty = None
                elif lead and self.feeder is not None:
                    self.feeder.poll(None)
        finally:
            me.duty = None
            if self.feeder is not None:
                self.give_up_lead()

    def _next(self, queue: MessageQueue, me: Thread) -> tuple[Received | None, bool]:
        """A message to handle; or else whether to poll.  Sleeps if there is neither."""
        self._comes_to(queue)
        with self.lock:
            if queue.messages:
                if self.feeder is not None and self._leader is None:
                    self._leader, self._leading = me, queue
                if self._leader is me:
                    me.duty = self.give_up_lead
                    self._led += 1
                return self._take(queue), False
            other, self._fed = self._fed, None
            if other is not None and other.messages and other.waiting and self._leader is me:
                self.resign(other)  # the lead goes where the messages go
                self._sleep(queue, None)
                return None, False
            return None, self._lead_or_sleep(queue, None)

    def _comes_to(self, queue: MessageQueue, owed_by: OwedBy | None = None) -> None:
        self.runtime.checkpoint("receives from", queue.name)
        if self.runtime.reports and owed_by is None:  # not a caller that waits for its answer
            me = self.runtime.current()
            queue.hands[me], me.handles = None, ""

    def give_up_lead(self) -> None:
        """Whoever has the lead may not be back soon; or was woken to take it and leaves without."""
        if self.feeder is not None and self._leader is self.runtime.current():
            self.feeder.settle()
        with self.lock:
            self.resign()

    def relieve(self) -> None:
        """Pass on the lead of a thread that has handled one message ever since this was called before."""
        with self.lock:
            leader, stuck = self._leader, self._led == self._led_before
            self._led_before = self._led
            if leader is not None and leader.duty is not None and stuck:
                self._pass_on(self._leading)

    def resign(self, successor: MessageQueue | None = None) -> None:
        """Wake a sleeper that takes the lead: one at `successor`, or of our own queue if there is one, since what comes
        next is likely for it."""
        if self._leader is not None:
            if self._leader is not self.runtime.current():
                return
            successor = successor or self._leading
        self._pass_on(successor)

    def _pass_on(self, successor: MessageQueue | None) -> None:
        """Take the lead from whoever has it, and wake a sleeper that takes it."""
        if self._leader is not None:
            self._leader.duty = None
            self._leader = self._leading = None
        if self._sleeping_at:
            (successor if successor is not None and successor.waiting else self._sleeping_at[0]).arrived.signal()

    def _lead_or_sleep(self, queue: MessageQueue, timeout: float | None, owed_by: OwedBy | None = None) -> bool:
        """Nothing is queued: take the lead, or sleep once.  Returns whether we have the lead."""
        if self.feeder is not None:
            me = self.runtime.current()
            if self._leader is None or self._leader is me:
                self._leader, self._leading = me, queue
                return True
        self._sleep(queue, timeout, owed_by)
        return False

    def _sleep(self, queue: MessageQueue, timeout: float | None, owed_by: OwedBy | None = None) -> None:
        queue.waiting += 1
        self._sleeping_at.append(queue)
        queue.arrived.wait(queue.name if owed_by else f"a message at {queue.name}", timeout, owed_by=owed_by)
        self._sleeping_at.remove(queue)
        queue.waiting -= 1

    def _take(self, queue: MessageQueue) -> Received:
        port, message = queue.messages.popleft()
        if self.runtime.reports and (me := self.runtime.current()) in queue.hands:
            queue.hands[me], me.handles = (port, message), type(message).__name__
        port.queued -= 1
        if port.flow is not None:
            port.flow.left(1)
        if port.queued == port.limit - 1:
            port.space.broadcast()
        seqno = port.seqno
        port.seqno = seqno + 1
        if (tracer := self.runtime.tracer) is not None:
            tracer.received(queue.name, port.name, seqno, message)
        return Received(port.payload, seqno, message)

    # -- for senders -------------------------------------------------------------------------------------------

    def announce(self, queue: MessageQueue) -> bool:
        """Wake a sleeper for a new message; True if instead the leader must be woken from its poll."""
        if queue.waiting:
            queue.arrived.signal()
            return False
        return self._leading is queue and self._leader is not self.runtime.current()

    def close(self, queue: MessageQueue, why: Exception) -> None:
        """Nothing will come there any more: who waits there, or comes to, gets `why`."""
        queue.closed = why
        queue.arrived.broadcast()
        if self._leading is queue and self.feeder is not None and self._leader is not self.runtime.current():
            self.feeder.wake()

    def announce_fed(self, queue: MessageQueue) -> None:
        """Wake a sleeper for a message that the leader has just polled, unless it is for the leader itself."""
        if queue is not self._leading and queue.waiting:
            queue.arrived.signal()
            self._fed = queue
