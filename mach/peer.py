"""Which process is at the other end of a connection: what the system says of it, not what it says of itself.

Interface:
    Peer          pid, uid
    peer_of(sock) -> Peer      SO_PEERCRED

A port that came in over a connection knows its peer (Port.peer); one of this process has none.

Not here: what a peer may do.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    uid: int

    def __str__(self) -> str:
        return f"process {self.pid} of user {self.uid}"


def peer_of(sock: socket.socket) -> Peer:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)
