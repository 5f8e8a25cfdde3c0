"""The calls that programs make at the ports of tasks and threads, numbered as mach.defs and mach_port.defs number them.

Interface: each is a request, answered by what mach.typed.answer makes: its identity 100 higher, a result, then what the
routine gives out.
    to a task's port      TaskCreate ... VmStatistics, ThreadCreate (subsystem mach, 2000), MachPort... (3200)
    to a thread's port    ThreadTerminate ... ThreadAbort
    to the host's ports   VmSetDefaultMemoryManager, HostInfo (mach_host, 2600)
    REQUESTS              identity -> class: all that a program may send in MIG's layout, these and those of carriers

They are local: a task's port does not leave its machine.

Not here: what they do (kernel/mach_server.py); their layout (mach/typed.py).
"""

from __future__ import annotations

import mach.bootstrap
import mach.default_pager
import mach.device
import mach.exception
import mach.memory_object  # noqa: F401  (each registers its messages)
from mach.message import I32, MESSAGES, U8, U32, Message, message
from mach.ports import Right, SendOnceRight, SendRight

REQUESTS: dict[int, type[Message]] = MESSAGES.copy()


# -- tasks -------------------------------------------------------------------------------------------------------------


@message(2007, local=True)
class TaskCreate(Message):
    """inherit_memory: the child gets a copy of the memory, as the inheritance of each region says; else none."""

    reply: SendOnceRight
    inherit_memory: U8


@message(2008, local=True)
class TaskTerminate(Message):
    reply: SendOnceRight


@message(2056, local=True)
class TaskSuspend(Message):
    reply: SendOnceRight


@message(2057, local=True)
class TaskResume(Message):
    reply: SendOnceRight


@message(2058, local=True)
class TaskGetSpecialPort(Message):
    reply: SendOnceRight
    which_port: I32


@message(2059, local=True)
class TaskSetSpecialPort(Message):
    reply: SendOnceRight
    which_port: I32
    special_port: SendRight | None


@message(2021, local=True)
class VmAllocate(Message):
    reply: SendOnceRight
    address: U32
    size: U32
    anywhere: U8


@message(2023, local=True)
class VmDeallocate(Message):
    reply: SendOnceRight
    address: U32
    size: U32


@message(2024, local=True)
class VmProtect(Message):
    reply: SendOnceRight
    address: U32
    size: U32
    set_maximum: U8
    new_protection: I32


@message(2025, local=True)
class VmInherit(Message):
    reply: SendOnceRight
    address: U32
    size: U32
    new_inheritance: I32


@message(2026, local=True)
class VmRead(Message):
    reply: SendOnceRight
    address: U32
    size: U32


@message(2027, local=True)
class VmWrite(Message):
    reply: SendOnceRight
    address: U32
    data: bytes


@message(2028, local=True)
class VmCopy(Message):
    reply: SendOnceRight
    source_address: U32
    size: U32
    dest_address: U32


@message(2029, local=True)
class VmRegion(Message):
    reply: SendOnceRight
    address: U32


@message(2030, local=True)
class VmStatistics(Message):
    reply: SendOnceRight


@message(2089, local=True)
class VmMap(Message):
    """A null memory_object maps zero-filled memory."""

    reply: SendOnceRight
    address: U32
    size: U32
    mask: U32
    anywhere: U8
    memory_object: SendRight | None
    offset: U32
    copy: U8
    cur_protection: I32
    max_protection: I32
    inheritance: I32


@message(2061, local=True)
class ThreadCreate(Message):
    reply: SendOnceRight


# -- threads -----------------------------------------------------------------------------------------------------------


@message(2016, local=True)
class ThreadTerminate(Message):
    reply: SendOnceRight


@message(2017, local=True)
class ThreadGetState(Message):
    reply: SendOnceRight
    flavor: I32
    count: U32


@message(2018, local=True)
class ThreadSetState(Message):
    reply: SendOnceRight
    flavor: I32
    new_state: tuple[int, ...]


@message(2062, local=True)
class ThreadSuspend(Message):
    reply: SendOnceRight


@message(2063, local=True)
class ThreadResume(Message):
    reply: SendOnceRight


# -- the host ----------------------------------------------------------------------------------------------------------


@message(2041, local=True)
class VmSetDefaultMemoryManager(Message):
    reply: SendOnceRight
    default_manager: SendRight | None


# -- rights by name ----------------------------------------------------------------------------------------------------


@message(3201, local=True)
class MachPortType(Message):
    reply: SendOnceRight
    name: U32


@message(3203, local=True)
class MachPortAllocateName(Message):
    reply: SendOnceRight
    right: U32
    name: U32


@message(3204, local=True)
class MachPortAllocate(Message):
    reply: SendOnceRight
    right: U32


@message(3205, local=True)
class MachPortDestroy(Message):
    reply: SendOnceRight
    name: U32


@message(3206, local=True)
class MachPortDeallocate(Message):
    reply: SendOnceRight
    name: U32


@message(3207, local=True)
class MachPortGetRefs(Message):
    reply: SendOnceRight
    name: U32
    right: U32


@message(3208, local=True)
class MachPortModRefs(Message):
    reply: SendOnceRight
    name: U32
    right: U32
    delta: I32


@message(3213, local=True)
class MachPortMoveMember(Message):
    reply: SendOnceRight
    member: U32
    after: U32


@message(3214, local=True)
class MachPortRequestNotification(Message):
    """`id`: a DeadName's or NoSenders' identity: which of them is asked for."""

    reply: SendOnceRight
    name: U32
    id: I32
    sync: U32
    notify: SendOnceRight | None


@message(3215, local=True)
class MachPortInsertRight(Message):
    """The right in the message gets `name` in the task that the call is made at."""

    reply: SendOnceRight
    name: U32
    poly: Right


REQUESTS.update(
    {
        cls.msgh_id: cls
        for cls in [*globals().values()]
        if isinstance(cls, type) and issubclass(cls, Message) and cls.__module__ == __name__
    }
)
