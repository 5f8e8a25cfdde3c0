"""The kernel's side of mach_port.defs: the calls by which a task, or who holds its port, arranges its port names.

Interface: one function a message, named as it is (kernel/mach_server.py).

Not here: the names themselves (kernel/ipc_space.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mach.kern_return import KernReturn, MachError
from mach.mach_interface import (
    MachPortAllocate,
    MachPortAllocateName,
    MachPortDeallocate,
    MachPortDestroy,
    MachPortGetRefs,
    MachPortInsertRight,
    MachPortModRefs,
    MachPortMoveMember,
    MachPortRequestNotification,
    MachPortType,
)

if TYPE_CHECKING:
    from kernel.user import UserTask

Outs = tuple[Any, ...]


def mach_port_type(task: UserTask, request: MachPortType) -> Outs:
    return (task.space.type(request.name),)


def mach_port_allocate_name(task: UserTask, request: MachPortAllocateName) -> Outs:
    task.space.allocate(request.right, request.name)
    return ()


def mach_port_allocate(task: UserTask, request: MachPortAllocate) -> Outs:
    return (task.space.allocate(request.right),)


def mach_port_destroy(task: UserTask, request: MachPortDestroy) -> Outs:
    task.space.destroy(request.name)
    return ()


def mach_port_deallocate(task: UserTask, request: MachPortDeallocate) -> Outs:
    task.space.deallocate(request.name)
    return ()


def mach_port_get_refs(task: UserTask, request: MachPortGetRefs) -> Outs:
    return (task.space.refs(request.name, request.right),)


def mach_port_mod_refs(task: UserTask, request: MachPortModRefs) -> Outs:
    task.space.mod_refs(request.name, request.right, _signed(request.delta))
    return ()


def mach_port_move_member(task: UserTask, request: MachPortMoveMember) -> Outs:
    task.space.move_member(request.member, request.after)
    return ()


def mach_port_request_notification(task: UserTask, request: MachPortRequestNotification) -> Outs:
    """A request that takes another's place is not told of here: the old one stays."""
    if request.notify is None:
        raise MachError(KernReturn.KERN_INVALID_CAPABILITY, "a notification that nobody gets")
    task.space.request_notification(request.name, request.id, request.notify)
    return (None,)


def mach_port_insert_right(task: UserTask, request: MachPortInsertRight) -> Outs:
    task.space.insert(request.poly, request.name)
    return ()


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
