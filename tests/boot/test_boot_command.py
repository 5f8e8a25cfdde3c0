"""`machsim boot` and `machsim images`, as a person or a script meets them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daemons import BIN, SECONDS, run

from mach.aout import Executable
from mach.boot_image import dissect
from mach.trace_file import read_trace

ARGUMENTS = ("mach.boot", "--disk", "disk.img", "--memory", "3M")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A boot file and a disk, as the tour makes them."""
    folder = tmp_path_factory.mktemp("boot")
    run("machsim", "images", folder / "boot")
    run("makeboot", "-o", folder / "mach.boot", folder / "boot/mach_kernel", folder / "boot/bootstrap")
    size = ("--size", "8M", "--paging-size", "4M", "--from", folder / "boot/tree")
    run("mkpagingfile", folder / "disk.img", *size)
    return folder


def boot(made: Path, *arguments: str, answers: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [BIN / "machsim", "boot", *arguments]
    done = subprocess.run(command, cwd=made, input=answers, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@dataclass(frozen=True)
class Booted:
    """One boot of the made disk, for all who only look at it."""

    console: list[str]
    facts: dict[str, Any]
    before: dict[str, Any]  # the disk's manifest
    after: dict[str, Any]


@pytest.fixture(scope="module")
def booted(made: Path) -> Booted:
    def manifest() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("bootfs", "manifest", made / "disk.img", "--json").stdout)
        return found

    before = manifest()
    *console, facts = boot(made, *ARGUMENTS, "--json").stdout.splitlines()
    return Booted(console, json.loads(facts), before, manifest())


def test_a_machine_boots_pages_and_halts_and_says_so_in_json(booted: Booted) -> None:
    """mach.md 1 as a whole: as much as all memory is written, paged out, and verified."""
    facts = booted.facts
    assert any("pages verified: every byte is right" in line for line in booted.console)
    assert (facts["failed"], facts["halted"]) == (False, "every program has ended")
    assert facts["statistics"]["pageouts"] > 0
    assert facts["statistics"]["pageins"] > 0


def test_a_boot_is_drawn_with_the_addresses_that_the_console_says(made: Path, tmp_path: Path) -> None:
    console = boot(made, *ARGUMENTS, "--svg", str(tmp_path / "boot.svg")).stdout
    picture = (tmp_path / "boot.svg").read_text()
    symbols, image = re.findall(r"moved to (0x[0-9a-f]+)", console)
    assert f"{symbols} kernel symbols" in picture
    assert f"{image} bootstrap text" in picture
    refused = boot(made, *ARGUMENTS, "--svg", str(tmp_path / "nowhere" / "boot.svg"), status=1)
    assert refused.stderr == f"Error: cannot write {tmp_path}/nowhere/boot.svg: no such file or directory\n"


def test_a_boot_changes_nothing_of_the_disk_but_the_paging_file(made: Path, booted: Booted) -> None:
    """P1."""
    changed = {path for path in booted.before if booted.before[path] != booted.after[path]}
    assert booted.before.keys() == booted.after.keys()
    assert changed == {"/mach_servers/paging_file"}
    run("ffscheck", made / "disk.img")


def test_a_boot_is_a_function_of_the_seed(made: Path, booted: Booted) -> None:
    again = boot(made, *ARGUMENTS, "--json", "--seed", "0").stdout.splitlines()
    assert json.loads(again[-1]) == booted.facts
    assert again[:-1] == booted.console


def test_answers_come_from_standard_input(made: Path) -> None:
    console = boot(made, *ARGUMENTS, "--flags", "-q", answers="/dev/hd0a\n/nosuch\n", status=1).stdout
    assert "Server directory? [ /dev/hd0a/mach_servers ] /dev/hd0a\n/dev/hd0a is not a directory" in console
    assert "Server directory? [ /dev/hd0a/mach_servers ] /nosuch\n" in console
    assert "nobody answers at the console" in console


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch", "--disk", "disk.img"], "nosuch: no such file or directory"),
        (["mach.boot", "--disk", "nosuch"], "nosuch: cannot be opened"),
        (["disk.img", "--disk", "disk.img"], "disk.img: not a boot file"),
        (["cut", "--disk", "disk.img"], "cut: cut short: its header promises"),
        (["mach.boot", "--disk", "disk.img", "--memory", "256K"], "mach.boot: "),
        (["mach.boot", "--disk", "disk.img", "--memory", "16K"], "too few"),
        (["boot/mach_kernel", "--disk", "disk.img"], "there is no bootstrap task"),
        (["mach.boot", "--disk", "disk.img", "--root", "hd7"], "nobody answers at the console"),
    ],
)
def test_what_cannot_be_is_one_line(made: Path, arguments: list[str], words: str) -> None:
    (made / "cut").write_bytes((made / "mach.boot").read_bytes()[:-1])
    (line,) = boot(made, *arguments, status=1).stderr.splitlines()
    assert words in line


