"""The packets that one socket is yet to send.

Interface:
    Outbox(sock)
        .put(packet)     send it, or keep it behind those that wait: False if it is kept; OSError if the socket is gone
        .flush()         send what waits; False if something still does
        .clear()         forget what waits: the peer is gone
        .bytes_held, .is_empty

Not here: who may put how much, and who sleeps meanwhile (mach/connection.py).
"""

from __future__ import annotations

import socket
from collections import deque

from mach.wire import Packet, send_packet, widen


class Outbox:
    """See the head of the module.  Guarded by the connection's lock."""

    def __init__(self, sock: socket.socket) -> None:
        self.bytes_held = 0
        self._sock = sock
        self._waiting: deque[Packet] = deque()
        self._inline_bytes = widen(sock)

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, packet: Packet) -> bool:
        if not self._waiting and send_packet(self._sock, packet, self._inline_bytes):
            return True
        self._waiting.append(packet)
        self.bytes_held += packet.bytes_held
        return False

    def flush(self) -> bool:
        while self._waiting:
            if not send_packet(self._sock, self._waiting[0], self._inline_bytes):
                return False
            self.bytes_held -= self._waiting.popleft().bytes_held
        return True

    def clear(self) -> None:
        self._waiting.clear()
        self.bytes_held = 0
