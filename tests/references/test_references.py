"""Memory traces of real programs: read exactly, and counted as a plain simulation counts them."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from daemons import refused, run
from hypothesis import given
from hypothesis import strategies as st

from kernel.page import Frames, Page, PageQueue
from kernel.references.lackey import BadReferences, page_references
from kernel.references.policies import POLICIES, PageTrace, clock, fifo, lru_faults, opt, second_chance
from kernel.replacement import POLICIES as KERNEL_POLICIES

TRACE = Path(__file__).resolve().parents[2] / "fixtures" / "traces" / "true.lackey.gz"
PAGE = 4096

rows = st.lists(st.integers(0, 9), min_size=1, max_size=120)
# Rows in which few pages alternate, as in programs, and where stripping has something to leave out.
alternating = st.lists(
    st.tuples(st.lists(st.integers(0, 7), min_size=1, max_size=3), st.integers(1, 12)), min_size=1, max_size=12
).map(lambda phases: [page for pages, times in phases for page in pages * times])


def trace_of(pages: list[int], strip: bool = True) -> PageTrace:
    return PageTrace(np.array(pages, dtype=np.int64), strip)


def plain_lru(pages: list[int], frames: int) -> int:
    stack: list[int] = []
    faults = 0
    for page in pages:
        if page in stack:
            stack.remove(page)
        else:
            faults += 1
            del stack[frames - 1 :]
        stack.insert(0, page)
    return faults


def plain_fifo(pages: list[int], frames: int) -> int:
    queue: list[int] = []
    faults = 0
    for page in pages:
        if page not in queue:
            faults += 1
            queue = [*queue, page][-frames:]
    return faults


def least_possible(pages: list[int], frames: int) -> int:
    """By trying every victim: what no policy can beat."""
    states: dict[frozenset[int], int] = {frozenset(): 0}
    for page in pages:
        after: dict[frozenset[int], int] = {}
        for there, faults in states.items():
            choices = [there] if page in there else [there | {page}]
            cost = faults + (page not in there)
            if len(choices[0]) > frames:
                choices = [(there - {victim}) | {page} for victim in there]
            for choice in choices:
                after[choice] = min(cost, after.get(choice, cost))
        states = after
    return min(states.values())


@given(rows | alternating, st.integers(2, 10))
def test_lru_by_stack_distances_is_lru(pages: list[int], frames: int) -> None:
    faults = lru_faults(trace_of(pages))
    assert faults[min(frames, len(faults) - 1)] == plain_lru(pages, frames)


@given(rows | alternating, st.integers(2, 10))
def test_fifo_is_fifo(pages: list[int], frames: int) -> None:
    assert fifo(trace_of(pages), frames) == plain_fifo(pages, frames)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.integers(2, 4))
def test_opt_is_the_least_that_is_possible(pages: list[int], frames: int) -> None:
    assert opt(trace_of(pages), frames) == least_possible(pages, frames)


@given(alternating, st.integers(2, 8), st.sampled_from(sorted(POLICIES)))
def test_what_is_left_out_of_a_trace_changes_no_count(pages: list[int], frames: int, policy: str) -> None:
    assert POLICIES[policy](trace_of(pages), frames) == POLICIES[policy](trace_of(pages, strip=False), frames)


@given(rows, st.integers(2, 10))
def test_nothing_is_better_than_opt_and_with_memory_for_all_only_first_touches_fault(
    pages: list[int], frames: int
) -> None:
    trace = trace_of(pages)
    best = opt(trace, frames)
    for policy in POLICIES.values():
        assert policy(trace, frames) >= best
        assert policy(trace, len(set(pages))) == len(set(pages))


def by_the_kernels_policy(name: str, pages: list[int], frames: int) -> int:
    """The policy that a machine's pageout asks, told of every reference and asked for one victim a fault."""
    memory = Frames(frames)
    policy = KERNEL_POLICIES[name](PageQueue(memory, "active"), PageQueue(memory, "inactive"))
    free = [Page(memory, frame) for frame in range(frames)]
    there: dict[int, Page] = {}
    faults = 0
    for number in pages:
        if number in there:
            policy.touched(there[number])
            continue
        faults += 1
        if not free:
            victim = policy.victim()
            assert victim is not None
            policy.remove(victim)
            del there[next(one for one, page in there.items() if page.frame == victim.frame)]
            free.append(victim)
        page = there[number] = free.pop()
        policy.activate(page)
        policy.touched(page)
    return faults


