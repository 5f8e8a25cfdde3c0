"""The command `bootfs`: look into a BSD file system in an image or on a disk.

Interface: main, for the entry point; cli, the click group. The JSON shapes are a contract that scripts depend on.
Not here: any knowledge of the format. All but click is imported when a command needs it, so that --help is quick.
"""

from __future__ import annotations

import errno
import io
import json
import re
import stat as modes
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bootfs.errors import FileSystemError

if TYPE_CHECKING:
    from bootfs.inode import Inode
    from bootfs.mounted import MountedFileSystem


class Refusal(click.ClickException):
    """What a command could not do, shown as one line; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo("bootfs: " + _printable(self.message), err=True)


class _Commands(click.Group):
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


class _Size(click.ParamType[int]):
    """A number of bytes: 4096, 64K, 64M, 64MiB, 1G."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,20})(?:([KMGT])(?:iB)?)?", value, re.ASCII)
        if match is None:
            self.fail(f"{value!r} is no size; write it as 4096, 64K, 64MiB or 1G", param, ctx)
        return int(match[1]) << {None: 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]


def _on_image(function: Callable[..., None]) -> Callable[..., None]:
    """What every command takes: IMAGE and --offset."""
    function = click.option(
        "--offset", type=_Size(), default=0, metavar="BYTES", help="Where the file system begins in IMAGE."
    )(function)
    return click.argument("image", type=click.Path())(function)


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _opened(image: str, offset: int) -> Iterator[MountedFileSystem]:
    """The file system in the image; what goes wrong with it is told with the image's name in front."""
    from bootfs.device import FileDevice
    from bootfs.probe import open_any

    with FileDevice(image) as device:
        try:
            yield open_any(device, offset)
        except FileSystemError as error:
            raise Refusal(str(error) if error.place == image else f"{image}: {error}") from error
    sys.stdout.flush()


