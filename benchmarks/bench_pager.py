"""How quickly pagerd pages, beside what Python, the socket and the disk allow in the same round.

pagerd is a process of its own, on a disk that mkpagingfile has made; the kernel's side is benchmarks/pager_kernel.py,
the limit is a bare SEQPACKET echo of 4 KiB (benchmarks/echo_server.py) and plain preadv and pwritev of the same sizes.
Each round runs all of them one after the other; shown are medians, and medians of each round's ratios.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.pager_kernel import PAGE, PagingKernel
from bootfs.device import FileDevice
from mach.threads.native import CHECK_LOCKS
from pager.client import PagerClient
from pager.slots import SlotTable
from pager.storage import PAGING_FILE, find_paging_file

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"
PAGES = 32768  # of the object that is paged: 128 MiB
REMOVED = 102400  # pages that are in a partition when it is removed
LARGE_SLOTS = 1 << 24  # of 4 KiB: a paging file of 64 GiB
LAST_SLOTS = 1000  # those that are free in it, far from each other
SINGLE, CLUSTERS, CLUSTER, LARGE = 300, 12, 64, 256  # operations of one round; pages of a cluster, of a large one
CLIENT_SECONDS = 1.5
# What is asked of us: measure, the bound, whether it is the most or the least, and of what (a measure, or a unit).
BARS = (
    ("page-in, 4 KiB", 1.6, "most", "echo, 4 KiB"),
    ("page-out, 4 KiB", 1.6, "most", "echo, 4 KiB"),
    ("page-in of 64, a page", 8.0, "most", "us"),
    ("page-out of 64, a page", 8.0, "most", "us"),
    ("page-in of 1 MiB", 1 / 0.8, "most", "preadv of 1 MiB"),
    ("page-out of 1 MiB", 1 / 0.8, "most", "pwritev of 1 MiB"),
    ("four clients, a page", 1.0, "most", "one client, a page"),
    ("lock pairs of the pager's own a page-in", 2.0, "most", "pairs"),
    ("memory a page on backing store", 40.0, "most", "bytes"),
    ("removing a partition, a page", 2.0, "most", "copying, a page"),
    ("64 GiB of paging file ready, s", 2.0, "most", "s"),
    ("64 GiB of paging file, MiB of memory", 64.0, "most", "MiB"),
    ("allocating one of the last free slots", 5.0, "most", "us"),
)
Figures = dict[str, list[float]]


def main(words: Sequence[str]) -> int:
    """Measure, print, write build/benchmarks/pager.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pager", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(words)
    BUILD.mkdir(parents=True, exist_ok=True)
    figures: Figures = {}
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        place = Path(name)
        image = make_disk(place / "disk.img")
        paging(place, image, options.rounds, figures)
        several_clients(place, image, max(1, options.rounds // 3), figures)
        lock_pairs(place, image, figures)
        removal(place, figures)
        large_paging_file(place, options.rounds, figures)
    table(figures)
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
              "rounds": options.rounds, "figures": figures, "bars": bars(figures)}  # fmt: skip
    (BUILD / "pager.json").write_text(json.dumps(result, indent=1))
    print(f"\n{BUILD / 'pager.json'} has every round")
    return 0


# Processes


def make_disk(image: Path, size: str = "400M", paging_size: str = "256M") -> Path:
    command = [sys.executable, "-c", "from disktools.mkpagingfile import main; main()", str(image)]
    command += ["--size", size, "--paging-size", paging_size, "--format", "ufs2", "--block-size", "16384"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return image


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A server of ours, from its first line to its end."""
    server = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline(), f"{command[0]} did not start"
        yield server
    finally:
        server.kill()
        server.communicate()


def pagerd(place: Path, image: Path, io: str = "buffered", **environment: str) -> Any:
    command = [sys.executable, "-c", "from pager.pagerd import main; main()", str(image), "--io", io]
    return process(*command, "--socket", str(place / "pager"), **environment)


# Measuring


def timed(act: Callable[[], object]) -> float:
    """Microseconds."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e6


def median_of(count: int, act: Callable[[int], object]) -> float:
    return statistics.median(timed(lambda number=number: act(number)) for number in range(count))


def paging(place: Path, image: Path, rounds: int, figures: Figures) -> None:
    """One client, and the limits beside it: small clusters through the page cache, large ones past it."""
    echo_path = str(place / "echo")
    with pagerd(place, image) as daemon, process(sys.executable, "-m", "benchmarks.echo_server", echo_path):
        echo = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        echo.connect(echo_path)
        kernel = PagingKernel(str(place / "pager"), PAGES)
        fill(kernel, 0, PAGES // 4)  # its buffers are there
        before = resident_bytes(daemon.pid)
        fill(kernel, PAGES // 4, PAGES)
        held = resident_bytes(daemon.pid) - before
        figures["memory a page on backing store"] = [held / (PAGES - PAGES // 4)]
        for number in range(rounds):
            note(figures, small_clusters(kernel, echo, number))
        kernel.close()
        echo.close()
    with pagerd(place, image, io="direct"), raw_file(place) as (fd, buffer):
        kernel = PagingKernel(str(place / "pager"), PAGES)
        fill(kernel, 0, PAGES)
        for number in range(rounds):
            note(figures, large_clusters(kernel, fd, buffer, number))
        kernel.close()


def note(figures: Figures, found: dict[str, float]) -> None:
    for key, value in found.items():
        figures.setdefault(key, []).append(value)


def fill(kernel: PagingKernel, first: int, last: int) -> None:
    for page in range(first, last, CLUSTER):
        kernel.page_out(page, os.urandom(CLUSTER * PAGE))
        kernel.settle(page)  # so that what is on its way takes no memory of the pager's


def paged_out(kernel: PagingKernel, first: int, count: int, data: bytes) -> float:
    """Microseconds of one of `count` data_writes.  Nothing answers them: the last page is asked for, which waits."""
    pages = len(data) // PAGE

    def act() -> None:
        for at in range(count):
            kernel.page_out(first + at * pages, data)
        kernel.settle(first + count * pages - 1)

    return timed(act) / count


def small_clusters(kernel: PagingKernel, echo: socket.socket, number: int) -> dict[str, float]:
    page, cluster = os.urandom(PAGE), os.urandom(CLUSTER * PAGE)
    base = number * 1024 % (PAGES - CLUSTERS * LARGE)

    def bounce(_: int) -> None:
        echo.send(page)
        echo.recv(PAGE)

    return {
        "echo, 4 KiB": median_of(SINGLE, bounce),
        "page-in, 4 KiB": median_of(SINGLE, lambda at: kernel.page_in(base + at)),
        "page-out, 4 KiB": paged_out(kernel, base, SINGLE, page),
        "page-in of 64, a page": median_of(CLUSTERS, lambda at: kernel.page_in(base + at * CLUSTER, CLUSTER)) / CLUSTER,
        "page-out of 64, a page": paged_out(kernel, base, CLUSTERS, cluster) / CLUSTER,
    }


def large_clusters(kernel: PagingKernel, fd: int, buffer: mmap.mmap, number: int) -> dict[str, float]:
    large = os.urandom(LARGE * PAGE)
    base = number * 1024 % (PAGES - CLUSTERS * LARGE)
    return {
        "page-in of 1 MiB": median_of(CLUSTERS, lambda at: kernel.page_in(base + at * LARGE, LARGE)),
        "preadv of 1 MiB": median_of(CLUSTERS, lambda at: os.preadv(fd, [buffer], at << 20)),
        "page-out of 1 MiB": paged_out(kernel, base, CLUSTERS, large),
        "pwritev of 1 MiB": median_of(CLUSTERS, lambda at: os.pwritev(fd, [buffer], at << 20)),
    }


@contextmanager
def raw_file(place: Path) -> Iterator[tuple[int, mmap.mmap]]:
    """A plain file that is read and written as pagerd does the disk: past the page cache."""
    fd = os.open(place / "raw", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    buffer = mmap.mmap(-1, LARGE * PAGE)
    try:
        for at in range(CLUSTERS):
            os.pwritev(fd, [buffer], at << 20)
        yield fd, buffer
    finally:
        os.close(fd)


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE


def several_clients(place: Path, image: Path, rounds: int, figures: Figures) -> None:
    """Page-ins of 16 pages by one client alone, and by four at once: microseconds a page of all of them together."""
    with pagerd(place, image):
        for _ in range(rounds):
            for count, key in ((1, "one client, a page"), (4, "four clients, a page")):
                figures.setdefault(key, []).append(CLIENT_SECONDS * 1e6 / pages_by(place, count))


def pages_by(place: Path, clients: int) -> int:
    """Pages that so many clients get in CLIENT_SECONDS."""
    command = [sys.executable, "-m", "benchmarks.pager_kernel", str(place / "pager"), "4096", "16", str(CLIENT_SECONDS)]
    kernels = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(clients)
    ]
    for kernel in kernels:
        assert kernel.stdout is not None
        kernel.stdout.readline()
    for kernel in kernels:
        assert kernel.stdin is not None
        kernel.stdin.write("go\n")
        kernel.stdin.flush()
    return sum(int(kernel.communicate()[0].split()[0]) for kernel in kernels)


def lock_pairs(place: Path, image: Path, figures: Figures) -> None:
    """Counted, not timed (the paper's §7.2: 9 pairs a page read, 4 after tuning)."""
    with pagerd(place, image, **{CHECK_LOCKS: "1"}):
        kernel, client = PagingKernel(str(place / "pager"), PAGES), PagerClient(str(place / "pager"))
        kernel.page_out(0, os.urandom(PAGE))
        kernel.settle(0)

        def pairs() -> dict[str, int]:
            return {key: value for key, value in client.statistics().items() if key.startswith("lock_pairs")}

        client.statistics()
        before, idle = pairs(), pairs()  # what asking costs
        for _ in range(SINGLE):
            kernel.page_in(0)
        after = pairs()
        for key in after:
            count = (after[key] - 2 * idle.get(key, 0) + before.get(key, 0)) / SINGLE
            figures[f"{key} a page-in".replace("_", " ")] = [count]
        own = [key for key in after if key not in ("lock_pairs", "lock_pairs_ipc", "lock_pairs_connection")]
        figures["lock pairs of the pager's own a page-in"] = [
            sum(figures[f"{key} a page-in".replace("_", " ")][0] for key in own)
        ]
        kernel.close()
        client.close()


def removal(place: Path, figures: Figures) -> None:
    """A partition full of pages is emptied into another one."""
    image, other = (make_disk(place / name, "700M", "512M") for name in ("full.img", "other.img"))
    with pagerd(place, image):
        kernel, client = PagingKernel(str(place / "pager"), REMOVED), PagerClient(str(place / "pager"))
        fill(kernel, 0, REMOVED)
        with FileDevice(other) as device:
            client.add_storage("other", str(other), find_paging_file(device, str(other), PAGING_FILE))
        name = client.partitions()[0].name
        figures["removing a partition, a page"] = [timed(lambda: client.remove_storage(name)) / REMOVED]
        copy = [sys.executable, "-c", COPY, str(image), str(place / "copy")]
        figures["copying, a page"] = [float(subprocess.run(copy, check=True, capture_output=True).stdout) / REMOVED]
        kernel.page_in(REMOVED - 1)
        kernel.close()
        client.close()


def large_paging_file(place: Path, rounds: int, figures: Figures) -> None:
    """From the start of pagerd to its first line, and what it has of memory then; the slots of so large a file."""
    image = make_disk(place / "large.img", "66G", "64G")
    for _ in range(rounds):
        began = time.perf_counter()
        with pagerd(place, image) as daemon:
            seconds = time.perf_counter() - began
            memory = resident_bytes(daemon.pid) / (1 << 20)
        note(figures, {"64 GiB of paging file ready, s": seconds, "64 GiB of paging file, MiB of memory": memory})
    slots = SlotTable(LARGE_SLOTS)
    while slots.free:
        slots.allocate(LARGE, slots.free)
    for slot in range(0, LARGE_SLOTS, LARGE_SLOTS // LAST_SLOTS):
        slots.give_back(slot)
    last = slots.free
    figures["allocating one of the last free slots"] = [
        timed(lambda: [slots.allocate(1, 0) for _ in range(last)]) / last
    ]


COPY = f"""import sys, time
began = time.perf_counter()
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    for _ in range({REMOVED * PAGE >> 20}): target.write(source.read(1 << 20))
print((time.perf_counter() - began) * 1e6)"""


# Showing


def bars(figures: Figures) -> list[dict[str, Any]]:
    """Each bar with our figure."""
    shown = []
    for key, bound, _, of in BARS:
        ours = figures[key]
        if of in figures:
            figure = statistics.median(one / two for one, two in zip(ours, figures[of], strict=True))
        else:
            figure = statistics.median(ours)
        shown.append({"measure": key, "figure": figure, "bar": bound, "of": of, "met": figure <= bound})
    return shown


def table(figures: Figures) -> None:
    print(f"{'medians; microseconds where no unit is said':50}")
    for key, values in figures.items():
        spread = f"{min(values):.1f} - {max(values):.1f}" if len(values) > 1 else ""
        print(f"{key:50}{statistics.median(values):10.2f}   {spread}")
    print()
    for bar in bars(figures):
        of = f" x {bar['of']}" if bar["of"] in figures else f" {bar['of']}"
        verdict = "met" if bar["met"] else "MISSED"
        print(f"{bar['measure']:42}{bar['figure']:8.2f}{of:22} at most {bar['bar']:.2f}  {verdict}")
