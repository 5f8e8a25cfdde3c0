"""The default memory manager: the port that the kernel asks to page temporary memory (paper §5.1; MO:1342).

Interface:
    DefaultManager(processor, ipc, wait_for_successor)
        .set(new) -> SendRight | None     vm_set_default_memory_manager, behind its privilege check
        .reference() -> SendRight | None  a right of the caller's own; waits until there is a manager; None: it is dead
        .dead, .deaths

Invariants:
    1. `current` and `_watched` name the same port, or both are None.

Not here: who may set it (kernel/host.py); what is sent to it (kernel/memory_object.py).
"""

from __future__ import annotations

from kernel.processor import Processor
from mach.message import Message
from mach.notify import DeadName
from mach.ports import Ipc, SendRight


class DefaultManager:
    """See the head of the module.  `wait_for_successor`: with a dead manager Mach's pageout sleeps until another is set
    (mach.md 4.3); otherwise whoever needs it gets an error (P5)."""

    def __init__(self, processor: Processor, ipc: Ipc, wait_for_successor: bool = False) -> None:
        self.wait_for_successor = wait_for_successor
        self.current: SendRight | None = None
        self.dead = False
        self.deaths = 0
        self._watched: SendRight | None = None
        self._processor = processor
        self._notify = ipc.allocate("death of the default manager", kobject=self._dead_name)

    def set(self, new: SendRight | None) -> SendRight | None:
        """None: a copy of the current right.  Else replace it, whatever it was; the old one is the caller's now, the
        new one ours; who waits for a manager is woken (mach.md 4.3).  Objects that exist keep their pagers."""
        if new is None:
            with self._processor.lock:
                return self.current.copy() if self.current is not None else None
        watched = new.copy()  # a watch goes with its right, and `new` may be handed out again
        with self._processor.lock:
            old, self.current = self.current, new
            unwatched, self._watched = self._watched, watched
            self.dead = False
            self._processor.wakeup(self)
        if unwatched is not None:
            unwatched.drop()
        watched.watch(self._notify.make_send_once(), watched)
        return old

    def reference(self) -> SendRight | None:
        """memory_manager_default_reference.  The kernel mutex is held, and released while it waits."""
        while self.current is None or (self.dead and self.wait_for_successor):
            self._processor.wait(
                self,
                "a default memory manager, which vm_set_default_memory_manager owes it"
                + ("; the last one is dead" if self.dead else ""),
            )
        return None if self.dead else self.current.copy()

    def _dead_name(self, message: Message) -> None:
        """The manager's port died; a successor may have been set already."""
        if isinstance(message, DeadName):
            with self._processor.lock:
                if message.token is self._watched:
                    self.dead = True
                    self.deaths += 1
