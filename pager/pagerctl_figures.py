"""The commands of `pagerctl` that show figures: stats, clients, wired, top.

Interface:
    COMMANDS

Not here: how the figures come about (pager/service_figures.py).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from mach.default_pager_figures import LatencyRecord
from mach.threads import NativeRuntime
from pager.client import PagerClient
from pager.metrics import BOUNDS_US, quantile
from pager.text_tables import facts_text, table_text

Connect = Callable[[], PagerClient]
as_json_option = click.option("--json", "as_json", is_flag=True, help="The same facts for a program.")
CLEAR = "\x1b[H\x1b[2J"
RATES = ("pageins", "pageouts", "messages")
LATENCY_COLUMNS = ("message", "count", "mean_us", "p50_us", "p90_us", "p99_us")


def _latency_row(record: LatencyRecord) -> dict[str, Any]:
    """The quantiles are the bounds of the buckets that they lie in."""
    found = {bucket.bound_us: bucket.count for bucket in record.buckets}
    counts = [found.get(bound, 0) for bound in BOUNDS_US]
    count = sum(counts)
    row: dict[str, Any] = {"message": record.name, "count": count, "mean_us": record.total_us // max(count, 1)}
    return row | {f"p{part}_us": quantile(counts, part / 100) for part in (50, 90, 99)}


@click.command(epilog="Example: pagerctl --socket /tmp/pager.sock stats")
@as_json_option
@click.pass_obj
def stats(connect: Connect, as_json: bool) -> None:
    """Counters since the pager was started, and how long messages took."""
    client = connect()
    counters = client.statistics()
    rows = [_latency_row(record) for record in client.latencies()]
    if as_json:
        click.echo(json.dumps(counters | {"latencies": {row.pop("message"): row for row in rows}}, indent=1))
        return
    click.echo(facts_text(counters))
    click.echo()
    click.echo(table_text(rows, LATENCY_COLUMNS))


@click.command(epilog="Example: pagerctl --socket /tmp/pager.sock clients")
@as_json_option
@click.pass_obj
def clients(connect: Connect, as_json: bool) -> None:
    """The processes that have objects, and what of the paging space is theirs."""
    reply = connect().clients()
    rows = [dataclasses.asdict(record) for record in reply.clients]
    if as_json:
        limits = {"object_limit": reply.object_limit, "page_limit": reply.page_limit}
        click.echo(json.dumps(limits | {"clients": rows}, indent=1))
        return
    click.echo(table_text(rows, ("pid", "uid", "objects", "pages")))
    click.echo(f"each may have {reply.object_limit or 'any number of'} objects, {reply.page_limit or 'all'} pages")


@click.command(epilog="Example: pagerctl --socket /tmp/pager.sock wired")
@as_json_option
@click.pass_obj
def wired(connect: Connect, as_json: bool) -> None:
    """What the pager's own memory is for, in KiB as table 7-3 of the paper, and what keeps it in memory."""
    reply = connect().wired()
    measures = [dataclasses.asdict(one) | {"granted": bool(one.granted)} for one in reply.measures]
    if as_json:
        memory = [dataclasses.asdict(record) for record in reply.memory]
        click.echo(json.dumps({"memory": memory, "measures": measures}, indent=1))
        return
    totals = [("total", sum(one.resident for one in reply.memory), sum(one.locked for one in reply.memory))]
    rows = [(one.name, one.resident, one.locked) for one in reply.memory] + totals
    click.echo(
        table_text(
            [{"resident": size >> 10, "locked": locked >> 10, "what": name} for name, size, locked in rows],
            ("resident", "locked", "what"),
        )
    )
    for one in measures:
        click.echo(f"{'yes' if one['granted'] else 'no ':3}  {one['name']}: {one['words']}")


@click.command(epilog="Example: pagerctl --socket /tmp/pager.sock top -d 2")
@click.option("-d", "--delay", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="SECONDS")
@click.option("-n", "--iterations", type=click.IntRange(1), metavar="N", help="Stop after so many.")
@click.pass_obj
def top(connect: Connect, delay: float, iterations: int | None) -> None:
    """What the pager is doing, again and again, until you interrupt it."""
    client = connect()
    terminal = sys.stdout.isatty()
    try:
        for number, page in enumerate(_pages(client, delay), 1):
            click.echo((CLEAR if terminal else "") + page)
            if number == iterations:
                return
    except KeyboardInterrupt:
        return


def _pages(client: PagerClient, delay: float) -> Iterator[str]:
    """One screen after the other; the first has no rates, for there is nothing to compare with."""
    before: dict[str, int] = {}
    busy: dict[int, int] = {}
    runtime = NativeRuntime()
    began = runtime.now()
    while True:
        now, counters = runtime.now(), client.statistics()
        seconds = max(now - began, 1e-3)
        objects = client.objects()
        rows = [
            {
                "object": one.object_id,
                "paged_KiB": one.paged >> 10,
                "in+out/s": round((one.pageins + one.pageouts - busy.get(one.object_id, 0)) / seconds) if before else 0,
                "errors": one.errors,
            }
            for one in objects
        ]
        rows.sort(key=lambda row: (-row["in+out/s"], -row["paged_KiB"]))
        yield "\n".join(
            [
                _summary(client, counters, before, seconds),
                table_text([_partition_row(one) for one in client.partitions()], ("used", "free", "bad", "partition")),
                table_text([_latency_row(one) for one in client.latencies()], LATENCY_COLUMNS),
                table_text(rows[:20], ("object", "paged_KiB", "in+out/s", "errors")),
            ]
        )
        before, began = counters, now
        busy = {one.object_id: one.pageins + one.pageouts for one in objects}
        runtime.sleep(delay)


def _summary(client: PagerClient, now: dict[str, int], before: dict[str, int], seconds: float) -> str:
    info = client.info()
    rates = ", ".join(f"{(now[name] - before.get(name, now[name])) / seconds:.0f} {name}/s" for name in RATES)
    free, total = info.free_space >> 10, info.total_space >> 10
    return f"{free} of {total} KiB free, {info.objects} objects, {now['clients']} connections; {rates}"


def _partition_row(record: Any) -> dict[str, Any]:
    used = record.total - record.free - record.bad
    return {"used": used, "free": record.free, "bad": record.bad, "partition": record.name}


COMMANDS = (stats, clients, wired, top)
