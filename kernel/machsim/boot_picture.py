"""The first act of a kernel as a picture: its boot file in memory, what it moved from there, what its first task maps.

Interface:
    boot_picture(content, kernel, moved) -> the text of an SVG file, legible in light and dark

Memory goes down and is to scale: a part that is too thin for its name has it beside it, as all have.

Not here: what is done (kernel/boot_file.py, kernel/bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from kernel.boot_file import LoadedKernel, Moved
from kernel.tracing.chart import COLOURS, STYLE
from mach.aout import HEADER_BYTES
from mach.boot_image import BadBootImage, BootImage, dissect

WIDTH, TOP, MEMORY, BOTTOM = 1180, 104, 560, 60  # points
COLUMN = 130
LOADED_X, MOVED_X, TASK_X = 236, 500, 866
LINE = 17  # between two names
KERNEL, SYMBOLS, BOOTSTRAP, BSS, LOAD_INFO = *COLOURS[:3], "#8c959f", COLOURS[4]
STYLE_HERE = """
.small{font-size:12px}.head{font-weight:600}.part{stroke:#ffffff;stroke-width:1}.way{opacity:.22}
.lead{stroke:#8c959f;stroke-width:1;fill:none}.will{fill:none;stroke:#24292f;stroke-width:1.6;stroke-dasharray:5 4}
@media (prefers-color-scheme: dark){.part{stroke:#0d1117}.will{stroke:#e6edf3}}
"""

Height = Callable[[float], float]  # of an address, in the picture


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of memory from `start` on."""

    name: str
    start: int
    size: int
    colour: str

    @property
    def end(self) -> int:
        return self.start + self.size


def boot_picture(content: bytes, kernel: LoadedKernel, moved: Moved) -> str:
    try:
        image = dissect(content)
    except BadBootImage:  # a kernel alone
        image = None
    return _Picture(image, kernel, moved).svg()


def _loaded(image: BootImage | None, kernel: LoadedKernel) -> list[Part]:
    if image is None:
        return [Part("kernel text and data", kernel.start, kernel.size, KERNEL)]
    header = HEADER_BYTES if image.has_header else 0
    return [
        Part(name, kernel.start + offset - header, size, _colour(name))
        for name, offset, size in image.sections()
        if name != "a.out header"
    ]


def _colour(name: str) -> str:
    if name in ("boot_info", "load_info"):
        return LOAD_INFO
    if name.startswith("kernel"):
        return SYMBOLS if name.endswith("symbols") else KERNEL
    return BOOTSTRAP


def _moved(image: BootImage | None, kernel: LoadedKernel, moved: Moved) -> list[Part]:
    parts = [
        Part("kernel text and data", kernel.start, kernel.edata - kernel.start, KERNEL),
        Part("its BSS, clear", kernel.edata, moved.symbols - kernel.edata, BSS),
    ]
    if image is None or moved.info is None:
        return parts
    load, at = image.load_info, moved.boot_start
    return [
        *parts,
        Part("kernel symbols", moved.symbols, moved.info.sym_size, SYMBOLS),
        Part("bootstrap text", at + load.text_offset, load.text_size, BOOTSTRAP),
        Part("bootstrap data", at + load.data_offset, load.data_size, BOOTSTRAP),
        Part("bootstrap symbols", at + load.sym_offset, moved.info.boot_size - load.sym_offset, BOOTSTRAP),
        Part("load_info", at + moved.info.boot_size, moved.info.load_info_size, LOAD_INFO),
    ]


def _of_the_task(moved: Moved) -> list[Part]:
    info = moved.load_info
    if info is None:
        return []
    return [
        Part("text", info.text_start, info.text_size, BOOTSTRAP),
        Part("data", info.data_start, info.data_size, BOOTSTRAP),
        Part("BSS, fresh", info.data_end, info.bss_size, BSS),
    ]


def _spread(wanted: Sequence[float]) -> list[float]:
    """Places for names, in order, as near as can be to those that they would have."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + LINE) if places else place)
    return places


class _Picture:
    def __init__(self, image: BootImage | None, kernel: LoadedKernel, moved: Moved) -> None:
        self.kernel, self.moved = kernel, moved
        self.loaded = [part for part in _loaded(image, kernel) if part.size]
        self.after = [part for part in _moved(image, kernel, moved) if part.size]
        self.task = [part for part in _of_the_task(moved) if part.size]
        end = max(part.end for part in (*self.loaded, *self.after))
        self.points_a_byte = MEMORY / (end - kernel.start)
        self.bottom = TOP + MEMORY

    def svg(self) -> str:
        height = max(self.bottom, *self._names_end()) + BOTTOM
        title = "A machine boots: the kernel makes room for its BSS, and maps its first task"
        under = f"physical memory from {self.kernel.start:#x} on, to scale"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{STYLE_HERE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>',
            f'<text class="title" x="24" y="32">{escape(title)}</text>',
            f'<text class="quiet" x="24" y="54">{escape(under)}</text>',
            *self._ways(),
            *self._column(LOADED_X, "as it is loaded", self.loaded, self._y, left=True),
            *self._column(MOVED_X, "after its first act", self.after, self._y),
            *self._column(TASK_X, "task bootstrap", self.task, self._task_y),
            *self._will_be_bss(),
            *self._foot(height),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _names_end(self) -> Iterator[float]:
        for parts, y in ((self.loaded, self._y), (self.after, self._y), (self.task, self._task_y)):
            yield from _spread([self._middle(part, y) for part in parts])[-1:]

    def _y(self, address: float) -> float:
        return TOP + (address - self.kernel.start) * self.points_a_byte

    def _task_y(self, address: float) -> float:
        """Beside the frames that it maps."""
        return self._y(self.moved.boot_start + address - self.task[0].start)

    @staticmethod
    def _middle(part: Part, y: Height) -> float:
        return (y(part.start) + y(part.end)) / 2

    def _column(self, x: int, head: str, parts: list[Part], y: Height, left: bool = False) -> Iterator[str]:
        if not parts:
            return
        yield f'<text class="head" x="{x + COLUMN / 2}" y="{TOP - 14}" text-anchor="middle">{escape(head)}</text>'
        names = _spread([self._middle(part, y) for part in parts])
        for part, name_y in zip(parts, names, strict=True):
            top, height = y(part.start), max(y(part.end) - y(part.start), 1.5)
            yield (
                f'<rect class="part" x="{x}" y="{top:.1f}" width="{COLUMN}" height="{height:.1f}" fill="{part.colour}">'
                f"<title>{escape(part.name)}: {part.size} bytes at {part.start:#x}</title></rect>"
            )
            yield from self._name(part, self._middle(part, y), name_y, x - 8 if left else x + COLUMN + 8, left)

    @staticmethod
    def _name(part: Part, middle: float, name_y: float, x: int, left: bool) -> Iterator[str]:
        far = x - 14 if left else x + 14
        near, anchor = (x + 6, "end") if left else (x - 6, "start")
        words = escape(f"{part.start:#x} {part.name}")
        yield f'<path class="lead" d="M{near},{middle:.1f} L{far},{name_y:.1f}"/>'
        at = far - 4 if left else far + 4
        yield f'<text class="small" x="{at}" y="{name_y + 4:.1f}" text-anchor="{anchor}">{words}</text>'

    def _ways(self) -> Iterator[str]:
        """What went where."""
        after = {part.name: part for part in self.after}
        for part in self.loaded:
            if part.name in after:
                yield self._way(part, self._y, after[part.name], self._y, LOADED_X, MOVED_X)
        for part, source in zip(self.task, ("bootstrap text", "bootstrap data"), strict=False):
            if source in after:
                yield self._way(after[source], self._y, part, self._task_y, MOVED_X, TASK_X)

    @staticmethod
    def _way(one: Part, one_y: Height, other: Part, other_y: Height, x: int, to: int) -> str:
        points = f"M{x + COLUMN},{one_y(one.start):.1f} L{to},{other_y(other.start):.1f}"
        points += f" L{to},{other_y(other.end):.1f} L{x + COLUMN},{one_y(one.end):.1f} z"
        return f'<path class="way" fill="{one.colour}" d="{points}"/>'

    def _will_be_bss(self) -> Iterator[str]:
        top, bottom = self._y(self.kernel.edata), self._y(self.kernel.end)
        if bottom <= top:
            return
        yield (
            f'<rect class="will" x="{LOADED_X - 5}" y="{top:.1f}" width="{COLUMN + 10}" height="{bottom - top:.1f}">'
            f"<title>BSS: {self.kernel.end - self.kernel.edata} bytes at {self.kernel.edata:#x}</title></rect>"
        )

    def _foot(self, height: float) -> Iterator[str]:
        words = ["dashed: where the kernel's BSS is to be, which no file has"]
        if self.task:
            words.append("what the task maps of its image are the same pages; only the last part of one is a copy")
        for line, text in enumerate(words):
            yield f'<text class="quiet small" x="24" y="{height - 32 + line * 18:.0f}">{escape(text)}</text>'
