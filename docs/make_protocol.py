"""Writes docs/protocol.md from the message dataclasses, so that the page cannot say anything else than the code.

Interface:
    python docs/make_protocol.py [--check]    write the page; or only say (exit 1) whether it is out of date
    page() -> str

Not here: the messages (mach/memory_object.py, mach/default_pager.py, mach/device.py, mach/bootstrap.py,
mach/exception.py, mach/mach_debug.py, mach/carrier_messages.py).
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

from mach import (
    bootstrap,
    carrier_messages,
    default_pager,
    default_pager_figures,
    device,
    exception,
    mach_debug,
    memory_object,
    wire,
)
from mach.codec import codec_of
from mach.message import Message

PAGE = Path(__file__).parent / "protocol.md"
NUMBERS = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "i": "i32", "20s": "20 bytes", "28s": "28 bytes"}
SECTIONS: list[tuple[str, ModuleType, str]] = [
    ("Paging: kernel and pager", memory_object, "The memory object protocol of Mach 3.0."),
    ("The default pager's service", default_pager, "Calls on the default pager's port, each with its reply."),
    ("The default pager's figures", default_pager_figures, "Calls on the same port that only look."),
    ("The device service", device, "Calls on the kernel's device ports, each but the close with its reply."),
    ("The bootstrap service", bootstrap, "Calls on the port that the first server finds as its bootstrap port."),
    ("Exceptions", exception, "The kernel's call on a task's exception port."),
    ("Looking into a kernel", mach_debug, "Calls on a kernel's host port, each with its reply."),
    ("The carrier's own", carrier_messages, "What two ends of a connection say to each other; destination 0."),
]
HEAD = f"""# The protocol

Generated from the dataclasses by `docs/make_protocol.py`; a test keeps it current.

Messages go to *ports*, by *rights* (`mach/ports.py`). In one process a message is a Python object. Between
processes it is one packet of a Unix `SEQPACKET` socket (`mach/wire.py`), little endian: a header of
{wire.HEADER.size} bytes (magic `mach`, flags, message id, destination name, body bytes, data bytes), the body, the
data. A body and data above {wire.INLINE_BYTES >> 10} KiB together, or above what the socket's buffer takes, travel in a
memfd passed beside the header (flag {wire.IN_MEMFD}).

Data with flag {wire.PAGE_LIST} are pages that occupy their sender's memory until the receiver has freed them, as it
says with `PagesFreed` (a kernel's pageouts: the laundry, paper §5.5). Both ends count the packets of that kind, from 0.
The end of the connection frees them all.

The body holds the fixed fields in their order (numbers at their width; a right as `u8` kind and `u32` name), then
the variable ones (`str`: `u16` length and UTF-8; a row of records: `u32` count and the records, each laid out the
same way). The field `data` travels behind the body. Kinds of rights: 0 none, 1 send, 2 send-once, 3 receive, 4 send
to a port of the receiver's own. The end that connects names its ports with odd numbers, the other with even ones; 2
is the service.

A message that does not decode exactly, or that uses a right its sender was not given, ends the connection of its
sender; nobody else notices. All offsets and lengths are bytes; of pages, multiples of the page size.
"""


def page() -> str:
    """The whole page as Markdown."""
    return HEAD + "".join(section(*entry) for entry in SECTIONS)


def section(title: str, module: ModuleType, words: str) -> str:
    classes = [cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__]
    messages = sorted((cls for cls in classes if issubclass(cls, Message)), key=lambda cls: cls.msgh_id)
    records = [cls for cls in classes if dataclasses.is_dataclass(cls) and cls.__name__.endswith("Record")]
    parts = [f"\n## {title}\n\n{words}\n\n| id | message | fields | meaning |\n|---|---|---|---|\n"]
    parts += [f"| {cls.msgh_id} | `{cls.__name__}` | {fields_of(cls)} | {meaning(cls)} |\n" for cls in messages]
    if records:
        parts.append("\n| record | fields | meaning |\n|---|---|---|\n")
        parts += [f"| `{cls.__name__}` | {fields_of(cls)} | {meaning(cls)} |\n" for cls in records]
    return "".join(parts)


def fields_of(cls: type) -> str:
    codec_of(cls)  # it has a layout, or this fails
    hints = typing.get_type_hints(cls, include_extras=True)
    return ", ".join(f"{field.name}: {shown(hints[field.name])}" for field in dataclasses.fields(cls)) or "none"


def shown(hint: Any) -> str:
    """A field's type as the wire has it."""
    if typing.get_origin(hint) is typing.Annotated:
        number, code = typing.get_args(hint)
        return NUMBERS[code] if number in (int, bytes) else f"{NUMBERS[code]} {number.__name__}"
    if typing.get_origin(hint) is tuple:
        return f"row of {typing.get_args(hint)[0].__name__}"
    if isinstance(hint, UnionType):
        return (
            " or none".join(words(option) for option in typing.get_args(hint) if option is not type(None)) + " or none"
        )
    return words(hint)


def words(hint: type) -> str:
    return {"SendRight": "send right", "SendOnceRight": "send-once right", "ReceiveRight": "receive right"}.get(
        hint.__name__, hint.__name__
    )


def meaning(cls: type) -> str:
    """The class's own docstring in one line; dataclass makes one up where there is none."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return "" if text.startswith(f"{cls.__name__}(") else " ".join(lines(text))


def lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page())
    PAGE.write_text(page())
