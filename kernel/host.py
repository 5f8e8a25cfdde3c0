"""The machine: all parts of the kernel put together, and the calls that need the privileged host port (paper §5.1).

Interface:
    Host(runtime, ipc, memory_bytes, page_size=4096, ...)   a machine, not yet paging; MachError if it is too small
        .start()                                            forks the pageout daemon, io_done, the devices' engines
        .host_priv                                          a send right to the privileged host port
        .vm_set_default_memory_manager(host_priv, new) -> the old one
        .thread_wire(host_priv, thread, wired)
        .vm_wire(host_priv, task, address, size, access)
        .task_create(name) -> Task
        .vm_statistics() -> dict
        .check()
        .processor .resident .objects .pagers .vm_fault .pageout .manager .devices .device_memory .tasks

Not here: who pages for it, on which runtime, and over which carrier: a composition root decides (kernel/machsim/).
"""

from __future__ import annotations

import itertools
from collections import Counter

from kernel.debts import Debts
from kernel.default_manager import DefaultManager
from kernel.device_memory import DeviceMemory
from kernel.device_service import DeviceService
from kernel.laundry import Laundry
from kernel.memory_object import MemoryObjects
from kernel.pageout import PageoutDaemon
from kernel.pagers import Pagers
from kernel.processor import Processor
from kernel.replacement import DEFAULT as DEFAULT_REPLACEMENT
from kernel.replacement.second_chance import inactive_target
from kernel.resident import FREE_RESERVED, ResidentPages
from kernel.shadow import Shadows
from kernel.task import Task
from kernel.vm_copy import VmCopy
from kernel.vm_fault import VmFault
from kernel.vm_object import VmObjects
from kernel.vm_wire import VmWire
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.ports import Ipc, KObject, SendRight
from mach.threads import Runtime, Thread

MINIMUM_PAGES = 64  # twice free_target of the smallest machine: below, pageout would chase its own reserve


