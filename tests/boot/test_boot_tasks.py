"""The first two tasks of a machine: bootstrap out of the boot file, the first server off the disk (mach.md 1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from booting import PAGE, boot, boot_file, bootstrap_executable, disk, kernel_executable, nothing, server_executable

from bootfs.device import MemoryDevice
from kernel.host import Host
from kernel.machsim.booted import PROGRAMS, BootedMachine
from kernel.user import UserTask
from mach.aout import Magic
from mach.argument_block import STACK_BYTES, VM_MAX_ADDRESS, read_arguments
from mach.boot_image import dissect, glue
from mach.bootstrap import (
    BootstrapPorts,
    BootstrapPortsReply,
    BootstrapPrivilegedPorts,
    BootstrapPrivilegedPortsReply,
)
from mach.device import DeviceOpen, DeviceOpenReply, DevMode
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.program import Program
from mach.rpc import call

DIRECTORY = "/dev/hd0a/mach_servers"


def host_of(program: Program) -> Host:
    """The machine that a program runs on, for a test to look at."""
    assert isinstance(program.task, UserTask)
    return program.task.kernel.host


def task_named(host: Host, name: str):  # type: ignore[no-untyped-def]
    return next(task for task in host.tasks.values() if task.name == name)


# -- the first task --------------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", Magic)
@pytest.mark.parametrize("text_bytes", [3 * PAGE, 3 * PAGE - 8000, PAGE - 32, 64])
def test_the_bootstrap_task_is_its_image_mapped_in_place(device: MemoryDevice, magic: Magic, text_bytes: int) -> None:
    """mach.md 6.5: whole pages are the physical pages themselves, the rest of data and BSS are fresh; text is read
    only in whole pages; and the image's symbols stay as they are."""
    executable = bootstrap_executable(magic, text_bytes)
    content = glue(kernel_executable(), executable)
    image = dissect(content)
    seen: list[bool] = []

    def startup(program: Program) -> int:
        host, info = host_of(program), image.load_info
        task = task_named(host, "bootstrap")
        size = info.text_size + info.data_size
        assert task.read(info.text_start, size) == image.bootstrap[:size]
        end = -(-(info.data_end + info.bss_size) // PAGE) * PAGE
        assert not any(task.read(info.data_end, end - info.data_end))
        frames, image_object = [], None
        for address in range(info.text_start, end, PAGE):
            entry = task.map.lookup(address)
            assert entry is not None
            assert entry.object is not None
            page = entry.object.pages[entry.offset + address - entry.start]
            assert page.wire_count > 0, "who pages others may not be paged (paper §5.4)"
            if address + PAGE <= info.text_start + size:
                frames.append(page.frame)
                image_object = entry.object
            else:
                assert entry.object is not image_object, "the image's last page is mapped with its symbols"
            writable = address + PAGE > info.text_start + info.text_size
            assert bool(entry.protection & VmProt.WRITE) is writable
        memory = bytes(host.resident.store.view)
        symbols = image.bootstrap[info.sym_offset :]
        assert frames == list(range(frames[0], frames[0] + len(frames))) if frames else size < PAGE
        assert symbols in memory, "the image's symbols were written over"
        seen.append(True)
        return 0

    halted, text = boot({"hd0a": device}, startup, content=content)
    assert not halted.failed, text
    assert seen == [True]


def test_the_kernels_own_frames_are_never_pages(device: MemoryDevice) -> None:
    """What the kernel and the image lie in is wired for ever; the thresholds are made for the rest (mach.md 4.4)."""

    def inspect(machine: BootedMachine) -> None:
        resident = machine.host.resident
        view = bytes(resident.store.view)
        image = dissect(boot_file())
        start = 0x100000
        assert view[start : start + len(image.kernel)] == image.kernel
        assert image.kernel_symbols in view
        assert resident.wire_count >= len(image.kernel) // PAGE

    def startup(program: Program) -> int:
        size = program.kernel.vm_statistics()["free_count"] * 2 * PAGE
        address = program.task.vm_allocate(size)
        for page in range(0, size, PAGE):
            program.task.write(address + page, b"x")
        return 0

    halted, text = boot({"hd0a": device}, startup, inspect=inspect)
    assert not halted.failed, text


@pytest.mark.parametrize(("flags", "root"), [("-x", "hd0a"), ("-sd", "hd0a")])
def test_the_bootstrap_task_is_told_its_flags_ports_and_root(device: MemoryDevice, flags: str, root: str) -> None:
    """mach.md 1.1: argv is exactly bootstrap, flags, two port names, root; the names are rights to host and devices;
    and the boot stack is given back before serving (1.2, 13)."""
    told: list[list[bytes]] = []

    def bootstrap(program: Program) -> int:
        arguments = read_arguments(program.task.read, program.sp)
        told.append(arguments)
        host, device_port = (program.ports[int(name)] for name in arguments[2:4])
        assert program.kernel.vm_set_default_memory_manager(host, None) is None
        reply = call(program.ipc, device_port, lambda right: DeviceOpen(right, DevMode.READ, root), DeviceOpenReply)
        assert reply.result == KernReturn.KERN_SUCCESS
        region = program.task.vm_region(program.sp)
        assert (region.start, region.end) == (VM_MAX_ADDRESS - STACK_BYTES, VM_MAX_ADDRESS)
        return 0

    halted, text = boot({"hd0a": device}, flags=flags, root=root, programs={"bootstrap": bootstrap})
    assert not halted.failed, text
    assert told == [[b"bootstrap", flags.encode(), b"1", b"2", root.encode()]]


def test_the_boot_stack_is_given_back(device: MemoryDevice) -> None:
    """mach.md 1.2, step 13."""

    def inspect(machine: BootedMachine) -> None:
        assert task_named(machine.host, "bootstrap").map.lookup(VM_MAX_ADDRESS - PAGE) is None

    assert not boot({"hd0a": device}, nothing, inspect=inspect)[0].failed


def test_a_kernel_alone_starts_no_bootstrap_task(device: MemoryDevice) -> None:
    """mach.md 8.34, 1.1."""
    content = bytearray(boot_file())
    content[dissect(bytes(content)).info.offset] ^= 1
    halted, text = boot({"hd0a": device}, content=bytes(content))
    assert halted.failed
    assert "Not starting bootstrap task." in text


# -- the first server ------------------------------------------------------------------------------------


def test_the_first_server_gets_its_arguments_and_asks_for_its_ports(device: MemoryDevice) -> None:
    """mach.md 8.33: argv exactly [startup, flags, root, dir]; no port among them; by RPC it gets both."""
    told: list[list[bytes]] = []

    def startup(program: Program) -> int:
        told.append(read_arguments(program.task.read, program.sp))
        assert not program.ports, "it was given rights that it has not asked for"
        bootstrap = program.task.bootstrap_port()
        assert bootstrap is not None
        new = call(program.ipc, bootstrap, BootstrapPrivilegedPorts, BootstrapPrivilegedPortsReply)
        assert new.host is not None
        assert new.device is not None
        old = call(program.ipc, bootstrap, BootstrapPorts, BootstrapPortsReply)  # the old protocol
        for host, devices in ((new.host, new.device), (old.host, old.device)):
            assert program.kernel.vm_set_default_memory_manager(host, None) is not None
            opened = call(program.ipc, devices, lambda right: DeviceOpen(right, DevMode.READ, "hd0a"), DeviceOpenReply)
            assert opened.result == KernReturn.KERN_SUCCESS
        return 0

    halted, text = boot({"hd0a": device}, startup, flags="-sn")
    assert not halted.failed, text
    assert told == [[b"startup", b"-sn", b"hd0a", DIRECTORY.encode()]]


def test_the_argument_block_lies_as_in_mach(device: MemoryDevice) -> None:
    """mach.md 8.33, 1.1: argc, pointers, 0, 0, packed strings; 20 bytes are left above it."""
    blocks: list[tuple[int, bytes]] = []

    def startup(program: Program) -> int:
        blocks.append((program.sp, program.task.read(program.sp, VM_MAX_ADDRESS - program.sp)))
        return 0

    boot({"hd0a": device}, startup)
    ((sp, block),) = blocks
    strings = [b"startup", b"-x", b"hd0a", DIRECTORY.encode()]
    at = sp + 4 * 7
    words = [4]
    for string in strings:
        words.append(at)
        at += len(string) + 1
    expected = b"".join(word.to_bytes(4, "little") for word in [*words, 0, 0]) + b"\0".join(strings) + b"\0"
    expected += bytes(-len(expected) % 4)
    assert block == expected + bytes(20)


@pytest.mark.parametrize("magic", Magic)
def test_the_first_server_is_in_memory_as_its_file_says(tmp_path: Path, magic: Magic) -> None:
    """mach.md 8.33: text, data and BSS at their places, and whole pages of text cannot be written to."""
    made = server_executable(magic)
    checked: list[bool] = []

    def startup(program: Program) -> int:
        start = 0x10000
        body = made if magic is Magic.ZMAGIC else made[32:]
        assert program.task.read(start, len(body)) == body
        assert not any(program.task.read(start + len(body), 9000))
        if magic is Magic.OMAGIC:
            program.task.write(start, b"x")  # it is all data
        else:
            with pytest.raises(MachError, match="KERN_PROTECTION_FAILURE"):
                program.task.write(start, b"x")
            program.task.write(start + PAGE, b"x")  # the last page of text, which data shares, is writable
        checked.append(True)
        return 0

    halted, text = boot({"hd0a": disk(tmp_path, {"startup": made})}, startup)
    assert not halted.failed, text
    assert checked == [True]


def test_execute_bits_do_not_matter(tmp_path: Path) -> None:
    """mach.md 8.33: deliberately not asked for."""
    device = disk(tmp_path, {"startup": server_executable()})
    assert (tmp_path / "tree/mach_servers/startup").stat().st_mode & 0o111 == 0
    assert not boot({"hd0a": device}, nothing)[0].failed


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"#!/bin/sh\n" * 10, 6000, "magic"),
        (server_executable(Magic.NMAGIC)[:4] + bytes(4) + server_executable(Magic.NMAGIC)[8:], 6000, "without text"),
        (server_executable(Magic.ZMAGIC)[:4] + bytes(4) + server_executable(Magic.ZMAGIC)[8:], 6000, "without text"),
        (b"\x07\x01", 5005, ""),
        (server_executable(Magic.NMAGIC)[:3000], 5005, ""),
        (server_executable(Magic.OMAGIC)[:-1], 5005, ""),
        (server_executable(Magic.ZMAGIC)[:-1], 5005, ""),
    ],
)
def test_what_is_no_server_is_a_panic_with_machs_code(tmp_path: Path, content: bytes, code: int, words: str) -> None:
    """mach.md 8.33: 6000 for what is no executable, 5005 for one cut short."""
    halted, _ = boot({"hd0a": disk(tmp_path, {"startup": content})}, nothing)
    assert halted.failed
    assert f"panic: (bootstrap) cannot load {DIRECTORY}/startup: {code} (" in halted.words
    assert words in halted.words


