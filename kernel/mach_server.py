"""The kernel's side of the calls at the ports of tasks, threads and the host: one function a message, named as it is.

Interface:
    task_message(task, message), thread_message(thread, message), host_message(kernel, message), host_priv_message
        the kobjects of those ports: each answers exactly once, in its sender's context
    TASK, THREAD, HOST, HOST_PRIV    request class -> function(object, request) -> what the routine gives out; MachError

What comes is a request of mach/mach_interface.py; anything else is answered as MIG's servers answer it.

Invariants:
    1. Nothing that a program sends raises an exception out of a kobject (P7).
    2. The rights of a request that is refused are dropped.

Not here: layouts (mach/typed.py); the same calls as traps (kernel/i386/traps.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kernel.mach_port import (
    mach_port_allocate,
    mach_port_allocate_name,
    mach_port_deallocate,
    mach_port_destroy,
    mach_port_get_refs,
    mach_port_insert_right,
    mach_port_mod_refs,
    mach_port_move_member,
    mach_port_request_notification,
    mach_port_type,
)
from kernel.vm_map import Inheritance
from mach.kern_return import KernReturn, MachError
from mach.mach_interface import (
    REQUESTS,
    TaskCreate,
    TaskGetSpecialPort,
    TaskResume,
    TaskSetSpecialPort,
    TaskSuspend,
    TaskTerminate,
    ThreadCreate,
    ThreadGetState,
    ThreadResume,
    ThreadSetState,
    ThreadSuspend,
    ThreadTerminate,
    VmAllocate,
    VmCopy,
    VmDeallocate,
    VmInherit,
    VmMap,
    VmProtect,
    VmRead,
    VmRegion,
    VmSetDefaultMemoryManager,
    VmStatistics,
    VmWrite,
)
from mach.memory_object import VmProt
from mach.message import Message
from mach.ports import DeadPort, Right, SendOnceRight, drop_rights
from mach.typed import TypedMessage, answer

if TYPE_CHECKING:
    from kernel.user import UserKernel, UserTask, UserThread

MIG_BAD_ID, MIG_BAD_ARGUMENTS = -303, -304
MAX_READ_BYTES = 4 * 1024 * 1024
TASK_KERNEL_PORT, TASK_EXCEPTION_PORT, TASK_BOOTSTRAP_PORT = 1, 3, 4
I386_THREAD_STATE = 1
# i386_thread_state: the order of its words.  Segments are the kernel's to say.
STATE = [
    "gs",
    "fs",
    "es",
    "ds",
    "edi",
    "esi",
    "ebp",
    "esp",
    "ebx",
    "edx",
    "ecx",
    "eax",
    "eip",
    "cs",
    "eflags",
    "uesp",
    "ss",
]
SEGMENTS = {"gs": 0x23, "fs": 0x23, "es": 0x23, "ds": 0x23, "cs": 0x1B, "ss": 0x23}
STATISTICS = [
    "pagesize",
    "free_count",
    "active_count",
    "inactive_count",
    "wire_count",
    "zero_fill_count",
    "reactivations",
    "pageins",
    "pageouts",
    "faults",
    "cow_faults",
    "lookups",
    "hits",
]

Outs = tuple[Any, ...]
Handlers = Mapping[type[Message], Callable[[Any, Any], Outs]]


def _serve(target: object, handlers: Handlers, message: Message) -> None:
    """Answer one request (INV-1)."""
    reply = getattr(message, "reply", None)
    if not isinstance(reply, SendOnceRight):  # nobody waits for an answer
        return drop_rights(message)
    handler = handlers.get(type(message))
    if handler is None:
        identity = message.identity if isinstance(message, TypedMessage) else message.msgh_id
        wrong_items = isinstance(message, TypedMessage) and REQUESTS.get(identity) in handlers
        outcome = answer(identity, MIG_BAD_ARGUMENTS if wrong_items else MIG_BAD_ID)
        _drop_but(message, reply)
    else:
        try:
            outcome = answer(message.msgh_id, KernReturn.KERN_SUCCESS, *handler(target, message))
        except (MachError, ValueError) as error:
            code = error.code if isinstance(error, MachError) else KernReturn.KERN_INVALID_ARGUMENT
            outcome = answer(message.msgh_id, code)
            _drop_but(message, reply)  # no handler has made use of a right when it fails
    try:
        return reply.send(outcome)
    except DeadPort:
        return None


def _drop_but(message: Message, reply: SendOnceRight) -> None:
    """Destroy the rights of a request that is refused (INV-2), but that to answer it."""
    for field in fields(message):  # type: ignore[arg-type]
        value = getattr(message, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Right) and part is not reply:
                part.drop()


# -- memory ------------------------------------------------------------------------------------------------------------


def vm_allocate(task: UserTask, request: VmAllocate) -> Outs:
    return (task.vm_allocate(request.size, None if request.anywhere else request.address),)


def vm_deallocate(task: UserTask, request: VmDeallocate) -> Outs:
    task.vm_deallocate(request.address, request.size)
    return ()


def vm_protect(task: UserTask, request: VmProtect) -> Outs:
    task.vm_protect(request.address, request.size, _protection(request.new_protection), bool(request.set_maximum))
    return ()


def vm_inherit(task: UserTask, request: VmInherit) -> Outs:
    task.task.vm_inherit(request.address, request.size, Inheritance(request.new_inheritance))
    return ()


def vm_read(task: UserTask, request: VmRead) -> Outs:
    if request.size > MAX_READ_BYTES:
        raise MachError(KernReturn.KERN_RESOURCE_SHORTAGE, f"vm_read of {request.size} bytes")
    return (task.task.vm_read(request.address, request.size),)


def vm_write(task: UserTask, request: VmWrite) -> Outs:
    task.task.vm_write(request.address, request.data)
    task.wrote(request.address, len(request.data))
    return ()


def vm_copy(task: UserTask, request: VmCopy) -> Outs:
    task.task.vm_copy(request.source_address, request.size, request.dest_address)
    task.wrote(request.dest_address, request.size)
    return ()


def vm_region(task: UserTask, request: VmRegion) -> Outs:
    """The object's name port is not given out: nobody here asks for it."""
    entry = task.task.vm_region(request.address)
    protection = (entry.protection, entry.max_protection, int(entry.inheritance))
    return (entry.start, entry.end - entry.start, *protection, 0, None, entry.offset)


