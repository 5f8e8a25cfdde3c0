"""The commands of `pagerctl` that change paging storage, or wait for it: add, grow, remove, await.

Interface:
    COMMANDS

They are swapon's and swapoff's: -p as there, and the exit codes of remove: 2 no room for what the partition holds, 32
it could not be removed.

Not here: what the pager does about it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from bootfs.blocklist import BlockList
from bootfs.command_line import Size
from bootfs.device import FileDevice
from bootfs.errors import FileSystemError
from mach.default_pager import PartitionRecord, SpaceAlert
from mach.kern_return import KernReturn
from pager.client import PagerClient, StorageRefused
from pager.storage import StorageError, find_paging_file, paging_file_name

Connect = Callable[[], PagerClient]
partition_option = click.option("--partition", metavar="NAME", help="The partition of IMAGE to look in: a, s1a, 1.")
offset_option = click.option(
    "--offset", type=click.IntRange(0), metavar="BYTES", help="Where the file system begins in IMAGE."
)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except (FileSystemError, StorageError, StorageRefused) as error:
        raise click.ClickException(str(error)) from None


def _look_up(image: str, path: str, partition: str | None, offset: int | None) -> BlockList:
    with FileDevice(image) as device:
        return find_paging_file(device, image, path, partition, offset)


def _named(client: PagerClient, name: str) -> PartitionRecord:
    """By its whole name, or just its image if that is enough."""
    known = [one for one in client.partitions() if name in (one.name, one.name.rpartition(":")[0])]
    if len(known) != 1:
        raise click.ClickException(f"{'no' if not known else 'more than one'} partition is called {name}")
    return known[0]


@click.command(epilog="Example: mkpagingfile more.img && pagerctl --socket /tmp/pager.sock add more.img")
@click.argument("argument", metavar="IMAGE[:PATH]")
@partition_option
@offset_option
@click.option("-p", "--priority", type=click.IntRange(0, 32767), metavar="N", help="Higher ones are used first.")
@click.pass_obj
def add(connect: Connect, argument: str, partition: str | None, offset: int | None, priority: int | None) -> None:
    """Page on the paging file of IMAGE too; on IMAGE:raw, on all of what mkswap has marked.

    The file is looked up here; the pager is given a device and its blocks.  Partitions of equal priority take turns;
    one that is given none is used after all others.
    """
    image, path = paging_file_name(argument)
    client = connect()
    with _one_line():
        blocks = _look_up(image, path, partition, offset)
        client.add_storage(f"{image}:{path}", image, blocks, priority)
    click.echo(f"{image}:{path}: {blocks.size >> 20} MiB added")


@click.command(epilog="Example: mkpagingfile disk.img --grow --paging-size 48M && pagerctl --socket S grow disk.img")
@click.argument("name", metavar="NAME")
@partition_option
@offset_option
@click.pass_obj
def grow(connect: Connect, name: str, partition: str | None, offset: int | None) -> None:
    """Take the blocks that partition NAME's file has got since the pager began to use it."""
    client = connect()
    record = _named(client, name)
    image, _, path = record.name.rpartition(":")
    with _one_line():
        client.grow_storage(record.name, _look_up(image, path, partition, offset))
    more = _named(client, record.name).total - record.total
    click.echo(f"{record.name}: {more} pages more")


@click.command(epilog="Example: pagerctl --socket /tmp/pager.sock remove more.img")
@click.argument("name", metavar="NAME")
@click.pass_obj
def remove(connect: Connect, name: str) -> None:
    """Move everything out of partition NAME (as `partitions` shows it, or just its image) while the pager runs.

    If it cannot be done, or you interrupt it, the partition stays as it was.
    """
    client = connect()
    record = _named(client, name)
    pages = record.total - record.free - record.bad
    try:
        with click.progressbar(length=pages, label="pages moved", file=sys.stderr) as bar:

            def tick() -> None:
                left = [partition for partition in client.partitions() if partition.name == record.name]
                bar.update(max(0, pages - sum(p.total - p.free - p.bad for p in left) - bar.pos))

            client.remove_storage(record.name, tick if sys.stderr.isatty() else lambda: None)
    except StorageRefused as error:
        click.echo(f"Error: {error}; {record.name} stays", err=True)
        raise SystemExit(2 if error.result == KernReturn.KERN_RESOURCE_SHORTAGE else 32) from None
    click.echo(f"{record.name}: removed, {pages} pages moved")


@click.command("await", epilog="Example: pagerctl --socket S await --below 64M && pagerctl --socket S add more.img")
@click.option("--below", type=Size(), default=0, metavar="SIZE", help="Until less than this is free.")
@click.option("--above", type=Size(), default=0, metavar="SIZE", help="Until more than this is free.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Give up after so long, and exit 1.")
@click.pass_obj
def await_space(connect: Connect, below: int, above: int, timeout: float | None) -> None:
    """Wait until paging space runs short, or is plenty again."""
    if not below and not above:
        raise click.UsageError("give --below, --above, or both")
    alert = connect().await_space(below, above, timeout)
    if alert is None:
        raise click.ClickException(f"nothing of the kind in {timeout:g} seconds")
    click.echo(f"{'short' if alert.kind == SpaceAlert.SHORT else 'plenty'}: {alert.free_space} bytes are free")


COMMANDS = (add, grow, remove, await_space)
