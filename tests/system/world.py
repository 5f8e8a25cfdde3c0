"""A world for a story: kernel, default pager, user pager and disk on one simulated runtime, made as a seed says."""

from __future__ import annotations

import random

from paging import Disk, block_list, broken

from kernel.coherent import CoherentReader
from kernel.host import Host
from kernel.replacement import POLICIES
from mach.kern_return import MachError
from mach.ports import Ipc
from mach.threads.simulated import SimulatedRuntime
from pager.default_pager import DefaultPager
from system.model import PAGE, Cell
from system.user_pager import Offered, UserPager

FRAMES = 64
SLOTS = 500


class World:
    """See the head of the module.  Made within the runtime's main thread."""

    def __init__(self, runtime: SimulatedRuntime, seed: int) -> None:
        draw = random.Random(seed)
        self.runtime = runtime
        self.ipc = Ipc(runtime)
        self.mortal = draw.choice([None, None, None, "user", "default"])
        self.disk_fails = draw.random() < 0.15
        self.tolerant = self.disk_fails  # whether a page may have been lost by now
        self.disk = Disk(runtime, (1 << 16) + SLOTS * PAGE + (1 << 16))
        self._draw = draw
        self.refused: list[str] = []  # messages of the kernel that the default pager could make nothing of
        self._delays = draw.choice([0.0, 0.0, 0.002, 0.02])
        if self.disk_fails or self._delays:
            self.disk.before = self._before
        self.default = self._pager(self.disk, draw.randrange(1, 4))
        self.host = Host(
            runtime,
            self.ipc,
            FRAMES * PAGE,
            wait_for_successor=self.mortal == "default",
            pageout_time_scale=draw.choice([1.0, 0.01]),
            pager_seconds=draw.choice([None, None, 1000.0]),
            cluster_pages=draw.choice([1, 1, 4, 8]),
            replacement=draw.choice([*POLICIES, "second-chance", "second-chance"]),
        )
        self.host.start()
        self.host.vm_set_default_memory_manager(self.host.host_priv, self.default.port.make_send())
        self.user = UserPager(runtime, self.ipc, seed)
        self.user.start()
        self.reader = CoherentReader(self.host.processor, self.ipc, self.host.resident)
        self._offered: dict[int, list[tuple[Offered, dict[int, Cell]]]] = {}
        self._dead: list[DefaultPager] = []

    def _pager(self, disk: Disk, threads: int) -> DefaultPager:
        pager = DefaultPager(self.runtime, self.ipc, PAGE, report=self._report)
        pager.store.add("disk", disk, block_list(SLOTS))
        pager.start(threads)
        return pager

    def _report(self, words: str) -> None:
        if words.startswith("refused"):
            self.refused.append(words)

    def _before(self, kind: str, offset: int, length: int) -> None:
        if self._delays:
            self.runtime.sleep(self._draw.random() * self._delays, "the disk")
        if self.disk_fails and self._draw.random() < 0.02:
            raise broken(offset)

    def object(self, family: int, number: int) -> tuple[Offered | None, dict[int, Cell]]:
        """An object of the user pager for a family's own use, made when it is first wanted; and what its pages hold."""
        offered = self._offered.setdefault(family, [])
        if (len(offered) < 3 and number % 4 == 0) or not offered:
            if self.user.dead:
                return (None, {}) if not offered else offered[number % len(offered)]
            made = self.user.offer(3 + number % 12)
            offered.append((made, {page: Cell((made.initial(page),)) for page in range(made.pages)}))
        return offered[number % len(offered)]

    def squeeze(self, pages: int) -> None:
        """Take so much memory that others must go out, and give it back."""
        task = self.host.task_create("squeezer")
        address = task.vm_allocate(pages * PAGE)
        try:
            for page in range(pages):
                task.write(address + page * PAGE, b"squeezed")
        except MachError:
            assert self.tolerant
        task.terminate()

    def succeed(self) -> None:
        """The default pager dies as a process does, and another is set."""
        dead, self.default = self.default, self._pager(Disk(self.runtime, 1 << 22), 2)
        self._dead.append(dead)
        dead.port.destroy()
        for memory_object in dead.objects():
            memory_object.receive.destroy()
        self.mortal = None
        old = self.host.vm_set_default_memory_manager(self.host.host_priv, self.default.port.make_send())
        if old is not None:
            old.drop()

    # -- the end -----------------------------------------------------------------------------------------------

    def check_empty(self) -> None:
        """When no task is left: everything is given back, and permanent objects hold what was written to them."""
        for entries in self._offered.values():
            for offered, _ in entries:
                self.user.stop_caching(offered)
        self.runtime.sleep(100_000)
        host = self.host
        host.check()
        statistics = host.vm_statistics()
        assert host.objects.by_id == {}, f"objects are left: {list(host.objects.by_id)}"
        assert statistics["free_count"] == FRAMES, f"{FRAMES - statistics['free_count']} frames have leaked"
        assert statistics["wire_count"] == statistics["laundry_count"] == 0
        assert not host.pagers.by_port
        self.default.check()
        assert self.default.idle
        assert self.default.store.free_pages == SLOTS or self.disk_fails, "slots have leaked"
        assert self.refused == [], self.refused
        assert self.user.broken == [], self.user.broken
        if not self.tolerant:
            self._check_permanent()

    def _check_permanent(self) -> None:
        for entries in self._offered.values():
            for offered, cells in entries:
                for page, cell in cells.items():
                    found = offered.now(page)
                    assert found in cell.possible, f"page {page} of object {offered.number}: {found[:24]!r}"
                assert offered.control is None, f"object {offered.number} was not terminated"
