"""The pager's figures for Prometheus: its text format, over HTTP at an address or a Unix socket.

Interface:
    metrics_text(pager) -> the page
    serve_metrics(pager, where)     HOST:PORT, :PORT or a path; forks an unprivileged thread; OSError: it cannot
        -> a function that stops it and removes the path

Not here: how the figures come about (metrics.py, default_pager.py).
"""

from __future__ import annotations

import os
import socket
import socketserver
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from pager.metrics import BOUNDS_US, Histogram

if TYPE_CHECKING:
    from pager.default_pager import DefaultPager

PREFIX = "default_pager_"
GAUGES = ("clients",)  # of the counters that `totals` gives; all others only grow
CLIENT_SECONDS = 5.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(pager: DefaultPager) -> str:
    return "\n".join(_lines(pager)) + "\n"


def _lines(pager: DefaultPager) -> Iterator[str]:
    for name, value in sorted(pager.totals().items()):
        kind, suffix = ("gauge", "") if name in GAUGES else ("counter", "_total")
        yield from _one(name + suffix, kind, f"{name.replace('_', ' ')}, as in pagerctl stats", value)
    yield from _one("objects", "gauge", "memory objects", len(pager.objects()))
    yield from _one("wired_bytes", "gauge", "the pager's own memory that is locked", pager.wired_bytes())
    yield f"# HELP {PREFIX}partition_pages slots of a paging partition by state"
    yield f"# TYPE {PREFIX}partition_pages gauge"
    for partition in pager.store.partitions():
        used = partition.total - partition.free - partition.bad
        for state, count in (("used", used), ("free", partition.free), ("bad", partition.bad)):
            yield f'{PREFIX}partition_pages{{partition="{_escaped(partition.name)}",state="{state}"}} {count}'
    yield f"# HELP {PREFIX}message_seconds how long messages took to handle"
    yield f"# TYPE {PREFIX}message_seconds histogram"
    for name, histogram in pager.latencies().items():
        yield from _histogram(name, histogram)


def _one(name: str, kind: str, words: str, value: float) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {words}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    yield f"{PREFIX}{name} {value}"


def _histogram(message: str, histogram: Histogram) -> Iterator[str]:
    seen = 0
    label = f'message="{message}"'
    for bound, count in zip(BOUNDS_US[:-1], histogram.counts, strict=False):
        seen += count
        yield f'{PREFIX}message_seconds_bucket{{{label},le="{bound / 1e6:g}"}} {seen}'
    total = histogram.count
    yield f'{PREFIX}message_seconds_bucket{{{label},le="+Inf"}} {total}'
    yield f"{PREFIX}message_seconds_sum{{{label}}} {histogram.seconds:.6f}"
    yield f"{PREFIX}message_seconds_count{{{label}}} {total}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class _Server(socketserver.TCPServer):
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked has gone."""


def serve_metrics(pager: DefaultPager, where: str) -> Callable[[], None]:
    """One request at a time, each within CLIENT_SECONDS: nobody can hold the others up for long."""

    class Page(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS

        def do_GET(self) -> None:
            content = metrics_text(pager).encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Scrapes are no events."""

    host, colon, port = where.rpartition(":")
    path = "" if colon and port.isdecimal() else where
    server = _Server((host.strip("[]") or "localhost", int(port) if not path else 0), Page, bind_and_activate=False)
    if path:
        server.socket.close()
        server.address_family = socket.AF_UNIX
        server.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.server_address = path  # type: ignore[assignment]  # as socketserver.UnixStreamServer has it
        _remove_stale(path)
    try:
        server.server_bind()
        server.server_activate()
    except OSError:
        server.server_close()
        raise
    pager.runtime.fork(lambda: server.serve_forever(poll_interval=60.0), "metrics", daemon=True)

    def stop() -> None:
        server.socket.close()
        if path:
            _remove_stale(path)

    return stop


def _remove_stale(path: str) -> None:
    """A socket that an earlier pager has left there; nothing else is removed."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            os.unlink(path)
    except OSError:
        pass  # binding will say so
