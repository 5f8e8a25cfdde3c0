"""Writes docs/mach-tests.md: which of our tests show which behaviour of Mach 3.0, and which weakness of it mended.

Interface:
    python docs/make_mach_tests.py        write the page
    citations() -> Found                  what the docstrings of the tests cite: "mach.md 8.17", "weakness 9"
    BEHAVIOUR, WEAKNESS                   all of them, in short; each must have a test
    PAGER, PAGER_WEAKNESSES               those of a default pager

A test that cites a number shows it; the page is read from the tests, so it cannot claim one that is not there.

Not here: what the numbers mean in full (the reference).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "mach-tests.md"
NUMBER = r"(?:8\.)?\d+(?!\.\d)"
LIST = rf"{NUMBER}(?:(?:, and |, | and | - |-){NUMBER})*"
BARE = "Numbers: reference mach.md, section 8"  # in a module's docstring: its tests begin with plain numbers
BEHAVIOUR = {
    1: "what is sent to a pager that does not serve yet waits, in order",
    2: "setting a default memory manager gives back the one before",
    3: "wiring without the privileged host port is refused",
    4: "a thread wires only itself",
    5: "wiring a region with a hole changes nothing",
    6: "the page reserve is for wired threads",
    7: "the pageout thresholds",
    8: "the pageout daemon pauses for a laundry that is full",
    9: "with memory short, pages of other pagers go through the default pager first",
    10: "a temporary page that was never written costs no block",
    11: "out and in: equal content, one block",
    12: "a page that is written again keeps its block",
    13: "a page never written is unavailable, not an error",
    14: "reads wait for earlier writes; writes are parallel",
    15: "messages act in the order of their sequence numbers",
    16: "terminate waits for what is under way; nothing leaks",
    17: "initial data never replaces what was paged out",
    18: "initial data behind the end of the map",
    19: "a write error costs its page only",
    20: "a read error is told once, and may pass",
    21: "a data error is a memory error of the thread that faults",
    22: "an object goes on in the next partition",
    23: "without space one write fails; added space resumes",
    24: "an object made before there was a partition",
    25: "removal of a partition with pages, with room and without",
    26: "names that a checksum takes for one another",
    27: "page-ins and pageouts during a removal",
    28: "a paging file with a hole",
    29: "a paging file that ends within a block",
    30: "blocks smaller than a page",
    31: "the paths of the boot file system",
    32: "broken file systems and the edges of indirection",
    33: "loading the first server",
    34: "the boot file",
    35: "a storm of dirty pages with no memory left",
    36: "a shared object keeps its content while somebody has a right to it",
    37: "looking at objects while they are busy; exact offsets",
    38: "lock pairs of a page read; none held across a transfer",
    39: "device writes and reads, pinned and wired",
    40: "a fault that is abandoned loses nothing; a dead pager is told",
    41: "copies and shadow chains that are paged",
    42: "a sparse object costs little map, and no race shrinks it",
    43: "the wired allocator",
    44: "a clean page is dropped without a write",
    45: "short reads of a device",
    46: "transfers of no bytes",
    47: "messages that break the protocol",
    48: "a start without a paging file",
    49: "the laundry is bounded",
    50: "wired counts come back to where they were",
    51: "terminating: temporary objects write nothing, others everything",
    52: "an object larger than any partition",
}
WEAKNESS = {
    1: "page map locks that could be shared",
    2: "unbounded wired memory in the pageout path",
    3: "a removal that fails leaves its lock held",
    4: "nobody checks who adds paging space",
    5: "device ports are never given back",
    6: "collapse keeps unused paging space",
    7: "holes, duplicates and bad files as paging space",
    8: "data lost by an abandoned write fault, and wrong offsets",
    9: "one bad sector kills an object",
    10: "names that collide",
    11: "first fit, without clusters",
    12: "memory that is never returned",
    13: "panic as the answer to a bad message",
    14: "garbage from a failed listing",
    15: "page-in memory that is not wired",
    16: "device requests without limits",
    17: "wired pages cannot be given back",
    18: "whole indirect blocks, one cached",
    19: "truncation that leaks and underflows",
    20: "an exception port set before it is made",
    21: "uninitialised boot structures",
    22: "a failed load leaves memory behind",
    23: "space from and to the file system",
    24: "overcommitment told wrongly, and once",
    25: "a daemon that waits for a dead manager",
}
REMARKS = {  # of behaviours that concern us in part: what is left out, and why
    43: "its lists of small blocks are the business of the interpreter's allocator, which pages nothing out to itself",
}
PAGER = (1, *range(11, 31), 36, 37, 38, 40, 42, 44, 45, 46, 47, 48, 52)
PAGER_WEAKNESSES = (3, 7, 8, 9, 10, 11, 13, 14, 19, 24)


@dataclass
class Found:
    """Test names by number."""

    behaviour: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    weakness: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))


def numbers(words: str) -> set[int]:
    """ "14 - 16, 20" as a set."""
    found: set[int] = set()
    plain = words.replace("8.", "").replace(" - ", "-").replace(" and ", ", ").replace(",,", ",")
    for part in plain.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            found |= set(range(int(first), int(last or first) + 1))
    return found


def cited(docstring: str, bare: bool) -> tuple[set[int], set[int]]:
    """The behaviours and the weaknesses that a test's docstring names."""
    text = " ".join(docstring.split())
    behaviour: set[int] = set()
    for match in re.finditer(rf"mach\.md 8(?:\.|, tests? )({LIST})", text):
        behaviour |= numbers(match[1])
    if bare and (match_at := re.match(LIST, text)):
        behaviour |= numbers(match_at[0])
    weakness: set[int] = set()
    for match in re.finditer(rf"[Ww]eakness(?:es)? ({LIST})", text):
        weakness |= numbers(match[1])
    for match in re.finditer(r"mach\.md 7\.1\.(\d+)", text):
        weakness.add(int(match[1]))
    return behaviour, weakness


def citations() -> Found:
    found = Found()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        bare = BARE in (ast.get_docstring(tree) or "")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                behaviour, weakness = cited(ast.get_docstring(node) or "", bare)
                for number in behaviour:
                    found.behaviour[number].add(node.name)
                for number in weakness:
                    found.weakness[number].add(node.name)
    return found


def page() -> str:
    found = citations()
    return "\n".join(
        [
            "# Mach's behaviour, and what tests it",
            "",
            "Made by `docs/make_mach_tests.py` from the docstrings of the tests. The numbers are those of the",
            "project's notes on Mach 3.0: its behaviour (section 8), and what is weak in it (section 7.1).",
            "",
            *table("behaviour", BEHAVIOUR, found.behaviour, PAGER),
            "",
            "## What is weak in Mach 3.0, and mended here",
            "",
            *table("weakness", WEAKNESS, found.weakness, PAGER_WEAKNESSES),
            "",
        ]
    )


def table(title: str, known: dict[int, str], found: dict[int, set[str]], pager: tuple[int, ...]) -> list[str]:
    rows = [f"| | {title} | of the pager | tests |", "|---|---|---|---|"]
    for number, words in known.items():
        names = ", ".join(f"`{name}`" for name in sorted(found.get(number, ()))) or "none"
        if known is BEHAVIOUR and number in REMARKS:
            words += f" ({REMARKS[number]})"
        rows.append(f"| {number} | {words} | {'yes' if number in pager else ''} | {names} |")
    return rows


if __name__ == "__main__":
    PAGE.write_text(page())
