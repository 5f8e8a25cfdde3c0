"""The whole view: pager, kernel and disk under one root, and the ten lines that say what is where.

Interface:
    view(pager, kernel, disk)    the root directory; kernel and disk may be left out

Not here: any of the three; mounting.
"""

from __future__ import annotations

from bootfs.interface import BootFileSystem
from fuse_mount.disk_view import disk_tree
from fuse_mount.kernel_view import Kernel, kernel_tree
from fuse_mount.pager_view import Pager, pager_tree
from fuse_mount.tree import Dir, Node, TextFile, fixed

README = """\
What the default pager holds, and the kernel and the disk beside it. Nothing can be written; reading changes nothing.
NAME.json tells the same as NAME, for programs. Input/output error: who is asked does not run, or the page is lost.
pager/info, stats            paging space, objects, wired memory; counters
pager/objects/ID/data        the object's image on backing store, zeros where nothing is paged; `du` shows what is
pager/objects/ID/pages,info  a line a paged page: where it lies, how often it was written, its BLAKE3, its state
pager/partitions/N/map       a character a slot, 64 a line: . free  # used  x bad; info and runs: where the slots are
kernel/vm_stat, queues       the machine's counters and page queues (with --kernel)
kernel/tasks/ID/memory,map   what a task sees, each byte at its own address, and its regions; info
kernel/objects/ID/data       a VM object's coherent content; chain: what it shadows; pages: what is resident; info
disk/                        the tree of the disk, as bootfs reads it (with --disk)
"""


def view(pager: Pager, kernel: Kernel | None = None, disk: BootFileSystem | None = None) -> Dir:
    """The root directory.  FileSystemError if the disk's root cannot be read."""
    entries: dict[bytes, Node] = {b"README": TextFile(lambda: README), b"pager": pager_tree(pager)}
    if kernel is not None:
        entries[b"kernel"] = kernel_tree(kernel)
    if disk is not None:
        entries[b"disk"] = disk_tree(disk)
    return fixed(entries)
