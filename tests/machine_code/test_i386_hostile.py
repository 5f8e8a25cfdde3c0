"""P7: no message and no trap of a program crashes the machine, or reaches what the program holds no right to."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from booting import ScriptedConsole
from programs import EXIT, INSTRUCTION_SECONDS, MIB, PAGE, run_code

from kernel.i386.traps import TRAPS, trap
from kernel.mach_server import MIG_BAD_ID
from kernel.machsim.exec import ProgramMachine
from kernel.machsim.machine import Machine
from kernel.user import UserTask, UserThread
from mach.kern_return import MachError
from mach.mach_interface import (
    REQUESTS,
    MachPortInsertRight,
    MachPortRequestNotification,
    TaskSetSpecialPort,
    VmMap,
    VmSetDefaultMemoryManager,
)
from mach.threads.simulated import SimulatedRuntime
from mach.typed import Disposition, TypedMessage

BUFFER, STACK = 0x100000, 0x200000
ROUNDS = 400
MACH_MSG, SELF, TERMINATE = 25, 28, 69
RCV_TIMEOUT, SEND, RCV = 0x100, 1, 2


def _random_message(chance: random.Random, names: list[int]) -> bytes:
    """A header to a real port, an identity that somebody serves, and items that may be anything."""
    identity = chance.choice([*REQUESTS, chance.randrange(1 << 31)])
    bits = chance.choice(list(Disposition)) | chance.choice([0, *Disposition]) << 8 | chance.choice([0, 1 << 31])
    body = b""
    for _ in range(chance.randrange(6)):
        kind = chance.choice([0, 2, 8, 9, 12, *Disposition])
        number = chance.choice([1, 1, 1, 2, 0, 4095])
        flags = chance.choice([1 << 28, 1 << 28, 0, chance.getrandbits(3) << 28])
        body += struct.pack("<I", kind | chance.choice([8, 32, 32]) << 8 | number << 16 | flags)
        body += struct.pack("<I", chance.choice([*names, 0, 0xFFFFFFFF, BUFFER, 1, 4096, chance.getrandbits(32)]))
    remote, local = chance.choice(names), chance.choice([0, *names])
    return struct.pack("<6I", bits, 24 + len(body), remote, local, 0, identity) + body


def _write(task: UserTask, address: int, content: bytes) -> None:
    """Into memory that the program may just have given back, or protected."""
    try:
        task.write(address, content)
    except MachError:
        task.vm_deallocate(address, PAGE)
        task.vm_allocate(PAGE, address)
        task.write(address, content)


def _call(thread: UserThread, number: int, *arguments: int) -> int:
    """A trap as the program would make it; the stack is where its arguments are."""
    _write(thread.task, STACK, struct.pack(f"<{len(arguments) + 1}I", 0, *(word & 0xFFFFFFFF for word in arguments)))
    return trap(thread, -number, STACK)


def _hostile(task: UserTask, chance: random.Random) -> None:
    """Messages and traps of which hardly any make sense."""
    thread = task.thread_create()
    task.vm_allocate(16 * PAGE, BUFFER)
    task.vm_allocate(PAGE, STACK)
    names = [_call(thread, SELF), _call(thread, 27), _call(thread, 29), *(_call(thread, 26) for _ in range(4))]
    names += [task.insert_right(right) for right in (task.kernel.host.devices.master.copy(),)]
    right = task.bootstrap_port()
    assert right is not None
    names.append(task.space.insert(right))
    for _ in range(ROUNDS):
        if task.halted:
            return
        if chance.random() < 0.6:
            content = _random_message(chance, names)
            _write(task, BUFFER, content)
            size = chance.choice([len(content), len(content), chance.randrange(100)])
            option = chance.choice([SEND, SEND | RCV | RCV_TIMEOUT, RCV | RCV_TIMEOUT])
            _call(thread, MACH_MSG, BUFFER, option, size, chance.choice([24, 512]), chance.choice(names), 1, 0)
        else:
            number = chance.choice([one for one in TRAPS if one not in (MACH_MSG, TERMINATE)])
            values = [*names, BUFFER, 0, 1, PAGE, chance.getrandbits(32)]
            words = [chance.choice(values) for _ in range(TRAPS[number][0])]
            if number == 61:
                words[-1] %= 1000
            _call(thread, number, *words)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_program_sends_and_calls_the_machine_goes_on(seed: int, tmp_path: Path) -> None:
    runtime = SimulatedRuntime(seed)
    done: list[str] = []

    def main() -> None:
        machine = Machine(runtime, 2 * MIB, 4 * MIB)
        one = ProgramMachine(machine.host, ScriptedConsole(), tmp_path, INSTRUCTION_SECONDS)
        lasting = [right.port for right in (one._bootstrap, one.user.host_port, machine.host.devices.master)]
        before = [port.send_rights for port in lasting]
        task = one.user.task_create("hostile")
        task.set_bootstrap_port(one._bootstrap.make_send())
        _hostile(task, random.Random(seed))
        for left in [*one.user.by_port.values()]:
            if isinstance(left, UserTask):
                left.terminate()
        runtime.sleep(60.0)
        machine.host.check()
        assert [port.send_rights for port in lasting] == before, "a right has leaked, or was dropped twice"
        assert one.user.by_port == {}
        assert [task.name for task in machine.host.tasks.values()] == ["default pager"]
        done.append("yes")

    runtime.run(main)
    assert done


def test_a_program_that_sends_itself_garbage_ends_well(tmp_path: Path) -> None:
    """By machine code: a message whose header is the program's own first bytes."""
    send = bytes.fromhex("6a006a006a006a006a406a0168") + struct.pack("<I", 0x10000)
    run = run_code(tmp_path, send + bytes.fromhex("50b8e7ffffff9a000000000700") + EXIT)
    assert not run.halted.failed


def test_the_rights_of_a_call_that_is_refused_are_given_up(tmp_path: Path) -> None:
    runtime = SimulatedRuntime(0)
    results: list[int] = []

    def main() -> None:
        machine = Machine(runtime, MIB, MIB)
        one = ProgramMachine(machine.host, ScriptedConsole(), tmp_path, INSTRUCTION_SECONDS)
        task = one.user.task_create("refused")
        reply, carried = machine.ipc.allocate("reply"), machine.ipc.allocate("carried")
        to = task.port.make_send()
        for request in (
            TaskSetSpecialPort(reply.make_send_once(), 99, carried.make_send()),
            VmMap(reply.make_send_once(), 0, 0, 0, 1, carried.make_send(), 0, 0, 3, 7, 1),
            MachPortInsertRight(reply.make_send_once(), 0, carried.make_send()),
            MachPortRequestNotification(reply.make_send_once(), 5, 5, 0, None),
            VmSetDefaultMemoryManager(reply.make_send_once(), carried.make_send()),  # not a task's
        ):
            to.send(request)
            received = reply.receive(0.0)
            assert received is not None
            assert isinstance(received.message, TypedMessage)
            (result,) = received.message.items
            results.append(int.from_bytes(result.words, "little", signed=True))
        assert carried.port.send_rights == 0, "a right has leaked"

    runtime.run(main)
    assert all(result != 0 for result in results)
    assert results[-1] == MIG_BAD_ID
