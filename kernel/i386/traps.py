"""The traps of Mach on the i386: calls that a program makes with `lcall $7, $0` (<mach/syscall_sw.h>).

Interface:
    TRAPS         number (positive: EAX holds its negative) -> how many words of arguments, function(thread, *arguments)
    trap(thread, number, stack) -> what EAX gets; BadTrap if there is no such call

The arguments stand on the caller's stack, above its return address.  These are Mach's own: the messages, the four names
of a program's own ports, giving the processor away, and the "syscall versions" of the calls that a libmach tries first,
because a message to its own kernel costs more.  They work at ports of this kernel's tasks, and answer
MACH_SEND_INTERRUPTED for any other right: then libmach sends the message.

Not here: what the calls do (kernel/mach_server.py); messages in memory (kernel/ipc_kmsg.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kernel import mach_port, mach_server
from kernel.ipc_kmsg import MsgError, MsgReturn, copyin, copyout, send
from kernel.ipc_space import PortRight
from kernel.user import UserTask, UserThread
from mach.kern_return import KernReturn, MachError
from mach.mach_interface import (
    MachPortAllocate,
    MachPortAllocateName,
    MachPortDeallocate,
    TaskCreate,
    TaskSetSpecialPort,
    TaskTerminate,
    VmAllocate,
    VmDeallocate,
    VmMap,
)
from mach.ports import DeadPort, Right, SendRight
from mach.typed import Disposition

WORD = 4
SEND_MSG, RCV_MSG, RCV_TIMEOUT = 0x1, 0x2, 0x100  # mach_msg_option_t
SWITCH_OPTION_WAIT = 2
YIELD_SECONDS = 0.0001  # what a program that gives the processor away lets pass, in simulated time
NO_REPLY: Any = None  # a trap's request is nobody's message


class BadTrap(Exception):
    """No such call: an exception of the thread, as an instruction that the processor does not know."""


# -- messages ----------------------------------------------------------------------------------------------------------


def mach_msg_trap(
    thread: UserThread, address: int, option: int, send_size: int, rcv_size: int, name: int, timeout: int, notify: int
) -> int:
    """Send, then receive.  A time limit holds for receiving; to send into a full queue is to wait."""
    task = thread.task
    try:
        if option & SEND_MSG:
            _send(task, address, send_size)
        if option & RCV_MSG:
            _receive(task, address, rcv_size, name, timeout / 1000 if option & RCV_TIMEOUT else None)
    except MsgError as error:
        return error.code
    return MsgReturn.MACH_MSG_SUCCESS


def _send(task: UserTask, address: int, size: int) -> None:
    destination, message = copyin(task, address, size)
    try:
        send(destination, message)
    except DeadPort:
        raise MsgError(MsgReturn.MACH_SEND_INVALID_DEST) from None


def _receive(task: UserTask, address: int, size: int, name: int, timeout: float | None) -> None:
    right = task.space.receiver(name)
    if right is None:
        raise MsgError(MsgReturn.MACH_RCV_INVALID_NAME)
    try:
        received = right.receive(timeout)
    except DeadPort:
        raise MsgError(MsgReturn.MACH_RCV_PORT_DIED) from None
    if received is None:
        raise MsgError(MsgReturn.MACH_RCV_TIMED_OUT)
    copyout(task, received, address, size)


def mach_reply_port(thread: UserThread) -> int:
    return thread.task.space.allocate(PortRight.RECEIVE)


def mach_thread_self(thread: UserThread) -> int:
    return thread.task.space.insert(thread.port.make_send())


def mach_task_self(thread: UserThread) -> int:
    return thread.task.space.insert(thread.task.port.make_send())


def mach_host_self(thread: UserThread) -> int:
    return thread.task.space.insert(thread.task.kernel.host_port.make_send())


# -- the processor -----------------------------------------------------------------------------------------------------


def swtch(thread: UserThread) -> int:
    """Nobody can tell whether another thread would run: say so."""
    thread.task.kernel.host.runtime.sleep(YIELD_SECONDS, "giving the processor away")
    return 1


def swtch_pri(thread: UserThread, priority: int) -> int:
    return swtch(thread)


def thread_switch(thread: UserThread, hint: int, option: int, milliseconds: int) -> int:
    seconds = milliseconds / 1000 if option == SWITCH_OPTION_WAIT else YIELD_SECONDS
    thread.task.kernel.host.runtime.sleep(max(seconds, YIELD_SECONDS), "thread_switch")
    return KernReturn.KERN_SUCCESS


# -- calls of the kernel -----------------------------------------------------------------------------------------------


class _NotOurs(Exception):
    """The right is not to a task of this kernel."""


def _task(thread: UserThread, name: int) -> UserTask:
    port = thread.task.space.port_named(name)
    found = thread.task.kernel.by_port.get(port) if port is not None else None
    if not isinstance(found, UserTask):
        raise _NotOurs
    return found


def _word(thread: UserThread, address: int) -> int:
    return int.from_bytes(thread.task.read(address, WORD), "little")


def _store(thread: UserThread, address: int, word: int) -> None:
    thread.task.write(address, word.to_bytes(WORD, "little"))


@contextmanager
def _dropped_unless_used(right: Right | None) -> Iterator[None]:
    """A right that was taken for a call that fails is nobody's."""
    try:
        yield
    except (MachError, ValueError):
        if right is not None:
            right.drop()
        raise


