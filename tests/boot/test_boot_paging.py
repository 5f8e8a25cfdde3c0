"""The bootstrap service becomes the default pager: where it pages, whom it asks, who has to wait (mach.md 1.2, 8)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from booting import PAGE, boot, disk, nothing, server_executable

from bootfs.device import MemoryDevice
from kernel.host import Host
from kernel.machsim.booted import disks_of, root_of
from kernel.machsim.startup import privileged_host_port
from kernel.user import UserTask
from mach.default_pager import DefaultPagerInfo, DefaultPagerInfoReply
from mach.default_pager_figures import DefaultPagerStatistics
from mach.kern_return import KernReturn, MachError
from mach.program import Program
from mach.rpc import call
from pager.bootstrap_paging import OwnPager

DIRECTORY = "/dev/hd0a/mach_servers"


def host_of(program: Program) -> Host:
    """The machine that a program runs on, for a test to look at."""
    assert isinstance(program.task, UserTask)
    return program.task.kernel.host


def task_named(host: Host, name: str):  # type: ignore[no-untyped-def]
    return next(task for task in host.tasks.values() if task.name == name)


# -- the default pager and its files ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_what_is_sent_before_the_pager_serves_waits_and_is_served(
    device: MemoryDevice, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mach.md 8.1, 1.2 (12 to 14): the first server runs, and pages, and asks, while nobody serves yet."""
    queued: list[int] = []
    start = OwnPager.start

    def start_late(pager: OwnPager) -> None:
        right = pager.port()
        right.port.ipc.runtime.sleep(60.0)
        queued.append(right.port.queued)
        right.drop()
        start(pager)

    monkeypatch.setattr(OwnPager, "start", start_late)

    def startup(program: Program) -> int:
        size = program.kernel.vm_statistics()["free_count"] // 2 * PAGE
        areas = [program.task.vm_allocate(size) for _ in range(3)]
        for area in areas:
            for page in range(0, size, PAGE):
                program.task.write(area + page, (area + page).to_bytes(8, "little"))
        for area in areas:
            for page in range(0, size, PAGE):
                assert program.task.read(area + page, 8) == (area + page).to_bytes(8, "little")
        manager = program.kernel.vm_set_default_memory_manager(privileged_host_port(program), None)
        assert manager is not None
        assert call(program.ipc, manager, DefaultPagerInfo, DefaultPagerInfoReply).objects >= 2
        return 0

    halted, text = boot({"hd0a": device}, startup, seed=seed, memory=(3 << 19) + (1 << 18))
    assert not halted.failed, text
    assert queued[0] > 0, "the pager served before anything had been sent"


def test_a_first_server_larger_than_memory_is_loaded_all_the_same(tmp_path: Path) -> None:
    """Mach's bootstrap serves only when the server is loaded, and so waits for itself for ever here."""
    made = server_executable(text_bytes=2 << 20)
    pages = [made[at : at + PAGE] for at in range(0, len(made), PAGE)]

    def startup(program: Program) -> int:
        return sum(program.task.read(0x10000 + number * PAGE, len(page)) != page for number, page in enumerate(pages))

    halted, text = boot({"hd0a": disk(tmp_path, {"startup": made})}, startup, memory=(3 << 19) + (1 << 18))
    assert not halted.failed, text


def test_a_manager_that_is_there_already_is_a_panic(device: MemoryDevice) -> None:
    """mach.md 1.2, step 7."""

    def usurped(program: Program) -> int:
        from pager.bootstrap import bootstrap

        host = program.ports[1]
        program.kernel.vm_set_default_memory_manager(host, program.ipc.allocate("usurper").make_send())
        bootstrap(program)
        return 0

    halted, _ = boot({"hd0a": device}, nothing, programs={"bootstrap": usurped})
    assert halted.words == "panic: (bootstrap) there is a default memory manager already"


def test_a_missing_paging_file_and_an_empty_answer_boot_without_paging(tmp_path: Path) -> None:
    """mach.md 8.48: the first dirty page-outs are lost with their object's pages alone; the pager survives; 0/0."""
    device = disk(tmp_path, {"startup": server_executable()}, paging_bytes=0)
    answers: list[tuple[int, int]] = []

    def startup(program: Program) -> int:
        manager = program.kernel.vm_set_default_memory_manager(privileged_host_port(program), None)
        assert manager is not None
        small = program.task.vm_allocate(PAGE)
        program.task.write(small, b"small")
        size = program.kernel.vm_statistics()["free_count"] * 2 * PAGE
        address = program.task.vm_allocate(size)
        lost = 0
        for page in range(0, size, PAGE):
            program.task.write(address + page, b"x")
        for page in range(0, size, PAGE):
            try:
                assert program.task.read(address + page, 1) == b"x"
            except MachError as error:
                lost += error.code == KernReturn.KERN_MEMORY_ERROR
        assert 0 < lost < size // PAGE
        info = call(program.ipc, manager, DefaultPagerInfo, DefaultPagerInfoReply)
        answers.append((info.total_space, info.free_space))
        return 0

    halted, text = boot({"hd0a": device}, startup, answers=[""])
    assert not halted.failed, text
    assert answers == [(0, 0)]
    assert f"Can't open paging file {DIRECTORY}/paging_file: 5001" in text
    assert "Paging file name ? \n*** WARNING: running without paging area!\n" in text


