"""A program's connection to one service at a socket, with calls that either answer or say in words why not.

Interface:
    ServiceClient(path, what, advice, unavailable)
        .call(request_class, reply_class, words, *arguments) -> the reply, whose result is KERN_SUCCESS
        .ask(request_class, reply_class, *arguments, tick)   -> the reply, whatever its result
        .call_on(right, request_class, reply_class, words, *arguments)    as call, of another port of the service
        .message_port()                                      a right to send us one message, and how to receive it
        .name, .ipc, .service                                what is at the other end, our ports, the right to it
        .close()

Invariants:
    1. Every call ends: with the reply; with `unavailable` if the service is gone or silent; with MachError(words) if it
       says no.

Not here: which calls a service has (pager/client.py, kernel/client.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mach.kern_return import KernReturn, MachError
from mach.message import Message
from mach.notify import SendOnce
from mach.ports import DeadPort, Ipc, SendOnceRight, SendRight
from mach.rpc import call
from mach.socket_carrier import Network, NobodyThere
from mach.threads import NativeRuntime

ANSWER_SECONDS = 30.0
R = TypeVar("R", bound=Message)


class ServiceClient:
    """A connection to `what` ("pager", "kernel") at `path`, for one thread at a time.

    `unavailable` is what is raised when nobody serves there or the service has gone; `advice` says how to start it.
    """

    def __init__(self, path: str, what: str, advice: str, unavailable: type[Exception]) -> None:
        self.name = f"the {what} at {path}"
        self._unavailable = unavailable
        self.ipc = Ipc(NativeRuntime())
        self._network = Network(self.ipc)
        try:
            self.service = self._network.connect(path)
        except NobodyThere as error:
            self._network.close()
            raise unavailable(f"{error}; {advice}") from None

    def close(self) -> None:
        self._network.close()

    def call(self, request: Callable[..., Message], reply_class: type[R], words: str, *arguments: object) -> R:
        """Call `request(reply right, *arguments)`; MachError(`words`) if its result is no success."""
        return self.call_on(self.service, request, reply_class, words, *arguments)

    def call_on(
        self,
        right: SendRight,
        request: Callable[..., Message],
        reply_class: type[R],
        words: str,
        *arguments: object,
    ) -> R:
        """As call, but to `right`, which stays the caller's."""
        reply = self._ask(right, request, reply_class, arguments, None)
        result: KernReturn = reply.result  # type: ignore[attr-defined]  # every reply of a service begins with it
        if result != KernReturn.KERN_SUCCESS:
            raise MachError(result, words)
        return reply

    def ask(
        self,
        request: Callable[..., Message],
        reply_class: type[R],
        *arguments: object,
        tick: Callable[[], None] | None = None,
    ) -> R:
        """The reply, whatever its result.  With `tick` it may take as long as it takes (mach/rpc.py)."""
        return self._ask(self.service, request, reply_class, arguments, tick)

    def _ask(
        self,
        right: SendRight,
        request: Callable[..., Message],
        reply_class: type[R],
        arguments: tuple[object, ...],
        tick: Callable[[], None] | None,
    ) -> R:
        try:
            return call(self.ipc, right, lambda reply: request(reply, *arguments), reply_class, ANSWER_SECONDS, tick)
        except DeadPort:
            raise self._unavailable(f"{self.name} has gone") from None
        except TimeoutError:
            raise self._unavailable(f"{self.name} does not answer") from None

    @contextmanager
    def message_port(self) -> Iterator[tuple[SendOnceRight, Callable[[float | None], Message | None]]]:
        """A right to send us one message, and a function that waits for it so many seconds, then gives None.

        The function raises `unavailable` if the right was dropped: the service has gone.
        """
        port = self.ipc.allocate("a message to come")

        def receive(timeout: float | None) -> Message | None:
            received = port.receive(timeout)
            if received is not None and isinstance(received.message, SendOnce):
                raise self._unavailable(f"{self.name} has gone")
            return None if received is None else received.message

        try:
            yield port.make_send_once(), receive
        finally:
            port.destroy()
