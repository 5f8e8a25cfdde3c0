"""The device service: ports, codes, whose memory a transfer stands in, and who waits for whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulated_machine import PAGE, Machine, on_machine

from bootfs.device import MemoryDevice
from kernel.disk import ModelledDisk
from kernel.vm_object import VmObject
from mach.device import (
    DEV_GET_SIZE,
    MAX_TRANSFER_BYTES,
    RECORD_BYTES,
    DeviceClose,
    DeviceGetStatus,
    DeviceGetStatusReply,
    DeviceOpen,
    DeviceOpenReply,
    DeviceRead,
    DeviceReadReply,
    DeviceWrite,
    DeviceWriteReply,
    DevMode,
)
from mach.kern_return import KernReturn
from mach.message import Message
from mach.page_list import PageList, vm_deallocate
from mach.ports import SendOnceRight, SendRight
from mach.rpc import call

DISK_BYTES = 1 << 20
Body = Callable[[Machine, bytearray], None]


def with_disk(body: Body, *, seed: int = 0, writable: bool = True, frames: int = 256) -> Machine:
    """A machine with the devices "sd0" and, exclusive, "tape"."""

    def run(machine: Machine) -> None:
        contents = bytearray(range(256)) * (DISK_BYTES // 256)
        disk = MemoryDevice(contents, writable)
        machine.host.devices.attach("sd0", ModelledDisk(machine.runtime, disk))
        machine.host.devices.attach("tape", MemoryDevice(bytearray(RECORD_BYTES)), exclusive=True)
        machine.host.start()
        body(machine, contents)

    return on_machine(run, seed=seed, daemon=False, frames=frames)


def open_device(machine: Machine, name: str = "sd0") -> DeviceOpenReply:
    master = machine.host.devices.master
    return call(machine.ipc, master, lambda reply: DeviceOpen(reply, DevMode.READ, name), DeviceOpenReply)


def opened(machine: Machine, name: str = "sd0") -> SendRight:
    reply = open_device(machine, name)
    assert reply.result == KernReturn.KERN_SUCCESS
    assert reply.device is not None
    return reply.device


def read(machine: Machine, device: SendRight, recnum: int, length: int) -> DeviceReadReply:
    def request(reply: SendOnceRight) -> Message:
        return DeviceRead(reply, DevMode.NONE, recnum, length)

    return call(machine.ipc, device, request, DeviceReadReply)


def write(machine: Machine, device: SendRight, recnum: int, data: bytes) -> DeviceWriteReply:
    def request(reply: SendOnceRight) -> Message:
        return DeviceWrite(reply, DevMode.NONE, recnum, data)

    return call(machine.ipc, device, request, DeviceWriteReply)


def take_frames(machine: Machine, leave: int) -> VmObject:
    """Wire frames until only `leave` are free."""
    resident = machine.host.resident
    with machine.host.processor.lock:
        taken = machine.host.objects.allocate(512 * PAGE)
        for offset in range(0, (resident.free_count - leave) * PAGE, PAGE):
            page = resident.alloc(taken, offset)
            assert page is not None
            resident.wire(page)
            resident.done(page)
    return taken


def test_what_is_written_to_a_device_is_read_from_it() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        assert write(machine, device, 3, b"z" * 1024) == DeviceWriteReply(KernReturn.KERN_SUCCESS, 1024)
        assert contents[3 * 512 : 5 * 512] == b"z" * 1024
        reply = read(machine, device, 2, 2048)
        assert (reply.result, bytes(reply.data)) == (KernReturn.KERN_SUCCESS, bytes(contents[1024:3072]))
        vm_deallocate(reply.data)

    machine = with_disk(body)
    assert machine.host.resident.free_count == machine.host.resident.store.frames


def test_only_the_master_port_opens_devices_and_only_those_that_there_are() -> None:
    """Appendix A: not the master port D_INVALID_OPERATION, unknown D_NO_SUCH_DEVICE, exclusive D_ALREADY_OPEN."""

    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        through = call(machine.ipc, device, lambda reply: DeviceOpen(reply, DevMode.READ, "sd0"), DeviceOpenReply)
        assert through == DeviceOpenReply(KernReturn.D_INVALID_OPERATION, None)
        assert open_device(machine, "nosuch").result == KernReturn.D_NO_SUCH_DEVICE
        assert open_device(machine, "x" * 200).result == KernReturn.D_NO_SUCH_DEVICE
        assert write(machine, machine.host.devices.master, 0, bytes(512)).result == KernReturn.D_INVALID_OPERATION
        tape = opened(machine, "tape")
        assert open_device(machine, "tape").result == KernReturn.D_ALREADY_OPEN
        tape.send(DeviceClose())
        assert open_device(machine, "tape").result == KernReturn.KERN_SUCCESS

    with_disk(body)


def test_a_second_open_counts_and_gives_the_same_port_and_the_last_close_ends_it() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        one, other = opened(machine), opened(machine)
        assert one.port is other.port
        one.send(DeviceClose())
        assert write(machine, other, 0, b"y" * 512).result == KernReturn.KERN_SUCCESS
        other.send(DeviceClose())
        assert write(machine, other, 0, b"x" * 512).result == KernReturn.D_NO_SUCH_DEVICE
        assert read(machine, other, 0, 512) == DeviceReadReply(KernReturn.D_NO_SUCH_DEVICE, b"")
        assert contents[:512] == b"y" * 512
        port = one.port
        one.drop()
        other.drop()
        assert port.dead
        assert opened(machine).port is not port

    with_disk(body)


@pytest.mark.parametrize(
    ("recnum", "length", "code"),
    [
        (0, 0, KernReturn.D_INVALID_SIZE),
        (0, 100, KernReturn.D_INVALID_SIZE),
        (0, MAX_TRANSFER_BYTES + 512, KernReturn.D_INVALID_SIZE),
        (0, 1 << 31, KernReturn.D_INVALID_SIZE),
        (DISK_BYTES // 512, 512, KernReturn.D_INVALID_RECNUM),
        (1 << 60, 512, KernReturn.D_INVALID_RECNUM),
    ],
)
def test_a_request_that_no_device_can_do_is_refused_before_it_costs_anything(
    recnum: int, length: int, code: KernReturn
) -> None:
    """Weakness 16: Mach has no limit on the size of a request."""

    def body(machine: Machine, contents: bytearray) -> None:
        before = bytes(contents)
        device = opened(machine)
        assert read(machine, device, recnum, length) == DeviceReadReply(code, b"")
        if length < 1 << 20:
            assert write(machine, device, recnum, bytes(length)) == DeviceWriteReply(code, 0)
        assert contents == before
        assert machine.host.resident.free_low == machine.host.resident.store.frames

    with_disk(body)


def test_a_read_that_is_more_than_the_machine_can_ever_spare_is_refused() -> None:
    """Weakness 16: it would wait for ever, with what it has got."""

    def body(machine: Machine, contents: bytearray) -> None:
        assert read(machine, opened(machine), 0, 20 * PAGE).result == KernReturn.D_NO_MEMORY
        assert machine.host.resident.free_count == 64

    with_disk(body, frames=64)


def test_a_transfer_across_the_end_of_the_device_is_cut_there() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        reply = read(machine, device, DISK_BYTES // 512 - 2, PAGE)
        assert len(reply.data) == 1024
        vm_deallocate(reply.data)
        assert write(machine, device, DISK_BYTES // 512 - 1, bytes(1024)).bytes_written == 512

    with_disk(body)


def test_a_medium_that_fails_gives_its_own_code_and_the_device_goes_on() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        assert write(machine, device, 0, bytes(512)) == DeviceWriteReply(KernReturn.D_READ_ONLY, 0)
        reply = read(machine, device, 0, 512)
        assert reply.result == KernReturn.KERN_SUCCESS
        vm_deallocate(reply.data)

    with_disk(body, writable=False)


def test_a_device_tells_its_size_and_its_record() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        def status(flavor: int) -> DeviceGetStatusReply:
            return call(machine.ipc, device, lambda reply: DeviceGetStatus(reply, flavor), DeviceGetStatusReply)

        device = opened(machine)
        assert status(DEV_GET_SIZE) == DeviceGetStatusReply(KernReturn.KERN_SUCCESS, DISK_BYTES, 512)
        assert status(7).result == KernReturn.D_INVALID_OPERATION

    with_disk(body)


def test_a_write_is_sent_when_it_is_queued_and_its_pages_stay_until_the_device_is_done() -> None:
    """mach.md 8.39: the send returns once the data is queued; pages are pinned until completion."""

    def body(machine: Machine, contents: bytearray) -> None:
        task, address = machine.memory(4)
        task.write(address, b"p" * 4 * PAGE)
        device = opened(machine)
        data = machine.host.device_memory.pin(task, address, 2 * PAGE)
        assert isinstance(data, PageList)
        assert machine.host.resident.wire_count == 2
        reply = machine.ipc.allocate("reply")
        device.send(DeviceWrite(reply.make_send_once(), DevMode.NONE, 0, data))
        assert contents[0] == 0, "the disk has not turned yet"
        task.vm_deallocate(address, 4 * PAGE)  # the pages are the device's until it is done
        machine.squeeze()
        assert machine.host.resident.wire_count - machine.host.resident.laundry_count in (0, 2)
        received = reply.receive()
        assert received is not None
        assert received.message == DeviceWriteReply(KernReturn.KERN_SUCCESS, 2 * PAGE)
        assert contents[: 2 * PAGE] == b"p" * 2 * PAGE
        assert machine.host.resident.wire_count == machine.host.resident.laundry_count

    for seed in range(10):
        with_disk(body, seed=seed)


@pytest.mark.parametrize("by_the_manager", [True, False])
def test_what_is_read_is_wired_for_the_default_manager_and_pageable_for_others(by_the_manager: bool) -> None:
    """mach.md 8.39, weakness 15: the rule of the paper's 5.5, which Mach 3.0 had lost by 1993."""

    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        manager = object()  # a task
        machine.pager.service.port.receiver = manager
        reply: list[DeviceReadReply] = []

        def reader() -> None:
            machine.runtime.current().task = manager if by_the_manager else object()
            reply.append(read(machine, device, 0, 2 * PAGE))

        machine.runtime.fork(reader, "reader").join()
        assert bytes(reply[0].data) == bytes(contents[: 2 * PAGE])
        assert machine.host.resident.wire_count == (2 if by_the_manager else 0)
        machine.squeeze()
        frames = machine.host.resident.store.frames - machine.host.resident.free_count
        assert (frames >= 2) if by_the_manager else (frames < 2), "pageable data goes when memory is short"
        vm_deallocate(reply[0].data)
        machine.settle()
        assert machine.host.resident.free_count == machine.host.resident.store.frames

    with_disk(body)


