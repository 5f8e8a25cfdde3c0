"""host_load_symbol_table: whose, by whom, and what an address is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.host import MINIMUM_PAGES, Host
from kernel.symbols import SymbolTable
from kernel.user import Halt, ProgramFault, UserKernel, UserThread
from mach.aout import Executable, Magic, Symbol, SymbolType, make_executable
from mach.boot_image import symbol_section
from mach.exception import ExceptionRaise, ExceptionRaiseReply, ExceptionType
from mach.kern_return import KernReturn, MachError
from mach.ports import Ipc
from mach.program import Panicked
from mach.threads.simulated import SimulatedRuntime


def table_of(symbols: list[Symbol]) -> bytes:
    return symbol_section(Executable.parse(make_executable(Magic.ZMAGIC, b"\x90" * 8, symbols=symbols)))


def test_an_address_is_called_by_the_last_function_before_it() -> None:
    table = SymbolTable.parse(
        table_of([Symbol("_b", 0x10040), Symbol("_a", 0x10020), Symbol("_d", 0x10030, SymbolType.DATA)])
    )
    found = [table.where(address) for address in (0x1001F, 0x10020, 0x1003F, 0x10040, 0x20000)]
    assert found == [None, "_a", "_a+0x1f", "_b", "_b+0xffc0"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_an_invalid_argument(content: bytes) -> None:
    try:
        table = SymbolTable.parse(content)
    except MachError as error:
        if error.code != KernReturn.KERN_INVALID_ARGUMENT:
            raise
    else:
        assert table.where(table.addresses[0]) in table.names


def test_only_who_holds_the_hosts_port_gives_symbols_and_only_of_a_task_that_lives() -> None:
    table = table_of([Symbol("_start", 0x10020)])

    def code_of(*words: object) -> KernReturn:
        with pytest.raises(MachError) as refused:
            kernel.load_symbol_table(*words)
        return refused.value.code

    def body() -> None:
        nonlocal kernel
        ipc = Ipc(runtime)
        host = Host(runtime, ipc, MINIMUM_PAGES * 4096)
        kernel = UserKernel(host, lambda thread: 0, Halt(host.processor))
        task = kernel.task_create("program")
        assert code_of(None, task, table) == KernReturn.KERN_INVALID_HOST
        assert code_of(host.host_priv, task, b"none") == KernReturn.KERN_INVALID_ARGUMENT
        kernel.load_symbol_table(host.host_priv, task, table)
        assert task.symbols is not None
        assert task.symbols.names == ("_start",)
        task.terminate()
        assert code_of(host.host_priv, task, table) == KernReturn.KERN_INVALID_TASK

    kernel: UserKernel = None  # type: ignore[assignment]
    runtime = SimulatedRuntime(0)
    runtime.run(body)


class At:
    """The registers of a thread that is at one address."""

    def __init__(self, address: int) -> None:
        self.address = address

    def get(self, name: str) -> int:
        return self.address if name == "eip" else 0

    def set(self, name: str, value: int) -> None:
        raise AssertionError(name)


@pytest.mark.parametrize("when", ["while it is told of the exception", "for something else, later"])
def test_a_panic_says_where_the_program_was_whose_exception_it_is_about_and_no_other(when: str) -> None:
    words: list[str] = []

    def body() -> None:
        ipc = Ipc(runtime)
        host = Host(runtime, ipc, MINIMUM_PAGES * 4096)

        def fault(thread: UserThread) -> int:
            thread.registers = At(0x10022)
            raise ProgramFault(ExceptionType.EXC_BREAKPOINT, 2, 0, "breakpoint")

        def panic() -> None:
            with pytest.raises(Panicked):
                kernel.panic(host.host_priv, "the words")

        def hear(message: ExceptionRaise) -> None:
            if when.startswith("while"):
                panic()
            message.reply.send(ExceptionRaiseReply(KernReturn.KERN_FAILURE))

        halt = Halt(host.processor)
        kernel = UserKernel(host, fault, halt)
        task = kernel.task_create("program")
        kernel.load_symbol_table(host.host_priv, task, table_of([Symbol("_start", 0x10020)]))
        task.set_exception_port(ipc.allocate("exceptions", kobject=hear).make_send())
        kernel.begin()  # another program runs on
        task.thread_create().resume()
        runtime.sleep(1)
        if not when.startswith("while"):
            panic()
        words.append(halt.wait().words)
        kernel.end(None)

    runtime = SimulatedRuntime(0)
    runtime.run(body)
    where = "; program was in _start+0x2 (0x10022)" if when.startswith("while") else ""
    assert words == [f"panic: the words{where}"]
