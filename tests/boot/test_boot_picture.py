"""The picture of a boot shows what is in memory: each part where it is, in its size, with a name that can be read."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from booting import KERNEL_BASE, PAGE, bootstrap_executable, kernel_executable

from kernel.boot_file import LoadedKernel, Moved, boot_kernel, load
from kernel.machsim.boot_picture import LINE, LOADED_X, MOVED_X, TASK_X, boot_picture
from mach.aout import Magic, make_executable
from mach.boot_image import dissect, glue

SVG = "{http://www.w3.org/2000/svg}"
MEMORY = 1 << 21
TITLE = re.compile(r"(.*): (\d+) bytes at 0x([0-9a-f]+)")


@dataclass(frozen=True)
class Drawn:
    memory: bytes
    kernel: LoadedKernel
    moved: Moved
    picture: ElementTree.Element

    def parts(self, x: int) -> dict[str, tuple[int, int, float, float]]:
        """Of a column, by name: start and size in bytes, top and height in the picture."""
        found = {}
        for box in self.picture.iter(f"{SVG}rect"):
            if box.get("class") == "part" and box.get("x") == str(x):
                title = TITLE.fullmatch(box.findtext(f"{SVG}title") or "")
                assert title is not None
                place = float(box.get("y") or 0), float(box.get("height") or 0)
                found[title[1]] = (int(title[3], 16), int(title[2]), *place)
        return found


def drawn(content: bytes) -> Drawn:
    memory = memoryview(bytearray(MEMORY))
    kernel = load(memory, content, PAGE)
    moved = boot_kernel(memory, kernel, PAGE)
    return Drawn(bytes(memory), kernel, moved, ElementTree.fromstring(boot_picture(content, kernel, moved)))


@pytest.fixture(params=[0, 60_000], ids=["little BSS", "much BSS"])
def content(request: pytest.FixtureRequest) -> bytes:
    return glue(kernel_executable(bss=20_000 + request.param), bootstrap_executable())


def test_each_part_is_drawn_where_it_was_loaded_and_where_it_went(content: bytes) -> None:
    image, seen = dissect(content), drawn(content)
    sections = {name: content[at : at + size] for name, at, size in image.sections() if name != "a.out header"}
    assert {name: size for name, (_, size, *_) in seen.parts(LOADED_X).items()} == {
        name: len(section) for name, section in sections.items()
    }
    after = seen.parts(MOVED_X)
    bss_start, bss_size, *_ = after.pop("its BSS, clear")
    assert (bss_start, seen.memory[bss_start : bss_start + bss_size].strip(b"\0")) == (seen.kernel.edata, b"")
    assert after.keys() == sections.keys() - {"boot_info"}, "which nobody needs any more"
    for name, (start, size, *_) in after.items():
        assert seen.memory[start : start + size] == sections[name], name


def test_the_columns_of_physical_memory_have_one_scale(content: bytes) -> None:
    seen = drawn(content)
    measured = [*seen.parts(LOADED_X).values(), *seen.parts(MOVED_X).values()]
    (first, _, top, _), *_ = measured
    start, size, _, height = max(measured, key=lambda part: part[1])
    scale = height / size
    for start, size, y, height in measured:
        assert y == pytest.approx(top + (start - first) * scale, abs=0.2)
        assert height == pytest.approx(max(size * scale, 1.5), abs=0.2)


def test_what_the_task_maps_is_drawn_beside_the_frames_that_it_maps(content: bytes) -> None:
    seen = drawn(content)
    task, after = seen.parts(TASK_X), seen.parts(MOVED_X)
    for name in ("text", "data"):
        assert task[name][1:] == pytest.approx(after[f"bootstrap {name}"][1:], abs=0.2)
    assert task["text"][0] == 0x10000
    assert "BSS, fresh" in task


def test_names_do_not_cover_each_other_and_nothing_is_outside(content: bytes) -> None:
    picture = drawn(content).picture
    width, height = map(float, (picture.get("viewBox") or "").split()[2:])
    columns: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    for text in picture.iter(f"{SVG}text"):
        x, y = float(text.get("x") or 0), float(text.get("y") or 0)
        assert 0 < x < width
        assert 0 < y < height
        if text.get("class") == "small":
            columns[text.get("x"), text.get("text-anchor")].append(y)
    assert len(columns) == 3
    assert all(lower - upper >= LINE - 0.2 for names in columns.values() for upper, lower in pairwise(names))


def test_a_kernel_alone_is_drawn_without_a_task() -> None:
    content = make_executable(Magic.OMAGIC, b"kern" * 2000, b"data" * 100, 20_000, (), KERNEL_BASE)
    seen = drawn(content)
    assert seen.parts(LOADED_X).keys() == {"kernel text and data"}
    assert seen.parts(MOVED_X).keys() == {"kernel text and data", "its BSS, clear"}
    assert seen.parts(TASK_X) == {}