def test_an_unprivileged_read_waits_for_memory_and_a_privileged_one_does_not() -> None:
    """mach.md 4.8, P6: the reserve is for those on whom pageout depends; nobody else's request is in their way."""

    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        taken = take_frames(machine, leave=machine.host.resident.thresholds.reserved - 1)
        ended: list[str] = []

        def reader(name: str, privileged: bool) -> None:
            machine.runtime.current().vm_privilege = privileged
            vm_deallocate(read(machine, device, 0, 2 * PAGE).data)
            ended.append(name)

        ordinary = [machine.runtime.fork(lambda n=n: reader(n, False), n) for n in ("one", "two")]  # type: ignore[misc]
        machine.runtime.sleep(5)
        assert ended == []
        machine.runtime.fork(lambda: reader("privileged", True), "privileged").join()
        assert ended == ["privileged"]
        with machine.host.processor.lock:
            machine.host.objects.deallocate(taken)
        for thread in ordinary:
            thread.join()
        assert sorted(ended[1:]) == ["one", "two"]

    for seed in range(10):
        with_disk(body, seed=seed)


def test_two_large_reads_do_not_each_hold_the_frames_that_the_other_needs() -> None:
    """Weakness 16, starvation in device_io_map: there are frames for either, and each waits for all of its own."""

    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        take_frames(machine, leave=machine.host.resident.thresholds.reserved + 14)
        ended: list[str] = []

        def reader(name: str) -> None:
            vm_deallocate(read(machine, device, 0, 15 * PAGE).data)
            ended.append(name)

        for thread in [machine.runtime.fork(lambda n=n: reader(n), n) for n in ("one", "two", "three")]:  # type: ignore[misc]
            thread.join()
        assert sorted(ended) == ["one", "three", "two"]

    for seed in range(10):
        with_disk(body, seed=seed, frames=64)


