"""The command `pagerctl`: look into a running default pager, and give it more space or less.

Interface:
    main()    info, objects, pages ID, partitions, add IMAGE[:PATH], remove NAME, stats; see --help

What is printed for people and what --json gives come from the same records.

Exit codes of remove are swapoff's: 2 no room for what the partition holds, 32 it could not be removed.

Not here: what the pager does about it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from bootfs.device import FileDevice
from bootfs.errors import FileSystemError
from mach.kern_return import KernReturn, MachError
from pager.client import PagerClient, PagerUnavailable, StorageRefused
from pager.storage import StorageError, find_paging_file, paging_file_name

SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Command(click.Group):
    """A group whose expected errors are one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (PagerUnavailable, MachError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Command, context_settings=SETTINGS, epilog="Example: pagerctl --socket /tmp/pager.sock objects")
@click.option("--socket", "socket_path", required=True, metavar="PATH", help="Where pagerd serves.")
@click.version_option(package_name="mach-default-pager")
@click.pass_context
def main(context: click.Context, socket_path: str) -> None:
    """Look into the default pager that serves at PATH."""
    context.obj = lambda: context.with_resource(_Closing(socket_path))


class _Closing:
    """A client that is closed when the command ends."""

    def __init__(self, path: str) -> None:
        self._client = PagerClient(path)

    def __enter__(self) -> PagerClient:
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()


Connect = Callable[[], PagerClient]
as_json = click.option("--json", "as_json", is_flag=True, help="The same facts for a program.")


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock info --json")
@as_json
@click.pass_obj
def info(connect: Connect, as_json: bool) -> None:
    """Space, objects, page size."""
    reply = connect().info()
    facts = {
        "page_size": reply.page_size,
        "total_pages": reply.total_space // reply.page_size,
        "used_pages": (reply.total_space - reply.free_space) // reply.page_size,
        "free_pages": reply.free_space // reply.page_size,
        "objects": reply.objects,
        "wired_bytes": reply.wired,
    }
    _show_facts(facts, as_json)


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock objects")
@as_json
@click.pass_obj
def objects(connect: Connect, as_json: bool) -> None:
    """The memory objects, and how much of each is paged out."""
    records = connect().objects()
    _show_table(
        [dataclasses.asdict(record) | {"internal": bool(record.internal)} for record in records],
        ("object_id", "size", "paged", "internal", "pageins", "pageouts", "errors"),
        as_json,
    )


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock pages 1")
@click.argument("object_id", metavar="ID", type=click.IntRange(1))
@as_json
@click.pass_obj
def pages(connect: Connect, object_id: int, as_json: bool) -> None:
    """Where each paged-out page of object ID is."""
    client = connect()
    names = {partition.index: partition.name for partition in client.partitions()}
    rows = [
        dataclasses.asdict(record)
        | {
            "partition": names.get(record.partition, str(record.partition)),
            "digest": record.digest.hex(),
            "state": record.state.name.lower(),
        }
        for record in client.pages(object_id)
    ]
    _show_table(rows, ("offset", "partition", "slot", "device_offset", "generation", "state", "digest"), as_json)


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock partitions")
@as_json
@click.pass_obj
def partitions(connect: Connect, as_json: bool) -> None:
    """The paging partitions; counts are pages."""
    rows = []
    for record in connect().partitions():
        row = dataclasses.asdict(record) | {"used": record.total - record.free - record.bad}
        row["runs"] = row["runs"] if as_json else len(record.runs)
        row["going_away"] = bool(record.going_away)
        rows.append(row)
    _show_table(rows, ("index", "name", "total", "used", "free", "bad", "runs"), as_json)


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock stats")
@as_json
@click.pass_obj
def stats(connect: Connect, as_json: bool) -> None:
    """Counters since the pager was started."""
    _show_facts(connect().statistics(), as_json)


@main.command(epilog="Example: mkpagingfile more.img && pagerctl --socket /tmp/pager.sock add more.img")
@click.argument("argument", metavar="IMAGE[:PATH]")
@click.option("--partition", metavar="NAME", help="The partition of IMAGE to look in: a, s1a, 1.")
@click.option("--offset", type=click.IntRange(0), metavar="BYTES", help="Where the file system begins in IMAGE.")
@click.pass_obj
def add(connect: Connect, argument: str, partition: str | None, offset: int | None) -> None:
    """Page on the paging file of IMAGE too.

    The file is looked up here; the pager is given a device and its blocks.
    """
    image, path = paging_file_name(argument)
    client = connect()
    try:
        with FileDevice(image) as device:
            blocks = find_paging_file(device, image, path, partition, offset)
        client.add_storage(f"{image}:{path}", image, blocks)
    except (FileSystemError, StorageError, StorageRefused) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{image}:{path}: {blocks.size >> 20} MiB added")


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock remove more.img")
@click.argument("name", metavar="NAME")
@click.pass_obj
def remove(connect: Connect, name: str) -> None:
    """Move everything out of partition NAME (as `partitions` shows it, or just its image) while the pager runs.

    If it cannot be done, or you interrupt it, the partition stays as it was.
    """
    client = connect()
    known = [partition for partition in client.partitions() if name in (partition.name, partition.name.split(":")[0])]
    if len(known) != 1:
        raise click.ClickException(f"{'no' if not known else 'more than one'} partition is called {name}")
    pages = known[0].total - known[0].free - known[0].bad
    try:
        with click.progressbar(length=pages, label="pages moved", file=sys.stderr) as bar:

            def tick() -> None:
                left = [partition for partition in client.partitions() if partition.name == known[0].name]
                bar.update(max(0, pages - sum(p.total - p.free - p.bad for p in left) - bar.pos))

            client.remove_storage(known[0].name, tick if sys.stderr.isatty() else lambda: None)
    except StorageRefused as error:
        click.echo(f"Error: {error}; {known[0].name} stays", err=True)
        raise SystemExit(2 if error.result == KernReturn.KERN_RESOURCE_SHORTAGE else 32) from None
    click.echo(f"{known[0].name}: removed, {pages} pages moved")


def _show_facts(facts: dict[str, int], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {value}")


def _show_table(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    cells = [[str(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
    for line in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
