"""Who may import whom (DESIGN: rooms run one way), read from the sources, not from what happens to be loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("mach", "bootfs", "pager", "kernel", "fuse_mount", "disktools")
LAW: dict[str, tuple[str, ...]] = {
    "mach": (),
    "bootfs": (),
    "pager": ("mach", "bootfs"),
    "kernel": ("mach", "bootfs.device"),
    "disktools": ("mach", "bootfs"),
    "fuse_mount": ("pager.client", "kernel.client", "bootfs", "mach"),
}
# A command's own modules put rooms together; they alone may import across.
COMPOSITION_ROOTS: dict[str, tuple[str, ...]] = {"kernel/machsim/": ("pager", "bootfs")}
ONLY_THERE: dict[str, tuple[str, ...]] = {
    "construct": ("bootfs/layout", "mach/aout", "mach/boot_image"),
    "fuse": ("fuse_mount/binding.py",),
    "mfusepy": ("fuse_mount/binding.py",),
    "threading": ("mach/threads/",),
    "time": ("mach/threads/", "bootfs/", "disktools/", "fuse_mount/"),  # the clock: paging code asks its runtime
    "random": ("mach/threads/",),
    "greenlet": ("mach/threads/",),
}


def modules() -> list[Path]:
    return [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports, functions' own imports and type-checking ones included."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_room_imports_only_what_the_law_allows(path: Path) -> None:
    room = path.parts[0]
    beyond = [rule for root, rules in COMPOSITION_ROOTS.items() if str(path).startswith(root) for rule in rules]
    allowed = (room, *LAW[room], *beyond)
    for name in imports(path):
        if name.split(".")[0] not in ROOMS:
            continue
        # `from pager import client` is read as pager and pager.client: the package itself holds nothing.
        parents = {rule.rsplit(".", 1)[0] for rule in allowed if "." in rule}
        assert name in parents or any(within(name, rule) for rule in allowed), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=str)
def test_special_libraries_stay_where_they_belong(path: Path) -> None:
    for name in imports(path):
        for library, places in ONLY_THERE.items():
            if within(name, library):
                assert any(str(path).startswith(place) for place in places), f"{path} imports {library}"


def test_the_law_covers_every_room() -> None:
    assert set(LAW) == set(ROOMS)
    assert all((ROOT / room / "__init__.py").exists() for room in ROOMS)


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_says_at_its_head_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert docstring, f"{path} has no docstring"
    if path.name != "__init__.py":
        assert "Interface" in docstring, f"{path}: no Interface in its head"


@pytest.mark.parametrize("path", modules(), ids=str)
def test_no_file_is_crowded(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 400
