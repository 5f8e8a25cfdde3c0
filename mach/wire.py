"""One message as one packet of a Unix SEQPACKET socket.

Interface:
    Packet                          msgh_id, destination (a name of the receiver's), body, data
    send_packet(sock, packet)       False if the socket is full; OSError if it is gone
    receive_packet(sock)            the next packet, None at the end of the stream; BlockingIOError if there is none
    ProtocolViolation (mach.codec)  what arrived is no packet of ours

A packet is a header of 28 bytes (magic, flags, msgh_id, destination, body bytes, data bytes), the body and the data.
Body and data above 64 KiB travel in a memfd passed with SCM_RIGHTS: shared memory pays only from there up
(measured).  The receiver copies them out with pread, so that a sender who truncates it later can harm nobody.

Not here: what is in a body (mach/codec.py), whose names these are (mach/connection.py).
"""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass

from mach.codec import ProtocolViolation

HEADER = struct.Struct("<IIIIIQ")
MAGIC = 0x6863616D  # "mach"
IN_MEMFD = 1
INLINE_BYTES = 64 * 1024 + 4096  # 64 KiB of pages and a body beside them
MAX_BYTES = 64 * 1024 * 1024
ANCILLARY_BYTES = socket.CMSG_SPACE(4 * 4)  # room to see that a sender passed more descriptors than one
SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
RECEIVE_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
CUT_FLAGS = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)


@dataclass(frozen=True, slots=True)
class Packet:
    """A message on the wire."""

    msgh_id: int
    destination: int
    body: bytes | memoryview
    data: bytes

    def __len__(self) -> int:
        return HEADER.size + len(self.body) + len(self.data)


def send_packet(sock: socket.socket, packet: Packet) -> bool:
    """Send without blocking.  False if there is no room now."""
    length = len(packet.body) + len(packet.data)
    in_memfd = length > INLINE_BYTES
    header = HEADER.pack(
        MAGIC,
        IN_MEMFD if in_memfd else 0,
        packet.msgh_id,
        packet.destination,
        len(packet.body),
        len(packet.data),
    )
    try:
        if not in_memfd:
            sock.sendmsg((header, packet.body, packet.data), (), SEND_FLAGS)
            return True
        fd = os.memfd_create("mach-message", os.MFD_CLOEXEC)
        try:
            _write_all(fd, packet.body, 0)
            _write_all(fd, packet.data, len(packet.body))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            sock.sendmsg((header,), rights, SEND_FLAGS)
        finally:
            os.close(fd)
    except BlockingIOError:
        return False
    return True


def receive_packet(sock: socket.socket) -> Packet | None:
    """Receive without blocking."""
    raw, ancillary, flags, _ = sock.recvmsg(HEADER.size + INLINE_BYTES, ANCILLARY_BYTES, RECEIVE_FLAGS)
    fds = _descriptors(ancillary) if ancillary else []
    try:
        if not raw:
            return None
        if flags & CUT_FLAGS:
            raise ProtocolViolation("a packet longer than any that is ours")
        return _parse(raw, fds)
    finally:
        for fd in fds:
            os.close(fd)


def _parse(raw: bytes, fds: list[int]) -> Packet:
    if len(raw) < HEADER.size:
        raise ProtocolViolation(f"a packet of {len(raw)} bytes")
    magic, flags, msgh_id, destination, body_length, data_length = HEADER.unpack_from(raw)
    if magic != MAGIC or flags & ~IN_MEMFD or body_length + data_length > MAX_BYTES:
        raise ProtocolViolation("a packet that does not begin as ours do")
    if len(fds) != (1 if flags & IN_MEMFD else 0):
        raise ProtocolViolation(f"a packet with {len(fds)} descriptors")
    if flags & IN_MEMFD:
        if len(raw) != HEADER.size:
            raise ProtocolViolation("a packet with bytes inline and in shared memory")
        try:
            content = _read_all(fds[0], body_length + data_length)
        except OSError:
            raise ProtocolViolation("shared memory that cannot be read") from None
        return Packet(msgh_id, destination, memoryview(content)[:body_length], content[body_length:])
    if len(raw) != HEADER.size + body_length + data_length:
        raise ProtocolViolation("a packet whose lengths do not add up")
    return Packet(
        msgh_id,
        destination,
        memoryview(raw)[HEADER.size : HEADER.size + body_length],
        raw[HEADER.size + body_length :],
    )


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return list(found)


def _write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(fd, rest, offset)
        rest = rest[count:]
        offset += count


def _read_all(fd: int, length: int) -> bytes:
    """`length` bytes of shared memory, which must be a plain memfd: a pipe or a device could block us for ever."""
    if os.fstat(fd).st_size < length or not os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:"):
        raise ProtocolViolation("shared memory shorter than it says")
    parts = []
    offset = 0
    while offset < length:
        part = os.pread(fd, length - offset, offset)
        if not part:
            raise ProtocolViolation("shared memory that shrinks")
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
