"""The wait-for graph of a deadlock as a picture: the circle in the middle, who waits behind it, who is idle.

Interface:
    deadlock_picture(experiment, result) -> the text of an SVG file, legible in light and dark

Not here: the words in full (story.py); what was run (experiment.py).
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator
from html import escape

from kernel.machsim.lab.experiment import Experiment, Result
from kernel.machsim.lab.story import PAGE_NAME, THE_RUN, core_of, is_idle
from kernel.program import mach_name
from kernel.tracing.chart import COLOURS, STYLE
from mach.threads import Wait, WaitGraph

WIDTH, TOP, BOTTOM = 1000, 92, 64  # points
BOX_WIDTH, BOX_HEIGHT, STEP = 330, 58, 138
CORE_X, BEHIND_X, BEHIND_WIDTH = 440, 24, 300
LINE = 17
STYLE_HERE = f"""
.box{{fill:#fff4ec;stroke:{COLOURS[1]};stroke-width:2}}.behind{{fill:none;stroke:#8c959f;stroke-width:1.2}}
.name{{font-weight:600;font-size:15px}}.small{{font-size:12px}}.ring{{fill:none;stroke:{COLOURS[1]};stroke-width:2.2}}
.way{{fill:none;stroke:#8c959f;stroke-width:1.4}}.ringtip{{fill:{COLOURS[1]}}}.waytip{{fill:#8c959f}}
@media (prefers-color-scheme: dark){{.box{{fill:#2b1d14}}}}
"""
TIPS = "".join(
    f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
    f'<path class="{name}" d="M0,0 L10,5 L0,10 z"/></marker>'
    for name in ("ringtip", "waytip")
)


def deadlock_picture(experiment: Experiment, result: Result) -> str:
    return _Picture(experiment, result).svg()


class _Picture:
    def __init__(self, experiment: Experiment, result: Result) -> None:
        graph = WaitGraph(result.waits)
        self.title = f"{experiment.name}: {experiment.title}"
        self.under = f"seed {result.seed}: since {result.seconds:.6f} s of simulated time nobody can go on"
        self.core, self.closed = core_of(graph), bool(graph.circle())
        named = {wait.thread for wait in self.core}
        rest = [wait for wait in result.waits if wait.thread not in (*named, THE_RUN)]
        self.idle = [wait.thread for wait in rest if is_idle(wait)]
        self.groups = self._grouped([wait for wait in rest if not is_idle(wait)])
        behind = sum(self._group_height(*group) + 18 for group in self.groups)
        self.height = TOP + max(STEP * len(self.core), behind) + BOTTOM

    @staticmethod
    def _grouped(waits: list[Wait]) -> list[tuple[str, list[str], tuple[str, ...]]]:
        """(what, who, owed by): those that wait for the same."""
        together: dict[str, list[Wait]] = defaultdict(list)
        for wait in waits:
            together[PAGE_NAME.sub("a page", wait.what)].append(wait)
        return [(what, [wait.thread for wait in group], group[0].owed_by) for what, group in together.items()]

    def svg(self) -> str:
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}{STYLE_HERE}</style><defs>{TIPS}</defs>",
            f'<rect class="paper" width="{WIDTH}" height="{self.height}"/>',
            f'<text class="title" x="{BEHIND_X}" y="32">{escape(self.title)}</text>',
            f'<text class="quiet" x="{BEHIND_X}" y="54">{escape(self.under)}</text>',
            *self._ring(),
            *self._behind(),
            *(node for index, wait in enumerate(self.core) for node in self._node(index, wait)),
        ]
        if self.idle:
            words = escape(f"idle: {', '.join(self.idle)}")
            parts.append(f'<text class="quiet small" x="{BEHIND_X}" y="{self.height - 20}">{words}</text>')
        return "\n".join([*parts, "</svg>"]) + "\n"

    @staticmethod
    def _y(index: int) -> int:
        return TOP + STEP * index

    def _node(self, index: int, wait: Wait) -> Iterator[str]:
        y, middle = self._y(index), CORE_X + BOX_WIDTH // 2
        yield f'<rect class="box" x="{CORE_X}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
        has = f"has {mach_name(wait.handles)} in hand" if wait.handles else ""
        name_y = y + (25 if has else 35)
        yield f'<text class="name" x="{middle}" y="{name_y}" text-anchor="middle">{escape(wait.thread)}</text>'
        yield f'<text class="quiet small" x="{middle}" y="{y + 45}" text-anchor="middle">{escape(has)}</text>'

    def _ring(self) -> Iterator[str]:
        """From each to who owes it what it waits for; from the last back up to the first, if it is a circle."""
        middle, right = CORE_X + BOX_WIDTH // 2, CORE_X + BOX_WIDTH
        for index, wait in enumerate(self.core):
            y = self._y(index) + BOX_HEIGHT
            last = index == len(self.core) - 1
            if not last:
                yield self._arrow("ring", f"M{middle},{y} V{self._y(index + 1) - 2}")
            elif self.closed:
                up, out = self._y(0) + BOX_HEIGHT // 2, right + 150
                yield self._arrow("ring", f"M{middle},{y} v40 H{out} V{up} H{right + 2}")
            for row, part in enumerate(textwrap.wrap(f"waits for {wait.what}", 46)[:3]):
                yield f'<text class="small" x="{middle + 12}" y="{y + 18 + row * 15}">{escape(part)}</text>'

    @staticmethod
    def _arrow(kind: str, path: str) -> str:
        return f'<path class="{kind}" d="{path}" marker-end="url(#{kind}tip)"/>'

    # -- who waits behind ----------------------------------------------------------------------------------------

    @staticmethod
    def _lines(what: str, who: list[str]) -> tuple[list[str], list[str]]:
        return textwrap.wrap(", ".join(who), 42), textwrap.wrap(f"for {what}", 46)

    def _group_height(self, what: str, who: list[str], owed_by: tuple[str, ...]) -> int:
        return LINE * sum(map(len, self._lines(what, who))) + 16

    def _behind(self) -> Iterator[str]:
        y = TOP
        for what, who, owed_by in self.groups:
            height = self._group_height(what, who, owed_by)
            names, words = self._lines(what, who)
            yield f'<rect class="behind" x="{BEHIND_X}" y="{y}" width="{BEHIND_WIDTH}" height="{height}" rx="6"/>'
            for row, part in enumerate(names + words):
                kind = "small" if row < len(names) else "quiet small"
                yield f'<text class="{kind}" x="{BEHIND_X + 10}" y="{y + 20 + row * LINE}">{escape(part)}</text>'
            owing = next((index for index, wait in enumerate(self.core) if wait.thread in owed_by), None)
            if owing is not None:
                to = self._y(owing) + BOX_HEIGHT // 2
                start = BEHIND_X + BEHIND_WIDTH
                bend = (start + CORE_X) // 2
                yield self._arrow(
                    "way", f"M{start},{y + height // 2} C{bend},{y + height // 2} {bend},{to} {CORE_X - 2},{to}"
                )
            y += height + 18
