"""The command machsim, in one process and against a running pagerd, and a debugger that looks at it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kernel.client import KernelClient, KernelUnavailable
from kernel.machsim import main
from kernel.workload import Pattern
from mach.kern_return import KernReturn, MachError

BIN = Path(sys.executable).parent
PAGE = 4096
SECONDS = 60


def machsim(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", *arguments])


@contextmanager
def process(*command: str | Path, ready: str) -> Iterator[subprocess.Popen[str]]:
    """A command of ours, from when it has printed a line with `ready`; killed at the end."""
    arguments = [str(BIN / command[0]), *map(str, command[1:])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            while ready and ready not in (line := child.stdout.readline()):
                assert line, child.communicate()[1]
            yield child
        finally:
            child.kill()


@contextmanager
def pagerd(directory: Path, paging_size: str = "6M") -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A pager on a disk of its own, and the path of its socket."""
    image, socket = directory / "disk.img", directory / "pager"
    make = [str(BIN / "mkpagingfile"), str(image), "--size", "16M", "--paging-size", paging_size]
    subprocess.run(make, check=True, capture_output=True, timeout=SECONDS)
    with process("pagerd", image, "--socket", socket, "--no-wire", ready="ready") as daemon:
        yield socket, daemon


def one_line(result: Result, words: str) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert words in result.stderr


def test_a_machine_in_one_process_verifies_every_byte() -> None:
    result = machsim("--memory", "512K", "--virtual", "2M")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("verified: 512 pages (2 MiB) of 2 tasks on 128 frames (0.5 MiB), seed 0")
    assert "simulated seconds" in result.output


def test_its_facts_are_a_function_of_the_seed() -> None:
    def facts(seed: int) -> dict[str, object]:
        result = machsim("--in-process", "--memory", "256K", "--virtual", "1MiB", "--seed", str(seed), "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)  # type: ignore[no-any-return]

    first = facts(3)
    assert first == facts(3) != facts(4)
    assert first["verified"] is True
    assert (first["pages"], first["verified_pages"], first["page_size"]) == (256, 256, PAGE)


def test_the_pager_is_a_task_or_inside_the_kernel_by_one_switch_with_the_same_results() -> None:
    """The paper's out-of-kernel pager and MK63's: the same code, the same bytes."""
    found = {}
    for pager in ("task", "kernel"):
        arguments = ("--pager", pager, "--memory", "512K", "--virtual", "1M", "--seed", "5", "--json")
        result = machsim(*arguments)
        assert result.exit_code == 0, result.output
        found[pager] = json.loads(result.output)
        assert found[pager]["pager"] == pager
    same = ("verified", "verified_pages", "pages", "page_size")
    assert [found["task"][name] for name in same] == [found["kernel"][name] for name in same]
    assert found["task"]["tasks"] == found["kernel"]["tasks"] == 2
    wired = {pager: found[pager]["statistics"]["wire_count"] for pager in found}
    assert wired["kernel"] == 0
    assert wired["task"] >= 12, "the pager's own memory is memory of the machine (paper, table 7-3)"
    assert all(found[pager]["statistics"]["pageouts"] for pager in found)


@pytest.mark.parametrize("arguments", [("--pager", "process"), ("--pager", "task", "--socket", "/nowhere")])
def test_where_the_pager_runs_must_fit_how_it_is_reached(arguments: tuple[str, ...]) -> None:
    assert machsim(*arguments).exit_code == 2


def test_too_little_memory_is_refused_in_one_line() -> None:
    one_line(machsim("--memory", "252K"), "a machine needs at least 262144")


def test_a_pager_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    one_line(machsim("--socket", str(tmp_path / "none")), "start it with: pagerd IMAGE --socket")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--in-process", "--socket", "x"),
        ("--hold",),
        ("--kernel-socket", "x"),
        ("--memory", "lots"),
        ("--virtual", "0"),
        ("--tasks", "0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert machsim(*arguments).exit_code == 2


def test_every_help_has_an_example() -> None:
    for arguments in (["--help"], ["run", "--help"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert "Example: " in result.output


def test_a_machine_pages_against_pagerd_and_shows_its_memory(tmp_path: Path) -> None:
    kernel_socket = tmp_path / "kernel"
    options = ("--memory", "512K", "--virtual", "3M", "--seed", "5", "--kernel-socket", kernel_socket, "--hold")
    with (
        pagerd(tmp_path) as (socket, _),
        process("machsim", "run", "--socket", socket, *options, ready="verified; holding: kill -TERM") as machine,
    ):
        client = KernelClient(str(kernel_socket))
        page_size, statistics = client.vm_statistics()
        assert page_size == PAGE
        assert statistics["pageouts"] > 384 > 128 == statistics["memory_count"]
        assert [task.name for task in client.tasks()] == ["workload 1", "workload 2"]
        while client.vm_statistics()[1]["laundry_count"]:  # the pager may still be writing the last
            time.sleep(0.01)
        numbers = [region.object_id for task in client.tasks() for region in client.regions(task.task_id)]
        before = (client.queues(), client.objects(), [client.object_pages(number) for number in numbers])
        for task in client.tasks():
            [region] = client.regions(task.task_id)
            expected = b"".join(Pattern(5, PAGE).final(task.task_id, 384))
            assert client.read_task(task.task_id, region.start, region.end - region.start + 1) == expected
            assert client.read_object(region.object_id, 0, 384 * PAGE + 1) == expected
        assert before == (client.queues(), client.objects(), [client.object_pages(number) for number in numbers])
        with pytest.raises(MachError) as refused:
            client.read_object(77, 0, 1)
        assert refused.value.code == KernReturn.KERN_INVALID_ARGUMENT
        machine.send_signal(signal.SIGTERM)
        assert machine.wait(SECONDS) == 0
        with pytest.raises(KernelUnavailable, match="has gone"):
            client.tasks()
        client.close()
        assert not kernel_socket.exists()


def test_a_pager_that_dies_in_the_middle_is_told_in_one_line(tmp_path: Path) -> None:
    from pager.client import PagerClient

    with (
        pagerd(tmp_path) as (socket, daemon),
        process("machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", "6M", ready="") as machine,
    ):
        client = PagerClient(str(socket))
        while client.statistics()["pageouts"] < 100:
            assert machine.poll() is None
        daemon.kill()
        output, errors = machine.communicate(timeout=SECONDS)
        client.close()
        assert machine.returncode == 1
        assert output == ""
        assert len(errors.strip().splitlines()) == 1, errors
        assert errors.startswith("Error: the default pager died: task workload")


def test_too_little_paging_space_is_told_and_the_pager_goes_on(tmp_path: Path) -> None:
    def machine(socket: Path, virtual: str) -> subprocess.CompletedProcess[str]:
        command = [BIN / "machsim", "run", "--socket", socket, "--memory", "256K", "--virtual", virtual]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS)

    with pagerd(tmp_path, paging_size="1M") as (socket, daemon):
        for virtual, words in (
            ("4M", "the pager has 1 MiB free"),
            ("1216K", "the pager had only 1 MiB of paging space"),
        ):
            done = machine(socket, virtual)
            assert done.returncode == 1
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
            assert words in done.stderr
        done = machine(socket, "512K")
        assert done.returncode == 0, done.stderr
        assert daemon.poll() is None


def test_nobody_serves_where_a_debugger_looks(tmp_path: Path) -> None:
    with pytest.raises(KernelUnavailable, match="machsim run --kernel-socket"):
        KernelClient(str(tmp_path / "none"))