def _printable(text: str) -> str:
    """Text without control characters: a name on a foreign disk must not steer the terminal."""
    return re.sub(r"[\x00-\x1f\x7f\x80-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


def _moment(seconds: int) -> str:
    """A time as text; as the bare number where it is no time (64 bits of ufs2 can hold anything)."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mach-default-pager", prog_name="bootfs")
def cli() -> None:
    """Look into a BSD file system (4.2BSD, 4.3BSD, UFS1, UFS2; both byte orders) or an ext2 without mounting it.

    IMAGE is a file or a block device. Nothing is written.

    Example:  bootfs ls disk.img /mach_servers
    """


@cli.command()
@_on_image
@_json
def info(image: str, offset: int, as_json: bool) -> None:
    """Show what file system IMAGE holds: format, sizes, what is free.

    `clean` is null where the format keeps no such mark (4.3BSD).

    Example:  bootfs info --json disk.img
    """
    with _opened(image, offset) as file_system:
        found = file_system.info()
        if as_json:
            _print_json(found)
            return
        unknown = {None: "not recorded", True: "yes", False: "no"}
        for name, value in found.items():
            text = unknown[value] if name == "clean" else _printable(str(value))
            click.echo(f"{name.replace('_', ' '):16} {text}")


@cli.command()
@_on_image
@_json
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def ls(image: str, offset: int, as_json: bool, paths: tuple[str, ...]) -> None:
    """List directories, or single files, as `ls -l` does. Times are UTC.

    Example:  bootfs ls disk.img /etc /bin/sh
    """
    from bootfs.lookup import as_bytes
    from bootfs.manifest import facts

    with _opened(image, offset) as file_system:
        listed: list[dict[str, Any]] = []
        for path in paths or ("/",):
            inode = file_system.lookup(path, follow=False)
            names = [(as_bytes(path), inode)]
            if inode.kind == "dir":
                names = sorted(file_system.listdir(inode), key=lambda pair: pair[0])
            if as_json:
                listed += [{"name": _shown(name), **facts(file_system, found)} for name, found in names]
                continue
            if len(paths) > 1 and inode.kind == "dir":
                click.echo(f"{_printable(path)}:")
            width = max((len(_size(found)) for _, found in names), default=0)
            for name, found in names:
                click.echo(_line(file_system, name, found, width))
        if as_json:
            _print_json(listed)


@cli.command()
@_on_image
@_json
@click.argument("path")
def stat(image: str, offset: int, as_json: bool, path: str) -> None:
    """Show the inode of PATH; of the link itself, if it is one.

    Example:  bootfs stat disk.img /vmunix
    """
    from bootfs.manifest import facts

    with _opened(image, offset) as file_system:
        inode = file_system.lookup(path, follow=False)
        found = {"path": path, **facts(file_system, inode), "atime": inode.atime, "ctime": inode.ctime}
        found |= {"flags": inode.flags, "generation": inode.generation, "sectors": inode.blocks}
        found["pointers"] = list(inode.pointers)
        if inode.birthtime is not None:
            found["birthtime"] = inode.birthtime
            found["extended_attributes"] = [
                {"namespace": one.namespace, "name": _shown(one.name), "size": one.size}
                for one in file_system.attributes(inode)
            ]
        if as_json:
            _print_json(found)
            return
        found["mode"] = f"{modes.filemode(inode.mode)} {inode.mode:06o}"
        found |= {
            name: f"{_moment(found[name])} UTC" for name in ("atime", "mtime", "ctime", "birthtime") if name in found
        }
        found["pointers"] = " ".join(map(str, inode.pointers))
        attributes = found.pop("extended_attributes", [])
        found |= {f"{one['namespace']}.{one['name']}": f"{one['size']} bytes" for one in attributes}
        for name, value in found.items():
            click.echo(f"{name:12} {_printable(str(value))}")


@cli.command()
@_on_image
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def cat(image: str, offset: int, paths: tuple[str, ...]) -> None:
    """Write the contents of files to standard output.

    Example:  bootfs cat disk.img /etc/passwd
    """
    with _opened(image, offset) as file_system:
        # All are looked up before the first byte: a wrong path gives an error, and no half of an answer.
        inodes = [(path, file_system.lookup(path)) for path in paths]
        for path, inode in inodes:
            if inode.kind != "file":
                raise Refusal(f"{image}: {path}: not a regular file (try bootfs ls)")
        out = sys.stdout.buffer
        for _, inode in inodes:
            for piece in file_system.contents(inode):
                out.write(piece)
        out.flush()


@cli.command()
@_on_image
@_json
@click.argument("path")
def blocks(image: str, offset: int, as_json: bool, path: str) -> None:
    """Show where the whole blocks of a file are in IMAGE, its holes, and the tail that is less than a block.

    Offsets and lengths are bytes; device offsets count from the start of IMAGE.

    Example:  bootfs blocks disk.img /mach_servers/paging_file
    """
    with _opened(image, offset) as file_system:
        found = file_system.blocks(file_system.lookup(path))
        if as_json:
            _print_json({"path": path, **found})
            return
        click.echo(f"{found['size']} bytes in {len(found['runs'])} runs, {len(found['holes'])} holes")
        click.echo(f"{'file offset':>14} {'device offset':>14} {'length':>14}")
        lines = found["runs"] + [{"device_offset": "hole", **hole} for hole in found["holes"]]
        for run in sorted(lines, key=lambda line: int(line["file_offset"])):
            click.echo(f"{run['file_offset']:14} {run['device_offset']:>14} {run['length']:14}")
        if found["tail"]:
            click.echo(f"and a tail of {found['tail']} bytes, less than a block: no use for paging")


@cli.command()
@_on_image
@_json
@click.argument("path", default="/", metavar="[PATH]")
@click.option(
    "--hash", "hash_name", type=click.Choice(["sha256", "blake3", "none"]), default="sha256", show_default=True
)
def manifest(image: str, offset: int, as_json: bool, path: str, hash_name: Any) -> None:
    """List every name under PATH with its inode's facts and a hash of its contents.

    Example:  bootfs manifest --json disk.img > disk.json
    """
    from bootfs.lookup import as_bytes
    from bootfs.manifest import manifest as make_manifest

    with _opened(image, offset) as file_system:
        found = make_manifest(file_system, hash_name, as_bytes(path))
        if as_json:
            _print_json(found)
            return
        for name, entry in found.items():
            digest = entry.get(hash_name) or "-"
            target = f" -> {_printable(entry['target'])}" if "target" in entry else ""
            click.echo(
                f"{entry['kind']:5} {entry['mode']:04o} {entry['ino']:7} {entry['size']:10} "
                f"{digest} {_printable(name)}{target}"
            )


def _shown(name: bytes) -> str:
    from bootfs.lookup import shown

    return shown(name)


def _size(inode: Inode) -> str:
    return str(inode.size) if inode.rdev is None else f"{inode.rdev[0]}, {inode.rdev[1]}"


def _line(file_system: MountedFileSystem, name: bytes, inode: Inode, width: int) -> str:
    """One line as of `ls -l`."""
    target = f" -> {_printable(_shown(file_system.readlink(inode)))}" if inode.kind == "link" else ""
    return (
        f"{modes.filemode(inode.mode)} {inode.nlink:3} {inode.uid:5} {inode.gid:5} {_size(inode):>{width}} "
        f"{_moment(inode.mtime)} {_printable(_shown(name))}{target}"
    )


def main() -> None:
    """The entry point."""
    cli()
