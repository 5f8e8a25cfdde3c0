"""A chart of lines as one SVG file: legible in light and dark, no library and no script in it.

Interface:
    Series(name, points, dashed=False)    points are (x, y), by rising x
    Axis(label, tick)                     tick: how a value is written
    line_chart(title, subtitle, x, y, series) -> the text of the SVG; both axes are logarithmic

Not here: what the numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 168, 70, 58
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # told apart by the colour-blind (Okabe, Ito)
STYLE = """
text{font-family:system-ui,sans-serif;font-size:13px;fill:#24292f}
.title{font-size:17px;font-weight:600}.quiet{fill:#59636e}
.paper{fill:#ffffff}.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#59636e;stroke-width:1}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}
@media (prefers-color-scheme: dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.paper{fill:#0d1117}
.grid{stroke:#2a313c}.axis{stroke:#9198a1}}
"""


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    label: str
    tick: Callable[[float], str]
    base: int = 10  # of its ticks


class _Scale:
    """From a logarithmic range to points of the picture."""

    def __init__(self, values: Sequence[float], start: float, end: float, base: int) -> None:
        low, high = math.log(min(values), base), math.log(max(values), base)
        if base == 10:
            low, high = math.floor(low), math.ceil(high)
        self.base, self.low, self.high = base, low, max(high, low + 1e-9)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (math.log(value, self.base) - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
        step = max(1, round((last - first) / 8))
        return [float(self.base) ** power for power in range(first, last + 1, step)]


def line_chart(title: str, subtitle: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """All values are positive."""
    across = _Scale([at for one in series for at, _ in one.points], LEFT, WIDTH - RIGHT, x.base)
    up = _Scale([value for one in series for _, value in one.points], HEIGHT - BOTTOM, TOP, y.base)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        f'<text class="quiet" x="{LEFT}" y="49">{escape(subtitle)}</text>',
        *_axes(across, up, x, y),
        *_lines(across, up, series),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(across: _Scale, up: _Scale, x: Axis, y: Axis) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in up.ticks():
        at = up(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>'
        yield f'<text class="quiet" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(y.tick(value))}</text>'
    for value in across.ticks():
        at = across(value)
        yield f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}"/>'
        yield f'<text class="quiet" x="{at:.1f}" y="{bottom + 20}" text-anchor="middle">{escape(x.tick(value))}</text>'
    yield f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x.label)}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>'


def _lines(across: _Scale, up: _Scale, series: Sequence[Series]) -> Iterator[str]:
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{across(at):.1f},{up(value):.1f}" for at, value in one.points)
        dash = ' stroke-dasharray="6 4"' if one.dashed else ""
        yield f'<polyline class="line" stroke="{colour}"{dash} points="{points}"/>'
        top = TOP + 12 + number * 22
        x = WIDTH - RIGHT + 18
        yield f'<line x1="{x}" y1="{top}" x2="{x + 24}" y2="{top}" stroke="{colour}" stroke-width="3"{dash}/>'
        yield f'<text x="{x + 32}" y="{top + 4}">{escape(one.name)}</text>'
