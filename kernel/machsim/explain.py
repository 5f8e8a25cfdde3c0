"""`machsim explain`: what happened in a traced run; one fault's story; the same for Perfetto.

Interface:
    explain    the click command

Not here: the words of a story (kernel/tracing/story.py).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from kernel.tracing.chrome import chrome_events
from kernel.tracing.diagram import fault_diagram
from kernel.tracing.story import Fault, faults_of, story
from mach.trace_file import BadTrace, Trace, read_trace

SLOWEST = 8


@click.command(
    epilog="Example: machsim run --in-process --memory 1M --virtual 3M --trace run.trace && "
    "machsim explain run.trace --fault 1000"
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--fault", "number", type=click.IntRange(1), metavar="N", help="Tell the story of the N-th fault.")
@click.option("--chrome", metavar="OUT", help="Write the trace for chrome://tracing and ui.perfetto.dev to OUT.")
@click.option("--svg", metavar="OUT", help="With --fault: draw it, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager")
def explain(files: tuple[str, ...], number: int | None, chrome: str | None, svg: str | None, as_json: bool) -> None:
    """Tell what happened in a run that was traced: `machsim run --trace FILE`.

    Give the FILE of `pagerd --trace FILE` beside it, and a story goes on in the pager.
    """
    if svg is not None and number is None:
        raise click.UsageError("--svg draws one fault: give --fault N")
    try:
        trace = read_trace(files)
        faults = faults_of(trace)
        if number is not None and number > len(faults):
            raise click.ClickException(f"the trace has {len(faults)} faults; --fault takes 1 to {len(faults)}")
        if svg is not None and number is not None:
            Path(svg).write_text(fault_diagram(trace, faults[number - 1]), encoding="utf-8")
        if chrome is not None:
            with open(chrome, "w", encoding="utf-8") as out:
                json.dump({"traceEvents": list(chrome_events(trace)), "displayTimeUnit": "ms"}, out)
    except BadTrace as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {(error.strerror or '').lower()}") from None
    if number is not None:
        _tell(trace, faults[number - 1], as_json)
    elif as_json:
        click.echo(json.dumps(_facts(trace, faults)))
    elif chrome is None:
        click.echo(_summary(trace, faults))


def _tell(trace: Trace, fault: Fault, as_json: bool) -> None:
    if as_json:
        events = [fault.event, *trace.within(fault.event)]
        click.echo(
            json.dumps(
                [
                    {"number": e.number, "time": e.time, "party": e.party, "thread": e.thread, "kind": e.kind}
                    | {"cause": e.cause, **e.values}
                    for e in events
                ]
            )
        )
    else:
        for line in story(trace, fault):
            click.echo(line)


def _facts(trace: Trace, faults: list[Fault]) -> dict[str, object]:
    return {
        "events": len(trace.events),
        "seconds": trace.events[-1].time if trace.events else 0.0,
        "kinds": dict(Counter(event.kind for event in trace.events)),
        "faults": {how: _row(faults, how) for how in sorted({fault.how for fault in faults})},
        "slowest": [{"fault": f.number, "how": f.how, "seconds": f.seconds} for f in _slowest(faults)],
    }


def _row(faults: list[Fault], how: str) -> dict[str, float]:
    seconds = sorted(fault.seconds for fault in faults if fault.how == how and fault.seconds is not None)
    count = sum(fault.how == how for fault in faults)
    if not seconds:
        return {"count": count}
    return {"count": count, "median_seconds": seconds[len(seconds) // 2], "longest_seconds": seconds[-1]}


def _slowest(faults: list[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: -(fault.seconds or 0.0))[:SLOWEST]


def _summary(trace: Trace, faults: list[Fault]) -> str:
    parties = sorted({event.party for event in trace.events})
    kinds = Counter(event.kind for event in trace.events)
    seconds = trace.events[-1].time if trace.events else 0.0
    counts = [("send", "messages"), ("device_read", "device reads"), ("device_write", "device writes")]
    what = ", ".join(f"{kinds[kind]} {name}" for kind, name in [*counts, ("lock_wait", "waits for locks")])
    lines = [
        f"{len(trace.events)} events of {' and '.join(parties)} in {seconds:.3f} seconds: {what}",
        "",
        f"{'faults':<24}{'count':>8}{'median ms':>12}{'longest ms':>12}",
    ]
    for how in sorted({fault.how for fault in faults}):
        row = _row(faults, how)
        times = [row.get("median_seconds"), row.get("longest_seconds")]
        cells = "".join(f"{'-' if value is None else f'{value * 1000:.3f}':>12}" for value in times)
        lines.append(f"{how:<24}{row['count']:>8}{cells}")
    lines += ["", f"the slowest: {'fault':>8}  {'ms':>10}  how"]
    for fault in _slowest(faults):
        milliseconds = "-" if fault.seconds is None else f"{fault.seconds * 1000:.3f}"
        waits = f", waited for {next(iter(fault.waits))}" if fault.waits else ""
        lines.append(f"{'':13}{fault.number:>8}  {milliseconds:>10}  {fault.how}{waits}")
    lines += ["", "the story of one: --fault N"]
    return "\n".join(lines)
