"""The command `bootfs`: look into a BSD file system in an image or on a disk.

Interface: main, for the entry point; cli, the click group. The JSON shapes are a contract that scripts depend on.
Not here: any knowledge of the format. All but click is imported when a command needs it, so that --help is quick.
"""

from __future__ import annotations

import stat as modes
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from bootfs.command_copy import extract, put
from bootfs.command_line import (
    Commands,
    Refusal,
    json_option,
    moment,
    name_shown,
    on_image,
    opened,
    print_json,
    print_json_list,
    print_json_object,
    printable,
)

if TYPE_CHECKING:
    from bootfs.inode import Inode
    from bootfs.mounted import MountedFileSystem


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mach-default-pager", prog_name="bootfs")
def cli() -> None:
    """Look into a BSD file system (4.2BSD, 4.3BSD, UFS1, UFS2; both byte orders) or an ext2 without mounting it.

    IMAGE is a file or a block device, with or without partitions. Only `put` writes to it.

    Example:  bootfs ls disk.img /mach_servers
    """


@cli.command()
@on_image
@json_option
def info(image: str, partition: str | None, offset: int | None, as_json: bool) -> None:
    """Show what file system IMAGE holds: format, sizes, what is free.

    `clean` is null where the format keeps no such mark (4.3BSD).

    Example:  bootfs info --json disk.img
    """
    with opened(image, partition, offset) as file_system:
        found = file_system.info()
        if as_json:
            print_json(found)
            return
        unknown = {None: "not recorded", True: "yes", False: "no"}
        for name, value in found.items():
            text = unknown[value] if name == "clean" else printable(str(value))
            click.echo(f"{name.replace('_', ' '):16} {text}")


@cli.command()
@on_image
@json_option
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def ls(image: str, partition: str | None, offset: int | None, as_json: bool, paths: tuple[str, ...]) -> None:
    """List directories, or single files, as `ls -l` does. Times are UTC.

    Example:  bootfs ls disk.img /etc /bin/sh
    """
    from bootfs.lookup import as_bytes
    from bootfs.manifest import facts

    with opened(image, partition, offset) as file_system:

        def names(path: str, inode: Inode) -> Iterable[tuple[bytes, Inode]]:
            return file_system.listdir(inode) if inode.kind == "dir" else [(as_bytes(path), inode)]

        inodes = [(path, file_system.lookup(path, follow=False)) for path in paths or ("/",)]
        if as_json:
            every = (found for path, inode in inodes for found in names(path, inode))
            print_json_list({"name": name_shown(name), **facts(file_system, inode)} for name, inode in every)
            return
        for path, inode in inodes:
            if len(paths) > 1 and inode.kind == "dir":
                click.echo(f"{printable(path)}:")
            # Read twice rather than kept: a directory may have a million names.
            width = max((len(_size(found)) for _, found in names(path, inode)), default=0)
            for name, found in names(path, inode):
                sys.stdout.write(_line(file_system, name, found, width) + "\n")  # click.echo flushes each line


@cli.command()
@on_image
@json_option
@click.argument("path")
def stat(image: str, partition: str | None, offset: int | None, as_json: bool, path: str) -> None:
    """Show the inode of PATH; of the link itself, if it is one.

    Example:  bootfs stat disk.img /vmunix
    """
    from bootfs.filesystem import FileSystem
    from bootfs.manifest import facts

    with opened(image, partition, offset) as file_system:
        inode = file_system.lookup(path, follow=False)
        details = inode.details
        found = {"path": path, **facts(file_system, inode), "atime": details.atime, "ctime": details.ctime}
        found |= {"flags": details.flags, "generation": details.generation, "sectors": details.blocks}
        found["pointers"] = list(details.pointers)
        if details.birthtime is not None and isinstance(file_system, FileSystem):
            found["birthtime"] = details.birthtime
            found["extended_attributes"] = [
                {"namespace": one.namespace, "name": name_shown(one.name), "size": one.size}
                for one in file_system.attributes(inode)
            ]
        if as_json:
            print_json(found)
            return
        found["mode"] = f"{modes.filemode(inode.mode)} {inode.mode:06o}"
        found |= {
            name: f"{moment(found[name])} UTC" for name in ("atime", "mtime", "ctime", "birthtime") if name in found
        }
        found["pointers"] = " ".join(map(str, inode.pointers))
        attributes = found.pop("extended_attributes", [])
        found |= {f"{one['namespace']}.{one['name']}": f"{one['size']} bytes" for one in attributes}
        for name, value in found.items():
            click.echo(f"{name:12} {printable(str(value))}")


