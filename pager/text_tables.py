"""Facts and tables as lines of text, for the commands.

Interface:
    facts_text(facts), table_text(rows, columns)

Not here: what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def facts_text(facts: Mapping[str, object]) -> str:
    """A name and a value a line."""
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())


def table_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A head and a line for each row."""
    lines = [list(columns), *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
