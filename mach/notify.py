"""Notifications that the ports themselves send, numbered as <mach/notify.h>.

Interface:
    NoSenders   the last send right to a port is gone
    DeadName    the port of a watched send right has died
    SendOnce    a send-once right was destroyed unused: the reply that it stood for will not come

All are local: a client cannot forge one, since no carrier brings them (in Mach anyone may send one).
"""

from __future__ import annotations

from mach.message import Message, message


@message(70, local=True)
class NoSenders(Message):
    mscount: int  # how many send rights had been made


@message(71, local=True)
class SendOnce(Message):
    pass


@message(72, local=True)
class DeadName(Message):
    token: object  # what the watcher gave with its request
