"""A machine on the simulated runtime with the fake pager: what most of the kernel's tests run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fake_pager import FakePager

from kernel.host import Host
from kernel.task import Task
from mach.ports import Ipc
from mach.threads.simulated import SimulatedRuntime

PAGE = 4096
FRAMES = 256


@dataclass
class Machine:
    runtime: SimulatedRuntime
    ipc: Ipc
    host: Host
    pager: FakePager

    def memory(self, pages: int, name: str = "program") -> tuple[Task, int]:
        """A task with so many pages of memory; returns where."""
        task = self.host.task_create(name)
        return task, task.vm_allocate(pages * PAGE)

    def squeeze(self) -> None:
        """Use up memory twice over, so that every page that can go has gone; then give it back."""
        task, address = self.memory(2 * self.host.resident.store.frames, "squeezer")
        for page in range(2 * self.host.resident.store.frames):
            task.write(address + page * PAGE, b"x")
        task.terminate()

    def resident(self, task: Task, address: int) -> bool:
        entry = task.map.lookup(address)
        assert entry is not None
        return entry.object is not None and entry.offset + address - entry.start in entry.object.pages

    def settle(self) -> None:
        """Let everything that was started come to rest."""
        self.runtime.sleep(60.0)


def on_machine(
    body: Callable[[Machine], None],
    *,
    seed: int = 0,
    frames: int = FRAMES,
    manager: bool = True,
    daemon: bool = True,
    wait_for_successor: bool = False,
    replacement: str = "second-chance",
) -> Machine:
    """Run `body` on a machine, and check all invariants at the end."""
    runtime = SimulatedRuntime(seed)
    machines: list[Machine] = []

    def main() -> None:
        ipc = Ipc(runtime)
        host = Host(runtime, ipc, frames * PAGE, wait_for_successor=wait_for_successor, replacement=replacement)
        machine = Machine(runtime, ipc, host, FakePager(runtime, ipc, seed=seed))
        machines.append(machine)
        machine.pager.start()
        if daemon:
            host.start()
        if manager:
            host.vm_set_default_memory_manager(host.host_priv, machine.pager.service.make_send())
        body(machine)
        host.check()

    runtime.run(main)
    return machines[0]


def page_of(text: str) -> bytes:
    return (text.encode() * PAGE)[:PAGE]
