"""The console of a machine: the terminal that machsim runs on.

Interface:
    TerminalConsole()    writes to standard output, reads lines of standard input

Not here: what is said on it.
"""

from __future__ import annotations

import sys

import click


class TerminalConsole:
    """A person at a terminal; or a pipe, whose answers are shown as if they had been typed."""

    def write(self, text: str) -> None:
        click.echo(text, nl=False)

    def read_line(self) -> str | None:
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not sys.stdin.isatty():
            click.echo(line.rstrip("\n"))
        return line.rstrip("\n") if line else None
