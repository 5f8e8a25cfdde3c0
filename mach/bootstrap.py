"""What the first server asks of the bootstrap service: its privileged ports (bootstrap.defs; mach.md 1.3, DP:3660).

Interface:
    BootstrapPrivilegedPorts       1000000: the privileged host port and the master device port, as an RPC
    BootstrapPorts                 999999: the same before there was an interface for it; its reply says no result

Both go to the port that a task finds as its bootstrap port.  The ports are not arguments, as the paper has it: a
number in a string would be a name of another task's.

Not here: who answers (pager/bootstrap.py).
"""

from __future__ import annotations

from typing import Annotated

from mach.kern_return import KernReturn
from mach.message import Message, message
from mach.ports import SendOnceRight, SendRight

Result = Annotated[KernReturn, "I"]


@message(1000000)
class BootstrapPrivilegedPorts(Message):
    reply: SendOnceRight


@message(1000100)
class BootstrapPrivilegedPortsReply(Message):
    result: Result
    host: SendRight | None
    device: SendRight | None


@message(999999)
class BootstrapPorts(Message):
    reply: SendOnceRight


@message(1000099)
class BootstrapPortsReply(Message):
    host: SendRight
    device: SendRight
