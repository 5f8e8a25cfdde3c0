"""`machsim pattern`: what the workload of `machsim run` leaves in a task's memory.

Interface:
    pattern    the click command
"""

from __future__ import annotations

import sys

import click

from kernel.machsim.size import Size


@click.command(epilog="Example: machsim pattern --virtual 24M --tasks 1 | cmp - mnt/kernel/objects/1/data")
@click.option("--virtual", type=Size(), default="64M", show_default=True, help="As it was given to `machsim run`.")
@click.option("--tasks", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N")
@click.option("--task", type=click.IntRange(1), default=1, show_default=True, metavar="NUMBER", help="Whose memory.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--page-size", type=Size(), default=4096, show_default=True, help="Of the pager.")
@click.version_option(package_name="mach-default-pager")
def pattern(virtual: int, tasks: int, task: int, seed: int, page_size: int) -> None:
    """Write to standard output what `machsim run` with the same numbers leaves in a task's memory."""
    from kernel.workload import Pattern, pages_each

    if task > tasks:
        raise click.BadParameter(f"there are {tasks} tasks", param_hint="--task")
    if sys.stdout.isatty():
        raise click.UsageError("the bytes are not for a terminal: send them to a file or to cmp")
    for page in Pattern(seed, page_size).final(task, pages_each(virtual, tasks, page_size)):
        sys.stdout.buffer.write(page)
