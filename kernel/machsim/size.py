"""Sizes as a person writes them, for the options of machsim.

Interface:
    Size()    a click type: 64M, 64MiB, 1G, or bytes
    MIB
"""

from __future__ import annotations

import re

import click

MIB = 1 << 20
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Size(click.ParamType[int]):
    """64M, 64MiB, 1G, or bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is no size: try 64M, 1G, or a number of bytes", param, ctx)
        return int(match[1]) * UNITS[match[2].upper()]
