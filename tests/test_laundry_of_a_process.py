"""The laundry of a default pager that is a process: bounded as if it were in the kernel (the paper's §5.5)."""

from __future__ import annotations

from pathlib import Path

import pytest
from paging import PAGE, Disk, block_list

from kernel.host import MINIMUM_PAGES, Host
from mach.ports import Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime
from pager.default_pager import DefaultPager

PAGES = 2 * MINIMUM_PAGES


def receive_for_ever(ipc: Ipc) -> None:
    """A process receives: or nobody would hear what its peers say."""
    nobody_sends_here = ipc.allocate("network")
    while True:
        nobody_sends_here.receive()


@pytest.mark.timeout(20)
def test_no_more_than_ten_pages_are_with_a_pager_that_is_a_process_until_it_has_written_them(tmp_path: Path) -> None:
    """mach.md 8.49: a page counts until its pager has freed it, wherever that is, and not until it is in a socket."""
    runtime = NativeRuntime()
    theirs, ours = Ipc(runtime), Ipc(runtime)
    pager = DefaultPager(runtime, theirs, PAGE)
    disk = Disk(runtime, (1 << 17) + 2 * PAGES * PAGE)
    pager.store.add("disk", disk, block_list(2 * PAGES))
    network = Network(theirs)
    network.listen(str(tmp_path / "socket"), pager.port)
    pager.start()

    manager = Network(ours).connect(str(tmp_path / "socket"))
    host = Host(runtime, ours, MINIMUM_PAGES * PAGE, PAGE, pageout_time_scale=0.01)
    laundry: list[int] = []

    def slow_write(kind: str, offset: int, length: int) -> None:
        laundry.append(host.resident.laundry_count)
        runtime.sleep(0.005)

    disk.before = slow_write
    runtime.fork(lambda: receive_for_ever(ours), "network", daemon=True)
    host.start()
    host.vm_set_default_memory_manager(host.host_priv, manager)
    task = host.task_create("program")
    address = task.vm_allocate(PAGES * PAGE)
    for page in range(PAGES):
        task.write(address + page * PAGE, page.to_bytes(8, "little"))
    for page in range(PAGES):
        assert task.read(address + page * PAGE, 8) == page.to_bytes(8, "little")
    assert 5 < max(laundry) <= 10
    task.terminate()
    network.stop_listening()