def test_the_paging_file_is_asked_for_until_one_is_good(tmp_path: Path) -> None:
    """mach.md 1.2, step 6; and what is unfit is asked about, where Mach panics (weakness 7)."""
    device = disk(tmp_path, {"startup": server_executable(), "small": b"x", "other": b"y" * 100_000}, paging_bytes=0)
    answers = ["/dev/hd9a/x", "mach_servers/other", DIRECTORY, f"{DIRECTORY}/small", f"{DIRECTORY}/other"]
    halted, text = boot({"hd0a": device}, nothing, answers=answers)
    assert not halted.failed, text
    errors = [line for line in text.splitlines() if line.startswith("Can't")]
    assert [("5001" in errors[0]), ("2502" in errors[1]), ("5001" in errors[2]), ("5006" in errors[3])] == [True] * 4
    assert "small" in errors[4]
    assert f"(default pager) paging on {DIRECTORY}/other: 96 KB" in text


def test_a_whole_device_can_be_the_paging_area(tmp_path: Path) -> None:
    """mach.md 2.8: a raw device has no file system to be looked into."""
    device = disk(tmp_path, {"startup": server_executable()}, paging_bytes=0)
    raw = MemoryDevice(bytearray(1 << 20))
    halted, text = boot({"hd0a": device, "hd0b": raw}, nothing, answers=["/dev/hd0b"])
    assert not halted.failed, text
    assert "(default pager) paging on /dev/hd0b: 1024 KB in 1 run\n" in text


def test_a_device_with_a_file_system_on_it_is_not_paged_over(tmp_path: Path) -> None:
    """P1: Mach takes any device whose name is typed in."""
    device = disk(tmp_path, {"startup": server_executable()}, paging_bytes=0)
    before = bytes(device.data)
    halted, text = boot({"hd0a": device, "hd0": device}, nothing, answers=["/dev/hd0a", "/dev/hd0", ""])
    assert not halted.failed, text
    for name in ("hd0a", "hd0"):
        assert f"Can't open paging file /dev/{name}: 5006 (holds a file system, which paging would destroy)" in text
    assert device.data == before


def test_a_machine_names_the_partitions_of_its_disk(tmp_path: Path) -> None:
    inner = disk(tmp_path, {"startup": server_executable()})
    whole = bytearray(64 * 512) + inner.data
    entry = struct.pack("<B3sB3sII", 0, bytes(3), 0xA5, bytes(3), 64, len(inner.data) // 512)
    whole[446 : 446 + 16], whole[510:512] = entry, b"\x55\xaa"
    names = disks_of(MemoryDevice(whole))
    assert {name: one.offset for name, one in names.items()} == {"hd0": 0, "hd0s1": 64 * 512}
    devices = {name: one.device for name, one in names.items()}
    halted, text = boot(devices, nothing, root=root_of(names))
    assert not halted.failed, text
    assert "(default pager) paging on /dev/hd0s1/mach_servers/paging_file: 4096 KB in 1 run" in text


def test_the_server_directory_is_asked_for_until_it_is_one(device: MemoryDevice) -> None:
    """mach.md 1.2, step 4: -q asks before it looks; an empty line keeps the default; it never gives up.
    Weakness 21: in Mach the first failure frees what an uninitialised structure names."""
    answers = ["/dev/hd0a/nosuch", "/dev/hd0a/mach_servers/startup", "/dev/hd0a", "/dev/hd7/x", ""]
    halted, text = boot({"hd0a": device}, nothing, flags="-q", answers=answers)
    assert not halted.failed, text
    prompt = f"Server directory? [ {DIRECTORY} ] "
    assert text.count(prompt) == 5
    assert text.index(prompt) < text.index("Can't open")
    assert "Can't open server directory /dev/hd0a/nosuch: 5001" in text
    assert "/dev/hd0a/mach_servers/startup is not a directory" in text
    assert "/dev/hd0a is not a directory" in text
    assert "Can't open server directory /dev/hd7/x: 2502" in text


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("mach_servers/x", 5001),
        ("/dev/nosuch/x", 2502),
        ("/dev/hd0a/mach_servers/startup/x", 5000),
        ("/dev/hd0a/" + "c" * 257, 5002),
        ("/dev/hd0a/\udc80", 5006),
        ("/dev/hd0a/mach_servers/", 5001),
    ],
)
def test_paths_answered_at_the_console_fail_with_machs_codes(device: MemoryDevice, path: str, code: int) -> None:
    """mach.md 8.31, over the device service of a machine; the rest of 8.31 is tests/bootfs/test_bootfs_lookup.py."""
    halted, text = boot({"hd0a": device}, nothing, flags="-q", answers=[path, ""])
    assert not halted.failed, text
    assert f"Can't open server directory {path}: {code} (" in text


def test_nobody_at_the_console_is_a_panic_and_no_endless_question(device: MemoryDevice) -> None:
    halted, _ = boot({"hd0a": device}, nothing, root="hd5")
    assert halted.words == "panic: (bootstrap) nobody answers at the console"


def test_a_broken_disk_is_asked_about(tmp_path: Path) -> None:
    halted, text = boot({"hd0a": MemoryDevice(bytearray(1 << 20))}, nothing)
    assert halted.failed
    assert f"Can't open server directory {DIRECTORY}: 5004" in text


def test_a_stranger_s_message_to_the_bootstrap_port_stops_nothing(device: MemoryDevice) -> None:
    """mach.md 8.47: in Mach an unknown message in the default set is a panic."""

    def startup(program: Program) -> int:
        bootstrap = program.task.bootstrap_port()
        assert bootstrap is not None
        reply = program.ipc.allocate("reply")
        bootstrap.send(DefaultPagerStatistics(reply.make_send_once()))
        assert type(reply.receive().message).__name__ == "SendOnce"  # type: ignore[union-attr]
        privileged_host_port(program)
        return 0

    halted, text = boot({"hd0a": device}, startup)
    assert not halted.failed, text
    assert "DefaultPagerStatistics is sent to the bootstrap port: refused" in text
