"""What the first server asks of the bootstrap service: its privileged ports (bootstrap.defs; mach.md 1.3, DP:3660).

Interface:
    BootstrapPrivilegedPorts       1000000: the privileged host port and the master device port, as an RPC
    BootstrapRead                  1000001: bytes of a file in the server directory; ours, for servers that load others
    BootstrapPorts                 999999: the same before there was an interface for it; its reply says no result

Both go to the port that a task finds as its bootstrap port.  The ports are not arguments, as the paper has it: a
number in a string would be a name of another task's.

Not here: who answers (pager/bootstrap.py).
"""

from __future__ import annotations

from typing import Annotated

from mach.kern_return import KernReturn
from mach.message import U32, Message, message
from mach.ports import SendOnceRight, SendRight

MAX_READ_BYTES = 128 * 1024  # of one BootstrapRead
Result = Annotated[KernReturn, "I"]


@message(1000000)
class BootstrapPrivilegedPorts(Message):
    reply: SendOnceRight


@message(1000100)
class BootstrapPrivilegedPortsReply(Message):
    result: Result
    host: SendRight | None
    device: SendRight | None


@message(1000001)
class BootstrapRead(Message):
    """At most MAX_READ_BYTES from `offset` on of a file that stands in the server directory itself."""

    reply: SendOnceRight
    offset: U32
    size: U32
    name: str


@message(1000101)
class BootstrapReadReply(Message):
    """`result`: KERN_SUCCESS, or a code of the bootstrap file system (5000 -), as from any open_file.  Fewer bytes than
    were asked for: the file ends there."""

    result: U32
    data: bytes


@message(999999)
class BootstrapPorts(Message):
    reply: SendOnceRight


@message(1000099)
class BootstrapPortsReply(Message):
    host: SendRight
    device: SendRight