def syscall_vm_map(
    thread: UserThread, task: int, address: int, size: int, mask: int, anywhere: int, memory_object: int, *rest: int
) -> int:
    offset, copy, protection, max_protection, inheritance = rest
    target = _task(thread, task)
    right = thread.task.space.take(memory_object, Disposition.COPY_SEND) if memory_object else None
    assert right is None or isinstance(right, SendRight)
    with _dropped_unless_used(right):
        request = VmMap(
            *(NO_REPLY, _word(thread, address), size, mask, anywhere, right),
            *(offset, copy, protection, max_protection, inheritance),
        )
        (at,) = mach_server.vm_map(target, request)
    _store(thread, address, at)
    return KernReturn.KERN_SUCCESS


def syscall_vm_allocate(thread: UserThread, task: int, address: int, size: int, anywhere: int) -> int:
    request = VmAllocate(NO_REPLY, _word(thread, address), size, anywhere)
    _store(thread, address, mach_server.vm_allocate(_task(thread, task), request)[0])
    return KernReturn.KERN_SUCCESS


def syscall_vm_deallocate(thread: UserThread, task: int, address: int, size: int) -> int:
    mach_server.vm_deallocate(_task(thread, task), VmDeallocate(NO_REPLY, address, size))
    return KernReturn.KERN_SUCCESS


def syscall_task_create(thread: UserThread, task: int, inherit_memory: int, child: int) -> int:
    (right,) = mach_server.task_create(_task(thread, task), TaskCreate(NO_REPLY, inherit_memory))
    _store(thread, child, thread.task.space.insert(right))
    return KernReturn.KERN_SUCCESS


def syscall_task_terminate(thread: UserThread, task: int) -> int:
    mach_server.task_terminate(_task(thread, task), TaskTerminate(NO_REPLY))
    return KernReturn.KERN_SUCCESS


def syscall_task_suspend(thread: UserThread, task: int) -> int:
    _task(thread, task).suspend(1)
    return KernReturn.KERN_SUCCESS


def syscall_task_set_special_port(thread: UserThread, task: int, which: int, port: int) -> int:
    target = _task(thread, task)
    right = thread.task.space.take(port, Disposition.COPY_SEND)
    assert isinstance(right, SendRight)
    with _dropped_unless_used(right):
        mach_server.task_set_special_port(target, TaskSetSpecialPort(NO_REPLY, which, right))
    return KernReturn.KERN_SUCCESS


def syscall_mach_port_allocate(thread: UserThread, task: int, right: int, name: int) -> int:
    (made,) = mach_port.mach_port_allocate(_task(thread, task), MachPortAllocate(NO_REPLY, right))
    _store(thread, name, made)
    return KernReturn.KERN_SUCCESS


def syscall_mach_port_deallocate(thread: UserThread, task: int, name: int) -> int:
    mach_port.mach_port_deallocate(_task(thread, task), MachPortDeallocate(NO_REPLY, name))
    return KernReturn.KERN_SUCCESS


def syscall_mach_port_insert_right(thread: UserThread, task: int, name: int, right: int, disposition: int) -> int:
    target = _task(thread, task)
    taken = thread.task.space.take(right, disposition)
    with _dropped_unless_used(taken):
        target.space.insert(taken, name)
    return KernReturn.KERN_SUCCESS


def syscall_mach_port_allocate_name(thread: UserThread, task: int, right: int, name: int) -> int:
    mach_port.mach_port_allocate_name(_task(thread, task), MachPortAllocateName(NO_REPLY, right, name))
    return KernReturn.KERN_SUCCESS


TRAPS: dict[int, tuple[int, Callable[..., int]]] = {
    25: (7, mach_msg_trap),
    26: (0, mach_reply_port),
    27: (0, mach_thread_self),
    28: (0, mach_task_self),
    29: (0, mach_host_self),
    59: (1, swtch_pri),
    60: (0, swtch),
    61: (3, thread_switch),
    64: (11, syscall_vm_map),
    65: (4, syscall_vm_allocate),
    66: (3, syscall_vm_deallocate),
    68: (3, syscall_task_create),
    69: (1, syscall_task_terminate),
    70: (1, syscall_task_suspend),
    71: (3, syscall_task_set_special_port),
    72: (3, syscall_mach_port_allocate),
    73: (2, syscall_mach_port_deallocate),
    74: (4, syscall_mach_port_insert_right),
    75: (3, syscall_mach_port_allocate_name),
}


def trap(thread: UserThread, number: int, stack: int) -> int:
    """MachError only if the arguments are not there to be read: a fault of the program."""
    known = TRAPS.get(-number)
    if known is None:
        raise BadTrap(f"there is no trap {number}")
    count, function = known
    content = thread.task.read(stack + WORD, WORD * count) if count else b""
    arguments = [int.from_bytes(content[at : at + WORD], "little") for at in range(0, len(content), WORD)]
    try:
        return function(thread, *arguments)
    except _NotOurs:
        return MsgReturn.MACH_SEND_INTERRUPTED
    except MachError as error:
        return error.code
    except ValueError:
        return KernReturn.KERN_INVALID_ARGUMENT