def vm_statistics(task: UserTask, request: VmStatistics) -> Outs:
    figures = task.kernel.vm_statistics() | {"pagesize": task.kernel.page_size}
    return (tuple(figures.get(name, 0) for name in STATISTICS),)


def vm_map(task: UserTask, request: VmMap) -> Outs:
    """A mask asks for more alignment than a page's: nobody here needs it.  The right is the request's: it is copied."""
    if request.mask >= task.kernel.page_size:
        raise MachError(KernReturn.KERN_INVALID_ARGUMENT, "vm_map with a mask")
    address = task.task.vm_map(
        request.memory_object,
        request.size,
        None if request.anywhere else request.address,
        offset=request.offset,
        copy=bool(request.copy),
        protection=_protection(request.cur_protection),
        max_protection=_protection(request.max_protection),
        inheritance=Inheritance(request.inheritance),
    )
    if request.memory_object is not None:
        request.memory_object.drop()
    return (address,)


def _protection(bits: int) -> VmProt:
    if not 0 <= bits <= VmProt.ALL:
        raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"{bits:#x} is no protection")
    return VmProt(bits)


# -- tasks -------------------------------------------------------------------------------------------------------------


def task_create(task: UserTask, request: TaskCreate) -> Outs:
    child = task.fork(f"{task.name}.{len(task.kernel.by_port)}", bool(request.inherit_memory))
    return (child.port.make_send(),)


def task_terminate(task: UserTask, request: TaskTerminate) -> Outs:
    task.terminate()
    return ()


def task_suspend(task: UserTask, request: TaskSuspend) -> Outs:
    task.suspend(1)
    return ()


def task_resume(task: UserTask, request: TaskResume) -> Outs:
    task.suspend(-1)
    return ()


