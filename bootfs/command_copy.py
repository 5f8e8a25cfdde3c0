"""The commands `bootfs extract` and `bootfs put`: copies out of a file system, and over the blocks of a file in it.

Interface: extract, put, the click commands that `bootfs` has.
Not here: how it is done (extract, mounted).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import click

from bootfs.command_line import Refusal, json_option, on_image, opened, print_json, printable

if TYPE_CHECKING:
    from bootfs.inode import Inode
    from bootfs.mounted import MountedFileSystem

PIECE = 1 << 20


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, and nothing elsewhere; call it with each step."""
    if not sys.stderr.isatty() or length <= 0:
        yield lambda step: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


@click.command()
@on_image
@json_option
@click.argument("arguments", nargs=-1, metavar="[PATH] DIR")
def extract(image: str, partition: str | None, offset: int | None, as_json: bool, arguments: tuple[str, ...]) -> None:
    """Copy the tree under PATH (all, without it) into the directory DIR, which must be empty or new.

    Holes stay holes; modes, times, symbolic and hard links are kept, as root owners and devices too.

    Example:  bootfs extract disk.img /etc etc-of-1986
    """
    from dataclasses import asdict

    from bootfs.extract import extract as copy_out
    from bootfs.lookup import as_bytes

    if not 1 <= len(arguments) <= 2:
        raise click.UsageError("give [PATH] and DIR")
    path = as_bytes(arguments[0]) if len(arguments) == 2 else b"/"
    with opened(image, partition, offset) as file_system:
        facts = file_system.info()
        with _progress("extracting", facts["inodes"] - facts["free_inodes"]) as advance:
            done = copy_out(file_system, path, arguments[-1], lambda _: advance(1))
    if as_json:
        print_json(asdict(done))
        return
    counts = ((done.files, "files"), (done.directories, "directories"), (done.links, "links"), (done.others, "devices"))
    click.echo(", ".join(f"{count} {what}" for count, what in (*counts, (done.hard_links, "hard links"))))
    for skipped, reason in done.skipped.items():
        click.echo(f"left out: {printable(skipped)}: {reason}")


@click.command()
@on_image
@click.argument("path")
@click.argument("source", type=click.Path(), metavar="FILE")
def put(image: str, partition: str | None, offset: int | None, path: str, source: str) -> None:
    """Overwrite the file PATH in IMAGE from its start with the contents of FILE.

    Only blocks that PATH has already are written: it never grows, and a hole is not filled. Where FILE is shorter, the
    rest of PATH stays as it is.

    Example:  bootfs put disk.img /etc/motd new-motd
    """
    with open(source, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise Refusal(f"{source}: not a regular file")
        with opened(image, partition, offset, writable=True) as file_system:
            inode = file_system.lookup(path)
            _check(file_system, inode, facts.st_size)
            _overwrite(file_system, inode, file, facts.st_size, source)
            file_system.device.sync()
    rest = inode.size - facts.st_size
    click.echo(
        f"{facts.st_size} bytes written"
        + (f"; the last {rest} bytes of {printable(path)} are as they were" * (rest > 0))
    )


def _check(file_system: MountedFileSystem, inode: Inode, size: int) -> None:
    """Refuse before the first byte is written: a file that would grow, or a hole. FileSystemError as from write."""
    from bootfs.blocklist import Hole
    from bootfs.errors import FileSystemError, FsCode

    file_system.write(inode, 0, b"")
    if size > inode.size:
        raise FileSystemError(
            FsCode.FS_NOT_IN_FILE, f"{size} bytes do not fit in its {inode.size}; files do not grow here", str(inode)
        )
    for run in file_system.runs(inode):
        if isinstance(run, Hole) and run.file_offset < size:
            raise FileSystemError(
                FsCode.FS_NOT_IN_FILE, f"a hole at file offset {run.file_offset} cannot be written", str(inode)
            )


def _overwrite(file_system: MountedFileSystem, inode: Inode, file: BinaryIO, size: int, source: str) -> None:
    with _progress("writing", size) as advance:
        for at in range(0, size, PIECE):
            data = file.read(min(PIECE, size - at))
            if len(data) < min(PIECE, size - at):
                raise Refusal(f"{source}: became shorter while it was read")
            file_system.write(inode, at, data)
            advance(len(data))
