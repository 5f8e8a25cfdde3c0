"""/kernel: a simulated machine's memory, as files.

Interface:
    KernelReader             what is asked of a kernel; kernel.client.KernelClient is one
    kernel_tree(source)      the directory: vm_stat, queues, tasks/<id>/..., objects/<id>/...

`objects/<id>/data` is the coherent content: resident pages first, then the pager's.  `tasks/<id>/memory` is what the
task sees, each byte at its own address: a sparse file that ends with the last region, zeros between regions.  Reading
makes nothing resident.  `objects/<id>/pages`, the resident pages of an object, is more than DESIGN.md asks for.

Not here: connections (source.py), FUSE.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol

from fuse_mount.source import Source
from fuse_mount.text import Facts, facts, hexadecimal, inheritance, plain, protection, table
from fuse_mount.tree import DataFile, Dir, Extent, error, fixed, numbered
from mach.mach_debug import QueueRecord, RegionRecord, TaskRecord, VmObjectRecord, VmPageRecord

LAST_OFFSET = 2**63 - 1  # off_t ends here; an address map need not

QUEUE_COLUMNS = ("name", "pages", "head")
REGION_COLUMNS = ("start", "end", "protection", "max_protection", "inheritance", "wired", "object_id", "offset")
REGION_FORMATS = {
    "start": hexadecimal,
    "end": hexadecimal,
    "protection": protection,
    "max_protection": protection,
    "inheritance": inheritance,
}
CHAIN_COLUMNS = ("object_id", "size", "resident", "paged_out", "references", "shadow_offset", "paging_offset", "pager")
PAGE_COLUMNS = ("offset", "frame", "wire_count", "state")


class KernelReader(Protocol):
    """What the view asks of a kernel: mach/mach_debug.py as calls.  None of them changes anything."""

    def vm_statistics(self) -> tuple[int, dict[str, int]]: ...
    def queues(self) -> list[QueueRecord]: ...
    def tasks(self) -> list[TaskRecord]: ...
    def regions(self, task_id: int) -> list[RegionRecord]: ...
    def objects(self) -> list[VmObjectRecord]: ...
    def object_pages(self, object_id: int) -> list[VmPageRecord]: ...
    def read_object(self, object_id: int, offset: int, length: int) -> bytes: ...
    def read_task(self, task_id: int, address: int, length: int) -> bytes: ...
    def close(self) -> None: ...


Kernel = Source[KernelReader]


def kernel_tree(kernel: Kernel) -> Dir:
    """The directory /kernel."""
    return fixed(
        {
            **facts("vm_stat", lambda: _vm_stat(kernel)),
            **table("queues", QUEUE_COLUMNS, lambda: [plain(q) for q in kernel.ask(lambda client: client.queues())]),
            b"tasks": numbered(
                lambda: [task.task_id for task in kernel.ask(lambda client: client.tasks())],
                lambda task_id: _task_dir(kernel, task_id),
            ),
            b"objects": numbered(
                lambda: [record.object_id for record in kernel.ask(lambda client: client.objects())],
                lambda object_id: _object_dir(kernel, object_id),
            ),
        }
    )


def _vm_stat(kernel: Kernel) -> Facts:
    page_size, counters = kernel.ask(lambda client: client.vm_statistics())
    return {"page_size": page_size, **counters}


def _page_size(kernel: Kernel) -> int:
    return kernel.ask(lambda client: client.vm_statistics())[0]


def _task(kernel: Kernel, task_id: int) -> TaskRecord:
    for record in kernel.ask(lambda client: client.tasks()):
        if record.task_id == task_id:
            return record
    raise error(errno.ENOENT)


def _regions(kernel: Kernel, task_id: int) -> list[RegionRecord]:
    return sorted(kernel.ask(lambda client: client.regions(task_id)), key=lambda region: region.start)


def _task_dir(kernel: Kernel, task_id: int) -> Dir:
    def extent() -> Extent:
        regions = _regions(kernel, task_id)
        resident = _task(kernel, task_id).resident * _page_size(kernel)
        return Extent(min(max((region.end for region in regions), default=0), LAST_OFFSET), resident)

    return fixed(
        {
            **facts("info", lambda: plain(_task(kernel, task_id))),
            **table("map", REGION_COLUMNS, lambda: [plain(r) for r in _regions(kernel, task_id)], REGION_FORMATS),
            b"memory": DataFile(extent, lambda address, length: _task_memory(kernel, task_id, address, length)),
        },
        check=lambda: _task(kernel, task_id),
    )


def _task_memory(kernel: Kernel, task_id: int, address: int, length: int) -> bytes:
    """`length` bytes of a task from `address` on, zeros where it has none.  A page that cannot be had is EIO."""
    seen = bytearray(length)
    for region in _regions(kernel, task_id):
        start, end = max(region.start, address), min(region.end, address + length)
        if start < end:
            data = kernel.ask(lambda client, at=start, upto=end: client.read_task(task_id, at, upto - at))  # type: ignore[misc]
            if len(data) != end - start:
                raise error(errno.EIO)
            seen[start - address : end - address] = data
    return bytes(seen)


def _object(kernel: Kernel, object_id: int) -> VmObjectRecord:
    for record in kernel.ask(lambda client: client.objects()):
        if record.object_id == object_id:
            return record
    raise error(errno.ENOENT)


def _chain(kernel: Kernel, object_id: int) -> list[VmObjectRecord]:
    """The object, the one that it shadows, and so on down: where a fault looks, in the order in which it looks."""
    records = {record.object_id: record for record in kernel.ask(lambda client: client.objects())}
    if object_id not in records:
        raise error(errno.ENOENT)

    def down() -> Iterator[VmObjectRecord]:
        at = object_id
        while at in records:  # each is taken out once: a chain that bites its tail ends here
            record = records.pop(at)
            yield record
            at = record.shadow_id

    return list(down())


def _object_dir(kernel: Kernel, object_id: int) -> Dir:
    def extent() -> Extent:
        record = _object(kernel, object_id)
        # A page may be resident and paged out too: this is the most that there can be.
        stored = (record.resident + record.paged_out) * _page_size(kernel)
        return Extent(record.size, min(stored, record.size))

    def fetch(offset: int, length: int) -> bytes:
        return kernel.ask(lambda client: client.read_object(object_id, offset, length))

    def pages() -> list[Facts]:
        found = kernel.ask(lambda client: client.object_pages(object_id))
        if not found:
            _object(kernel, object_id)  # nothing resident, or no such object?
        return [plain(page) for page in found]

    return fixed(
        {
            **facts("info", lambda: plain(_object(kernel, object_id))),
            **table("chain", CHAIN_COLUMNS, lambda: [plain(record) for record in _chain(kernel, object_id)]),
            **table("pages", PAGE_COLUMNS, pages),
            b"data": DataFile(extent, fetch),
        },
        check=lambda: _object(kernel, object_id),
    )
