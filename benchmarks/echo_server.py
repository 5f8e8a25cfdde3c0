"""A bare echo over a Unix SEQPACKET socket: what no pager that is a process of its own can beat from Python.

Interface:
    python -m benchmarks.echo_server SOCKET    serves one client, and ends with it
"""

from __future__ import annotations

import socket
import sys


def main(path: str) -> int:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(1)
    print("ready", flush=True)
    sock, _ = listener.accept()
    while data := sock.recv(1 << 17):
        sock.send(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
