"""The arguments of a new task, as they lie at its stack pointer (mach.md 1.1, 1.3; KB:712, LOAD:431).

    argc | argc pointers | 0 | 0: no environment | the strings, one after another, each ended by NUL | up to a word

Interface:
    STACK_BYTES, VM_MAX_ADDRESS                where the stack of a first thread is
    argument_block(arguments, address) -> bytes   as it must lie at `address`
    stack_pointer(arguments) -> int            where it lies below the top of the stack
    read_arguments(read, address) -> list      the inverse; `read(address, length)` is the task's memory

The kernel passes the bootstrap task its arguments so, and the bootstrap task the first server.

Not here: who allocates the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

WORD = 4  # integer_t of the i386
VM_MAX_ADDRESS = 0xC0000000  # of a task on the i386; the kernel is above
STACK_BYTES = 64 * 1024
RESERVED_BYTES = 5 * WORD  # above the block (EX:180)
MAX_ARGUMENTS = 1024  # what a reader takes: a count read from broken memory must end
MAX_STRING_BYTES = 4096


def _block_bytes(arguments: Sequence[bytes]) -> int:
    strings = sum(len(argument) + 1 for argument in arguments)
    return -(-(WORD * (len(arguments) + 3) + strings) // WORD) * WORD


def stack_pointer(arguments: Sequence[bytes]) -> int:
    """Where the block of these arguments lies, and the first thread's stack pointer is."""
    return (VM_MAX_ADDRESS - _block_bytes(arguments) - RESERVED_BYTES) & ~(WORD - 1)


def argument_block(arguments: Sequence[bytes], address: int) -> bytes:
    """The block; ValueError if an argument holds a NUL or all do not fit a stack."""
    if any(b"\0" in argument for argument in arguments):
        raise ValueError("an argument holds a NUL")
    size = _block_bytes(arguments)
    if size + RESERVED_BYTES > STACK_BYTES:
        raise ValueError(f"arguments of {size} bytes are more than a stack")
    words = [len(arguments)]
    at = address + WORD * (len(arguments) + 3)
    for argument in arguments:
        words.append(at)
        at += len(argument) + 1
    words += [0, 0]
    head = b"".join(word.to_bytes(WORD, "little") for word in words)
    return (head + b"".join(argument + b"\0" for argument in arguments)).ljust(size, b"\0")


def read_arguments(read: Callable[[int, int], bytes], address: int) -> list[bytes]:
    """The arguments at `address`; ValueError if there is no block."""

    def word(at: int) -> int:
        return int.from_bytes(read(at, WORD), "little")

    count = word(address)
    if count > MAX_ARGUMENTS:
        raise ValueError(f"{count} arguments")
    return [read_string(read, word(address + WORD * (1 + index))) for index in range(count)]


def read_string(read: Callable[[int, int], bytes], address: int) -> bytes:
    """The string at `address`, without its NUL; ValueError if it has none.  Byte by byte: the next may be unmapped."""
    content = bytearray()
    while (byte := read(address + len(content), 1)) != b"\0":
        content += byte
        if len(content) > MAX_STRING_BYTES:
            raise ValueError(f"the string at {address:#x} has no end")
    return bytes(content)