def test_no_server_at_all_or_a_directory_is_a_panic(tmp_path: Path) -> None:
    """mach.md 8.33."""
    (tmp_path / "one").mkdir()
    halted, _ = boot({"hd0a": disk(tmp_path / "one", {})}, nothing)
    assert "startup: 5001" in halted.words
    (tmp_path / "two").mkdir()
    halted, _ = boot({"hd0a": disk(tmp_path / "two", {"startup/x": b""})}, nothing)
    assert "startup: 6000 (not a regular file)" in halted.words


def test_memory_of_a_server_that_cannot_be_loaded_is_given_back(tmp_path: Path) -> None:
    """mach.md 7.1, weakness 22."""
    statistics: list[dict[str, int]] = []

    def inspect(machine: BootedMachine) -> None:
        statistics.append(machine.host.vm_statistics())
        assert [task.name for task in machine.host.tasks.values()] == ["bootstrap"]

    whole = server_executable(text_bytes=400_000)
    boot({"hd0a": disk(tmp_path, {"startup": whole[:-1]})}, nothing, inspect=inspect)
    (tmp_path / "none").mkdir()
    boot({"hd0a": disk(tmp_path / "none", {"startup": b"not one, and of no size"})}, nothing, inspect=inspect)
    assert statistics[0]["free_count"] == statistics[1]["free_count"]


