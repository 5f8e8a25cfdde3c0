"""The C programs of fixtures/servers on a machine that is too small for them, and code made by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from booting import boot, disk
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from programs import EXIT, INT3, MIB, PAGE, SERVERS, run_code, run_program

from kernel.machsim.exec import ProgramMachine
from kernel.machsim.machine import Machine


def nothing_is_left(machine: Machine, one: ProgramMachine) -> None:
    """Every task, object and slot of paging space has come back, and all frames but what the pager needs."""
    machine.runtime.sleep(60.0)
    assert machine.pager.store.free_pages == machine.space // PAGE
    assert one.user.by_port == {}
    assert [task.name for task in machine.host.tasks.values()] == ["default pager"]
    statistics = machine.host.vm_statistics()
    assert statistics["free_count"] > statistics["memory_count"] - 48


def test_the_paging_benchmark_verifies_every_word() -> None:
    run = run_program("paging.aout", "1200", "2", memory=MIB, inspect=nothing_is_left)
    assert run.halted.words == "every program has ended"
    assert run.text.endswith("(paging) 300 pages verified: every word is right\n")
    assert run.statistics["pageouts"] > 300


def test_the_paging_benchmark_refers_to_pages_at_random_and_verifies_each() -> None:
    """The program of table 7-1: as benchmarks/paper_machine.py has it in Python."""
    run = run_program("paging.aout", "2048", "random", "300", "7", memory=MIB, inspect=nothing_is_left)
    assert run.text.endswith("(paging) 300 references verified: every word is right\n"), run.text
    assert run.statistics["pageouts"] > 256
    assert run.statistics["pageins"] > 100


def test_the_default_pager_may_be_inside_the_kernel() -> None:
    inside = run_program("paging.aout", "1200", "1", memory=MIB, pager="kernel")
    outside = run_program("paging.aout", "1200", "1", memory=MIB, pager="task")
    assert inside.text == outside.text
    assert not inside.halted.failed
    assert inside.statistics["pageouts"] > 100


def test_two_tasks_share_memory_that_is_paged() -> None:
    """mach.md 8.36: writes of one task are seen by the other after eviction; then the object's space is free again."""
    run = run_program("shared.aout", "1024", "1", memory=MIB, inspect=nothing_is_left)
    assert not run.halted.failed, run.text
    assert "(shared.2) 1 rounds verified\n" in run.text
    assert run.statistics["pageouts"] > 100


def test_a_memory_manager_is_a_program_like_any_other() -> None:
    run = run_program("extpager.aout", "600", "2", memory=MIB, inspect=nothing_is_left)
    assert not run.halted.failed, run.text
    assert "(extpager.user) 150 pages of the object verified, 2 times\n" in run.text
    asked, returned = (int(word) for word in run.text.splitlines()[-1].replace(",", "").split() if word.isdecimal())
    assert asked > 150, "some pages were asked for again"
    assert returned > 150


def test_a_tree_of_copies_keeps_everybodys_words_apart() -> None:
    """mach.md 8.41: child content is the old value, at each level of the shadow chain."""
    run = run_program("forktree.aout", "2", "256", memory=MIB, inspect=nothing_is_left)
    assert not run.halted.failed, run.text
    assert run.text == "(forktree) 6 tasks below me, each with its own copy of 256 KB: all verified\n"
    assert run.statistics["cow_faults"] > 6 * 64
    assert run.statistics["pageouts"] > 0


def test_threads_that_spin_are_interrupted() -> None:
    """Several threads of one task, under a lock that is held across a switch: a slice's end lets its holder run."""
    run = run_program("threads.aout", "3", "256")
    assert run.text == "(threads) 3 threads counted to 768 together\n"
    assert run.seconds > 0.02, "at least one slice was spun away"


def test_startup_off_a_disk_starts_the_others(tmp_path: Path) -> None:
    """The whole of it: boot file, bootstrap service, first server, and what it starts, out of one disk."""
    names = ("startup", "hello", "paging", "shared", "extpager", "forktree")
    files = {name: (SERVERS / f"{name}.aout").read_bytes() for name in names}
    files["startup.conf"] = (
        b"# what startup starts\nhello one two\n&paging 1024 1\n&shared 256 1\nextpager 128 1\nforktree 2 64\n"
    )
    halted, text = boot({"hd0": (device := disk(tmp_path, files)), "hd0a": device}, memory=3 * MIB)
    assert not halted.failed, text
    said = text.splitlines()
    assert "(startup) the first server, from /dev/hd0a/mach_servers" in said
    assert "(hello) argument 2 is two" in said
    for end in (
        "(paging) 256 pages verified: every word is right",
        "(shared.2) 1 rounds verified",
        "(forktree) 6 tasks below me, each with its own copy of 64 KB: all verified",
        "(startup) every program has ended",
    ):
        assert end in said, text
    assert said[-1].endswith("every program has ended")


