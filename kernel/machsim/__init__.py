"""The command `machsim`: a simulated machine that pages against a default pager outside its kernel.

Interface:
    main()         see --help
    SUBCOMMANDS    name -> "module:command"; a new subcommand is a module of this package and one line here

The modules of this package are composition roots: they alone put a kernel and a pager together, in one process or over
a socket.  A subcommand's module is imported when it is asked for, so that none pays for the machinery of another.

Not here: how anything works.
"""

from __future__ import annotations

import importlib

import click

SUBCOMMANDS = {
    "deadlock": "kernel.machsim.deadlock:deadlock",
    "boot": "kernel.machsim.boot:boot",
    "exec": "kernel.machsim.exec:exec_program",
    "explain": "kernel.machsim.explain:explain",
    "images": "kernel.machsim.images:images",
    "misses": "kernel.machsim.misses:misses",
    "pattern": "kernel.machsim.pattern:pattern",
    "policies": "kernel.machsim.policies:policies",
    "replay": "kernel.machsim.replay:replay",
    "run": "kernel.machsim.run:run",
}


class Subcommands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = SUBCOMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=Subcommands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: machsim run --in-process",
)
@click.version_option(package_name="mach-default-pager")
def main() -> None:
    """A simulated Mach machine whose temporary memory is paged by a default pager outside its kernel."""