def test_a_server_that_faults_is_an_exception_that_panics(device: MemoryDevice) -> None:
    """mach.md 1.3, DP:3640: code triple, and panic."""

    def startup(program: Program) -> int:
        program.task.read(0x30000000, 1)
        return 0

    halted, _ = boot({"hd0a": device}, startup)
    assert halted.failed
    assert "exception EXC_BAD_ACCESS in startup: code 1 (KERN_INVALID_ADDRESS), at 0x30000000" in halted.words


def test_an_exception_of_the_bootstrap_service_itself_is_heard(device: MemoryDevice) -> None:
    """Weakness 20: Hurd names its exception port before there is one.  Here a right is made of a port."""

    def bootstrap(program: Program) -> int:
        PROGRAMS["bootstrap"](program)
        program.task.read(0x30000000, 1)
        return 0

    def startup(program: Program) -> int:
        program.runtime.sleep(10)
        return 0

    halted, _ = boot({"hd0a": device}, startup, programs={"bootstrap": bootstrap})
    assert "exception EXC_BAD_ACCESS in bootstrap: code 1 (KERN_INVALID_ADDRESS), at 0x30000000" in halted.words


def test_machine_code_without_a_processor_for_it_is_a_bad_instruction(tmp_path: Path) -> None:
    made = bytearray(server_executable())
    made[32:36] = b"\x90\x90\x90\xf4"
    halted, _ = boot({"hd0a": disk(tmp_path, {"startup": bytes(made)})})
    assert "exception EXC_BAD_INSTRUCTION in startup" in halted.words


def test_a_server_that_fails_is_a_machine_that_failed(device: MemoryDevice) -> None:
    halted, _ = boot({"hd0a": device}, lambda program: 3)
    assert (halted.failed, halted.words) == (True, "startup has ended with status 3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([b"bootstrap", b"-x", b"1", b"2"], "not enough arguments"),
        ([b"bootstrap", b"x", b"1", b"2", b"hd0a"], "no flags"),
    ],
)
def test_a_bootstrap_that_is_told_nonsense_panics(device: MemoryDevice, arguments: list[bytes], words: str) -> None:
    """mach.md 1.2, step 2."""
    halted, _ = boot({"hd0a": device}, programs={"bootstrap": _told(arguments)})
    assert halted.words == f"panic: (bootstrap) {words}"


def _told(arguments: list[bytes]) -> Callable[[Program], int]:
    def program(program: Program) -> int:
        from mach.argument_block import argument_block
        from pager.bootstrap import bootstrap

        program.task.write(program.sp, argument_block(arguments, program.sp))
        bootstrap(program)
        return 0

    return program
