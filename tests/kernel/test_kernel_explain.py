"""`--trace` and `machsim explain`: a fault from the store to the disk block and back, the pager here or elsewhere."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from daemons import end, pagerd, refused, run

from kernel.tracing.chrome import chrome_events
from kernel.tracing.story import faults_of, story
from mach.trace_file import Trace, read_trace

PAGED_IN = ["fault", "page_alloc", "send", "receive", "slots_read", "device_read", "page_in", "enter", "fault_end"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of a machine whose pager is in the same process."""
    path = tmp_path_factory.mktemp("trace") / "run.trace"
    run("machsim", "run", "--memory", "512K", "--virtual", "1M", "--tasks", "1", "--trace", path)
    return path


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The traces of a machine and of the daemon that paged for it."""
    place = tmp_path_factory.mktemp("traces")
    run("mkpagingfile", place / "disk.img", "--size", "8M", "--paging-size", "4M")
    kernel, pager = place / "kernel.trace", place / "pager.trace.gz"
    with pagerd(place / "disk.img", place / "pager.sock", "--trace", str(pager)) as daemon:
        run(
            *("machsim", "run", "--socket", place / "pager.sock", "--memory", "512K", "--virtual", "1M"),
            *("--tasks", "1", "--trace", kernel),
        )
        assert end(daemon) == 0
    return kernel, pager


def check_every_paged_in_fault(trace: Trace) -> int:
    """Each has all of the way in its story; returns how many there are."""
    faults = [fault for fault in faults_of(trace) if fault.how == "paged in"]
    for fault in faults:
        kinds = [fault.event.kind, *(event.kind for event in trace.within(fault.event))]
        for kind in PAGED_IN:
            assert kind in kinds, f"fault {fault.number} without {kind}"
        messages = [event.values["message"] for event in trace.within(fault.event) if event.kind == "receive"]
        assert "MemoryObjectDataRequest" in messages
        read = next(event for event in trace.within(fault.event) if event.kind == "device_read")
        assert read.values["length"] == 4096
    return len(faults)


def test_every_page_in_is_told_from_the_store_to_the_disk_and_back(alone: Path) -> None:
    assert check_every_paged_in_fault(read_trace([str(alone)])) > 100


def test_a_story_goes_on_in_the_pager_when_its_trace_is_there_too(together: tuple[Path, Path]) -> None:
    trace = read_trace(map(str, together))
    assert check_every_paged_in_fault(trace) > 100
    machine_ended = max(event.time for event in trace.events if event.party == "machine")  # it may still send a little
    packets = [event for event in trace.of_kind("packet_in") if event.time < machine_ended]
    assert len(packets) > 100
    assert all(event.cause for event in packets), "a packet that nobody sent"
    fault = next(fault for fault in faults_of(trace) if fault.how == "paged in")
    assert {event.party for event in trace.within(fault.event)} == {"machine", "pager"}


def test_without_the_pagers_trace_its_part_is_missing_and_all_else_is_told(together: tuple[Path, Path]) -> None:
    trace = read_trace([str(together[0])])
    faults = faults_of(trace)
    assert len(faults) > 100
    assert not trace.of_kind("device_read")
    assert all(story(trace, fault)[-1].endswith("succeeds") for fault in faults)


def test_a_story_in_words(alone: Path) -> None:
    trace = read_trace([str(alone)])
    fault = next(fault for fault in faults_of(trace) if fault.how == "paged in")
    lines = run("machsim", "explain", alone, "--fault", str(fault.number)).stdout.splitlines()
    text = "\n".join(lines)
    read = next(event for event in trace.within(fault.event) if event.kind == "device_read")
    for words in (
        f"{fault.event.values['address']:#x}: no page may be used so, fault {fault.number}",
        "sends memory_object_data_request(",
        "receives memory_object_data_request,",
        f"reads 4096 bytes at byte {read.values['offset']} of the disk",
        "sends memory_object_data_supply(",
        "is done again, and succeeds",
    ):
        assert words in text
    assert lines[-1].endswith("succeeds")


def test_a_fault_is_drawn_with_its_messages(alone: Path, tmp_path: Path) -> None:
    trace = read_trace([str(alone)])
    fault = next(fault for fault in faults_of(trace) if fault.how == "paged in")
    run("machsim", "explain", alone, "--fault", str(fault.number), "--svg", tmp_path / "fault.svg")
    drawing = ElementTree.parse(tmp_path / "fault.svg").getroot()
    words = [text.text or "" for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    for wanted in ("memory_object_data_request", "memory_object_data_supply", "machine: workload 1", "goes on"):
        assert wanted in words
    refused("machsim", "explain", alone, "--svg", tmp_path / "x.svg", words="give --fault N", status=2)


def test_a_wait_for_memory_tells_the_pageout_that_ended_it(alone: Path) -> None:
    trace = read_trace([str(alone)])
    waited = [fault for fault in faults_of(trace) if any(why.startswith("a page of memory") for why in fault.waits)]
    assert waited, "no fault waited for memory: the machine of this test has too much"
    texts = ["\n".join(story(trace, fault)) for fault in waited]
    assert any("meanwhile:" in text and "memory_object_data_write(" in text for text in texts)


def test_the_summary_counts_what_the_machine_counted(alone: Path, tmp_path: Path) -> None:
    facts = json.loads(run("machsim", "explain", alone, "--json").stdout)
    again = tmp_path / "again.trace"
    machine = run("machsim", "run", "--memory", "512K", "--virtual", "1M", "--tasks", "1", "--trace", again, "--json")
    statistics = json.loads(machine.stdout)["statistics"]
    assert sum(row["count"] for row in facts["faults"].values()) == statistics["faults"]
    assert facts["kinds"]["zero_fill"] == statistics["zero_fill_count"]  # of faults, and of memory that is wired
    assert facts["kinds"]["page_out"] == statistics["pageouts"]
    assert json.loads(run("machsim", "explain", again, "--json").stdout) == facts, "the same seed, the same trace"


def test_the_export_keeps_to_chromes_format(together: tuple[Path, Path], tmp_path: Path) -> None:
    """The keys that the Trace Event Format asks for of each phase; flows in pairs; slices of a thread nest."""
    out = tmp_path / "chrome.json"
    run("machsim", "explain", *together, "--chrome", out)
    document = json.loads(out.read_text())
    events = document["traceEvents"]
    need = {
        "M": {"name", "pid", "args"},
        "X": {"name", "cat", "ts", "dur", "pid", "tid"},
        "B": {"name", "cat", "ts", "pid", "tid"},
        "i": {"name", "ts", "s", "pid", "tid"},
        "s": {"name", "cat", "id", "ts", "pid", "tid"},
        "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
        "C": {"name", "ts", "pid", "args"},
    }
    for event in events:
        assert need[event["ph"]] <= event.keys()
    starts = Counter(event["id"] for event in events if event["ph"] == "s")
    ends = Counter(event["id"] for event in events if event["ph"] == "f")
    assert starts == ends
    assert set(starts.values()) == {1}
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"machine", "pager", "workload 1", "pageout daemon"} <= names
    check_slices_nest(events)


def nanoseconds(microseconds: object) -> int:
    return round(float(str(microseconds)) * 1000)


def check_slices_nest(events: list[dict[str, object]]) -> None:
    """Perfetto drops a slice that overlaps another of its thread, and stacks those that begin at the same time."""
    by_thread: dict[object, list[tuple[int, int]]] = {}
    for event in events:
        if event["ph"] in "Xi":
            start = nanoseconds(event["ts"])
            by_thread.setdefault(event["tid"], []).append((start, start + nanoseconds(event.get("dur", 0))))
    for slices in by_thread.values():
        starts = [start for start, _ in slices]
        assert len(starts) == len(set(starts)), "two at the same time"
        open_until: list[int] = []
        for start, stop in sorted(slices):
            while open_until and open_until[-1] < start:
                open_until.pop()
            assert not open_until or stop <= open_until[-1], "they overlap"
            open_until.append(stop)


def test_slices_nest_where_a_thousand_things_happen_at_the_same_time(alone: Path) -> None:
    """Simulated time stands still while nobody waits: Perfetto refused a third of such a trace."""
    check_slices_nest(list(chrome_events(read_trace([str(alone)]))))


def test_chrome_events_tell_every_event_once(alone: Path) -> None:
    trace = read_trace([str(alone)])
    told = Counter(event["args"]["event"] for event in chrome_events(trace) if event["ph"] in "XBi")
    assert set(told.values()) == {1}
    quiet = {event.number for event in trace.events if event.kind.endswith("_end") or event.kind == "wait"}
    assert {event.number for event in trace.events} - told.keys() <= quiet


def test_what_is_no_trace_is_refused_in_one_line(alone: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("{}\n")
    refused("machsim", "explain", other, words="is no trace of ours")
    other.write_bytes(b"\x00\xff" * 100)
    refused("machsim", "explain", other, words="is no trace of ours")
    other.write_text("")
    refused("machsim", "explain", other, words="is no trace of ours")
    other.write_bytes(alone.read_bytes()[:-20])
    refused("machsim", "explain", other, words="cut short")
    other.write_bytes(gzip.compress(alone.read_bytes())[:-20])
    refused("machsim", "explain", other, words="cut short")
    refused("machsim", "explain", tmp_path / "none", words="no such file")
    refused("machsim", "explain", alone, "--fault", "1000000", words="--fault takes 1 to")
    refused("machsim", "run", "--trace", tmp_path / "none" / "x", words="cannot write the trace")
