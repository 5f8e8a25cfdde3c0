"""Loading the first server from a file into a new task, as Mach's bootstrap does it (mach.md 1.3; LOAD:145).

Interface:
    load_program(task, thread, page_size, file, arguments)    the task's memory and stack, the thread's registers
    load_executable(task, thread, page_size, read, arguments) the same; read(offset, length) gives the file's bytes
    load_symbols(kernel, host_priv, task, info, read)    its symbols to the kernel; why not, in words, or None
    file_reader(file)           such a `read` for a file

Nothing is asked of the file but that it is a regular file and an executable: neither owner nor mode matter, the
execute bits deliberately not (LOAD:161).

A LoadError carries Mach's code: 6000 no executable, 5005 for one cut short, or what the disk or the kernel said.
Memory that was given to the task before an error is taken back (Mach keeps it: weakness 22).

Not here: what program, and what it is told (pager/bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bootfs.errors import FileSystemError
from bootfs.lookup import OpenFile
from mach.aout import EX_NOT_EXECUTABLE, HEADER_BYTES, WORD_BYTES, LoaderInfo, NotExecutable, loader_info
from mach.argument_block import STACK_BYTES, VM_MAX_ADDRESS, argument_block, stack_pointer
from mach.boot_image import described
from mach.kern_return import MachError
from mach.memory_object import VmProt
from mach.ports import SendRight
from mach.program import KernelCalls, TaskPort, ThreadPort

ReadFile = Callable[[int, int], bytes]
MAX_SYMBOL_BYTES = 1 << 20
COPY_BYTES = 64 * 1024  # read and given to the server at a time


class LoadError(Exception):
    """The program cannot be loaded.  `code`: 6000, 5xxx, or a kernel's or device's own."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def load_program(
    task: TaskPort, thread: ThreadPort, page_size: int, file: OpenFile, arguments: Sequence[bytes]
) -> LoaderInfo:
    """Load `file`, with these arguments on its stack.  LoadError, and the task's map is empty again."""
    if file.inode is None or file.inode.kind != "file":
        raise LoadError(EX_NOT_EXECUTABLE, "not a regular file")
    return load_executable(task, thread, page_size, file_reader(file), arguments)


def load_executable(
    task: TaskPort, thread: ThreadPort, page_size: int, read: ReadFile, arguments: Sequence[bytes]
) -> LoaderInfo:
    """As load_program.  `read` raises FileSystemError if the file has not so many bytes there."""
    areas: list[tuple[int, int]] = []
    try:
        info = _header(read)
        for start, end in _areas(info, page_size):
            task.vm_allocate(end - start, start)
            areas.append((start, end))
        _copy(task, read, info.text_offset, info.text_start, info.text_size)
        _copy(task, read, info.data_offset, info.data_start, info.data_size)
        _protect_text(task, info, page_size)
        sp = stack_pointer(arguments)
        task.vm_allocate(STACK_BYTES, VM_MAX_ADDRESS - STACK_BYTES)
        areas.append((VM_MAX_ADDRESS - STACK_BYTES, VM_MAX_ADDRESS))
        task.write(sp, argument_block(arguments, sp))
        thread.set_state(info.entry_1, sp)
    except (FileSystemError, MachError, LoadError, ValueError) as error:
        for start, end in areas:
            task.vm_deallocate(start, end - start)
        code = EX_NOT_EXECUTABLE if isinstance(error, ValueError) else int(error.code)
        raise LoadError(code, str(error)) from None
    return info


def load_symbols(
    kernel: KernelCalls, host_priv: SendRight | None, task: TaskPort, info: LoaderInfo, read: ReadFile
) -> str | None:
    """host_load_symbol_table.  A program runs as well without: nothing fails for it."""
    try:
        if table := _symbol_table(info, read):
            kernel.load_symbol_table(host_priv, task, table)
    except (FileSystemError, LoadError, MachError) as error:
        return f"[ no symbols of {task.name}: {error} ]"
    return None


def _symbol_table(info: LoaderInfo, read: ReadFile) -> bytes:
    """get_symtab (EX:211); nothing if there are no symbols."""
    if not info.sym_size:
        return b""
    strings_at = info.sym_offset + info.sym_size
    strings_size = int.from_bytes(read(strings_at, WORD_BYTES), "little")  # it counts itself
    if info.sym_size + strings_size > MAX_SYMBOL_BYTES:
        raise LoadError(EX_NOT_EXECUTABLE, f"{info.sym_size + strings_size} bytes of symbols")
    return described(read(info.sym_offset, info.sym_size), read(strings_at, strings_size))


def file_reader(file: OpenFile) -> ReadFile:
    return partial(_read, file)


def _header(read: ReadFile) -> LoaderInfo:
    try:
        return loader_info(read(0, HEADER_BYTES))
    except NotExecutable as error:
        raise LoadError(error.code, str(error)) from None


def _read(file: OpenFile, offset: int, length: int) -> bytes:
    """Exactly so many bytes: FS_NOT_IN_FILE, 5005, where the file is cut short (mach.md 2.5)."""
    assert file.file_system is not None
    assert file.inode is not None
    return file.file_system.read(file.inode, offset, length)


def _areas(info: LoaderInfo, page_size: int) -> list[tuple[int, int]]:
    """The ranges to allocate: one where text and data share a page or touch, else two."""
    text = (info.text_start, info.text_start + info.text_size)
    data = (info.data_start, info.data_end + info.bss_size)
    t0, t1, d0, d1 = (
        text[0] // page_size * page_size,
        -(-text[1] // page_size) * page_size,
        data[0] // page_size * page_size,
        -(-data[1] // page_size) * page_size,
    )
    ranges = [(t0, max(t1, d1))] if t1 >= d0 else [(t0, t1), (d0, d1)]
    return [(start, end) for start, end in ranges if end > start]


def _copy(task: TaskPort, read: ReadFile, offset: int, address: int, size: int) -> None:
    for done in range(0, size, COPY_BYTES):
        count = min(COPY_BYTES, size - done)
        task.write(address + done, read(offset + done, count))


def _protect_text(task: TaskPort, info: LoaderInfo, page_size: int) -> None:
    """Whole pages of text alone; the last, which data may share, stays writable."""
    start = info.text_start // page_size * page_size
    end = (info.text_start + info.text_size) // page_size * page_size
    if end > start:
        task.vm_protect(start, end - start, VmProt.READ | VmProt.EXECUTE)
