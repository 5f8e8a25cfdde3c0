"""What the commands of `bootfs` have in common: their errors, their options, the disk they open.

Interface:
    Refusal, Commands                  a failure shown as one line, exit 1; a group whose commands all fail so
    on_image, json_option, opened      IMAGE, --partition, --offset; --json; the file system that they mean
    printable, print_json, print_json_list, print_json_object, moment, name_shown    facts as text
Not here: any command. All but click is imported when a command needs it, so that --help is quick.
"""

from __future__ import annotations

import errno
import io
import json
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bootfs.errors import FileSystemError

if TYPE_CHECKING:
    from bootfs.mounted import MountedFileSystem


class Refusal(click.ClickException):
    """What a command could not do, shown as one line; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo("bootfs: " + printable(self.message), err=True)


class Commands(click.Group):
    """A group whose commands fail with one line, whatever fails."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Names that are not UTF-8 go out as the bytes that they are.
                stream.reconfigure(errors="surrogateescape")
        try:
            return super().invoke(ctx)
        except FileSystemError as error:
            raise Refusal(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of a pipe has gone
            raise Refusal(str(error)) from error


class Size(click.ParamType[int]):
    """A number of bytes: 4096, 64K, 64M, 64MiB, 1G."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,20})(?:([KMGT])(?:iB)?)?", value, re.ASCII)
        if match is None:
            self.fail(f"{value!r} is no size; write it as 4096, 64K, 64MiB or 1G", param, ctx)
        return int(match[1]) << {None: 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]


def on_image(function: Callable[..., None]) -> Callable[..., None]:
    """What every command takes: IMAGE, and which file system of it."""
    for option in (
        click.option("--offset", type=Size(), metavar="BYTES", help="Where the file system begins in IMAGE."),
        click.option(
            "--partition", metavar="NAME", help="Its partition: a, s1a, s1, p1 or 1. Without: the only one there is."
        ),
    ):
        function = option(function)
    return click.argument("image", type=click.Path())(function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def opened(
    image: str, partition: str | None, offset: int | None, writable: bool = False
) -> Iterator[MountedFileSystem]:
    """The file system in the image; what goes wrong with it is told with the image's name in front.

    `writable` also keeps out every other process that would write.
    """
    from bootfs.device import FileDevice
    from bootfs.disk import open_file_system

    if partition is not None and offset is not None:
        raise click.UsageError("give --partition or --offset, and not both")
    with FileDevice(image, writable, exclusive=writable) as device:
        try:
            yield open_file_system(device, partition, offset)
        except FileSystemError as error:
            raise Refusal(str(error) if error.place == image else f"{image}: {error}") from error
    sys.stdout.flush()


def printable(text: str) -> str:
    """Text without control characters: a name on a foreign disk must not steer the terminal."""
    return re.sub(r"[\x00-\x1f\x7f\x80-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


def print_json_list(values: Iterable[Any]) -> None:
    """As print_json of a list, but each value is printed as it comes."""
    _print_parts("[]", (json.dumps(value, indent=1) for value in values))


def print_json_object(items: Iterable[tuple[str, Any]]) -> None:
    """As print_json of a dictionary, but each item is printed as it comes."""
    _print_parts("{}", (f"{json.dumps(key)}: {json.dumps(value, indent=1)}" for key, value in items))


def _print_parts(brackets: str, parts: Iterable[str]) -> None:
    before = brackets[0]
    for part in parts:
        sys.stdout.write(f"{before}\n" + textwrap.indent(part, " "))
        before = ","
    sys.stdout.write(f"{brackets}\n" if before == brackets[0] else f"\n{brackets[1]}\n")


def moment(seconds: int) -> str:
    """A time as text; as the bare number where it is no time (64 bits of ufs2 can hold anything)."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def name_shown(name: bytes) -> str:
    """A name as text, by bootfs.lookup's rule."""
    from bootfs.lookup import shown

    return shown(name)
