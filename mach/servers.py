"""Who could answer what is sent to a port: for reports of who waits for whom (mach/threads/waiting.py).

Interface:
    servers(port) -> threads
    note_moves(port, message)    the receive rights that a message takes with it: from now on its receiver has to see
                                 to what is sent to their ports

Not here: ports (mach/ports.py); this is what can be read from them.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mach.message import Message
    from mach.ports import Port
    from mach.threads import Thread


def servers(port: Port) -> list[Thread]:
    """Who has a message of the port in hand; if some still queue there, all who receive from its queue; if its receive
    right is on its way in a message, whoever is to have that."""
    hands = port.queue.hands
    if not hands and port.destination is not None:
        return servers(port.destination)
    return list(hands) if port.queued else [thread for thread, hand in hands.items() if hand and hand[0] is port]


def note_moves(port: Port, message: Message) -> None:
    from mach.ports import ReceiveRight

    for field in fields(message):  # type: ignore[arg-type]
        value = getattr(message, field.name)
        if isinstance(value, ReceiveRight):
            value.port.destination = port
