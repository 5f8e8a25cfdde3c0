"""Replacement policies: the rules that each must keep, a machine under each, and the page that shows how to add one."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_machine import PAGE, Machine, on_machine, page_of

from kernel.machsim import main
from kernel.machsim.policies import PATTERNS, measure
from kernel.page import Frames, Page, PageQueue
from kernel.replacement import POLICIES
from kernel.replacement.policy import Policy

PAGE_OF_DOCS = Path(__file__).resolve().parents[2] / "docs" / "new-replacement-policy.md"


def example() -> type[Policy]:
    """The policy of docs/new-replacement-policy.md."""
    [source] = re.findall(r"```python\n(.*?)```", PAGE_OF_DOCS.read_text(), re.DOTALL)
    module = types.ModuleType("kernel.replacement.mru")
    exec(compile(source, str(PAGE_OF_DOCS), "exec"), module.__dict__)
    found: type[Policy] = module.Replacement
    return found


EVERY = {**POLICIES, "mru": example()}


@pytest.fixture(autouse=True)
def with_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "mru", EVERY["mru"])


def make(name: str, pages: int) -> tuple[Policy, list[Page]]:
    frames = Frames(pages)
    return EVERY[name](PageQueue(frames, "active"), PageQueue(frames, "inactive")), [
        Page(frames, frame) for frame in range(pages)
    ]


@pytest.mark.parametrize("name", sorted(EVERY))
@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["activate", "deactivate", "next_to_go", "remove", "use"]), st.integers(0, 5))
    )
)
def test_a_policy_keeps_each_page_on_one_queue_and_finds_a_victim(name: str, steps: list[tuple[str, int]]) -> None:
    """The two rules of kernel/replacement/policy.py."""
    policy, pages = make(name, 6)
    there: set[int] = set()
    for what, number in steps:
        page = pages[number]
        if what == "use":
            page.reference = True
        elif what == "remove":
            if number in there:
                policy.remove(page)
                there.discard(number)
        else:
            if number in there:
                policy.remove(page)
            getattr(policy, what)(page)
            there.add(number)
        on = [page.frame for queue in (policy.active, policy.inactive) for page in queue]
        assert sorted(on) == sorted(there), "rule 1"
        victim = policy.victim()
        assert (victim is None) == (not there), "rule 2"
        assert victim is None or victim.queue is not None, "rule 2: it was removed"


@pytest.mark.parametrize("name", sorted(EVERY))
def test_what_is_to_go_next_goes_next(name: str) -> None:
    policy, pages = make(name, 6)
    for page in pages:
        policy.activate(page)
    policy.remove(pages[3])
    policy.next_to_go(pages[3])
    assert policy.victim() == pages[3]


def test_second_chance_clock_and_lru_spare_what_was_used_and_fifo_does_not() -> None:
    """mach.md 5.6: a page that was used since it was deactivated goes back."""
    for name, spares in (("second-chance", True), ("clock", True), ("lru", True), ("fifo", False)):
        policy, pages = make(name, 6)
        for page in pages:
            policy.activate(page)
        assert policy.victim() == pages[0]
        pages[0].reference = True
        assert (policy.victim() == pages[0]) != spares, name


def test_fifo_with_more_frames_can_fault_more() -> None:
    """Belady's anomaly, by the policy that the kernel asks."""

    def faults(frames: int) -> int:
        policy, pages = make("fifo", 6)
        there: set[int] = set()
        count = 0
        for number in (1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5):
            if number in there:
                continue
            count += 1
            if len(there) == frames:
                victim = policy.victim()
                assert victim is not None
                policy.remove(victim)
                there.discard(victim.frame)
            policy.activate(pages[number])
            there.add(number)
        return count

    assert (faults(3), faults(4)) == (9, 10)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_machine_keeps_its_memory_under_every_policy(name: str) -> None:
    def body(machine: Machine) -> None:
        task, address = machine.memory(300)
        for page in range(300):
            task.write(address + page * PAGE, page_of(f"{page} "))
        for page in range(0, 300, 7):
            assert task.read(address + page * PAGE, PAGE) == page_of(f"{page} ")

    on_machine(body, frames=128, replacement=name)


def test_in_a_loop_the_last_used_is_the_best_victim_and_no_policy_beats_the_bound() -> None:
    references = [page for _ in range(5) for page in range(150)]
    found = {name: measure(name, references, 150, 128 * PAGE) for name in ("mru", "fifo", "second-chance")}
    assert found["mru"].faults < found["fifo"].faults
    assert found["fifo"].faults == found["second-chance"].faults == len(references)


def test_the_command_compares_the_policies_in_a_table_and_as_json() -> None:
    done = CliRunner().invoke(main, ["policies", "--pattern", "scan", "--references", "600", "--policy", "fifo"])
    assert done.exit_code == 0, done.output
    assert re.search(r"fifo +\d+ +\d+ +\d+ +0\n +opt +\d+ ", done.output)
    done = CliRunner().invoke(main, ["policies", "--references", "300", "--policy", "clock", "--json"])
    assert done.exit_code == 0, done.output
    assert all(name in done.output for name in PATTERNS)
    assert CliRunner().invoke(main, ["policies", "--memory", "64K"]).exit_code == 2
