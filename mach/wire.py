"""One message as one packet of a Unix SEQPACKET socket.

Interface:
    Packet                                        msgh_id, destination (a name of the receiver's), body, data; a page
                                                  list arrives as one: its sender waits to hear that it has been freed
    send_packet(sock, packet, inline_bytes)       False if the socket is full; OSError if it is gone
    PacketBuffer().receive(sock)                  the next packet, None at the end of the stream; BlockingIOError
    widen(sock) -> inline_bytes                   how much body and data one packet of this socket can carry inline
    ProtocolViolation (mach.codec)                what arrived is no packet of ours

A packet is a header of 28 bytes (magic, flags, msgh_id, destination, body bytes, data bytes), the body and the data,
all inline as long as the socket's buffer takes that: one copy in and one out are cheaper than fresh shared memory at
any size (measured: 1 us a page, against 4).  What is larger travels in a memfd passed with SCM_RIGHTS; the receiver
copies it out with pread, so that a sender who truncates it later can harm nobody.

Not here: what is in a body (mach/codec.py), whose names these are (mach/connection.py).
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from typing import NamedTuple

from mach.codec import ProtocolViolation
from mach.page_list import PageList

HEADER = struct.Struct("<IIIIIQ")
MAGIC = 0x6863616D  # "mach"
IN_MEMFD = 1  # flags
PAGE_LIST = 2
INLINE_BYTES = (1 << 20) + 4096  # a cluster of the largest size, and a body beside it
MAX_BYTES = 64 * 1024 * 1024
ANCILLARY_BYTES = socket.CMSG_SPACE(4 * 4)  # room to see that a sender passed more descriptors than one
SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
RECEIVE_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
CUT_FLAGS = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
NO_MEMORY_IN_A_ROW = (errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE)  # of the system's, for so large a packet
SO_SNDBUFFORCE = 32  # socket(7): above the system's limit, for the privileged


class Packet(NamedTuple):
    """A message on the wire.  A received body is part of the buffer: it is good until the next packet is received."""

    msgh_id: int
    destination: int
    body: bytes | memoryview
    data: bytes

    @property
    def bytes_held(self) -> int:
        return HEADER.size + len(self.body) + len(self.data)


def widen(sock: socket.socket) -> int:
    """Ask for a socket buffer that holds the largest inline packet; returns how much inline it will be."""
    for option in (SO_SNDBUFFORCE, socket.SO_SNDBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, INLINE_BYTES)
            break
        except OSError:  # not privileged; the other is cut to what the system allows
            continue
    room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return min(INLINE_BYTES, room // 2)


def send_packet(sock: socket.socket, packet: Packet, inline_bytes: int) -> bool:
    """Send without blocking.  False if there is no room now."""
    msgh_id, destination, body, data = packet
    in_memfd = len(body) + len(data) > inline_bytes
    flags = (IN_MEMFD if in_memfd else 0) | (PAGE_LIST if isinstance(data, PageList) else 0)
    header = HEADER.pack(MAGIC, flags, msgh_id, destination, len(body), len(data))
    try:
        if in_memfd:
            _send_in_memfd(sock, header, body, data)
        else:
            sock.sendmsg((header, body, data), (), SEND_FLAGS)
    except BlockingIOError:
        return False
    except OSError as error:
        if in_memfd or error.errno not in NO_MEMORY_IN_A_ROW:
            raise
        return send_packet(sock, packet, 0)
    return True


def _send_in_memfd(sock: socket.socket, header: bytes, body: bytes | memoryview, data: bytes) -> None:
    fd = os.memfd_create("mach-message", os.MFD_CLOEXEC)
    try:
        _write_all(fd, body, 0)
        _write_all(fd, data, len(body))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sock.sendmsg((header,), rights, SEND_FLAGS)
    finally:
        os.close(fd)


class PacketBuffer:
    """Where packets are received, one at a time."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(HEADER.size + INLINE_BYTES))
        self._buffers = (self._view,)

    def receive(self, sock: socket.socket) -> Packet | None:
        """Receive without blocking."""
        length, ancillary, flags, _ = sock.recvmsg_into(self._buffers, ANCILLARY_BYTES, RECEIVE_FLAGS)
        if ancillary:
            return self._receive_with_descriptors(length, ancillary, flags)
        if not length:
            return None
        if flags & CUT_FLAGS:
            raise ProtocolViolation("a packet longer than any that is ours")
        return self._parse(length, [])

    def _receive_with_descriptors(self, length: int, ancillary: list[tuple[int, int, bytes]], flags: int) -> Packet:
        fds = _descriptors(ancillary)
        try:
            if flags & CUT_FLAGS:
                raise ProtocolViolation("a packet longer than any that is ours")
            return self._parse(length, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _parse(self, length: int, fds: list[int]) -> Packet:
        if length < HEADER.size:
            raise ProtocolViolation(f"a packet of {length} bytes")
        view = self._view
        magic, flags, msgh_id, destination, body_length, data_length = HEADER.unpack_from(view)
        if magic != MAGIC or flags & ~(IN_MEMFD | PAGE_LIST):
            raise ProtocolViolation("a packet that does not begin as ours do")
        if len(fds) != flags & IN_MEMFD:
            raise ProtocolViolation(f"a packet with {len(fds)} descriptors")
        data_at = HEADER.size + body_length
        kind = PageList if flags & PAGE_LIST else bytes
        if not flags & IN_MEMFD:
            if length != data_at + data_length:
                raise ProtocolViolation("a packet whose lengths do not add up")
            data = kind(view[data_at:length]) if data_length or kind is PageList else b""
            return Packet(msgh_id, destination, view[HEADER.size : data_at], data)
        if length != HEADER.size or body_length + data_length > MAX_BYTES:
            raise ProtocolViolation("a packet with bytes inline and in shared memory, or with too many")
        body, data = _content(fds[0], body_length, data_length)
        return Packet(msgh_id, destination, memoryview(body), data if kind is bytes else kind(data))


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


def _content(fd: int, body_length: int, data_length: int) -> tuple[bytes, bytes]:
    """Body and data out of shared memory, which must be a plain memfd: a pipe or a device could block us for ever."""
    try:
        is_memfd = os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")
        if not is_memfd or os.fstat(fd).st_size < body_length + data_length:
            raise ProtocolViolation("shared memory shorter than it says")
        return _read_all(fd, body_length, 0), _read_all(fd, data_length, body_length)
    except OSError:
        raise ProtocolViolation("shared memory that cannot be read") from None


def _read_all(fd: int, length: int, offset: int) -> bytes:
    parts = []
    while length:
        part = os.pread(fd, length, offset)
        if not part:
            raise ProtocolViolation("shared memory that shrinks")
        parts.append(part)
        length -= len(part)
        offset += len(part)
    return b"".join(parts)
