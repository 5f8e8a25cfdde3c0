"""The processor: i386 machine code, executed by the Unicorn emulator straight in the frames of the machine's memory.

Interface:
    Cpu(memory, page_size)                 memory: all frames, one after another; NoEmulator if Unicorn is not installed
        .registers(pc, sp) -> Registers    of a new thread
        .run(registers, translate, budget) -> Stop    until something needs the kernel, or `budget` instructions
        .get(registers, name), .set(registers, name, value)
        .shootdown(virtual_page)           a mapping there has been taken away or restricted, or its bytes changed
        .forget()                          look every translation up again, so that reference bits are set again
        .counts
    Slice, Trap, Fault, Trouble       why it stopped
    Translate                              (virtual page, write) -> frame, or -1; marks the frame referenced, modified

Physical memory is mapped into the emulator once, as it is; its TLB is filled by `translate`, that is from the pmap of
the thread's task, and a translation that is not there stops it: the kernel handles the fault and lets it go on.  There
is one processor, so there is one emulator, and threads take turns on it; a switch to another thread empties the TLB, as
loading CR3 does.

Programs run at ring 3, in flat segments.  A trap to the kernel is `lcall $7, $0`: descriptor 0 of the local table is
Mach's system call gate.  Here it leads to an address that nobody may execute, which is how the processor stops; the
gate stays in ring 3, so the return address is on the program's own stack, and is taken off it.

Invariants (the kernel mutex is held in every method):
    1. The TLB holds only translations that the pmap of the loaded thread has now: shootdown() empties it before the
       next instruction of a program.
    2. A write permission is given only by a write: the first write to a page passes through `translate`.
    3. The emulator keeps translated code by frame; all of it is dropped when a page that was executed may have gone
       from its frame, or was written to by the kernel.

Not here: what a stop means (kernel/i386/thread.py); what is mapped.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KERNEL_PAGE = 0xFFFFF000  # linear and physical: the descriptor table
KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA = 0x08, 0x10, 0x1B, 0x23  # selectors
EMULATED_PAGE = 4096  # of the TLB; a machine's page may be several
GATE = KERNEL_PAGE + 0x200  # where the call gate leads
LOCAL_TABLE = KERNEL_PAGE + 0x100
GATE_FRAME_BYTES = 8  # EIP and CS
GENERAL_PROTECTION, INVALID_OPCODE = 13, 6  # vectors
NAMES = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eip", "eflags")
PRIVILEGED = {0xF4, 0xFA, 0xFB}  # hlt cli sti
PRIVILEGED_0F = {0x00, 0x01, 0x06, 0x08, 0x09, 0x20, 0x21, 0x22, 0x23, 0x30, 0x32, 0x34, 0x35}

Translate = Callable[[int, bool], int]


class NoEmulator(Exception):
    """Unicorn is not installed."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The budget is used up."""


@dataclass(frozen=True, slots=True)
class Trap:
    """lcall $7, $0: the number is in EAX, the arguments are on the stack, EIP is behind the instruction."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`translate` has no page for a reference.  `address` is that of the page."""

    address: int
    write: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """An exception of the processor, by its vector."""

    vector: int


Stop = Slice | Trap | Fault | Trouble


class Registers:
    """Those of one thread, wherever they are: in the processor while `loaded`, else saved in `context`."""

    __slots__ = ("context", "pc")

    def __init__(self, context: Any, pc: int) -> None:
        self.context = context
        self.pc = pc


def _descriptor(access: int) -> bytes:
    """A flat segment of 4 GB, 32 bits."""
    return struct.pack("<HHBBBB", 0xFFFF, 0, 0, access, 0xCF, 0)


# iret to ring 3: SS, ESP, EFLAGS, CS, EIP of an int3 in this page
TO_RING_3 = bytes.fromhex("6a23 6800f8ffff 6a02 6a1b 6880f0ffff cf")


