"""Telling whoever started the daemon how it is: a descriptor, systemd (sd_notify).

Interface:
    tell_ready(ready_fd)     OSError: the descriptor cannot be written to
    tell_stopping()

Not here: what a person is told (pagerd.py).
"""

from __future__ import annotations

import os
import socket


def tell_ready(ready_fd: int | None) -> None:
    if ready_fd is not None:
        os.write(ready_fd, b"READY=1\n")
        os.close(ready_fd)
    _notify("READY=1")


def tell_stopping() -> None:
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    """sd_notify(3): a datagram to the socket that the environment names, "@" for the abstract name space."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass  # whoever wanted to know has gone