def task_get_special_port(task: UserTask, request: TaskGetSpecialPort) -> Outs:
    ports = {
        TASK_KERNEL_PORT: task.port.make_send,
        TASK_EXCEPTION_PORT: task.exception_port,
        TASK_BOOTSTRAP_PORT: task.bootstrap_port,
    }
    if request.which_port not in ports:
        raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"special port {request.which_port}")
    return (ports[request.which_port](),)


def task_set_special_port(task: UserTask, request: TaskSetSpecialPort) -> Outs:
    setters = {TASK_EXCEPTION_PORT: task.set_exception_port, TASK_BOOTSTRAP_PORT: task.set_bootstrap_port}
    if request.which_port not in setters or request.special_port is None:
        raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"special port {request.which_port}")
    setters[request.which_port](request.special_port)
    return ()


# -- threads -----------------------------------------------------------------------------------------------------------


def thread_create(task: UserTask, request: ThreadCreate) -> Outs:
    return (task.thread_create().port.make_send(),)


def thread_terminate(thread: UserThread, request: ThreadTerminate) -> Outs:
    thread.terminate()
    return ()


def thread_get_state(thread: UserThread, request: ThreadGetState) -> Outs:
    _require_flavor(request.flavor, request.count)
    return (tuple(SEGMENTS.get(name) or thread.get_register("esp" if name == "uesp" else name) for name in STATE),)


def thread_set_state(thread: UserThread, request: ThreadSetState) -> Outs:
    """As in Mach, what is set of a thread that runs is anybody's guess: suspend it first."""
    _require_flavor(request.flavor, len(request.new_state))
    for name, value in zip(STATE, request.new_state, strict=True):
        if name not in SEGMENTS and name not in ("esp", "eflags"):
            thread.set_register("esp" if name == "uesp" else name, value)
    return ()


def _require_flavor(flavor: int, count: int) -> None:
    if flavor != I386_THREAD_STATE or count < len(STATE):
        raise MachError(KernReturn.KERN_INVALID_ARGUMENT, f"thread state of flavor {flavor}, {count} words")


def thread_suspend(thread: UserThread, request: ThreadSuspend) -> Outs:
    thread.suspend()
    return ()


def thread_resume(thread: UserThread, request: ThreadResume) -> Outs:
    thread.resume()
    return ()


# -- the host ----------------------------------------------------------------------------------------------------------


def vm_set_default_memory_manager(kernel: UserKernel, request: VmSetDefaultMemoryManager) -> Outs:
    return (kernel.host.vm_set_default_memory_manager(kernel.host.host_priv, request.default_manager),)


def _handlers(*functions: Callable[[Any, Any], Outs]) -> Handlers:
    """By the class of the request, whose name is the function's."""
    classes = {cls.__name__.lower(): cls for cls in REQUESTS.values()}
    return {classes[function.__name__.replace("_", "")]: function for function in functions}


TASK = _handlers(
    *(vm_allocate, vm_deallocate, vm_protect, vm_inherit, vm_read, vm_write, vm_copy, vm_region, vm_statistics, vm_map),
    *(task_create, task_terminate, task_suspend, task_resume, task_get_special_port, task_set_special_port),
    *(thread_create, mach_port_type, mach_port_allocate_name, mach_port_allocate, mach_port_destroy),
    *(mach_port_deallocate, mach_port_get_refs, mach_port_mod_refs, mach_port_move_member),
    *(mach_port_request_notification, mach_port_insert_right),
)
THREAD = _handlers(thread_terminate, thread_get_state, thread_set_state, thread_suspend, thread_resume)
HOST_PRIV = _handlers(vm_set_default_memory_manager)
HOST: Handlers = {}


def task_message(task: UserTask, message: Message) -> None:
    _serve(task, TASK, message)


def thread_message(thread: UserThread, message: Message) -> None:
    _serve(thread, THREAD, message)


def host_message(kernel: UserKernel, message: Message) -> None:
    _serve(kernel, HOST, message)


def host_priv_message(kernel: UserKernel, message: Message) -> None:
    _serve(kernel, HOST_PRIV, message)