@cli.command()
@on_image
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def cat(image: str, partition: str | None, offset: int | None, paths: tuple[str, ...]) -> None:
    """Write the contents of files to standard output.

    Example:  bootfs cat disk.img /etc/passwd
    """
    with opened(image, partition, offset) as file_system:
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
@on_image
@json_option
@click.argument("path")
def blocks(image: str, partition: str | None, offset: int | None, as_json: bool, path: str) -> None:
    """Show where the whole blocks of a file are in IMAGE, its holes, and the tail that is less than a block.

    Offsets and lengths are bytes; device offsets count from the start of IMAGE.

    Example:  bootfs blocks disk.img /mach_servers/paging_file
    """
    with opened(image, partition, offset) as file_system:
        found = file_system.blocks(file_system.lookup(path))
        if as_json:
            print_json({"path": path, **found})
            return
        click.echo(f"{found['size']} bytes in {len(found['runs'])} runs, {len(found['holes'])} holes")
        click.echo(f"{'file offset':>14} {'device offset':>14} {'length':>14}")
        lines = found["runs"] + [{"device_offset": "hole", **hole} for hole in found["holes"]]
        for run in sorted(lines, key=lambda line: int(line["file_offset"])):
            click.echo(f"{run['file_offset']:14} {run['device_offset']:>14} {run['length']:14}")
        if found["tail"]:
            click.echo(f"and a tail of {found['tail']} bytes, less than a block: no use for paging")


@cli.command()
@on_image
@json_option
@click.argument("path", default="/", metavar="[PATH]")
@click.option(
    "--hash", "hash_name", type=click.Choice(["sha256", "blake3", "none"]), default="sha256", show_default=True
)
def manifest(image: str, partition: str | None, offset: int | None, as_json: bool, path: str, hash_name: Any) -> None:
    """List every name under PATH with its inode's facts and a hash of its contents.

    Example:  bootfs manifest --json disk.img > disk.json
    """
    from bootfs.lookup import as_bytes
    from bootfs.manifest import manifest_lines

    with opened(image, partition, offset) as file_system:
        lines = manifest_lines(file_system, hash_name, as_bytes(path))
        if as_json:
            print_json_object(lines)
            return
        for name, entry in lines:
            digest = entry.get(hash_name) or "-"
            target = f" -> {printable(entry['target'])}" if "target" in entry else ""
            sys.stdout.write(
                f"{entry['kind']:5} {entry['mode']:04o} {entry['ino']:7} {entry['size']:10} "
                f"{digest} {printable(name)}{target}\n"
            )


def _size(inode: Inode) -> str:
    return str(inode.size) if inode.rdev is None else f"{inode.rdev[0]}, {inode.rdev[1]}"


def _line(file_system: MountedFileSystem, name: bytes, inode: Inode, width: int) -> str:
    """One line as of `ls -l`."""
    target = f" -> {printable(name_shown(file_system.readlink(inode)))}" if inode.kind == "link" else ""
    return (
        f"{modes.filemode(inode.mode)} {inode.nlink:3} {inode.uid:5} {inode.gid:5} {_size(inode):>{width}} "
        f"{moment(inode.mtime)} {printable(name_shown(name))}{target}"
    )


cli.add_command(extract)
cli.add_command(put)


def main() -> None:
    """The entry point."""
    cli()
