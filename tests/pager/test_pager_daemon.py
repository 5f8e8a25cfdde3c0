"""The daemon as those who run it see it: logs, signals, metrics, figures, readiness, its death and its successor."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemons import end, pagerd, refused, run, started

from mach.kern_return import MachError
from pager.client import PagerClient, PagerUnavailable
from pager.metrics import BOUNDS_US, Histogram, merged, quantile
from pager.paged_memory import PagedMemory
from pager.prometheus import metrics_text

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ("--memory", "256K", "--virtual", "1M", "--tasks", "1")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    run("mkpagingfile", tmp_path / "disk.img", "--size", "8M", "--paging-size", "2M")
    return tmp_path / "disk.img"


def events(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_is_for_people_or_one_json_object_a_line(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    for form in ("text", "json"):
        with pagerd(disk, path, "--log", form) as process:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as noise:
                noise.connect(str(path))
                noise.send(b"noise")
                assert noise.recv(1) == b"", "disconnected"
            assert end(process) == 0
            _, stderr = process.communicate()
        if form == "text":
            assert stderr.startswith("pagerd: a client is disconnected: ")
            continue
        (record,) = events(stderr)
        assert record["event"] == "client_disconnected"
        assert record["message"].startswith("a client is disconnected: ")
        assert record["time"] > 1_700_000_000


def test_space_brought_to_a_pager_that_has_none_is_told_in_sentences_that_are_right(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with started("pagerd", "--socket", path, "--no-wire", ready="0 MiB in 0 partitions") as process:
        run("pagerctl", "--socket", path, "add", disk)
        assert end(process) == 0
        _, stderr = process.communicate()
    assert stderr == f"pagerd: paging on {disk}:/mach_servers/paging_file: {2 << 20} bytes more\n"


@pytest.mark.parametrize(("option", "value"), [("--page-size", "1000"), ("--page-size", "256"), ("--threads", "65")])
def test_a_size_or_number_that_cannot_be_is_a_usage_error(tmp_path: Path, option: str, value: str) -> None:
    refused("pagerd", "--socket", tmp_path / "s", option, value, words=f"Invalid value for '{option}'", status=2)


def test_a_removal_is_logged_with_its_facts(disk: Path, tmp_path: Path) -> None:
    path, more = tmp_path / "s", tmp_path / "more.img"
    run("mkpagingfile", more, "--size", "8M", "--paging-size", "2M")
    with pagerd(disk, path, "--log", "json") as process:
        run("pagerctl", "--socket", path, "add", more)
        run("pagerctl", "--socket", path, "remove", disk)
        assert end(process) == 0
        _, stderr = process.communicate()
    added, removed = events(stderr)
    assert (added["event"], added["bytes"]) == ("storage_added", 2 << 20)
    assert (removed["event"], removed["pages"], removed["partition"]) == (
        "storage_removed",
        0,
        f"{disk}:/mach_servers/paging_file",
    )


def test_sigusr1_says_what_each_thread_waits_for_and_nothing_else_happens(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pagerd(disk, path, "--threads", "2") as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(5)]
        named = {name: line for line in lines for name in ("pager 0", "pager 1", "pager for calls") if name in line}
        assert len(named) == 3
        assert any("waits for a message at temporary objects" in line for line in lines)
        run("machsim", "run", "--socket", path, *MACHINE)
        assert end(process) == 0


# -- figures -----------------------------------------------------------------------------------------------------------


def test_a_histogram_gives_the_bounds_that_its_quantiles_lie_in() -> None:
    one, other = Histogram(), Histogram()
    for microseconds in (0.5, 1, 3, 3, 3, 100):
        one.add(microseconds / 1e6)
    other.add(100.0)  # longer than any bucket: in the last
    both = merged([one, other])
    assert both.count == 7
    assert [quantile(both.counts, part) for part in (0.1, 0.5, 0.8, 1)] == [1, 4, 128, BOUNDS_US[-1]]
    assert quantile(Histogram().counts, 0.5) == 0
    assert both.seconds == pytest.approx(100.0001105)


def test_what_stats_counts_is_what_was_sent(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pagerd(disk, path), PagerClient(str(path)) as client, PagedMemory(client, 1 << 20) as memory:
        for page in range(20):
            memory.write(page * 4096, bytes([page]) * 4096)
        for page in range(10):
            assert memory.read(page * 4096, 4096) == bytes([page]) * 4096
        facts = json.loads(run("pagerctl", "--socket", path, "stats", "--json").stdout)
        assert facts["latencies"]["MemoryObjectDataWrite"]["count"] == facts["pageouts"] == 20
        assert facts["latencies"]["MemoryObjectDataRequest"]["count"] == facts["pageins"] == 10
        assert 0 < facts["latencies"]["MemoryObjectDataWrite"]["p50_us"] <= BOUNDS_US[-1]
        shown = run("pagerctl", "--socket", path, "top", "-n", "2", "-d", "0.1").stdout
        assert shown.count("512 of 512 KiB free") + shown.count("KiB free, 1 objects") >= 2
        assert "MemoryObjectDataWrite" in shown


def test_prometheus_reads_the_figures(disk: Path, tmp_path: Path) -> None:
    path, metrics = tmp_path / "s", tmp_path / "metrics"
    with pagerd(disk, path, "--metrics", str(metrics)) as process:
        with PagerClient(str(path)) as client, PagedMemory(client, 1 << 20) as memory:
            memory.write(0, bytes(3 * 4096))
            memory.read(0, 4096)
            body = _get(str(metrics))
        samples = dict(line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
        assert samples["default_pager_pageouts_total"] == "3"
        assert samples["default_pager_clients"] == "1"
        assert (
            samples[f'default_pager_partition_pages{{partition="{disk}:/mach_servers/paging_file",state="used"}}']
            == "3"
        )
        name = 'default_pager_message_seconds_bucket{message="MemoryObjectDataWrite",le="+Inf"}'
        assert samples[name] == "1"
        assert re.search(r"^# TYPE default_pager_message_seconds histogram$", body, re.MULTILINE)
        assert all(re.fullmatch(r"[a-z_]+(\{.*\})? [0-9.e+]+", line) for line in body.splitlines() if line[0] != "#")
        assert end(process) == 0
    assert not metrics.exists()
    refused("pagerd", disk, "--socket", path, "--metrics", "/proc/nothing", words="cannot serve metrics")


def _get(path: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head
    return body.decode()


def test_the_page_of_metrics_counts_cumulatively() -> None:
    from mach.ports import Ipc
    from mach.threads import NativeRuntime
    from pager.default_pager import DefaultPager

    runtime = NativeRuntime()
    pager = DefaultPager(runtime, Ipc(runtime))
    histogram = Histogram()
    for microseconds in (1, 5, 5, 1e9):
        histogram.add(microseconds / 1e6)
    pager.latencies = lambda: {"M": histogram}  # type: ignore[method-assign]
    counts = [
        int(line.rsplit(" ", 1)[1])
        for line in metrics_text(pager).splitlines()
        if line.startswith("default_pager_message_seconds_bucket")
    ]
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (0, 3, 4)


def test_the_account_of_wired_memory_adds_up(disk: Path, tmp_path: Path) -> None:
    """Table 7-3; and what the system did not grant is said, not hidden."""
    path = tmp_path / "s"
    with started("pagerd", disk, "--socket", path, ready="ready at"):
        facts = json.loads(run("pagerctl", "--socket", path, "wired", "--json").stdout)
        measures = {one["name"]: one for one in facts["measures"]}
        assert {"memory locked", "I/O flusher", "spared by the OOM killer", "buffers reserved"} <= set(measures)
        memory = {part["name"]: part for part in facts["memory"]}
        private = memory["objects, tables, threads' stacks, buffers"]
        if measures["memory locked"]["granted"]:
            assert private["locked"] > 0.95 * private["resident"] > 4 << 20, "with the buffers"
        else:
            assert private["locked"] == 0
        assert "text" in memory
        assert "total" in run("pagerctl", "--socket", path, "wired").stdout


# -- life and death ----------------------------------------------------------------------------------------------------


def test_systemd_is_told_that_it_is_ready_and_that_it_stops(disk: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(60)
        program = Path(sys.executable).parent / "pagerd"
        command = [program, disk, "--socket", tmp_path / "s", "--no-wire"]
        with subprocess.Popen(
            command, env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}, stdout=subprocess.DEVNULL
        ) as process:
            assert notified.recv(100) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            assert notified.recv(100) == b"STOPPING=1"
            assert process.wait(60) == 0


def test_a_killed_pager_is_heard_of_at_once_and_its_successor_starts_on_the_same_disk(
    disk: Path, tmp_path: Path
) -> None:
    """P5: only temporary memory is lost, nobody waits for what will not come, and the disk is as it was."""
    path = tmp_path / "s"
    for round_number in range(3):
        with pagerd(disk, path) as process, PagerClient(str(path)) as client:
            memory = PagedMemory(client, 1 << 20)
            memory.write(0, bytes([round_number + 1]) * (1 << 20))
            assert memory.read(0, 4096) == bytes([round_number + 1]) * 4096
            assert end(process, signal.SIGKILL) == -signal.SIGKILL
            with pytest.raises(PagerUnavailable, match="has gone"):
                memory.read(0, 4096)
            memory.close()
        run("ffscheck", disk)
    with pagerd(disk, path), PagerClient(str(path)) as client, PagedMemory(client, 1 << 20) as memory:
        assert memory.read(0, 1 << 20) == bytes(1 << 20), "nothing of an earlier owner shows (P7)"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small file system")
def test_a_host_without_room_for_a_sparse_image_loses_pages_and_says_so(tmp_path: Path) -> None:
    """P3, P4: ENOSPC below us is a bad block; what could be stored is served, and the pager lives."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", small], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        image, path = small / "disk.img", tmp_path / "s"
        run("mkpagingfile", image, "--size", "8M", "--paging-size", "4M")
        with pagerd(image, path, "--log", "json") as process, PagerClient(str(path)) as client:
            with PagedMemory(client, 4 << 20) as memory:
                for page in range(600):
                    memory.write(page * 4096, bytes([page % 251 + 1]) * 4096)
                outcomes = [_page_or_error(memory, page) for page in range(600)]
                assert {"right", "error"} == set(outcomes)
                assert client.partitions()[0].bad > 0
                assert client.partitions()[0].bad_slots
            assert end(process) == 0
            _, stderr = process.communicate()
        assert "pages_lost" in [record["event"] for record in events(stderr)]
    finally:
        subprocess.run(["umount", small], check=True)