class Host:
    """See the head of the module.

    `wait_for_successor`: what needs a dead default pager waits for another, as in Mach, instead of getting an error.
    `pageout_time_scale`: 1.0 for Mach's pauses, made for a disk of 1991; less for a pager of today in real time.
    `pager_inside`: the kernel will be called by a pager that is part of it (kernel/in_kernel.py).
    `reserved`: how many pages only privileged threads may take; 0 takes that protection away.
    `pager_seconds`: how long a fault waits for a pager before it is a memory error; None is for ever, as in Mach.
    `cluster_pages`: how many pages may go in one message, in and out; 1 is Mach's.
    `replacement`: which page goes next, by the name of a policy of kernel/replacement/.
    """

    def __init__(
        self,
        runtime: Runtime,
        ipc: Ipc,
        memory_bytes: int,
        page_size: int = 4096,
        *,
        wait_for_successor: bool = False,
        pageout_time_scale: float = 1.0,
        pager_inside: bool = False,
        reserved: int = FREE_RESERVED,
        pager_seconds: float | None = None,
        cluster_pages: int = 1,
        replacement: str = DEFAULT_REPLACEMENT,
    ) -> None:
        self.runtime = runtime
        self.ipc = ipc
        self.page_size = page_size
        self.tasks: dict[int, Task] = {}
        self._task_numbers = itertools.count(1)
        self._priv_port = ipc.allocate("host-priv")
        self.host_priv = self._priv_port.make_send()
        self.processor = Processor(runtime, calls_itself=pager_inside)
        frames = _frames(memory_bytes, page_size)
        self.resident = ResidentPages(self.processor, frames, page_size, replacement, reserved)
        self.manager = DefaultManager(self.processor, ipc, wait_for_successor)
        self._assemble(pager_seconds, pageout_time_scale, cluster_pages)

    def _assemble(self, pager_seconds: float | None, pageout_time_scale: float, cluster_pages: int) -> None:
        """Each part is given those that it may call; where two call each other, the later one is made known after."""
        processor, resident = self.processor, self.resident
        self.objects = objects = VmObjects(processor, resident)
        self.pagers = pagers = Pagers(processor, self.ipc, resident, objects, self.manager)
        self.laundry = laundry = Laundry(processor, resident, objects, pagers)
        objects.goodbye = laundry
        self.shadows = shadows = Shadows(objects, resident)
        shadows.moved = pagers.moved
        self.memory_objects = MemoryObjects(processor, resident, objects, pagers, laundry)
        paging = (processor, resident, objects, pagers, laundry, shadows)
        self.vm_fault = VmFault(*paging, pager_seconds, cluster_pages)
        self.pageout = PageoutDaemon(*paging, pageout_time_scale, cluster_pages)
        self.vm_copy = VmCopy(processor, objects, resident, shadows, self.vm_fault)
        self.wiring = VmWire(resident, shadows, self.vm_fault)
        self.device_memory = DeviceMemory(processor, resident, objects)
        self.devices = DeviceService(self.runtime, self.ipc, processor, self.device_memory, self.manager)
        processor.owers = Debts(self).owers

    def start(self) -> None:
        if (tracer := self.runtime.tracer) is not None:
            tracer.event("machine", frames=self.resident.store.frames, page_size=self.page_size)
        self.pageout.start()
        self.devices.start()

    # -- calls with the privileged host port -------------------------------------------------------------------

    def vm_set_default_memory_manager(self, host_priv: SendRight | None, new: SendRight | None) -> SendRight | None:
        """The right to the old default memory manager, which is the caller's now.  With `new`, that right becomes the
        kernel's and the port the default memory manager; with None nothing changes.  KERN_INVALID_HOST (mach.md 4.3).
        """
        if not self.is_priv(host_priv):
            raise MachError(
                KernReturn.KERN_INVALID_HOST, "vm_set_default_memory_manager needs the privileged host port"
            )
        return self.manager.set(new)

    def thread_wire(self, host_priv: SendRight | None, thread: Thread | None, wired: bool) -> None:
        """Let the current thread's requests for memory always succeed, or no more.  KERN_INVALID_ARGUMENT for a host
        port that is not privileged, no thread, or another thread than the current one (mach.md 4.2)."""
        if not self.is_priv(host_priv) or thread is None or thread is not self.runtime.current():
            raise MachError(KernReturn.KERN_INVALID_ARGUMENT, "thread_wire")
        thread.vm_privilege = wired

    def vm_wire(self, host_priv: SendRight | None, task: Task | None, address: int, size: int, access: VmProt) -> None:
        """Have a range of a task's memory stay in memory, for as many calls as are not undone; access NONE undoes one
        (paper §5.1; mach.md 4.1).  KERN_INVALID_HOST, KERN_INVALID_TASK; for a hole, or for access that the protection
        does not include, KERN_FAILURE; to undo what is not wired, KERN_INVALID_ARGUMENT; else what a fault got."""
        if not self.is_priv(host_priv):
            raise MachError(KernReturn.KERN_INVALID_HOST, "vm_wire needs the privileged host port")
        if task is None or task.task_id not in self.tasks:
            raise MachError(KernReturn.KERN_INVALID_TASK, "vm_wire")
        with self.processor.lock, task.map.locked():
            if size > 0 and access == VmProt.NONE:
                self.wiring.unwire(task.map, address, size)
            elif size > 0:
                self.wiring.wire(task.map, address, size, access)

    def become_priv_kobject(self, kobject: KObject) -> None:
        """What handles the messages to the privileged host port."""
        self._priv_port.become_kobject(kobject)

    def is_priv(self, right: SendRight | None) -> bool:
        """Holding a send right to that port is the only credential (mach.md 4.11)."""
        return right is not None and right.port is self._priv_port.port

    # -- tasks, figures ----------------------------------------------------------------------------------------

    def task_create(self, name: str) -> Task:
        with self.processor.lock:
            task = Task(self, next(self._task_numbers), name)
            self.tasks[task.task_id] = task
            return task

    def vm_statistics(self) -> dict[str, int]:
        """Mach's vm_statistics by its names, then ours."""
        with self.processor.lock:
            resident, fault, pagers, pageout = self.resident, self.vm_fault.counts, self.pagers.counts, self.pageout
            return {
                "memory_count": resident.store.frames,
                "free_count": resident.free_count,
                "active_count": len(resident.active),
                "inactive_count": len(resident.inactive),
                "wire_count": resident.wire_count,
                "laundry_count": resident.laundry_count,
                "zero_fill_count": fault["zero_fills"],
                "reactivations": resident.policy.reactivations,
                "pageins": pagers["pageins"],
                "pageouts": pageout.counts["pageouts"],
                "faults": fault["faults"],
                "cow_faults": fault["cow_faults"],
                "memory_errors": fault["memory_errors"],
                "clean_pages_freed": pageout.counts["clean_pages_freed"],
                "pageout_pauses": pageout.counts["pauses"],
                "pageout_burst_wait": pageout.flow.burst_wait,
                "data_requests": pagers["data_request"],
                "data_unavailable": pagers["data_unavailable"],
                "data_errors": pagers["data_error"],
                "pages_lost_by_pager": pagers["pages_lost_by_pager"],
                "replies_refused": pagers["replies_refused"],
                "messages_ignored": pagers["messages_ignored"],
                "pagers_created": pagers["memory_object_create"],
                "pagers_died": pagers["pagers_died"],
                "free_reserved": resident.thresholds.reserved,
                "free_min": resident.thresholds.free_min,
                "free_target": resident.thresholds.free_target,
                "inactive_target": inactive_target(len(resident.active), len(resident.inactive)),
                "free_low": resident.free_low,
                "free_wanted": resident.free_wanted,
                "objects": len(self.objects.by_id),
                "tasks": len(self.tasks),
            }

    def check(self, at_rest: bool = True) -> None:
        """The invariants of every part.  Not `at_rest`: calls are under way, which hold references of their own."""
        with self.processor.lock:
            self.resident.check(self.objects.by_id.values())
            self.objects.check()
            held = [entry.object for task in self.tasks.values() for entry in task.map.entries]
            held += [object.shadow for object in self.objects.by_id.values()]
            held += self.memory_objects.lock_requests.waiting
            references = Counter(object.object_id for object in held if object is not None)
            for task in self.tasks.values():
                task.check()
            for number, count in references.items():
                found = self.objects.by_id[number].references
                assert found == count or (found > count and not at_rest), f"object {number}: references do not add up"


def _frames(memory_bytes: int, page_size: int) -> int:
    frames = memory_bytes // page_size
    if frames < MINIMUM_PAGES:
        raise MachError(
            KernReturn.KERN_RESOURCE_SHORTAGE,
            f"{memory_bytes} bytes of memory are too few: a machine needs at least {MINIMUM_PAGES * page_size}",
        )
    return frames
