"""The device service: how a task reads and writes a device through the kernel, numbered as Mach's device.defs (2800 -).

Interface: each request but device_close is an RPC, answered by the message of the same name with Reply, 100 higher.
    DeviceOpen              to the master device port, which only who holds it can do: a name for a device port
    DeviceRead, DeviceWrite, DeviceWriteInband, DeviceGetStatus, DeviceClose    to that device port
    DevMode, DEV_GET_SIZE, RECORD_BYTES, MAX_TRANSFER_BYTES

Results are D_SUCCESS (KERN_SUCCESS) or a D_ code (mach/kern_return.py).  A record is a sector.  The data of a write is
queued for the device when send() has returned (paper §5.6); the data of a read's answer is wired if the task that
receives the answer is the default memory manager's, and pageable otherwise (§5.5).

Not here: which devices there are, and what is done (kernel/device_service.py).
"""

from __future__ import annotations

import enum
from typing import Annotated

from mach.kern_return import KernReturn
from mach.message import U32, U64, Message, message
from mach.ports import SendOnceRight, SendRight

RECORD_BYTES = 512  # what recnum counts: DEV_BSIZE
MAX_TRANSFER_BYTES = 128 * 1024  # of one request; Mach has no limit, and says that it should (DS:621, weakness 16)
MAX_NAME_BYTES = 127  # dev_name_t
DEV_GET_SIZE = 0  # the flavor of device_get_status: [bytes of the device, bytes of a record]

Result = Annotated[KernReturn, "I"]


class DevMode(enum.IntFlag):
    """dev_mode_t."""

    NONE = 0
    READ = 1
    WRITE = 2


Mode = Annotated[DevMode, "I"]


@message(2800)
class DeviceOpen(Message):
    """D_INVALID_OPERATION at a port that is not the master port, D_NO_SUCH_DEVICE, D_ALREADY_OPEN (exclusive ones)."""

    reply: SendOnceRight
    mode: Mode
    name: str


@message(2900)
class DeviceOpenReply(Message):
    result: Result
    device: SendRight | None


@message(2801)
class DeviceClose(Message):
    """One open less; at the last the device is closed once what was asked of it is done."""


@message(2802)
class DeviceWrite(Message):
    reply: SendOnceRight
    mode: Mode
    recnum: U64
    data: bytes


@message(2902)
class DeviceWriteReply(Message):
    result: Result
    bytes_written: U32


@message(2803)
class DeviceWriteInband(Message):
    """As DeviceWrite; its data, at most 128 bytes, stands in the message itself."""

    reply: SendOnceRight
    mode: Mode
    recnum: U64
    data: bytes


@message(2903)
class DeviceWriteInbandReply(Message):
    result: Result
    bytes_written: U32


@message(2804)
class DeviceRead(Message):
    reply: SendOnceRight
    mode: Mode
    recnum: U64
    bytes_wanted: U32


@message(2904)
class DeviceReadReply(Message):
    """Fewer bytes than were wanted: the device ended there.  Whoever receives the data frees it (mach/page_list.py)."""

    result: Result
    data: bytes


@message(2811)
class DeviceGetStatus(Message):
    reply: SendOnceRight
    flavor: U32


@message(2911)
class DeviceGetStatusReply(Message):
    result: Result
    size: U64  # bytes
    record: U32  # bytes