class Cpu:
    """See the head of the module."""

    def __init__(self, memory: memoryview, page_size: int) -> None:
        try:
            self._u = unicorn = importlib.import_module("unicorn")
            x86 = importlib.import_module("unicorn.x86_const")
        except ImportError:
            raise NoEmulator("machine code needs the Unicorn emulator: pip install 'mach-default-pager[cpu]'") from None
        self.counts: Counter[str] = Counter()
        self._numbers = {name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in NAMES}
        self._page_size = page_size
        self._memory = memory
        self._pinned = ctypes.c_char.from_buffer(memory)  # the mapping stays as long as we do
        self._uc = uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        uc.mem_map_ptr(0, len(memory), unicorn.UC_PROT_ALL, ctypes.addressof(self._pinned))
        uc.mem_map(KERNEL_PAGE, EMULATED_PAGE, unicorn.UC_PROT_ALL)
        uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
        uc.ctl_exits_enabled(True)  # and there are none: a program ends by a trap
        uc.hook_add(unicorn.UC_HOOK_TLB_FILL, self._fill)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        for instruction in (x86.UC_X86_INS_IN, x86.UC_X86_INS_OUT):
            uc.hook_add(unicorn.UC_HOOK_INSN, self._input_output, None, 1, 0, instruction)
        self._translate: Translate | None = None
        self._missed: tuple[int, bool] | None = None
        self._vector = -1
        self._at_gate = False
        self._loaded: Registers | None = None
        self._executed: set[int] = set()  # virtual pages, of whichever task, that code was translated from
        self._tlb_is_stale = self._code_is_stale = False
        self._enter_ring_3(x86)

    def _enter_ring_3(self, x86: Any) -> None:
        """A processor begins in ring 0: give it segments, and return from there as from an interrupt."""
        uc = self._uc
        table = bytes(8) + b"".join(_descriptor(access) for access in (0x9B, 0x93, 0xFB, 0xF3))
        uc.mem_write(KERNEL_PAGE, table)
        uc.mem_write(KERNEL_PAGE + 0x40, TO_RING_3)
        uc.mem_write(KERNEL_PAGE + 0x80, b"\xcc")
        uc.reg_write(x86.UC_X86_REG_GDTR, (0, KERNEL_PAGE, len(table) - 1, 0))
        uc.mem_write(LOCAL_TABLE, struct.pack("<HHBBH", GATE & 0xFFFF, USER_CODE, 0, 0xEC, GATE >> 16))
        uc.reg_write(x86.UC_X86_REG_LDTR, (0, LOCAL_TABLE, 7, 0x8200))
        for register, selector in (
            (x86.UC_X86_REG_CS, KERNEL_CODE),
            (x86.UC_X86_REG_SS, KERNEL_DATA),
            (x86.UC_X86_REG_ESP, KERNEL_PAGE + 0x800),
        ):
            uc.reg_write(register, selector)
        uc.emu_start(KERNEL_PAGE + 0x40, 0, 0, 100)
        for register in (x86.UC_X86_REG_DS, x86.UC_X86_REG_ES, x86.UC_X86_REG_FS, x86.UC_X86_REG_GS):
            uc.reg_write(register, USER_DATA)
        assert uc.reg_read(x86.UC_X86_REG_CS) == USER_CODE, "the processor is not in ring 3"
        self._pristine = uc.context_save()
        self._translate = self._nothing
        self._flush_tlb()

    @staticmethod
    def _nothing(virtual_page: int, write: bool) -> int:
        return -1

    # -- registers ---------------------------------------------------------------------------------------------

    def registers(self, pc: int, sp: int) -> Registers:
        if self._loaded is not None:
            self._uc.context_update(self._loaded.context)
        self._uc.context_restore(self._pristine)
        made = Registers(self._uc.context_save(), pc)
        self._loaded = None
        self.set(made, "esp", sp)
        return made

    def get(self, registers: Registers, name: str) -> int:
        if name == "eip":
            return registers.pc
        where = self._uc if registers is self._loaded else registers.context
        return int(where.reg_read(self._numbers[name]))

    def set(self, registers: Registers, name: str, value: int) -> None:
        if name == "eip":
            registers.pc = value
        else:
            where = self._uc if registers is self._loaded else registers.context
            where.reg_write(self._numbers[name], value)

    # -- running -----------------------------------------------------------------------------------------------

    def run(self, registers: Registers, translate: Translate, budget: int) -> Stop:
        uc = self._uc
        if registers is not self._loaded:
            self._switch(registers)
        if self._code_is_stale:
            uc.ctl_flush_tb()
            self._executed.clear()  # INV-1: the TLB, which is stale too, does not let it be executed unseen
            self._code_is_stale = False
            self.counts["code dropped"] += 1
        if self._tlb_is_stale:
            self._flush_tlb()
        self._translate, self._missed, self._vector, self._at_gate = translate, None, -1, False
        invalid = False
        try:
            uc.emu_start(registers.pc, 0, 0, budget)
        except self._u.UcError as error:
            invalid = error.errno == self._u.UC_ERR_INSN_INVALID
            if not invalid and self._missed is None and not self._at_gate:
                self._vector = GENERAL_PROTECTION
        registers.pc = uc.reg_read(self._numbers["eip"])
        if self._at_gate:
            return self._through_gate(registers)
        if self._missed is not None:
            return Fault(*self._missed)
        return Trouble(INVALID_OPCODE) if invalid else self._why(registers)

    def _why(self, registers: Registers) -> Stop:
        """No page was missing: an exception, or the end of the budget."""
        if self._vector >= 0:
            return Trouble(self._vector)
        code = self._bytes_at(registers.pc, 2)
        # The emulator stops at a privileged instruction and says nothing.
        if code[:1] and (code[0] in PRIVILEGED or (code[0] == 0x0F and code[1:] and code[1] in PRIVILEGED_0F)):
            return Trouble(GENERAL_PROTECTION)
        return Slice()

    def _through_gate(self, registers: Registers) -> Stop:
        """Take the gate's frame off the stack again.  A program that jumps there by itself has made a mistake."""
        sp = self.get(registers, "esp")
        frame = self._bytes_at(sp, GATE_FRAME_BYTES)
        if registers.pc != GATE or len(frame) < GATE_FRAME_BYTES:
            return Trouble(GENERAL_PROTECTION)
        self.set(registers, "esp", sp + GATE_FRAME_BYTES)
        registers.pc = int.from_bytes(frame[:4], "little")
        return Trap()

    def _bytes_at(self, address: int, length: int) -> bytes:
        """What the program has just read or written, so it is there."""
        assert self._translate is not None
        content = b""
        for at in range(address, address + length):
            page, within = divmod(at, self._page_size)
            frame = self._translate(page, False)
            if frame < 0:
                break
            content += self._memory[frame * self._page_size + within : frame * self._page_size + within + 1]
        return content

    def _switch(self, registers: Registers) -> None:
        if self._loaded is not None:
            self._uc.context_update(self._loaded.context)
        self._uc.context_restore(registers.context)
        self._loaded = registers
        self._tlb_is_stale = True
        self.counts["switches"] += 1

    # -- translations ------------------------------------------------------------------------------------------

    def shootdown(self, virtual_page: int) -> None:
        self._tlb_is_stale = True
        if virtual_page in self._executed:
            self._code_is_stale = True

    def forget(self) -> None:
        self._tlb_is_stale = True

    def _flush_tlb(self) -> None:
        self._uc.ctl(self._u.unicorn_const.UC_CTL_TLB_FLUSH, self._u.unicorn_const.UC_CTL_IO_WRITE)
        self._tlb_is_stale = False
        self.counts["TLB flushes"] += 1

    def _fill(self, uc: Any, address: int, access: int, entry: Any, _: Any) -> bool:
        """The emulator's TLB has no translation of `address` for `access`."""
        unicorn = self._u
        self.counts["TLB fills"] += 1
        if address >= KERNEL_PAGE:  # descriptors may be read; in ring 0, before there are programs, all may be done
            entry.paddr = address
            entry.perms = unicorn.UC_PROT_ALL if self._translate is None else unicorn.UC_PROT_READ
            self._at_gate = access == unicorn.UC_MEM_FETCH
            return self._translate is None or access == unicorn.UC_MEM_READ
        assert self._translate is not None
        write = access == unicorn.UC_MEM_WRITE
        page, within = divmod(address, self._page_size)
        frame = self._translate(page, write)
        if frame < 0:
            self._missed = (address, write)
            return False
        if access == unicorn.UC_MEM_FETCH:
            self._executed.add(page)
        perms = unicorn.UC_PROT_READ
        if write:
            perms |= unicorn.UC_PROT_WRITE
        if page in self._executed:
            perms |= unicorn.UC_PROT_EXEC
        entry.paddr = frame * self._page_size + within
        entry.perms = perms
        return True

    def _input_output(self, uc: Any, *_: Any) -> int:
        """No program may; the emulator would let it."""
        self._vector = GENERAL_PROTECTION
        uc.emu_stop()
        return 0

    def _interrupt(self, uc: Any, vector: int, _: Any) -> None:
        self._vector = vector
        uc.emu_stop()