@pytest.mark.parametrize("name", ["fifo", "clock", "second-chance", "lru"])
@given(rows | alternating, st.integers(2, 10))
def test_what_counts_a_traces_faults_is_the_policy_that_a_machine_runs(
    name: str, pages: list[int], frames: int
) -> None:
    """One definition: that of kernel/replacement/.  The counts, made over rows of numbers for speed, are the same."""
    counted = POLICIES[name.replace("-", " ")](trace_of(pages, strip=False), frames)
    assert counted == by_the_kernels_policy(name, pages, frames)


def test_belady_saw_fifo_do_worse_with_more_memory() -> None:
    """The reference string of Belady, Nelson and Shedler (1969): 9 faults with 3 frames, 10 with 4."""
    pages = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]
    assert [fifo(trace_of(pages), frames) for frames in (3, 4)] == [9, 10]
    assert [opt(trace_of(pages), frames) for frames in (3, 4)] == [7, 6]


def test_a_second_chance_saves_the_page_that_is_used_again_and_again() -> None:
    """One page between a stream of others: FIFO loses it again and again, the others keep it."""
    pages = [page for other in range(1, 200) for page in (0, other)]
    assert fifo(trace_of(pages), 4) == 249  # and again after each four that came
    for policy in (clock, second_chance):
        assert policy(trace_of(pages), 4) <= 202


# -- the file ----------------------------------------------------------------------------------------------------------


def plain_pages(text: str) -> list[int]:
    """As a person would read it."""
    pages: list[int] = []
    for line in text.splitlines():
        if line[:3] in ("I  ", " L ", " S ", " M "):
            address, size = int(line[3:].split(",")[0], 16), int(line.split(",")[1])
            pages += range(address // PAGE, (address + size - 1) // PAGE + 1)
    return [page for at, page in enumerate(pages) if at == 0 or page != pages[at - 1]]


line = st.one_of(
    st.tuples(
        st.sampled_from(["I  ", " L ", " S ", " M "]), st.integers(0, 2**63), st.sampled_from(["x", "08x"])
    ).flatmap(lambda way: st.integers(1, 64).map(lambda size: f"{way[0]}{way[1]:{way[2]}},{size}")),
    st.sampled_from(["==12== Lackey", "", "I", " L", "garbage that is long enough", "I  xyz,4", "==1== I  0404,3"]),
)


@given(st.lists(line, max_size=60), st.booleans())
def test_a_trace_is_read_as_a_person_reads_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "some.trace"
    text = "\n".join(lines) + ("" if cut else "\n")
    path.write_text(text)
    expected = plain_pages("\n".join(line for line in lines if "xyz" not in line))
    if expected:
        assert page_references(str(path), PAGE).pages.tolist() == expected
    else:
        with pytest.raises(BadReferences):
            page_references(str(path), PAGE)


def test_a_real_program_s_trace_is_read_whole() -> None:
    references = page_references(str(TRACE), PAGE)
    expected = plain_pages(gzip.decompress(TRACE.read_bytes()).decode())
    assert references.pages.tolist() == expected
    assert references.distinct == len(set(expected)) > 50


def test_the_command_prints_what_the_simulators_count(tmp_path: Path) -> None:
    plot = tmp_path / "curves.svg"
    facts = json.loads(run("machsim", "misses", TRACE, "--json", "--memory", "64K,128K", "--plot", plot).stdout)
    pages = plain_pages(gzip.decompress(TRACE.read_bytes()).decode())
    assert facts["faults"]["lru"] == {"65536": plain_lru(pages, 16), "131072": plain_lru(pages, 32)}
    assert facts["faults"]["fifo"] == {"65536": plain_fifo(pages, 16), "131072": plain_fifo(pages, 32)}
    drawing = ElementTree.parse(plot).getroot()
    lines = drawing.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(POLICIES)
    table = run("machsim", "misses", TRACE, "--policy", "fifo", "--memory", "64K").stdout
    assert str(plain_fifo(pages, 16)) in table


def test_what_is_no_memory_trace_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("hello\n")
    refused("machsim", "misses", file, words="no memory references; make some with: valgrind")
    file.write_bytes(TRACE.read_bytes()[:5000])
    refused("machsim", "misses", file, words="cut short")
    refused("machsim", "misses", tmp_path / "none", words="no such file")
    refused("machsim", "misses", TRACE, "--memory", "1K", words="a page is 4096 bytes", status=2)
    refused("machsim", "misses", TRACE, "--page-size", "3000", words="a power of two", status=2)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_what_valgrind_writes_today_is_understood(tmp_path: Path) -> None:
    log = tmp_path / "true.trace"
    command = ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-file={log}", "/bin/true"]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    facts = json.loads(run("machsim", "misses", log, "--json", "--policy", "lru", "--memory", "64K").stdout)
    references = sum(line[:3] in ("I  ", " L ", " S ", " M ") for line in log.read_text().splitlines())
    assert references <= facts["references"] < references * 1.1
