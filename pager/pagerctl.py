"""The command `pagerctl`: look into a running default pager, and give it more space or less.

Interface:
    main()    info, objects, pages ID, partitions; and those of pagerctl_storage.py and
              pagerctl_figures.py; see --help

What is printed for people and what --json gives come from the same records.

Not here: what the pager does about it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from mach.kern_return import MachError
from pager import pagerctl_figures, pagerctl_storage
from pager.client import PagerClient, PagerUnavailable
from pager.text_tables import facts_text, table_text

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
    show_facts(facts, as_json)


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock objects")
@as_json
@click.pass_obj
def objects(connect: Connect, as_json: bool) -> None:
    """The memory objects, and how much of each is paged out."""
    records = connect().objects()
    show_table(
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
    show_table(rows, ("offset", "partition", "slot", "device_offset", "generation", "state", "digest"), as_json)


@main.command(epilog="Example: pagerctl --socket /tmp/pager.sock partitions")
@as_json
@click.pass_obj
def partitions(connect: Connect, as_json: bool) -> None:
    """The paging partitions; counts are pages.  Blocks that turned out to be bad are listed below."""
    records = connect().partitions()
    rows = []
    for record in records:
        row = dataclasses.asdict(record) | {"used": record.total - record.free - record.bad}
        row["runs"] = row["runs"] if as_json else len(record.runs)
        row["going_away"] = bool(record.going_away)
        rows.append(row)
    show_table(rows, ("index", "priority", "name", "total", "used", "free", "bad", "runs", "access"), as_json)
    for record in () if as_json else records:
        for bad in record.bad_slots:
            click.echo(f"bad: {record.name} slot {bad.slot}, byte {bad.device_offset} of {record.device}")


def show_facts(facts: dict[str, int], as_json: bool) -> None:
    click.echo(json.dumps(facts, indent=1) if as_json else facts_text(facts))


def show_table(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    click.echo(json.dumps(rows, indent=1) if as_json else table_text(rows, columns))


for _command in (*pagerctl_storage.COMMANDS, *pagerctl_figures.COMMANDS):
    main.add_command(_command)