def test_startup_out_of_a_folder(tmp_path: Path) -> None:
    for name in ("startup.aout", "hello.aout"):
        (tmp_path / name).write_bytes((SERVERS / name).read_bytes())
    (tmp_path / "startup.conf").write_text("hello there\n&hello")
    run = run_program("startup.aout", folder=tmp_path)
    assert "(hello) argument 1 is there\n(startup) starting hello\n" in run.text
    assert run.text.endswith("(startup) every program has ended\n")


def test_a_missing_program_is_startups_to_tell(tmp_path: Path) -> None:
    files = {"startup": (SERVERS / "startup.aout").read_bytes(), "startup.conf": b"nothing\n"}
    halted, text = boot({"hd0": (device := disk(tmp_path, files)), "hd0a": device}, memory=3 * MIB, check=False)
    assert "(startup) nothing: 5001\n" in text
    assert halted.failed
    assert "EXC_BREAKPOINT" in halted.words


# -- code made by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (INT3, "EXC_BREAKPOINT: breakpoint"),
        (b"\x0f\x0b", "EXC_BAD_INSTRUCTION: invalid instruction"),
        (b"\x31\xd2\xf7\xf2", "EXC_ARITHMETIC: division by zero"),
        (b"\xfa", "EXC_BAD_INSTRUCTION: general protection"),
        (bytes.fromhex("a100000000"), "EXC_BAD_ACCESS: code reads the page at 0x0 (KERN_INVALID_ADDRESS)"),
        (bytes.fromhex("a300000100"), "EXC_BAD_ACCESS: code writes to the page at 0x10000 (KERN_PROTECTION_FAILURE)"),
        (bytes.fromhex("b8ffffff7f9a000000000700"), "EXC_BAD_INSTRUCTION: there is no trap 2147483647"),
        (bytes.fromhex("b89cffffff9a000000000700"), "EXC_BAD_INSTRUCTION: there is no trap -100"),
        (bytes.fromhex("b8e7ffffffbc000100009a000000000700"), "EXC_BAD_ACCESS"),  # no stack
    ],
)
def test_a_program_that_does_wrong_dies_of_its_exception(tmp_path: Path, code: bytes, words: str) -> None:
    """The machine goes on: it is checked afterwards (P7)."""
    run = run_code(tmp_path, code.ljust(PAGE, b"\x90"))
    assert run.halted.failed
    assert words in run.halted.words


def test_a_loop_takes_time_on_the_machines_clock(tmp_path: Path) -> None:
    """So that a program that looks for something again and again lets others go on."""
    run = run_code(tmp_path, bytes.fromhex("b9000000014975fd") + EXIT)  # ecx = 2 ** 24, down to 0
    assert not run.halted.failed
    assert run.seconds > 1.0


STORE, CHECK = "store", "check"
PAGES = 96
BASE = 0x400000
DRAW = st.tuples(st.integers(0, PAGES - 1), st.integers(0, 1021), st.integers(0, 2**32 - 1))


def _assemble(steps: list[tuple[str, int, int]]) -> bytes:
    """Stores of words, and comparisons that end in int3; the code is paged as its data is."""
    parts = []
    for kind, address, word in steps:
        if kind == STORE:
            parts.append(b"\xc7\x05" + struct.pack("<II", address, word))
        else:
            parts.append(b"\x81\x3d" + struct.pack("<II", address, word) + b"\x74\x01" + INT3)
    return b"".join(parts)


ALLOCATE = (  # vm_allocate(mach_task_self(), &BASE, PAGES * PAGE, FALSE), the address in a word on the stack
    bytes.fromhex("68") + struct.pack("<I", BASE) + bytes.fromhex("89e1b8e4ffffff9a000000000700")
    + bytes.fromhex("6a0068") + struct.pack("<I", PAGES * PAGE) + bytes.fromhex("515050b8bfffffff9a000000000700")
)  # fmt: skip


@settings(
    max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(draws=st.lists(DRAW, min_size=1), seed=st.integers(0, 99))
def test_memory_as_a_program_sees_it_is_a_model_of_it(
    tmp_path: Path, draws: list[tuple[int, int, int]], seed: int
) -> None:
    """P2, by machine code: every page is written, some again, all are compared, with a third of the frames needed."""
    model: dict[int, int] = {}
    steps: list[tuple[str, int, int]] = []
    first = [(page, 512, page * 2654435761 % 2**32) for page in range(PAGES)]
    for page, word, value in [*first, *draws, *first[: len(draws)]]:
        address = BASE + page * PAGE + 4 * word
        if (old := model.get(address)) is not None:
            steps.append((CHECK, address, old))
        steps.append((STORE, address, value))
        model[address] = value
    steps += [(CHECK, address, value) for address, value in model.items()]
    run = run_code(tmp_path, ALLOCATE + _assemble(steps) + EXIT, memory=64 * PAGE + 60 * PAGE, seed=seed)
    assert not run.halted.failed, run.halted.words
    assert run.statistics["pageouts"] > 0
