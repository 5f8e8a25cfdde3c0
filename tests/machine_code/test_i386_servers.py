"""The executables of fixtures/servers: those that are kept are what their sources make; and over a socket."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from daemons import pagerd, refused, run
from programs import SERVERS

from fixtures.servers.build import KEPT_BY, PROGRAMS, CompilerMissing, build, compiler
from kernel.i386.cpu import Cpu, NoEmulator
from mach.aout import Executable, Magic, Symbol, SymbolType, loader_info, make_executable


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_executable_that_is_kept_is_what_its_sources_make(program: str, tmp_path: Path) -> None:
    kept_by = KEPT_BY.read_text().strip()
    if compiler() != kept_by:
        pytest.skip(f"another compiler made those that are kept: {kept_by.splitlines()[0]}")
    try:
        assert build(program, tmp_path) == (SERVERS / f"{program}.aout").read_bytes(), "make servers"
    except CompilerMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_executable_is_small_and_as_machs_linker_left_them(program: str) -> None:
    content = (SERVERS / f"{program}.aout").read_bytes()
    assert len(content) < 30_000
    executable = Executable.parse(content, program)
    info = executable.info
    assert int.from_bytes(content[:2], "little") == Magic.ZMAGIC
    assert (info.text_start, info.text_offset) == (0x10000, 0)
    assert (info.text_start + info.text_size) % 4096 == 0, "all of its text can be protected"
    assert "_main" in {symbol.name for symbol in executable.symbols()}


# -- machsim exec ------------------------------------------------------------------------------------------------------


def test_the_console_says_the_same_wherever_the_default_pager_is(tmp_path: Path) -> None:
    """A task of the machine, inside its kernel, another process."""
    program = ("machsim", "exec", "--memory", "1M")
    paging = (SERVERS / "paging.aout", "1200", "1")
    image, socket = tmp_path / "disk.img", tmp_path / "p.sock"
    run("mkpagingfile", image, "--size", "16M", "--paging-size", "8M")
    said = [run(*program, "--pager", pager, *paging).stdout for pager in ("task", "kernel")]
    with pagerd(image, socket):
        done = run(*program, "--socket", socket, "--json", *paging)
        tree = run(*program, "--socket", socket, SERVERS / "forktree.aout", "1", "512").stdout
    *console, facts = done.stdout.splitlines(keepends=True)
    assert said[0] == said[1] == "".join(console)
    assert "300 pages verified" in said[0]
    assert json.loads(facts)["simulated"] is False
    assert json.loads(facts)["statistics"]["pageouts"] > 100
    assert tree == "(forktree) 2 tasks below me, each with its own copy of 512 KB: all verified\n"


def test_the_facts_are_a_function_of_the_seed() -> None:
    command = ("machsim", "exec", "--memory", "1M", "--seed", "7", "--json", SERVERS / "shared.aout", "256", "1")
    assert run(*command).stdout == run(*command).stdout


def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path) -> None:
    refused("machsim", "exec", tmp_path / "nothing.aout", words="not a file")
    (tmp_path / "text").write_text("This is no executable, though it is long enough to have a header.")
    refused("machsim", "exec", tmp_path / "text", words="magic")
    (tmp_path / "short.aout").write_bytes((SERVERS / "hello.aout").read_bytes()[:2000])
    refused("machsim", "exec", tmp_path / "short.aout", words="cut short")
    (tmp_path / "empty").write_bytes(b"")
    refused("machsim", "exec", tmp_path / "empty", words="cut short")


def test_a_program_that_fails_is_told_and_is_exit_1(tmp_path: Path) -> None:
    (tmp_path / "bad.aout").write_bytes(make_executable(Magic.ZMAGIC, b"\xcc\x90\x90\x90"))
    refused("machsim", "exec", tmp_path / "bad.aout", words="bad has died of EXC_BREAKPOINT: breakpoint")


LOADS_FROM_NOWHERE = b"\x90\x90\xa1\x00\x00\x00\x30\x90"  # nop; nop; movl 0x30000000, %eax
ENTRY = 0x10020  # text begins with the header


def test_where_a_program_failed_is_said_by_the_symbols_that_its_loader_gave(tmp_path: Path) -> None:
    """mach.md 1.3: host_load_symbol_table, and what the kernel's debugger makes of it."""
    symbols = [Symbol("_start", ENTRY), Symbol("_load", ENTRY + 1), Symbol("_data", ENTRY + 2, SymbolType.DATA)]
    program = make_executable(Magic.ZMAGIC, LOADS_FROM_NOWHERE, symbols=symbols)
    (tmp_path / "lost.aout").write_bytes(program)
    refused("machsim", "exec", tmp_path / "lost.aout", words=f"in _load+0x1 ({ENTRY + 2:#x})")


def test_a_program_whose_symbols_are_cut_off_runs_all_the_same(tmp_path: Path) -> None:
    content = (SERVERS / "hello.aout").read_bytes()
    (tmp_path / "hello.aout").write_bytes(content[: loader_info(content).sym_offset + 40])
    assert "[ no symbols of hello: hello.aout is cut short ]" in run("machsim", "exec", tmp_path / "hello.aout").stdout


def test_a_fault_of_a_program_is_told_from_its_instruction_to_the_disk_and_back(tmp_path: Path) -> None:
    trace = tmp_path / "run.trace"
    run("machsim", "exec", "--memory", "1M", "--trace", trace, SERVERS / "paging.aout", "900", "1")
    story = run("machsim", "explain", trace, "--fault", "300").stdout
    assert story.split("0x")[0].split()[-3:] == ["paging", "loads", "from"]
    assert "memory_object_data_request" in story
    assert story.rstrip().endswith("is done again, and succeeds")


def test_without_the_emulator_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(NoEmulator, match=r"pip install 'mach-default-pager\[cpu\]'"):
        Cpu(memoryview(bytearray(1 << 16)), 4096)
