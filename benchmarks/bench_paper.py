"""The paper's tables: paging with the default pager in and out of the kernel (7-1), images (7-2), memory (7-3).

Table 7-1 on a modelled disk of 1991 with real waits (seeks, half a turn, 1 MB a second; --scale makes everything
faster, Mach's pauses included, but for what Python and the socket take), and on a file of this machine's, read and
written with O_DIRECT: for longer, as it takes microseconds.  Paged by a program in Python and by one of i386 machine
code.  Each round runs every size with the pager in the kernel's process and in one of its own, one right after the
other, and on the modelled disk the shortest twice; shown are medians, and the median and the quartiles of the runs'
differences.  The added work is what the processor spent more, of both processes, beside the elapsed time at full
slowness: it says what a busy machine's elapsed times hide.

The kernel's process has one processor: Python runs one thread of it at a time, and is the faster for staying there.
The pager's has the same while the disk is that of 1991, as on the paper's machine, and another for a disk of today: to
wake a processor that sleeps takes longer than to share one, and there is time to sleep only on the slow disk.  The
other way round, and left to the system (unbound), is measured if asked for by name.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.paper_counts import counts_per_page
from benchmarks.paper_machine import (
    PAGE,
    SPACE_AT,
    SPACE_BYTES,
    VIRTUAL_BYTES,
    Disk,
    MachineCode,
    PagerProcess,
    PagingBenchmark,
    Processors,
    Stand,
    pager_inside,
    pager_outside,
)
from kernel.tracing.chart import Axis, Series, line_chart
from pager.direct_io import direct_alignment

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"
MIB = 1 << 20
PAPER = {6.5: (97.0, 97.6, 0.6), 2.5: (124.2, 131.4, 5.8), 1.5: (131.6, 138.9, 5.5)}  # MK63, out of kernel, per cent
PAPER_IMAGES = {"MK63": (315360, 33096, 54364, 69524), "Kernel": (294880, 32224, 52992, 65386),
                "Bootstrap": (40928, 2676, 3616, 19345)}  # fmt: skip
PAPER_MEMORY_KIB = 112
PROGRAMS = {"python": "a program in Python", "i386": "a program of i386 machine code"}
DISKS = {"modelled": "a modelled disk of 1991", "direct": "this machine's disk with O_DIRECT"}
LAYOUTS = {
    "one": (Processors.one, "one processor"),
    "apart": (Processors.apart, "a processor each"),
    "unbound": (Processors.unbound, "processors that the system chooses"),
}
BEST_LAYOUT = {"modelled": "one", "direct": "apart"}  # each disk's, of a pager with a process of its own
TWICE = (6.5,)  # in each round on the modelled disk: of so short a run a seek more or less is 0.3 %
DIRECT_ROUNDS = 3  # times as many rounds, and references in each, on a disk that answers in microseconds
DIRECT_REFERENCES = 5
PAPER_LOCK_PAIRS = "9 before tuning, 4 after"

Figures = dict[str, Any]


def main(words: Sequence[str]) -> int:
    """Measure, print, write build/benchmarks/paper.json and the charts beside it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks paper", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="with O_DIRECT three times as many")
    parser.add_argument("--scale", type=float, default=1.0, help="of the modelled disk's delays; 1: as in 1991")
    parser.add_argument(
        "--references", type=int, default=1000, help="after memory is filled; with O_DIRECT five times as many"
    )
    parser.add_argument("--program", choices=PROGRAMS, help="what pages; without it, one after the other")
    parser.add_argument(
        "--only",
        choices=(*_variants(), "counts", "images", "memory"),
        help="one of the measures; those with another layout of processors are made only if asked for so",
    )
    options = parser.parse_args(words)
    BUILD.mkdir(parents=True, exist_ok=True)
    facts: Figures = vars(options) | {"when": time.strftime("%Y-%m-%d"), "processors": len(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory(dir=BUILD) as place:
        _table_7_1(options, place, facts)
        others: dict[str, Callable[[], Figures]] = {
            "counts": counts_per_page,
            "images": lambda: _images(place),
            "memory": lambda: _memory(place),
        }
        for name, measure in others.items():
            if options.only in (None, name):
                facts[name] = measured = measure()
                print(REPORTS[name](measured, options) + "\n", flush=True)
    out = BUILD / ("paper.json" if options.only is None else f"paper-{options.only}.json")
    out.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"facts: {out.relative_to(ROOT)}")
    return 0


# -- table 7-1 ---------------------------------------------------------------------------------------------------------


def _variants() -> dict[str, tuple[str, str]]:
    """Disk and layout by name; each disk's own name stands for its best layout."""
    best = {disk: (disk, layout) for disk, layout in BEST_LAYOUT.items()}
    return best | {f"{disk}-{name}": (disk, name) for disk in DISKS for name in LAYOUTS if name != BEST_LAYOUT[disk]}


def _table_7_1(options: argparse.Namespace, place: str, facts: Figures) -> None:
    """Each of its variants that is asked for, by each program."""
    for name, (disk, layout) in _variants().items():
        if options.only != name and (options.only is not None or name not in DISKS):
            continue
        for program in (options.program,) if options.program else PROGRAMS:
            chosen = argparse.Namespace(**vars(options) | {"program": program})
            if disk == "direct":
                chosen.rounds *= DIRECT_ROUNDS
                chosen.references *= DIRECT_REFERENCES
            processors, their_name = LAYOUTS[layout]
            measure = _direct if disk == "direct" else _modelled
            facts[f"{name}, {program}"] = measured = measure(chosen, place, processors())
            speed = f" at {1 / options.scale:g} times its speed" if disk == "modelled" and options.scale != 1 else ""
            print(_paging_report(measured, chosen, f"{DISKS[disk]}{speed}, {their_name}") + "\n", flush=True)
            if name == "modelled" and measured is not None:
                _draw(measured, chosen)


def _modelled(options: argparse.Namespace, place: str, processors: Processors) -> Figures:
    return _paging(Disk("", options.scale), options, place, processors)


def _direct(options: argparse.Namespace, place: str, processors: Processors) -> Figures | None:
    """None if the file system takes no O_DIRECT."""
    path = f"{place}/disk.img"
    with open(path, "wb") as file:  # written, not sparse: its blocks are not to be found while we measure
        for _ in range((SPACE_AT + SPACE_BYTES) // MIB):
            file.write(b"\1" * MIB)
        os.fsync(file.fileno())
    return _paging(Disk(path), options, place, processors) if 0 < direct_alignment(path) <= PAGE else None


def _paging(disk: Disk, options: argparse.Namespace, place: str, processors: Processors) -> Figures:
    """The table's rows; odd rounds begin with the other kind."""
    process = PagerProcess(disk, f"{place}/pager.sock", processors)
    try:
        return _rounds(process, disk, options)
    finally:
        process.close()


def _plan(rounds: int, twice: Collection[float]) -> Iterator[tuple[int, float, int]]:
    """Round, size, which run of that size it is."""
    for number in range(rounds):
        for size in PAPER:
            runs = 2 if size in twice else 1
            for again in range(runs):
                yield number, size, runs * number + again


def _rounds(process: PagerProcess, disk: Disk, options: argparse.Namespace) -> Figures:
    seconds: dict[float, dict[str, list[float]]] = {size: {"kernel": [], "process": []} for size in PAPER}
    processor: dict[float, dict[str, list[float]]] = {size: {"kernel": [], "process": []} for size in PAPER}
    pages: dict[float, Figures] = {}
    for number, size, seed in _plan(options.rounds, () if disk.path else TWICE):
        for kind in ("kernel", "process") if seed % 2 == 0 else ("process", "kernel"):
            with _machine(kind, process, disk, int(size * MIB)) as stand:
                seconds[size][kind].append(_program(stand, options, seed).run())
                statistics_now = stand.host.vm_statistics()
            processor[size][kind].append(stand.processor_seconds)
            pages[size] = {name: statistics_now[name] for name in ("faults", "pageins", "pageouts")}
        print(f"round {number + 1} of {options.rounds}, {size} MB: "
              + ", ".join(f"{kind} {times[-1]:.2f} s" for kind, times in seconds[size].items()),
              file=sys.stderr, flush=True)  # fmt: skip
    return {
        "scale": disk.time_scale,
        "rows": [_row(disk, size, seconds[size], processor[size], pages[size]) for size in PAPER],
    }


def _machine(kind: str, process: PagerProcess, disk: Disk, memory: int) -> AbstractContextManager[Stand]:
    if kind == "kernel":
        return pager_inside(process.processors, disk, memory)
    return pager_outside(process, disk, memory)


def _program(stand: Stand, options: argparse.Namespace, seed: int) -> MachineCode | PagingBenchmark:
    if options.program == "i386":
        return MachineCode(stand.host, options.references, seed)
    return PagingBenchmark(stand.host, options.references, seed)


def _row(
    disk: Disk, size: float, seconds: dict[str, list[float]], processor: dict[str, list[float]], pages: Figures
) -> Figures:
    """`added_percent`: the processor's additional work beside the elapsed time at the disk's full slowness."""
    added = statistics.median(outside - inside for inside, outside in zip(*processor.values(), strict=True))
    differences = sorted(
        100 * (outside / inside - 1) for inside, outside in zip(seconds["kernel"], seconds["process"], strict=True)
    )
    quartiles = statistics.quantiles(differences, n=4) if len(differences) > 1 else [differences[0]] * 3
    return {
        "available_mb": size,
        "kernel_seconds": statistics.median(seconds["kernel"]),
        "process_seconds": statistics.median(seconds["process"]),
        "difference_percent": statistics.median(differences),
        "quartiles_percent": [quartiles[0], quartiles[2]],
        "added_processor_seconds": added,
        "added_percent": 100 * added / (statistics.median(seconds["kernel"]) / disk.time_scale),
        "paper_percent": PAPER[size][2],
        "last_round": pages,
        "seconds": seconds,
        "processor_seconds": processor,
    }


def _paging_report(facts: Figures | None, options: argparse.Namespace, disk: str) -> str:
    if facts is None:
        return f"Table 7-1 on {disk}: the file system of {BUILD} takes no O_DIRECT"
    by = PROGRAMS[options.program]
    what = f"{VIRTUAL_BYTES // MIB} MB filled by {by}, then {options.references} references; {options.rounds} rounds"
    names = "available", "in kernel", "outside", "difference", "quartiles", "added work", "paper", "page-ins", "outs"
    lines = [f"Table 7-1 on {disk}: {what}", "{:>9} {:>10} {:>9} {:>11} {:>16} {:>18} {:>7} {:>9} {:>6}".format(*names)]
    for row in facts["rows"]:
        low, high = row["quartiles_percent"]
        lines.append(
            f"{row['available_mb']:>6} MB {row['kernel_seconds']:>8.2f} s {row['process_seconds']:>7.2f} s"
            f" {row['difference_percent']:>+9.1f} % {f'{low:+.1f} to {high:+.1f}':>16}"
            f" {row['added_processor_seconds']:>+7.2f} s {row['added_percent']:>+6.2f} %"
            f" {row['paper_percent']:>+5.1f} % {row['last_round']['pageins']:>9} {row['last_round']['pageouts']:>6}"
        )
    return "\n".join(lines)


def _draw(facts: Figures, options: argparse.Namespace) -> None:
    series = [  # the dashed lines last: what they cover shows between the dashes
        Series(name, [(row["available_mb"], row[key] / facts["scale"]) for row in reversed(facts["rows"])], dashed)
        for name, key, dashed in (("a process", "process_seconds", False), ("in the kernel", "kernel_seconds", True))
    ]
    series += [
        Series(name, [(size, PAPER[size][at]) for size in sorted(PAPER)], dashed)
        for at, name, dashed in ((1, "out of it, 1991", False), (0, "MK63, 1991", True))
    ]
    chart = line_chart(
        "Paging 7 MB, the pager in and out of the kernel",
        f"{PROGRAMS[options.program]}; {options.rounds} rounds on a modelled disk of 1991, seconds of its time",
        Axis("available memory, MB", lambda value: f"{value:g}", 2),
        Axis("elapsed seconds", lambda value: f"{value:g}"),
        series,
    )
    (BUILD / f"paper-7-1-{options.program}.svg").write_text(chart)


# -- tables 7-2 and 7-3 ------------------------------------------------------------------------------------------------


def _images(place: str) -> Figures:
    """The a.out headers of what makeboot glues, as `machsim images` makes it."""
    _command("machsim", "images", f"{place}/boot")
    sizes = {}
    for name, image in (("Kernel", "mach_kernel"), ("Bootstrap", "bootstrap")):
        _, text, data, bss, symbols = struct.unpack_from("<5I", Path(place, "boot", image).read_bytes())
        sizes[name] = {"text": text, "data": data, "bss": bss, "symbols": symbols}
    _command("makeboot", "-o", f"{place}/mach.boot", f"{place}/boot/mach_kernel", f"{place}/boot/bootstrap")
    return {"images": sizes, "boot_file": Path(place, "mach.boot").stat().st_size}


def _images_report(facts: Figures, _: argparse.Namespace) -> str:
    lines = [f"Table 7-2, bytes; the boot file is {facts['boot_file']}",
             f"{'file':<18}{'text':>9}{'data':>9}{'bss':>9}{'symbols':>9}"]  # fmt: skip
    for name, sizes in facts["images"].items():
        lines.append(f"{name:<18}" + "".join(f"{size:>9}" for size in sizes.values()))
    for name, row in PAPER_IMAGES.items():
        lines.append(f"{f'{name} (paper)':<18}" + "".join(f"{size:>9}" for size in row))
    return "\n".join(lines)


def _memory(place: str) -> Figures:
    """What a pager's process keeps in memory, by use: /proc/PID/smaps of one that has locked itself down."""
    _command("mkpagingfile", f"{place}/paging.img", "--size", "16M", "--paging-size", "8M")
    socket = f"{place}/paging.sock"
    command = [_bin("pagerd"), f"{place}/paging.img", "--socket", socket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            ready = daemon.stdout.readline()
            uses = _uses(Path(f"/proc/{daemon.pid}/smaps").read_text())
        finally:
            daemon.terminate()
    return {"ready": ready.strip().split(": ", 2)[-1], "kib": uses}


def _uses(smaps: str) -> dict[str, int]:
    """Resident KiB by use."""
    uses = {"code and data of the interpreter and its libraries": 0, "heap": 0, "stacks and other memory": 0}
    use = ""
    for line in smaps.splitlines():
        head = line.split()
        if "-" in head[0] and not head[0].endswith(":"):
            path = " ".join(head[5:])
            use = "heap" if path == "[heap]" else (
                "code and data of the interpreter and its libraries" if path.startswith("/") else
                "stacks and other memory")  # fmt: skip
        elif head[0] == "Rss:":
            uses[use] += int(head[1])
    return uses


def _memory_report(facts: Figures, _: argparse.Namespace) -> str:
    lines = [f"Table 7-3, KiB in memory of the pager's process ({facts['ready']})"]
    lines += [f"{kib:>8}  {use}" for use, kib in facts["kib"].items()]
    lines.append(f"{sum(facts['kib'].values()):>8}  total; the paper's bootstrap task: {PAPER_MEMORY_KIB}")
    return "\n".join(lines)


def _counts_report(facts: Figures, _: argparse.Namespace) -> str:
    lines = [f"Lock pairs and messages a page, of the pager alone (paper, page read: {PAPER_LOCK_PAIRS})",
             f"{'':<22}{'pairs of its own':>17}{'pairs of ports':>16}{'messages':>10}"]  # fmt: skip
    for name, row in facts.items():
        lines.append(f"{name:<22}{row['own_pairs']:>17.2f}{row['port_pairs']:>16.2f}{row['messages']:>10.2f}")
    return "\n".join(lines)


def _bin(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _command(name: str, *words: str) -> None:
    subprocess.run([_bin(name), *words], check=True, capture_output=True)


REPORTS = {
    "counts": _counts_report,
    "images": _images_report,
    "memory": _memory_report,
}
