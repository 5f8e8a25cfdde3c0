"""A remote procedure call: a request that carries the right to answer it once, and its answer.

Interface:
    call(ipc, destination, make_request, reply_class, timeout, tick) -> the reply message

Not here: which calls there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mach.message import Message
from mach.ports import DeadPort, Ipc, SendOnceRight, SendRight
from mach.servers import servers

R = TypeVar("R", bound=Message)
TICK_SECONDS = 0.5


def call(
    ipc: Ipc,
    destination: SendRight,
    make_request: Callable[[SendOnceRight], Message],
    reply_class: type[R],
    timeout: float | None = None,
    tick: Callable[[], None] | None = None,
) -> R:
    """Send the request that `make_request(reply right)` makes, and wait for its answer.

    DeadPort if the server is gone or will not answer; TimeoutError after `timeout` seconds.  With `tick` there is no
    such limit: it is called twice a second while the answer is awaited.
    """
    reply_port = ipc.allocate(f"the {reply_class.__name__} of {destination.port.name}")
    limit = timeout if tick is None else TICK_SECONDS
    try:
        destination.send(make_request(reply_port.make_send_once()))
        received = reply_port.receive(limit, owed_by=lambda: servers(destination.port))
        while received is None and tick is not None:
            tick()
            received = reply_port.receive(limit)
    finally:
        reply_port.destroy()
    if received is None:
        raise TimeoutError(f"no answer to {reply_class.__name__.removesuffix('Reply')} within {timeout:g} s")
    if not isinstance(received.message, reply_class):
        raise DeadPort("the server dropped the call")
    return received.message
