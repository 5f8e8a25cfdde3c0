"""/pager: what the default pager holds, as files.

Interface:
    PagerReader              what is asked of a pager; pager.client.PagerClient is one
    pager_tree(source)       the directory: info, stats, objects/<id>/..., partitions/<n>/...
    paging_space(source)     page size, total and free pages, for statfs(2)

`objects/<id>/data` is what is on backing store, zeros where nothing is paged: st_blocks tells how much there is.

Not here: connections (source.py), FUSE.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from fuse_mount.source import Source
from fuse_mount.text import Facts, as_json, facts, plain, table
from fuse_mount.tree import DataFile, Dir, Extent, Node, TextFile, error, fixed, numbered
from mach.default_pager import DefaultPagerInfoReply, ObjectRecord, PageRecord, PartitionRecord

PAGE_COLUMNS = ("offset", "partition", "slot", "device_offset", "generation", "digest", "state")
RUN_COLUMNS = ("file_offset", "device_offset", "length")
MAP_WIDTH = 64  # slots a line
MAP_WORDS = {".": "free", "#": "used", "x": "bad"}


class PagerReader(Protocol):
    """What the view asks of a pager: mach/default_pager.py as calls.  None of them changes anything."""

    def info(self) -> DefaultPagerInfoReply: ...
    def objects(self) -> list[ObjectRecord]: ...
    def pages(self, object_id: int) -> list[PageRecord]: ...
    def partitions(self) -> list[PartitionRecord]: ...
    def partition_map(self, index: int) -> bytes: ...
    def statistics(self) -> dict[str, int]: ...
    def read(self, object_id: int, offset: int, length: int) -> bytes: ...
    def close(self) -> None: ...


Pager = Source[PagerReader]


def pager_tree(pager: Pager) -> Dir:
    """The directory /pager."""
    return fixed(
        {
            **facts("info", lambda: _info(pager)),
            **facts("stats", lambda: pager.ask(lambda client: client.statistics())),
            b"objects": numbered(
                lambda: [record.object_id for record in pager.ask(lambda client: client.objects())],
                lambda object_id: _object_dir(pager, object_id),
            ),
            b"partitions": numbered(
                lambda: [record.index for record in pager.ask(lambda client: client.partitions())],
                lambda index: _partition_dir(pager, index),
            ),
        }
    )


def paging_space(pager: Pager) -> tuple[int, int, int]:
    """(page size in bytes, total pages, free pages).  OSError."""
    reply = pager.ask(lambda client: client.info())
    return reply.page_size, reply.total_space // reply.page_size, reply.free_space // reply.page_size


def _info(pager: Pager) -> Facts:
    reply = pager.ask(lambda client: client.info())
    total, free = reply.total_space // reply.page_size, reply.free_space // reply.page_size
    return {
        "page_size": reply.page_size,
        "total_pages": total,
        "used_pages": total - free,
        "free_pages": free,
        "total_space": reply.total_space,
        "free_space": reply.free_space,
        "objects": reply.objects,
        "wired": reply.wired,
    }


def _object(pager: Pager, object_id: int) -> ObjectRecord:
    for record in pager.ask(lambda client: client.objects()):
        if record.object_id == object_id:
            return record
    raise error(errno.ENOENT)


def _pages(pager: Pager, object_id: int) -> list[Facts]:
    pages = pager.ask(lambda client: client.pages(object_id))
    if not pages:
        _object(pager, object_id)  # nothing paged, or no such object?
    return [plain(page) for page in pages]


def _object_dir(pager: Pager, object_id: int) -> Dir:
    def extent() -> Extent:
        record = _object(pager, object_id)
        return Extent(record.size, record.paged)

    def fetch(offset: int, length: int) -> bytes:
        return pager.ask(lambda client: client.read(object_id, offset, length))

    return fixed(
        {
            **facts("info", lambda: plain(_object(pager, object_id))),
            **table("pages", PAGE_COLUMNS, lambda: _pages(pager, object_id)),
            b"data": DataFile(extent, fetch),
        },
        check=lambda: _object(pager, object_id),
    )


def _partition(pager: Pager, index: int) -> PartitionRecord:
    for record in pager.ask(lambda client: client.partitions()):
        if record.index == index:
            return record
    raise error(errno.ENOENT)


def _partition_facts(record: PartitionRecord) -> Facts:
    return {
        "index": record.index,
        "name": record.name,
        "device": record.device,
        "total": record.total,
        "used": record.total - record.free - record.bad,
        "free": record.free,
        "bad": record.bad,
        "going_away": record.going_away,
        "priority": record.priority,
        "access": record.access,
        "run_count": len(record.runs),
        "longest_run": max((run.length for run in record.runs), default=0),
    }


def _partition_dir(pager: Pager, index: int) -> Dir:
    def record() -> PartitionRecord:
        return _partition(pager, index)

    return fixed(
        {
            **facts("info", lambda: _partition_facts(record())),
            **table("runs", RUN_COLUMNS, lambda: [plain(run) for run in record().runs]),
            **_map(lambda: pager.ask(lambda client: client.partition_map(index)).decode("latin-1")),
        },
        check=record,
    )


def _map(slots: Callable[[], str]) -> dict[bytes, Node]:
    """One character a slot, as the pager draws it; slot = 64 * line + column, both from 0."""

    def text() -> str:
        drawn = slots()
        return "".join(drawn[at : at + MAP_WIDTH] + "\n" for at in range(0, len(drawn), MAP_WIDTH))

    def numbers() -> str:
        drawn = slots()
        counts = Counter(MAP_WORDS.get(character, character) for character in drawn)
        return as_json({**{word: counts.pop(word, 0) for word in MAP_WORDS.values()}, **counts, "map": drawn})

    return {b"map": TextFile(text), b"map.json": TextFile(numbers)}
