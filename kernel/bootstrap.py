"""The first task: made of the boot image where it lies in memory, mapped and not copied (paper §6.2; mach.md 1.1, 6.5).

Interface:
    steal(host, start, moved) -> InPlace       the pages that the kernel and the image lie in, taken out of free memory
    bootstrap_create(user, moved, image, device, flags, root) -> UserThread     the first task; it is not resumed yet
    boot_flags(letters) -> the flags that it gets

Text and data are mapped in place, wired; the last page of data that is not full, and BSS, are fresh memory with the
image's bytes copied: behind them in the image are its symbols, which must stay as they are.

Invariants:
    1. A frame that the kernel or the image lies in belongs to a page of the kernel's object or of the image's, wired.
    2. No page of the image is shared with its symbols.

Not here: what the task does (pager/bootstrap.py); what moved its image (kernel/boot_file.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.boot_file import CannotBoot, Moved
from kernel.host import Host
from kernel.resident import thresholds
from kernel.user import UserKernel, UserTask, UserThread
from kernel.vm_object import VmObject
from mach.aout import LoaderInfo
from mach.argument_block import STACK_BYTES, VM_MAX_ADDRESS, argument_block, stack_pointer
from mach.memory_object import VmProt
from mach.ports import SendRight

MAX_FLAGS_BYTES = 12  # with the NUL: Mach's buffer


@dataclass(frozen=True, slots=True)
class InPlace:
    """The pages that were in memory before there was a VM system."""

    kernel: VmObject
    image: VmObject | None  # text and whole pages of data of the first task


def boot_flags(letters: str) -> str:
    """A dash, then those of q (ask), s (single user), d (debugger), n (init's name) that are given, in Mach's order; x
    if none is (KB:420)."""
    return "-" + ("".join(letter for letter in "qsdn" if letter in letters) or "x")


def steal(host: Host, start: int, moved: Moved) -> InPlace:
    """Take the frames from physical address `start` to `first_free` out of free memory.  The machine must be new: its
    frames come in order.  The thresholds of pageout are made for what is left (mach.md 4.4).  CannotBoot if that is too
    little.
    """
    resident, page_size = host.resident, host.page_size
    frames = -(-moved.first_free // page_size)
    with host.processor.lock:
        kernel = host.objects.allocate(frames * page_size)
        image = None
        first, count = _image_frames(moved, page_size)
        if count:
            image = host.objects.allocate(count * page_size)
        for frame in range(frames):
            in_image = image is not None and first <= frame < first + count
            object, offset = (image, (frame - first) * page_size) if in_image else (kernel, frame * page_size)
            assert object is not None
            page = resident.alloc(object, offset)
            if page is None:
                raise CannotBoot(
                    f"the kernel and its sections take {frames} of {resident.store.frames} pages of memory, and leave "
                    "too few; give the machine more"
                )
            assert page.frame == frame, "a new machine gives its frames in order"
            resident.wire(page)
            resident.done(page)
        for frame in range(start // page_size):  # below the kernel: free memory
            resident.free(kernel.pages[frame * page_size])
        resident.thresholds = thresholds(resident.free_count, resident.thresholds.reserved)
    return InPlace(kernel, image)


def _image_frames(moved: Moved, page_size: int) -> tuple[int, int]:
    """First frame and number of frames of the image that are mapped in place: all but a last part of a page."""
    info = moved.load_info
    if info is None:
        return 0, 0
    _check_mappable(info, page_size)
    return moved.boot_start // page_size, (info.text_size + info.data_size) // page_size


def _check_mappable(info: LoaderInfo, page_size: int) -> None:
    """Mach asserts the same (KB:482).  Text and data in one stretch is what makeboot makes of every a.out."""
    if info.text_start % page_size or info.text_offset:
        raise CannotBoot(f"the bootstrap's text at {info.text_start:#x} does not begin on a page")
    if info.data_offset != info.text_size or info.data_start != info.text_start + info.text_size:
        raise CannotBoot("the bootstrap's data does not follow its text")
    if info.data_end + info.bss_size > VM_MAX_ADDRESS - STACK_BYTES:
        raise CannotBoot(f"the bootstrap's segments up to {info.data_end + info.bss_size:#x} leave no room for a stack")


def bootstrap_create(
    user: UserKernel, moved: Moved, image: VmObject | None, device: SendRight, flags: str, root: str
) -> UserThread:
    """The task "bootstrap" and its thread, with its image, stack, arguments and ports.  It is not resumed."""
    assert moved.load_info is not None
    task = user.task_create("bootstrap")
    names = [task.insert_right(right) for right in (user.host.host_priv.copy(), device)]
    _map_image(user.host, task, moved, image)
    arguments = [b"bootstrap", flags.encode(), *(str(name).encode() for name in names), root.encode()]
    sp = stack_pointer(arguments)
    task.vm_allocate(STACK_BYTES, VM_MAX_ADDRESS - STACK_BYTES)
    task.write(sp, argument_block(arguments, sp))
    thread = task.thread_create()
    thread.set_state(moved.load_info.entry_1, sp)
    return thread


def _map_image(host: Host, task: UserTask, moved: Moved, image: VmObject | None) -> None:
    info, page_size = moved.load_info, host.page_size
    assert info is not None
    whole = image.size if image is not None else 0
    if image is not None:
        with host.processor.lock:
            start = task.task.map.allocate(whole, info.text_start)
            entry = task.task.map.lookup(start)
            assert entry is not None
            entry.object, entry.offset = image, 0  # with the reference that steal() made
    tail = info.text_size + info.data_size - whole
    fresh = info.text_start + whole
    end = -(-(info.data_end + info.bss_size) // page_size) * page_size
    if end > fresh:
        task.vm_allocate(end - fresh, fresh)
    if tail:
        at = moved.boot_start + whole
        task.write(fresh, bytes(host.resident.store.view[at : at + tail]))
    text = info.text_size // page_size * page_size
    if text:
        task.vm_protect(info.text_start, text, VmProt.READ | VmProt.EXECUTE)
