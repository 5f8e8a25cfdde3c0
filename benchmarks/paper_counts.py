"""Lock pairs and messages that one page costs the default pager: §7.2's nine, and four after tuning.

    counts_per_page() -> {"page read": ..., "page written": ..., and of clusters of 16}

Counted on the simulated runtime, where every pair is counted by the name of its mutex, and nobody else runs.
"""

from __future__ import annotations

import json
from typing import Any

from bootfs.blocklist import BlockList, Run
from bootfs.device import MemoryDevice
from mach.memory_object import MemoryObjectCreate, MemoryObjectDataRequest, MemoryObjectDataWrite, VmProt
from mach.message import Message
from mach.ports import Ipc
from mach.threads.simulated import SimulatedRuntime
from mach.threads.traced import TracedRuntime
from mach.trace import Tracer
from pager.default_pager import DefaultPager

PAGE = 4096
PAGES = 256
OF_PORTS = ("ipc", "connection", "network")
SETTLED = 1.0  # seconds of the simulation, after which nothing is under way
Counts = dict[str, float]


def counts_per_page() -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for cluster in (1, 16):
        simulated = SimulatedRuntime(0)
        simulated.run(lambda: _count(simulated, cluster, found))  # noqa: B023 - it runs here and now
    return found


def _count(simulated: SimulatedRuntime, cluster: int, found: dict[str, Counts]) -> None:
    runtime = TracedRuntime(simulated)
    messages: list[str] = []

    def note(line: bytes) -> None:
        event = json.loads(line)
        if event.get("kind") == "send":
            messages.append(event["message"])

    runtime.tracer = Tracer(runtime, note, "count")
    ipc = Ipc(runtime)
    pager = DefaultPager(runtime, ipc, PAGE)
    space = 2 * PAGES * PAGE
    pager.store.add("disk", MemoryDevice(bytearray(space)), BlockList((Run(0, 0, space),), space, 8192))
    pager.start()
    control, port = ipc.allocate("control", kobject=lambda message: None), ipc.allocate("memory object")
    memory_object = port.make_send()
    name = ipc.allocate("name").make_send()
    pager.port.make_send().send(MemoryObjectCreate(port, PAGES * PAGE, control.make_send(), name, PAGE), always=True)
    runtime.sleep(SETTLED)
    length = cluster * PAGE
    writes = [MemoryObjectDataWrite(control.make_send(), at, b"\1" * length) for at in range(0, PAGES * PAGE, length)]
    reads = [
        MemoryObjectDataRequest(control.make_send(), at, length, VmProt.READ) for at in range(0, PAGES * PAGE, length)
    ]
    suffix = "" if cluster == 1 else f", of {cluster}"
    kinds: list[tuple[str, list[Any]]] = [("page written", list(writes)), ("page read", list(reads))]
    for what, requests in kinds:
        before = dict(simulated.lock_pairs())
        messages.clear()
        _send_all(runtime, memory_object, requests)
        pairs = {mutex: count - before.get(mutex, 0) for mutex, count in simulated.lock_pairs().items()}
        found[what + suffix] = {
            "own_pairs": sum(count for mutex, count in pairs.items() if mutex not in OF_PORTS) / PAGES,
            "port_pairs": sum(count for mutex, count in pairs.items() if mutex in OF_PORTS) / PAGES,
            "messages": len(messages) / PAGES,
        }


def _send_all(runtime: TracedRuntime, memory_object: Any, requests: list[Message]) -> None:
    for request in requests:
        memory_object.send(request, always=True)
        runtime.sleep(SETTLED)