def test_a_close_does_not_overtake_what_was_asked_before() -> None:
    """Weakness 16: in Mach a close may proceed at any point."""

    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        reply = machine.ipc.allocate("reply")
        for record in range(5):
            device.send(DeviceWrite(reply.make_send_once(), DevMode.NONE, record, b"c" * 512))
        device.send(DeviceClose())
        device.drop()
        for _ in range(5):
            received = reply.receive()
            assert received is not None
            assert received.message == DeviceWriteReply(KernReturn.KERN_SUCCESS, 512)
        assert contents[: 5 * 512] == b"c" * 5 * 512

    for seed in range(10):
        with_disk(body, seed=seed)


def test_data_for_a_reader_that_has_died_is_freed_with_its_answer() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        device = opened(machine)
        reply = machine.ipc.allocate("reply")
        device.send(DeviceRead(reply.make_send_once(), DevMode.NONE, 0, PAGE))
        reply.destroy()
        machine.settle()
        assert machine.host.resident.free_count == machine.host.resident.store.frames

    with_disk(body)


def test_data_can_be_mapped_into_the_task_that_asked_for_it() -> None:
    def body(machine: Machine, contents: bytearray) -> None:
        task = machine.host.task_create("reader")
        reply = read(machine, opened(machine), 0, 2 * PAGE)
        address = machine.host.device_memory.map_into(task, reply.data)  # type: ignore[arg-type]
        machine.squeeze()
        assert task.read(address, 2 * PAGE) == bytes(contents[: 2 * PAGE]), "it comes back from the pager"
        task.terminate()
        machine.settle()
        assert machine.host.resident.free_count == machine.host.resident.store.frames

    with_disk(body)