@pytest.mark.parametrize("arguments", [[], ["mach.boot"], ["mach.boot", "--disk", "d", "--flags", "-z"]])
def test_wrong_usage_exits_2(made: Path, arguments: list[str]) -> None:
    boot(made, *arguments, status=2)


def test_the_images_are_executables_with_the_code_that_they_stand_for(made: Path) -> None:
    for name, function in (("mach_kernel", "_Host.task_create"), ("bootstrap", "_DefaultPager.memory_object_create")):
        executable = Executable.parse((made / "boot" / name).read_bytes(), name)
        assert function in {symbol.name for symbol in executable.symbols()}
        sizes = executable.sizes()
        assert sizes.text > 100_000
        assert sizes.symbols > 10_000
    image = dissect((made / "mach.boot").read_bytes())
    assert image.kernel_symbols
    assert image.load_info.sym_size


def test_a_directory_that_cannot_be_written_is_one_line(made: Path) -> None:
    done = run("machsim", "images", made / "disk.img" / "x", check=1)
    assert len(done.stderr.splitlines()) == 1


def test_the_console_is_the_same_with_the_pager_in_a_process_of_its_own(made: Path, booted: Booted) -> None:
    """Paper §5, §8: the bootstrap task finds the file, and gives the pager's process its blocks and nothing else."""
    *console, last = boot(made, *ARGUMENTS, "--pager", "process").stdout.splitlines()
    assert console == booted.console
    assert last.startswith("machsim: ")
    run("ffscheck", made / "disk.img")


def test_the_pagers_process_is_told_of_a_file_that_is_unfit_as_the_task_is(made: Path) -> None:
    arguments = ("mach.boot", "--disk", "elsewhere.img", "--memory", "3M")
    size = ("--size", "8M", "--paging-size", "64K", "--path", "/elsewhere", "--from", made / "boot/tree")
    run("mkpagingfile", made / "elsewhere.img", *size)
    answers = "/dev/hd0a/mach_servers\n/dev/hd0a/elsewhere\n"
    task = boot(made, *arguments, answers=answers).stdout.splitlines()
    process = boot(made, *arguments, "--pager", "process", answers=answers).stdout.splitlines()
    assert task[:-1] == process[:-1]
    assert "(default pager) paging on /dev/hd0a/elsewhere: 64 KB in 1 run" in task


def test_a_boot_can_be_traced(made: Path) -> None:
    boot(made, *ARGUMENTS, "--root", "hd7", "--trace", "boot.trace", status=1)
    kinds = {event.kind for event in read_trace([str(made / "boot.trace")]).events}
    assert {"machine", "fault", "wait"} <= kinds


def test_a_pager_process_that_dies_is_told_and_not_waited_for(made: Path) -> None:
    """P5: the fault on a page that only the dead pager had is an error, which stops this machine."""
    command = [BIN / "machsim", "boot", "mach.boot", "--disk", "disk.img", "--memory", "3M", "--pager", "process"]
    with subprocess.Popen(command, cwd=made, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as machine:
        assert machine.stdout is not None
        assert any("writing" in line for line in machine.stdout)
        (pager,) = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()
        os.kill(int(pager), signal.SIGKILL)
        _, errors = machine.communicate(timeout=SECONDS)
    assert machine.returncode == 1
    assert errors.splitlines()[-1].endswith("the process of the default pager has died")
    assert "Traceback" not in errors
