"""Physical memory: the reserve, the queues, the counts."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from simulated_machine import PAGE, Machine, on_machine

from kernel.page import Page
from kernel.processor import KernelPanic, Processor
from kernel.resident import ResidentPages
from kernel.vm_object import VmObjects
from mach.threads import NativeRuntime


def test_a_normal_thread_leaves_the_reserve_alone_and_waits() -> None:
    """mach.md 8.6: with 14 pages free a normal thread blocks until there is memory."""

    def body(machine: Machine) -> None:
        other, elsewhere = machine.memory(64)
        other.write(elsewhere, bytes(64 * PAGE))
        frames = machine.host.resident.store.frames
        task, address = machine.memory(frames - 64)
        reached: list[int] = []

        def program() -> None:
            for page in range(frames - 64):
                task.write(address + page * PAGE, b"x")
                reached.append(page)

        thread = machine.runtime.fork(program, "program")
        machine.runtime.sleep(1.0)
        assert machine.host.resident.free_count == machine.host.resident.thresholds.reserved - 1
        assert len(reached) == frames - 64 - 14
        assert machine.host.vm_statistics()["free_wanted"] == 1
        other.vm_deallocate(elsewhere, 64 * PAGE)  # no daemon here: this is how memory becomes free
        thread.join()
        assert len(reached) == frames - 64

    on_machine(body, daemon=False)


def test_a_wired_thread_uses_the_reserve_until_nothing_is_left() -> None:
    """mach.md 8.6: a privileged thread never waits; with nothing left the machine says so and stops."""

    def body(machine: Machine) -> None:
        host = machine.host
        task, address = machine.memory(host.resident.store.frames + 1)
        host.thread_wire(host.host_priv, machine.runtime.current(), True)
        for page in range(host.resident.store.frames):
            task.write(address + page * PAGE, b"x")
        assert host.resident.free_count == 0
        with pytest.raises(KernelPanic, match="vm_page_grab"):
            task.write(address + host.resident.store.frames * PAGE, b"x")
        host.thread_wire(host.host_priv, machine.runtime.current(), False)

    on_machine(body, daemon=False)


class Pages(RuleBasedStateMachine):
    """Pages of two objects in every order of alloc, activate, deactivate, wire, unwire and free."""

    def __init__(self) -> None:
        super().__init__()
        runtime = NativeRuntime()
        runtime.current().vm_privilege = True
        self.processor = Processor(runtime)
        self.resident = ResidentPages(self.processor, 64, PAGE)
        self.objects = VmObjects(self.processor, self.resident)
        self.two = [self.objects.allocate(64 * PAGE) for _ in range(2)]
        self.pages: list[Page] = []

    @rule(which=st.integers(0, 1), number=st.integers(0, 63))
    def alloc(self, which: int, number: int) -> None:
        if number * PAGE in self.two[which].pages or not self.resident.free_count:
            return
        with self.processor.lock:
            page = self.resident.alloc(self.two[which], number * PAGE)
            assert page is not None
            page.busy = False
            self.resident.activate(page)
        self.pages.append(page)

    @rule(
        action=st.sampled_from(["activate", "deactivate", "wire", "unwire", "free", "take_off_queues"]),
        pick=st.integers(0, 1 << 20),
    )
    def act(self, action: str, pick: int) -> None:
        if not self.pages:
            return
        page = self.pages[pick % len(self.pages)]
        if action == "unwire" and not page.wire_count:
            return
        with self.processor.lock:
            getattr(self.resident, action)(page)
        if action == "free":
            self.pages.remove(page)

    @invariant()
    def holds(self) -> None:
        self.resident.check(self.two)
        self.objects.check()
        assert self.resident.free_count == 64 - len(self.pages)


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
