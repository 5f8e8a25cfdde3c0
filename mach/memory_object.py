"""The memory object protocol: what a kernel and a pager say to each other, numbered as in Mach 3.0.

Interface (kernel to the memory object's port; subsystems memory_object 2200, memory_object_default 2250):
    MemoryObjectInit, Terminate, Copy, DataRequest, DataUnlock, DataWrite, LockCompleted, SupplyCompleted,
    DataReturn, ChangeCompleted; to the default pager's port: MemoryObjectCreate; MemoryObjectDataInitialize,
    DataReclaim
Interface (pager to the kernel's control port; subsystem mach 2000):
    MemoryObjectDataSupply, DataUnavailable, DataError, SetAttributes, LockRequest, Destroy, Ready, ChangeAttributes

The memory object, or the control port, that a message is about is the port that it is sent to; Mach passes it as the
first argument.  All offsets and lengths are bytes and multiples of the page size; one message may carry many pages.

Not here: what either side does about a message (pager/, kernel/).
"""

from __future__ import annotations

import enum
from typing import Annotated

from mach.message import U8, U32, U64, Message, message
from mach.ports import ReceiveRight, SendRight


class VmProt(enum.IntFlag, boundary=enum.STRICT):
    """vm_prot_t."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4
    DEFAULT = 3
    ALL = 7


class CopyStrategy(enum.IntEnum):
    """memory_object_copy_strategy_t."""

    NONE = 0
    CALL = 1
    DELAY = 2
    TEMPORARY = 3


class MemoryObjectReturn(enum.IntEnum):
    """memory_object_return_t: which pages a lock_request wants back."""

    NONE = 0
    DIRTY = 1
    ALL = 2


Prot = Annotated[VmProt, "I"]
Strategy = Annotated[CopyStrategy, "I"]
Return = Annotated[MemoryObjectReturn, "I"]


# -- kernel to pager ---------------------------------------------------------------------------------------------------


@message(2250)
class MemoryObjectCreate(Message):
    """To the default pager: here is a new temporary object; be its memory manager.  There is no reply."""

    new_pager: ReceiveRight
    size: U64
    control: SendRight
    name: SendRight
    page_size: U32


@message(2251)
class MemoryObjectDataInitialize(Message):
    """Pages of a temporary object that its pager has never seen; a page that it has already wins over them."""

    control: SendRight
    offset: U64
    data: bytes


@message(2252)
class MemoryObjectDataReclaim(Message):
    """Nobody can ask for these pages of a temporary object any more: their backing store is free.  (Mach 3.0 keeps
    it.)"""

    control: SendRight
    offset: U64
    length: U64


@message(2200)
class MemoryObjectInit(Message):
    """A kernel maps the object; the pager answers SetAttributes(ready)."""

    control: SendRight
    name: SendRight
    page_size: U32


@message(2201)
class MemoryObjectTerminate(Message):
    """The kernel is done with the object; the receive rights of its control and name ports come with it."""

    control: ReceiveRight
    name: ReceiveRight


@message(2202)
class MemoryObjectCopy(Message):
    """Part of the object was copied, and its strategy is CALL; the copy is paged at new_memory_object."""

    control: SendRight
    offset: U64
    length: U64
    new_memory_object: ReceiveRight


@message(2203)
class MemoryObjectDataRequest(Message):
    """A fault wants these pages; answered by DataSupply, DataUnavailable or DataError, for all of them."""

    control: SendRight
    offset: U64
    length: U64
    desired_access: Prot


@message(2204)
class MemoryObjectDataUnlock(Message):
    """A fault wants more access than the pager's lock on these pages allows."""

    control: SendRight
    offset: U64
    length: U64
    desired_access: Prot


@message(2205)
class MemoryObjectDataWrite(Message):
    """Dirty pages that the kernel has removed from memory."""

    control: SendRight
    offset: U64
    data: bytes


@message(2206)
class MemoryObjectLockCompleted(Message):
    control: SendRight
    offset: U64
    length: U64


@message(2207)
class MemoryObjectSupplyCompleted(Message):
    control: SendRight
    offset: U64
    length: U64
    result: U32
    error_offset: U64


@message(2208)
class MemoryObjectDataReturn(Message):
    """Pages that go back to the pager: dirty or precious; kernel_copy says whether the kernel keeps a copy."""

    control: SendRight
    offset: U64
    dirty: U8
    kernel_copy: U8
    data: bytes


@message(2209)
class MemoryObjectChangeCompleted(Message):
    control: SendRight
    may_cache: U8
    copy_strategy: Strategy


# -- pager to kernel ---------------------------------------------------------------------------------------------------


@message(2093)
class MemoryObjectDataSupply(Message):
    """The pages that were asked for.  precious: the pager keeps no copy, the kernel must give them back."""

    offset: U64
    lock_value: Prot
    precious: U8
    reply: SendRight | None
    data: bytes


@message(2039)
class MemoryObjectDataUnavailable(Message):
    """The pager has nothing for these pages: they are what lies below them, or zeros."""

    offset: U64
    size: U64


@message(2090)
class MemoryObjectDataError(Message):
    """These pages cannot be had."""

    offset: U64
    size: U64
    error_value: U32


@message(2091)
class MemoryObjectSetAttributes(Message):
    object_ready: U8
    may_cache: U8
    copy_strategy: Strategy


@message(2044)
class MemoryObjectLockRequest(Message):
    """Restrict access, give pages back, flush them."""

    offset: U64
    size: U64
    should_return: Return
    should_flush: U8
    lock_value: U32  # VmProt, or 8 for "no change"
    reply: SendRight | None


@message(2092)
class MemoryObjectDestroy(Message):
    reason: U32


@message(2094)
class MemoryObjectReady(Message):
    may_cache: U8
    copy_strategy: Strategy


@message(2095)
class MemoryObjectChangeAttributes(Message):
    may_cache: U8
    copy_strategy: Strategy
    reply: SendRight | None
