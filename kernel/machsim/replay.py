"""`machsim replay`: a traced run as one page for a browser.

Interface:
    replay    the click command

Not here: what is on the page (kernel/tracing/replay.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from kernel.tracing.replay import MOST_STEPS, replay_page
from mach.trace_file import BadTrace, read_trace


@click.command(
    epilog="Example: machsim run --memory 1M --virtual 2M --trace a.trace && machsim replay a.trace --html a.html"
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--html", required=True, metavar="OUT", help="Write the page to OUT; it needs no other file.")
@click.option("--limit", type=click.IntRange(1), default=MOST_STEPS, show_default=True, help="Steps on the page.")
@click.version_option(package_name="mach-default-pager")
def replay(files: tuple[str, ...], html: str, limit: int) -> None:
    """Write a page that plays a run that was traced: frames, queues, messages and the paging file, step by step.

    Give the FILE of `pagerd --trace FILE` beside the machine's, and both are on it.
    """
    try:
        page = replay_page(read_trace(files), Path(files[0]).name, limit)
        Path(html).write_text(page, encoding="utf-8")
    except BadTrace as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {(error.strerror or '').lower()}") from None
    click.echo(f"{html}: open it in a browser; space plays, the arrow keys step")
