"""The command ffscheck: is this file system consistent? It reads only.

Interface: main, a click command. Exit 0 clean, 1 problems (or --paging and not fit), 2 no FFS there, or wrong usage.
Not here: any knowledge of file systems; this module knows the terminal.
"""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bootfs.errors import FileSystemError
from disktools.sizes import format_size, parse_size

if TYPE_CHECKING:
    from disktools.check_file_system import Checked
    from disktools.check_paging import Fitness

SHOWN = 50  # problems, without --all
PATIENCE = 1.0  # seconds before a progress bar is worth showing
DEFAULT_PATH = "/mach_servers/paging_file"

EPILOG = """\b
Examples:
  ffscheck disk.img
  ffscheck --paging --json disk.img
Exit status: 0 consistent, 1 problems, 2 no BSD file system there (or wrong usage)."""


def _offset(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """64M, 64MiB, 1G or bytes, as bytes."""
    if value is None:
        return None
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("image", type=click.Path())
@click.option("--partition", metavar="NAME", help="Its partition: a, s1a, s1, p1 or 1. Without: the only one there is.")
@click.option("--offset", callback=_offset, metavar="BYTES", help="Where the file system begins in IMAGE.")
@click.option("--paging", is_flag=True, help="Say also whether the paging file is fit, and for Mach itself.")
@click.option("--path", default=DEFAULT_PATH, show_default=True, help="The paging file that --paging looks at.")
@click.option("--all", "show_all", is_flag=True, help=f"Show all problems, not only the first {SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.version_option(package_name="mach-default-pager", prog_name="ffscheck")
def main(
    image: str, partition: str | None, offset: int | None, paging: bool, path: str, show_all: bool, as_json: bool
) -> None:
    """Check a BSD file system (4.2BSD, 4.3BSD, UFS1, UFS2; both byte orders). Nothing is written.

    IMAGE is a file or a block device. Each problem is one line: where, and what.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names that are not UTF-8 go out as the bytes that they are
    if partition is not None and offset is not None:
        raise click.UsageError("give --partition or --offset, and not both")
    try:
        place, checked, fitness = _check(image, partition, offset, path if paging else None)
    except (FileSystemError, OSError) as error:
        _refuse(image, str(error))
    if checked is None:
        _refuse(image, f"holds no BSD file system at byte {place}; give its place with --partition or --offset")
    if as_json:
        click.echo(json.dumps(_facts(image, place, checked, fitness, show_all), indent=1))
    else:
        _print(image, checked, fitness, show_all)
    sys.exit(1 if checked.report.count or (fitness is not None and fitness.unfit) else 0)


def _refuse(image: str, reason: str) -> NoReturn:
    reason = reason if reason.startswith(f"{image}:") else f"{image}: {reason}"
    click.echo(f"ffscheck: {_printable(reason)}", err=True)
    sys.exit(2)


def _check(
    image: str, partition: str | None, offset: int | None, path: str | None
) -> tuple[int, Checked | None, Fitness | None]:
    """Checks the file system, and then its paging file if `path` names one. The first is where it begins, in bytes."""
    # Here, so that --help need not wait for what reads disks.
    from disktools.check_file_system import check_file_system
    from disktools.check_paging import check_paging
    from disktools.check_place import choose
    from disktools.check_sparse import SparseFileDevice

    with SparseFileDevice(image) as whole:
        device, place = choose(whole, partition, offset)
        with _progress() as step:
            checked = check_file_system(device, step)
        if checked is None or checked.disk is None or path is None:
            return place, checked, None
        return place, checked, check_paging(device, checked.disk, path)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, once the work has taken a while."""
    if not sys.stderr.isatty():
        yield lambda done, whole: None
        return
    begin = time.monotonic()
    with ExitStack() as later:
        bar: Any = None
        shown = 0

        def step(done: int, whole: int) -> None:
            nonlocal bar, shown
            if bar is None and time.monotonic() - begin > PATIENCE:
                bar = later.enter_context(click.progressbar(length=1000, label="checking", file=sys.stderr))
            if bar is not None and whole:
                place = 1000 * done // whole
                bar.update(place - shown)
                shown = place

        yield step


def _printable(text: str) -> str:
    """Text without control characters: a name on a foreign disk must not steer the terminal."""
    return re.sub(r"[\x00-\x1f\x7f\x80-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _facts(image: str, offset: int, checked: Checked, fitness: Fitness | None, show_all: bool) -> dict[str, Any]:
    """What --json prints: a contract."""
    problems = checked.report.problems if show_all else checked.report.problems[:SHOWN]
    fs = None if checked.disk is None else checked.disk.fs
    facts: dict[str, Any] = {
        "image": image,
        "offset": offset,
        "format": None if fs is None else fs.format,
        "byte_order": None if fs is None else fs.byte_order,
        "consistent": checked.report.count == 0,
        "problem_count": checked.report.count,
        "problems": [{"where": one.where, "what": one.what, "ino": one.ino or None} for one in problems],
        "files": checked.files,
        "directories": checked.directories,
    }
    if fitness is not None:
        facts["paging"] = {**fitness.facts(), "fit": not fitness.unfit, "fit_for_mach": fitness.fit_for_mach}
    return facts


def _print(image: str, checked: Checked, fitness: Fitness | None, show_all: bool) -> None:
    report = checked.report
    for problem in report.problems if show_all else report.problems[:SHOWN]:
        click.echo(_printable(str(problem)))
    if fitness is not None:
        _print_fitness(fitness)
    shown = len(report.problems) if show_all else min(SHOWN, len(report.problems))
    more = f" ({shown} shown{'' if show_all else '; --all shows more'})" if report.count > shown else ""
    if report.count:
        click.echo(f"{_printable(image)}: {report.count} problem{'s'[: report.count != 1]}{more}")
    elif checked.disk is not None:
        fs = checked.disk.fs
        click.echo(
            f"{_printable(image)}: consistent; {fs.format}, {fs.byte_order}-endian, "
            f"{checked.directories} directories and {checked.files} other files"
        )


def _print_fitness(fitness: Fitness) -> None:
    path = _printable(fitness.path)
    for line in fitness.unfit:
        click.echo(f"{path}: not fit to be paged on: {line}")
    for line in fitness.beyond_mach:
        click.echo(f"{path}: Mach itself: {line}")
    if not fitness.unfit:
        runs, mach = len(fitness.runs), " by Mach itself too" if fitness.fit_for_mach else ""
        click.echo(
            f"{path}: fit to be paged on{mach}; {format_size(fitness.usable)} in {runs} run{'s'[: runs != 1]}, no holes"
        )


if __name__ == "__main__":
    main()
