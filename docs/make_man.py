"""Makes man pages of the commands from the commands themselves.

Interface:
    python docs/make_man.py DIRECTORY    writes DIRECTORY/<command>.1, one for each command of pyproject.toml
    man_page(name, command) -> str       roff

Not here: what the commands do.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every installed command, by name."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in sorted(scripts.items()):
        module_name, _, attribute = place.partition(":")
        if importlib.util.find_spec(module_name) is None:
            continue
        module = importlib.import_module(module_name)
        found = getattr(module, attribute)
        if not isinstance(found, click.Command):  # an entry point that wraps its command
            found = module.cli
        yield name, found


def man_page(name: str, command: click.Command) -> str:
    """One page, with a section for each subcommand."""
    context = click.Context(command, info_name=name)
    short = command.get_short_help_str(100).rstrip(".")
    parts = [f'.TH {name.upper()} 1 "" "mach-default-pager"\n.SH NAME\n{name} \\- {roff(short)}\n']
    parts += [".SH SYNOPSIS\n", synopsis(context, command), ".SH DESCRIPTION\n", paragraphs(command.help)]
    parts += options(context, command)
    if isinstance(command, click.Group):
        for sub_name in command.list_commands(context):
            parts += subcommand(context, command, sub_name)
    if command.epilog:
        parts += [".SH EXAMPLE\n", example(command.epilog)]
    parts.append(
        ".SH EXIT STATUS\n0 when done, 1 when refused or failed (one line on standard error says what to do), 2 for "
        "usage errors.\n.SH SEE ALSO\n"
        + ", ".join(f"\\fB{other}\\fP(1)" for other, _ in commands() if other != name)
        + "\n"
    )
    return "".join(parts)


def subcommand(context: click.Context, group: click.Group, name: str) -> list[str]:
    command = group.get_command(context, name)
    assert command is not None
    inner = click.Context(command, info_name=name, parent=context)
    parts = [f".SH {name.upper()}\n", synopsis(inner, command), ".PP\n", paragraphs(command.help)]
    parts += [line.replace(".SH OPTIONS\n", ".PP\n") for line in options(inner, command)]
    return parts + ([".PP\n", example(command.epilog)] if command.epilog else [])


def synopsis(context: click.Context, command: click.Command) -> str:
    words = " ".join(command.collect_usage_pieces(context))
    return f".B {roff(context.command_path)}\n{roff(words)}\n"


def options(context: click.Context, command: click.Command) -> list[str]:
    shown = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in shown if (record := option.get_help_record(context))]
    return [".SH OPTIONS\n"] + [f".TP\n\\fB{roff(flags)}\\fP\n{roff(words)}\n" for flags, words in records]


def paragraphs(text: str | None) -> str:
    blocks = inspect.cleandoc(text or "").split("\n\n")
    return "\n.PP\n".join(roff(" ".join(block.split())) for block in blocks) + "\n"


def example(epilog: str) -> str:
    text = inspect.cleandoc(epilog.replace("\b", "")).removeprefix("Example:").strip()
    return f".nf\n{roff(text)}\n.fi\n"


def roff(text: str) -> str:
    """Text that roff prints as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for command_name, click_command in commands():
        (target / f"{command_name}.1").write_text(man_page(command_name, click_command))
