"""The processor: what it stops for, and what it must not remember."""

from __future__ import annotations

import mmap

import pytest

from kernel.i386.cpu import KERNEL_PAGE, Cpu, Fault, Registers, Slice, Stop, Trap, Trouble

PAGE = 4096
FRAMES = 16
TEXT, DATA, STACK = 0x10000, 0x30000, 0x20000
LCALL = "9a000000000700"
LOOP = "ebfe"


class Small:
    """A processor, sixteen frames, and a page table that is a dictionary: virtual page -> (frame, writable)."""

    def __init__(self) -> None:
        self.memory = memoryview(mmap.mmap(-1, FRAMES * PAGE))
        self.cpu = Cpu(self.memory, PAGE)
        self.table = {TEXT // PAGE: (1, False), STACK // PAGE: (2, True)}
        self.asked: list[tuple[int, bool]] = []

    def translate(self, virtual_page: int, write: bool) -> int:
        self.asked.append((virtual_page, write))
        frame, writable = self.table.get(virtual_page, (-1, False))
        return -1 if write and not writable else frame

    def code(self, text: str, frame: int = 1) -> None:
        content = bytes.fromhex(text)
        self.memory[frame * PAGE : frame * PAGE + len(content)] = content

    def thread(self, text: str, **registers: int) -> Registers:
        self.code(text)
        made = self.cpu.registers(TEXT, STACK + PAGE - 16)
        for name, value in registers.items():
            self.cpu.set(made, name, value)
        return made

    def run(self, registers: Registers, budget: int = 1000) -> Stop:
        return self.cpu.run(registers, self.translate, budget)


@pytest.fixture
def small() -> Small:
    return Small()


def test_a_trap_leaves_number_stack_and_the_next_instruction(small: Small) -> None:
    thread = small.thread("b8e7ffffff" + 3 * LCALL + LOOP)
    for trap in range(1, 4):
        assert small.run(thread) == Trap()
        assert small.cpu.get(thread, "eax") == 0xFFFFFFE7
        assert small.cpu.get(thread, "esp") == STACK + PAGE - 16, "the gate's frame is off the stack again"
        assert thread.pc == TEXT + 5 + 7 * trap


@pytest.mark.parametrize(
    ("code", "vector"),
    [
        ("31d2f7f2", 0),  # div edx
        ("cc", 3),
        ("0f0b", 6),  # ud2
        ("fa", 13),  # cli
        ("f4", 13),  # hlt
        ("0f22d8", 13),  # mov cr3, eax
        ("0f30", 13),  # wrmsr
        ("e460", 13),  # in
        ("e620", 13),  # out
        ("ec", 13),
        ("ee", 13),
        ("cd80", 0x80),
    ],
)
def test_an_exception_is_told_by_its_vector_also_after_traps(small: Small, code: str, vector: int) -> None:
    thread = small.thread("b8e7ffffff" + 2 * LCALL + code + LOOP)
    assert small.run(thread) == small.run(thread) == Trap()
    assert small.run(thread) == Trouble(vector)


def test_a_fault_leaves_everything_as_it_was_before_its_instruction(small: Small) -> None:
    thread = small.thread("40 ff0500000300 40 cc".replace(" ", ""))  # inc eax; inc [0x30000]; inc eax; int3
    assert small.run(thread) == Fault(DATA, False)
    assert (thread.pc, small.cpu.get(thread, "eax")) == (TEXT + 1, 1)
    small.table[DATA // PAGE] = (3, False)
    assert small.run(thread) == Fault(DATA, True), "it may be read now; the write faults"
    assert (thread.pc, small.cpu.get(thread, "eax")) == (TEXT + 1, 1)
    small.table[DATA // PAGE] = (3, True)
    assert small.run(thread) == Trouble(3)
    assert small.cpu.get(thread, "eax") == 2
    assert small.memory[3 * PAGE] == 1, "once, however often it faulted"


def test_a_string_instruction_goes_on_where_it_faulted(small: Small) -> None:
    small.table |= {DATA // PAGE: (3, True), DATA // PAGE + 1: (-1, False)}
    thread = small.thread("f3aa cc".replace(" ", ""), ecx=32, edi=DATA + PAGE - 16, eax=0x55)  # rep stosb
    assert small.run(thread) == Fault(DATA + PAGE, True)
    assert small.cpu.get(thread, "ecx") == 16
    small.table[DATA // PAGE + 1] = (4, True)
    assert small.run(thread) == Trouble(3)
    assert bytes(small.memory[4 * PAGE : 4 * PAGE + 17]) == b"\x55" * 16 + b"\0"


def test_the_first_write_to_a_page_is_seen_after_reads_of_it(small: Small) -> None:
    """Else its modify bit would never be set, and the write be lost at eviction (P2)."""
    small.table[DATA // PAGE] = (3, True)
    thread = small.thread("a100000300 a300000300 cc".replace(" ", ""))
    small.run(thread)
    assert [write for page, write in small.asked if page == DATA // PAGE] == [False, True]


def test_no_translation_outlives_its_shootdown(small: Small) -> None:
    small.table[DATA // PAGE] = (3, True)
    thread = small.thread("a100000300" + LCALL + "a100000300" + LOOP)
    assert small.run(thread) == Trap()
    del small.table[DATA // PAGE]
    small.cpu.shootdown(DATA // PAGE)
    assert small.run(thread) == Fault(DATA, False)


def test_code_that_is_paged_out_and_in_again_is_translated_again(small: Small) -> None:
    """Text is paged too: another page in the frame that was executed, the text in another frame."""
    thread = small.thread("b801000000" + LCALL + LOOP)
    assert small.run(thread) == Trap()
    small.code("b802000000" + LCALL + LOOP)  # the frame has another page's bytes now
    small.cpu.shootdown(TEXT // PAGE)
    small.cpu.set(thread, "eip", TEXT)
    assert small.run(thread) == Trap()
    assert small.cpu.get(thread, "eax") == 2
    small.code("b803000000" + LCALL + LOOP, frame=5)
    small.table[TEXT // PAGE] = (5, False)
    small.cpu.shootdown(TEXT // PAGE)
    small.cpu.set(thread, "eip", TEXT)
    assert small.run(thread) == Trap()
    assert small.cpu.get(thread, "eax") == 3


def test_a_slice_ends_and_threads_keep_their_registers(small: Small) -> None:
    one = small.thread("40ebfd")  # inc eax; jmp
    other = small.cpu.registers(TEXT, STACK + 64)
    small.cpu.set(other, "ebx", 7)
    for _ in range(3):
        assert small.run(one, 1000) == Slice()
        assert small.run(other, 500) == Slice()
    assert (small.cpu.get(one, "eax"), small.cpu.get(one, "ebx")) == (1500, 0)
    assert (small.cpu.get(other, "eax"), small.cpu.get(other, "ebx")) == (750, 7)


def test_a_program_cannot_write_or_execute_the_kernels_page(small: Small) -> None:
    address = KERNEL_PAGE.to_bytes(4, "little").hex()
    assert small.run(small.thread("a3" + address)) == Trouble(13)
    small.cpu.shootdown(TEXT // PAGE)
    assert small.run(small.thread("b8" + address + "ffe0")) == Trouble(13)
