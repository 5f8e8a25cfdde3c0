"""What is in the files of /pager and /kernel, told by fakes; no FUSE."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict
from typing import Any

import pytest
from fuse_fakes import HIGH, PAGE, FakeKernel, FakePager, Gone, failure, pattern

from fuse_mount.kernel_view import kernel_tree
from fuse_mount.pager_view import PAGE_COLUMNS, pager_tree, paging_space
from fuse_mount.source import Source
from fuse_mount.tree import Dir, File, lookup
from fuse_mount.view import view
from mach.kern_return import KernReturn


def content(root: Dir, path: str) -> bytes:
    node = lookup(root, path.encode())
    assert isinstance(node, File)
    opened = node.open()
    return opened.read(0, opened.size())


def text(root: Dir, path: str) -> str:
    return content(root, path).decode()


def parsed(root: Dir, path: str) -> Any:
    return json.loads(content(root, path))


@pytest.fixture
def pager() -> FakePager:
    return FakePager()


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def root(pager: FakePager, kernel: FakeKernel) -> Dir:
    return view(Source(lambda: pager, Gone), Source(lambda: kernel, Gone))


def every_file(node: Dir, path: bytes = b"") -> list[bytes]:
    found = []
    for name, child in node.children().items():
        here = path + b"/" + name
        found += every_file(child, here) if isinstance(child, Dir) else [here]
    return found


def test_the_tree_is_the_contract(root: Dir) -> None:
    pairs = [
        *("/pager/info", "/pager/stats"),
        *(f"/pager/objects/{number}/{name}" for number in (7, 12) for name in ("info", "pages")),
        *(f"/pager/partitions/0/{name}" for name in ("info", "runs", "map")),
        *("/kernel/vm_stat", "/kernel/queues", "/kernel/tasks/1/info", "/kernel/tasks/1/map"),
        *(f"/kernel/objects/{number}/{name}" for number in (2, 3, 4) for name in ("info", "chain", "pages")),
    ]
    raw = [
        *("/README", "/pager/objects/7/data", "/pager/objects/12/data", "/kernel/tasks/1/memory"),
        *(f"/kernel/objects/{number}/data" for number in (2, 3, 4)),
    ]
    expected = {path + end for path in pairs for end in ("", ".json")} | set(raw)
    assert {path.decode() for path in every_file(root)} == expected


def test_the_readme_says_what_is_where_in_ten_lines(root: Dir) -> None:
    readme = text(root, "README")
    assert len(readme.splitlines()) == 10
    for name in ("pager/info", "data", "pages", "map", "kernel/vm_stat", "memory", "disk/"):
        assert name in readme


def test_pager_info_counts_pages_and_bytes(root: Dir) -> None:
    facts = parsed(root, "pager/info.json")
    assert facts == {
        "page_size": PAGE,
        "total_pages": 200,
        "used_pages": 10,
        "free_pages": 190,
        "total_space": 200 * PAGE,
        "free_space": 190 * PAGE,
        "objects": 2,
        "wired": 65536,
    }
    lines = dict(line.split("  ", 1) for line in text(root, "pager/info").splitlines())
    assert {name.replace(" ", "_"): int(value) for name, value in lines.items()} == facts


def test_stats_are_the_pagers_counters(root: Dir, pager: FakePager) -> None:
    assert parsed(root, "pager/stats.json") == pager.statistics()
    assert text(root, "pager/stats") == "pageins   3\npageouts  5\n"


def test_an_objects_info_is_its_record(root: Dir, pager: FakePager) -> None:
    for number, record in pager.objects_by_id.items():
        assert parsed(root, f"pager/objects/{number}/info.json") == asdict(record)


def test_pages_are_one_line_each_under_a_line_of_names(root: Dir, pager: FakePager) -> None:
    header, *lines = text(root, "pager/objects/7/pages").splitlines()
    assert header.split() == ["#", *PAGE_COLUMNS]
    records = pager.pages(7)
    assert len(lines) == len(records)
    for line, record, said in zip(lines, records, parsed(root, "pager/objects/7/pages.json"), strict=True):
        assert said == {**asdict(record), "digest": record.digest.hex(), "state": "idle"}
        assert line.split() == [str(said[name]) for name in PAGE_COLUMNS]


def test_an_object_without_pages_has_an_empty_list_of_them(root: Dir) -> None:
    assert text(root, "pager/objects/12/pages").split() == ["#", *PAGE_COLUMNS]
    assert parsed(root, "pager/objects/12/pages.json") == []


def test_data_is_the_paged_image_as_long_as_the_object(root: Dir) -> None:
    image = content(root, "pager/objects/7/data")
    assert len(image) == 6 * PAGE
    for page in range(6):
        expected = pattern(page) if page in (1, 4) else bytes(PAGE)
        assert image[page * PAGE : (page + 1) * PAGE] == expected
    attributes = lookup(root, b"pager/objects/7/data").attributes()
    assert (attributes.size, attributes.blocks) == (6 * PAGE, 2 * PAGE // 512)


def test_a_partition_is_its_record_and_its_map_is_drawn_64_slots_a_line(root: Dir, pager: FakePager) -> None:
    (record,) = pager.partitions()
    info = parsed(root, "pager/partitions/0/info.json")
    assert (info["name"], info["total"], info["free"], info["bad"], info["used"]) == (record.name, 200, 190, 1, 9)
    assert (info["run_count"], info["longest_run"]) == (2, 150 * PAGE)
    assert parsed(root, "pager/partitions/0/runs.json") == [asdict(run) for run in record.runs]
    lines = text(root, "pager/partitions/0/map").splitlines()
    assert [len(line) for line in lines] == [64, 64, 64, 8]
    assert "".join(lines).encode() == pager.partition_map(0)
    drawn = parsed(root, "pager/partitions/0/map.json")
    assert drawn == {"free": 190, "used": 9, "bad": 1, "map": "".join(lines)}


@pytest.mark.parametrize(
    "path", ["objects/8", "objects/8/info", "objects/8/pages", "objects/8/data", "partitions/3/map"]
)
def test_what_is_not_there_is_not_found(pager: FakePager, path: str) -> None:
    root = pager_tree(Source(lambda: pager, Gone))
    assert failure(lambda: lookup(root, path.encode()).attributes()) == errno.ENOENT


def test_an_object_that_goes_is_gone_at_once(root: Dir, pager: FakePager) -> None:
    node = lookup(root, b"pager/objects/7/info")
    del pager.objects_by_id[7]
    assert failure(node.attributes) == errno.ENOENT
    assert list(lookup(root, b"pager/objects").children()) == [b"12"]  # type: ignore[attr-defined]


def test_a_dead_pager_is_an_input_output_error_and_the_rest_goes_on(root: Dir, pager: FakePager) -> None:
    pager.gone = True
    assert list(root.children()) == [b"README", b"pager", b"kernel"]
    assert list(root.child(b"pager").children()) != []  # type: ignore[attr-defined]
    for path in ("pager/info", "pager/stats.json", "pager/objects/7/data", "pager/partitions/0/map"):
        assert failure(content, root, path) == errno.EIO
    assert failure(lookup(root, b"pager/objects").children) == errno.EIO  # type: ignore[attr-defined]
    assert parsed(root, "kernel/vm_stat.json")["page_size"] == PAGE
    pager.gone = False
    assert parsed(root, "pager/info.json")["objects"] == 2


def test_a_source_connects_again_after_a_death_and_asks_once_more() -> None:
    clients: list[FakePager] = []

    def connect() -> FakePager:
        clients.append(FakePager())
        return clients[-1]

    source = Source(connect, Gone)
    assert source.ask(lambda client: client.info()).objects == 2
    clients[0].gone = True
    assert source.ask(lambda client: client.info()).objects == 2
    assert (len(clients), clients[0].closed) == (2, 1)


@pytest.mark.parametrize(
    ("refusal", "number"),
    [
        (KernReturn.KERN_INVALID_ARGUMENT, errno.ENOENT),
        (KernReturn.KERN_RESOURCE_SHORTAGE, errno.ENOMEM),
        (KernReturn.KERN_MEMORY_ERROR, errno.EIO),
        (KernReturn.D_IO_ERROR, errno.EIO),
    ],
)
def test_a_refusal_has_an_errno(root: Dir, pager: FakePager, refusal: KernReturn, number: int) -> None:
    pager.refusal = refusal
    assert failure(content, root, "pager/info") == number


def test_statfs_asks_for_the_paging_space(pager: FakePager) -> None:
    assert paging_space(Source(lambda: pager, Gone)) == (PAGE, 200, 190)


def test_the_kernels_facts_are_its_records(root: Dir, kernel: FakeKernel) -> None:
    assert parsed(root, "kernel/vm_stat.json") == {"page_size": PAGE, "free_count": 5, "active_count": 9}
    assert parsed(root, "kernel/queues.json") == [asdict(queue) for queue in kernel.queues()]
    assert parsed(root, "kernel/tasks/1/info.json") == asdict(kernel.tasks()[0])
    assert parsed(root, "kernel/objects/2/pages.json") == [asdict(page) for page in kernel.object_pages(2)]
    in_order = sorted(kernel.regions(1), key=lambda region: region.start)
    assert parsed(root, "kernel/tasks/1/map.json") == [asdict(region) for region in in_order]
    for record in kernel.objects():
        assert parsed(root, f"kernel/objects/{record.object_id}/info.json") == asdict(record)


def test_the_map_is_written_for_people(root: Dir) -> None:
    _, low, high = text(root, "kernel/tasks/1/map").splitlines()
    assert low.split()[:5] == ["0x00001000", "0x00005000", "rw-", "rwx", "copy"]
    assert high.split()[:5] == ["0x7fff00000000", "0x7fff00001000", "r-x", "rwx", "none"]


def test_a_name_from_outside_cannot_break_a_line(root: Dir) -> None:
    assert "name      work\\nload\n" in text(root, "kernel/tasks/1/info")


def test_the_chain_goes_down_and_one_that_bites_its_tail_ends(root: Dir) -> None:
    assert [link["object_id"] for link in parsed(root, "kernel/objects/3/chain.json")] == [3, 2]
    assert [link["object_id"] for link in parsed(root, "kernel/objects/4/chain.json")] == [4]


def test_memory_has_each_byte_at_its_address_and_zeros_between(root: Dir) -> None:
    node = lookup(root, b"kernel/tasks/1/memory")
    assert isinstance(node, File)
    attributes = node.attributes()
    assert (attributes.size, attributes.blocks) == (HIGH + PAGE, 3 * PAGE // 512)
    opened = node.open()
    assert opened.read(0, 2 * PAGE) == bytes(PAGE) + pattern(1)
    assert opened.read(5 * PAGE - 7, 10) == pattern(4)[-7:] + bytes(3)
    assert opened.read(HIGH, 2 * PAGE) == pattern(HIGH // PAGE)


def test_a_page_of_memory_that_cannot_be_had_is_an_error(kernel: FakeKernel) -> None:
    kernel.broken_at = 2 * PAGE
    node = lookup(kernel_tree(Source(lambda: kernel, Gone)), b"tasks/1/memory")
    assert isinstance(node, File)
    opened = node.open()
    assert opened.read(PAGE, PAGE) == pattern(1)
    assert failure(opened.read, 0, 3 * PAGE) == errno.EIO


def test_a_dead_kernel_leaves_the_pager_to_be_seen(root: Dir, kernel: FakeKernel) -> None:
    kernel.gone = True
    assert failure(content, root, "kernel/vm_stat") == errno.EIO
    assert parsed(root, "pager/info.json")["objects"] == 2