def _page_or_error(memory: PagedMemory, page: int) -> str:
    try:
        return "right" if memory.read(page * 4096, 4096) == bytes([page % 251 + 1]) * 4096 else "wrong"
    except MachError:
        return "error"


# -- the library, and its examples -------------------------------------------------------------------------------------


def test_a_shared_object_goes_from_one_client_to_another(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pagerd(disk, path), PagerClient(str(path)) as one, PagerClient(str(path)) as other:
        right = one.object_create(64 << 10)
        name = one.object_name(right)
        with PagedMemory(one, 64 << 10, right) as memory:
            memory.write(4096, b"x" * 8192)
            with pytest.raises(MachError, match="another kernel maps the object"):
                PagedMemory(other, 64 << 10, other.object_lookup(name))
        with PagedMemory(other, 64 << 10, other.object_lookup(name)) as memory:
            assert memory.read(0, 16384) == bytes(4096) + b"x" * 8192 + bytes(4096)
            with pytest.raises(MachError, match="not whole pages"):
                memory.read(1, 4096)
        one.object_set_size(right, 4096)
        with PagedMemory(one, 64 << 10, right) as memory, pytest.raises(MachError, match="lost"):
            memory.read(4096, 4096)
        with pytest.raises(MachError, match="KERN_INVALID_NAME"):
            other.object_lookup(bytes(28))


def example(name: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_the_examples_do_what_they_say(disk: Path, tmp_path: Path) -> None:
    path, more = tmp_path / "s", tmp_path / "more.img"
    run("mkpagingfile", more, "--size", "8M", "--paging-size", "2M")
    with pagerd(disk, path):
        with example("keep_space.py", path, 2_090_000, more) as keeper:
            with example("sieve.py", path, 40_000) as sieve:
                assert sieve.communicate(timeout=60)[0].startswith("4203 primes below 40000, in 10 pages")
            assert "added" in keeper.communicate(timeout=60)[0]
        assert len(json.loads(run("pagerctl", "--socket", path, "partitions", "--json").stdout)) == 2
