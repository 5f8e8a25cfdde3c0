"""`machsim misses`: the page faults of a real program's memory trace, by policy and memory size.

Interface:
    misses    the click command

Not here: how traces are read and faults counted (kernel/references/).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import click

from kernel.machsim.size import MIB, Size
from kernel.references.lackey import BadReferences, References, page_references
from kernel.references.policies import POLICIES, PageTrace, lru_faults
from kernel.tracing.chart import Axis, Series, line_chart

SMALLEST_FRAMES = 8


class Sizes(Size):
    """Sizes, separated by commas."""

    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:  # type: ignore[override]
        if not isinstance(value, str):
            return value
        return tuple(super(Sizes, self).convert(part, param, ctx) for part in value.split(","))


@dataclass(frozen=True, slots=True)
class Curves:
    """Faults by policy and number of frames; those of LRU for every number."""

    references: References
    frames: tuple[int, ...]
    faults: dict[str, dict[int, int]]
    lru: list[int]


@click.command(epilog="Example: valgrind --tool=lackey --trace-mem=yes --log-file=ls.trace ls; machsim misses ls.trace")
@click.argument("file", metavar="FILE")
@click.option(
    "--memory", type=Sizes(), metavar="SIZES", help="As 64K,1M.  [default: powers of two from 32K, up to all]"
)
@click.option("--policy", type=click.Choice(sorted(POLICIES)), multiple=True, help="May repeat.  [default: all]")
@click.option("--page-size", type=Size(), default=4096, show_default=True, help="A power of two.")
@click.option("--plot", metavar="OUT", help="Draw the curves as an SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager")
def misses(
    file: str, memory: tuple[int, ...] | None, policy: tuple[str, ...], page_size: int, plot: str | None, as_json: bool
) -> None:
    """Count the page faults that a program's memory references would be, by replacement policy and memory size.

    FILE is what valgrind's lackey writes with --trace-mem=yes, plain or compressed by gzip.
    """
    if page_size & (page_size - 1):
        raise click.BadParameter("a power of two is needed", param_hint="--page-size")
    if memory is not None and min(memory) < page_size:
        raise click.BadParameter(f"a page is {page_size} bytes", param_hint="--memory")
    try:
        references = page_references(file, page_size)
        curves = _count(references, memory, policy or tuple(POLICIES))
        if plot is not None:
            with open(plot, "w", encoding="utf-8") as out:
                out.write(_plot(file, curves))
    except BadReferences as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {(error.strerror or '').lower()}") from None
    click.echo(json.dumps(_facts(curves)) if as_json else _table(curves))


def _count(references: References, memory: tuple[int, ...] | None, policies: tuple[str, ...]) -> Curves:
    trace = PageTrace(references.pages)
    frames = tuple(sorted({size // references.page_size for size in memory or ()})) or _powers(trace.distinct)
    lru = lru_faults(trace).tolist()
    rows: dict[str, dict[int, int]] = {name: {} for name in policies}
    steps = [(name, count) for name in policies for count in frames]
    with click.progressbar(steps, label="counting", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for name, count in bar:
            known = lru[min(count, trace.distinct)] if name == "lru" else None
            rows[name][count] = POLICIES[name](trace, count) if known is None else known
    return Curves(references, frames, rows, lru)


def _powers(distinct: int) -> tuple[int, ...]:
    frames = SMALLEST_FRAMES
    sizes = []
    while frames < distinct:
        sizes.append(frames)
        frames *= 2
    return (*sizes, frames)


def _facts(curves: Curves) -> dict[str, object]:
    references = curves.references
    return {
        "references": references.count,
        "pages": references.distinct,
        "page_size": references.page_size,
        "faults": {
            name: {count * references.page_size: faults for count, faults in row.items()}
            for name, row in curves.faults.items()
        },
        "lru_curve": curves.lru,
    }


def _table(curves: Curves) -> str:
    references = curves.references
    size = references.page_size
    touched = f"{references.distinct} pages of {size} bytes ({references.distinct * size / MIB:.2f} MiB)"
    lines = [
        f"{references.count} references to {touched}",
        "",
        f"{'memory':>10}{'frames':>8}" + "".join(f"{name:>15}" for name in curves.faults),
    ]
    for count in curves.frames:
        row = "".join(f"{faults[count]:>15}" for faults in curves.faults.values())
        lines.append(f"{_memory(count * size):>10}{count:>8}{row}")
    best = min((name for name in curves.faults if name != "opt"), key=lambda name: sum(curves.faults[name].values()))
    lines += ["", f"page faults, first touches included; the fewest of what can be built: {best}"]
    return "\n".join(lines)


def _memory(size: float) -> str:
    return f"{size / MIB:g}M" if size >= MIB else f"{size / 1024:g}K"


def _plot(file: str, curves: Curves) -> str:
    size, count = curves.references.page_size, curves.references.count
    frames = list(range(curves.frames[0], len(curves.lru))) or [curves.frames[0]]
    series = [
        Series(name, [(number * size, faults / count) for number, faults in sorted(row.items())], dashed=name == "opt")
        if name != "lru" or len(frames) < 2
        else Series(name, [(number * size, curves.lru[number] / count) for number in frames])
        for name, row in curves.faults.items()
    ]
    title = f"Miss ratio of {file.rsplit('/', 1)[-1]}"
    subtitle = f"{count} references to {curves.references.distinct} pages of {size} bytes"
    return line_chart(
        title,
        subtitle,
        Axis("memory", _memory, 2),
        Axis("page faults per reference", lambda value: f"{value:g}"),
        series,
    )
