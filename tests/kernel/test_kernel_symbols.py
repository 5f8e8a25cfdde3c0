"""host_load_symbol_table: whose, by whom, and what an address is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.host import MINIMUM_PAGES, Host
from kernel.symbols import SymbolTable
from kernel.user import Halt, UserKernel
from mach.aout import NLIST_BYTES, Executable, Magic, Symbol, SymbolType, make_executable
from mach.kern_return import KernReturn, MachError
from mach.ports import Ipc
from mach.threads.simulated import SimulatedRuntime


def table_of(symbols: list[Symbol]) -> bytes:
    found, strings = Executable.parse(make_executable(Magic.ZMAGIC, b"\x90" * 8, symbols=symbols)).symbol_table()
    return len(found).to_bytes(4, "little") + found + strings


def test_an_address_is_called_by_the_last_function_before_it() -> None:
    table = SymbolTable.parse(
        table_of([Symbol("_b", 0x10040), Symbol("_a", 0x10020), Symbol("_d", 0x10030, SymbolType.DATA)])
    )
    found = [table.where(address) for address in (0x1001F, 0x10020, 0x1003F, 0x10040, 0x20000)]
    assert found == [None, "_a", "_a+0x1f", "_b", "_b+0xffc0"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_an_invalid_argument(content: bytes) -> None:
    size = int.from_bytes(content[:4], "little")
    if size % NLIST_BYTES or len(content) < 4 + size + 4:
        with pytest.raises(MachError, match="a symbol table of"):
            SymbolTable.parse(content)
    else:
        SymbolTable.parse(content).where(0x10000)


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
