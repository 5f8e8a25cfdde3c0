"""The first things that happen: a boot file comes into physical memory, and the kernel moves what is in its BSS away.

Interface:
    load(memory, content, page_size) -> LoadedKernel      what a boot program does (biosboot)
    boot_kernel(memory, kernel, page_size) -> Moved       what the kernel does first of all (paper §6.2; KB:255)

Both work on physical memory as bytes: there is no address map, no page, no thread yet.

The kernel's own `edata` and `end` are numbers that its linker wrote into its code.  Our kernel's code is Python, so
they are read from its symbols _edata and _end; a kernel without symbols has its BSS end where boot_info does.

Not here: making a task of the image (kernel/bootstrap.py); the format (mach/boot_image.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from mach.aout import HEADER_BYTES, Executable, LoaderInfo, NotExecutable, Symbol, loader_info
from mach.boot_image import (
    BOOT_INFO_BYTES,
    BadBootImage,
    BootInfo,
    NoBootInfo,
    check_load_info,
    dissect,
    find_boot_info,
    symbols_in,
    unpack_load_info,
)

ADDRESS_MASK = 0x00FFFFFF  # biosboot: kernels are linked high and loaded low


class CannotBoot(Exception):
    """The boot program or the kernel cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class LoadedKernel:
    """Physical addresses of the kernel, in bytes."""

    start: int
    size: int  # of what was loaded
    entry: int  # virtual
    edata: int  # where its BSS begins: boot_info should be there
    end: int  # where its BSS ends


@dataclass(frozen=True, slots=True)
class Moved:
    """Where the sections are that came behind the kernel, once they are out of its BSS.  Physical addresses."""

    info: BootInfo | None  # None: there is no boot_info, and no bootstrap task
    symbols: int
    boot_start: int  # on a page
    load_info: LoaderInfo | None
    first_free: int


def load(memory: memoryview, content: bytes, page_size: int) -> LoadedKernel:
    """Load a boot file, or a kernel alone, where its entry says.  CannotBoot."""
    try:
        info = loader_info(content[:HEADER_BYTES])
    except NotExecutable as error:
        raise CannotBoot(f"not a boot file: {error}; makeboot makes one") from None
    size = info.text_size + info.data_size
    if info.text_offset + size > len(content):
        promised = info.text_offset + size
        raise CannotBoot(f"cut short: its header promises {promised} bytes, and there are {len(content)}")
    start = (info.entry_1 & ADDRESS_MASK) // page_size * page_size
    if start + size > len(memory):
        raise CannotBoot(
            f"{size} bytes at {start:#x} do not fit into {len(memory)} bytes of memory; give the machine more"
        )
    memory[start : start + size] = content[info.text_offset : info.text_offset + size]
    edata, end = _linked(content, info, start)
    return LoadedKernel(start, size, info.entry_1, edata, end)


def _linked(content: bytes, info: LoaderInfo, start: int) -> tuple[int, int]:
    """The kernel's edata and end, as physical addresses."""
    alone = info.text_size or info.bss_size or info.sym_size  # makeboot's header has none of these
    try:
        image = None if alone else dissect(content)
    except NoBootInfo:
        image = None
    except BadBootImage as error:
        raise CannotBoot(f"{error}; glue it again with makeboot") from None
    if image is None:
        try:
            plain = Executable.parse(content)
        except NotExecutable as error:
            raise CannotBoot(str(error)) from None
        edata = start + info.text_size + info.data_size
        return _from_symbols(list(plain.symbols()), start, edata, edata + info.bss_size)
    edata = start + len(image.kernel)
    return _from_symbols(list(symbols_in(image.kernel_symbols)), start, edata, edata + BOOT_INFO_BYTES)


def _from_symbols(symbols: list[Symbol], start: int, edata: int, end: int) -> tuple[int, int]:
    linked = {symbol.name.lstrip("_"): symbol.value & ADDRESS_MASK for symbol in symbols}
    edata = linked.get("edata", edata)
    end = linked.get("end", end)
    if not start <= edata <= end:
        raise CannotBoot(f"the kernel's symbols _edata {edata:#x} and _end {end:#x} do not follow its start {start:#x}")
    return edata, end


def boot_kernel(memory: memoryview, kernel: LoadedKernel, page_size: int) -> Moved:
    """Find boot_info, move the sections out of the BSS, and clear the BSS.  CannotBoot.

    The sections move up, the boot image with its load information first: where it goes may be where the symbols'
    end was, never the other way round.
    """
    info = find_boot_info(memory[: kernel.start + kernel.size], kernel.edata)
    if info is None:
        end = -(-kernel.end // page_size) * page_size
        _clear(memory, kernel.edata, kernel.end)
        return Moved(None, kernel.end, end, None, end)
    if info.end > kernel.start + kernel.size:
        raise CannotBoot(
            f"boot_info promises sections up to {info.end:#x}, and what was loaded ends at "
            f"{kernel.start + kernel.size:#x}: glue the boot file again with makeboot"
        )
    symbols = max(kernel.end, info.symbols)
    boot_start = -(-(symbols + info.sym_size) // page_size) * page_size
    image_bytes = info.boot_size + info.load_info_size
    first_free = boot_start + image_bytes
    if first_free > len(memory):
        raise CannotBoot(f"the kernel and its sections need {first_free} bytes of memory, of {len(memory)}")
    _move(memory, info.symbols + info.sym_size, boot_start, image_bytes)
    _move(memory, info.symbols, symbols, info.sym_size)
    _clear(memory, kernel.edata, symbols)
    load_start = boot_start + info.boot_size
    try:
        load_info = unpack_load_info(bytes(memory[load_start:first_free]))
        check_load_info(load_info, info.boot_size)
    except BadBootImage as error:
        raise CannotBoot(str(error)) from None
    return Moved(info, symbols, boot_start, load_info, first_free)


def _move(memory: memoryview, source: int, target: int, size: int) -> None:
    """Both ranges may overlap; Mach copies words from the end."""
    memory[target : target + size] = memory[source : source + size]


def _clear(memory: memoryview, start: int, end: int) -> None:
    end = min(end, len(memory))
    memory[start:end] = bytes(end - start)
