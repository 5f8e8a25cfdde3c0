"""Exceptions: what a thread did that it cannot go on from, told to its task's exception port (exc.defs, 2400).

Interface:
    ExceptionType    EXC_BAD_ACCESS, ...
    ExceptionRaise, ExceptionRaiseReply

A handler that answers KERN_SUCCESS has the thread try again; anything else ends the task.

Not here: who raises (kernel/user.py), who handles (pager/bootstrap.py).
"""

from __future__ import annotations

import enum
from typing import Annotated

from mach.kern_return import KernReturn
from mach.message import U32, U64, Message, message
from mach.ports import SendOnceRight

Result = Annotated[KernReturn, "I"]


class ExceptionType(enum.IntEnum):
    """exception_type_t (<mach/exception.h>)."""

    EXC_BAD_ACCESS = 1  # code: a KernReturn; subcode: the address
    EXC_BAD_INSTRUCTION = 2
    EXC_ARITHMETIC = 3
    EXC_EMULATION = 4
    EXC_SOFTWARE = 5
    EXC_BREAKPOINT = 6


@message(2400)
class ExceptionRaise(Message):
    reply: SendOnceRight
    task: str  # its name, for whoever tells a person
    exception: Annotated[ExceptionType, "I"]
    code: U32
    subcode: U64


@message(2500)
class ExceptionRaiseReply(Message):
    result: Result
