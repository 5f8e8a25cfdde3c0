"""The experiment on a pager that keeps what it is sent: double paging of pages in transit.

Interface:
    ROGUE_PAGER
"""

from __future__ import annotations

from kernel.machsim.lab.experiment import PAGE, Bench, Experiment
from kernel.machsim.machine import Machine, Switches
from mach.memory_object import (
    CopyStrategy,
    MemoryObjectDataRequest,
    MemoryObjectDataUnavailable,
    MemoryObjectInit,
    MemoryObjectSetAttributes,
)
from mach.message import Message
from mach.ports import ReceiveRight, SendRight

FRAMES = 112
MAPPED_PAGES = 32


class _RoguePager:
    """A user's pager: it answers what it is asked, and keeps whatever it is given to write."""

    def __init__(self, machine: Machine) -> None:
        self._kept: list[Message] = []
        self._mutex = machine.runtime.mutex("rogue pager", None)
        self._never = machine.runtime.condition(self._mutex, "never")
        self._port: ReceiveRight = machine.ipc.allocate("rogue memory object", limit=MAPPED_PAGES)
        self.memory_object: SendRight = self._port.make_send()
        machine.runtime.fork(self._serve, "rogue pager", daemon=True)

    @property
    def kept(self) -> int:
        """Messages: one in hand, and those that queue behind it."""
        return len(self._kept) + self._port.port.queued

    def _serve(self) -> None:
        while True:
            received = self._port.receive()
            if received is None:
                continue
            message = received.message
            if isinstance(message, MemoryObjectInit):
                message.control.send(MemoryObjectSetAttributes(1, 0, CopyStrategy.NONE))
            elif isinstance(message, MemoryObjectDataRequest):
                message.control.send(MemoryObjectDataUnavailable(message.offset, message.length))
            else:
                self._kept.append(message)
                with self._mutex:
                    self._never.wait("nothing: it keeps the pages that it was sent to write")


def _rogue_pager(bench: Bench) -> None:
    """A program dirties memory that the rogue pages; then others need memory."""
    machine = bench.build(FRAMES, Switches(double_paging=False))
    rogue = _RoguePager(machine)
    task = machine.host.task_create("its client")
    address = task.vm_map(rogue.memory_object, MAPPED_PAGES * PAGE)
    for page in range(MAPPED_PAGES):
        task.write(address + page * PAGE, b"kept")
    bench.work(pages=3 * FRAMES, tasks=2)
    bench.facts["messages_kept_by_the_rogue"] = rogue.kept


ROGUE_PAGER = Experiment(
    "rogue-pager",
    "pages on their way to a user's pager are not paged out again if it keeps them",
    "3",
    "A user's pager may be slow, or never write what it was sent. Until it frees the pages they occupy memory (§3).",
    "pages in transit to an external pager are temporary memory, which the default pager takes if it must (§3)",
    _rogue_pager,
)
