"""What one client may have, and what it may see: none can starve or read the others (P7)."""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import pagerd, run
from paging import PAGE, KernelSide, World, broken, pattern, worlds

from mach.default_pager import (
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerPagingStorage,
    DefaultPagerPagingStorageReply,
    StorageAction,
)
from mach.kern_return import KernReturn
from mach.message import Message
from mach.peer import Peer
from mach.ports import DeadPort, Ipc
from mach.socket_carrier import Network
from mach.threads import NativeRuntime
from pager.client import PagerClient, PagerUnavailable
from pager.clients import Limits

GREEDY, MODEST, NOBODY = Peer(100, 0), Peer(200, 0), Peer(300, 65534)


def limit(world: World, objects: int = 0, pages: int = 0) -> None:
    world.pager.clients.limits = Limits(objects, pages)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_client_at_its_limit_of_objects_makes_no_more_until_one_goes() -> None:
    def body(world: World) -> None:
        limit(world, objects=2)
        mine = [world.object(peer=GREEDY) for _ in range(2)]
        mine[0].write(0, pattern(0))
        assert mine[0].read(0) == [pattern(0)]
        third = world.object(peer=GREEDY)
        world.settle()
        with pytest.raises(DeadPort):
            third.write(0, pattern(1))
        other = world.object(peer=MODEST)
        other.write(0, pattern(2))
        assert other.read(0) == [pattern(2)]
        assert world.pager.totals()["over_limits"] == 1
        mine[0].terminate()
        world.settle()
        again = world.object(peer=GREEDY)
        again.write(0, pattern(3))
        assert again.read(0) == [pattern(3)]

    worlds(body, seeds=6)


def test_shared_objects_count_too() -> None:
    def body(world: World) -> None:
        limit(world, objects=1)
        results = []
        for _ in range(2):
            port = world.ipc.allocate("reply")
            port.port.peer = GREEDY
            world.default_pager.send(DefaultPagerObjectCreate(port.make_send_once(), PAGE))
            received = port.receive()
            assert received is not None
            assert isinstance(received.message, DefaultPagerObjectCreateReply)
            results.append(received.message)
        assert [reply.result for reply in results] == [KernReturn.KERN_SUCCESS, KernReturn.KERN_RESOURCE_SHORTAGE]
        assert results[1].memory_object is None
        results[0].memory_object.drop()

    worlds(body, seeds=2)


def test_a_client_at_its_limit_of_pages_loses_what_is_beyond_and_nobody_elses() -> None:
    def body(world: World) -> None:
        limit(world, pages=5)
        greedy, modest = world.object(peer=GREEDY), world.object(peer=MODEST)
        greedy.write(0, b"".join(pattern(n) for n in range(8)))
        assert greedy.read(0, 8) == [*(pattern(n) for n in range(5)), *["error"] * 3]
        greedy.write(2, pattern(100))  # has a slot: needs none
        assert greedy.read(2) == [pattern(100)]
        modest.write(0, b"".join(pattern(n) for n in range(5)))
        assert modest.read(0, 5) == [pattern(n) for n in range(5)]
        local = world.object()
        local.write(0, b"".join(pattern(n) for n in range(20)))
        assert "error" not in local.read(0, 20), "the pager's own process has no limit"
        world.settle()
        assert len([words for words in world.reports if "process 100" in words]) == 1, "told once, not at every page"
        assert world.pager.totals()["over_limits"] == 3
        greedy.terminate()
        world.settle()
        greedy = world.object(peer=GREEDY)
        greedy.write(0, pattern(9))
        assert greedy.read(0) == [pattern(9)]

    worlds(body, seeds=6)


def test_a_limit_is_kept_exactly_by_writes_at_the_same_time() -> None:
    def body(world: World) -> None:
        limit(world, pages=9)
        objects = [world.object(peer=GREEDY) for _ in range(4)]
        for obj in objects:
            obj.write(0, b"".join(pattern(n) for n in range(4)))
        world.settle()
        assert world.free == 64 - 9
        (client,) = world.pager.clients.all()
        assert client.pages == 9

    worlds(body, seeds=30)


@pytest.mark.parametrize("seed", range(12))
def test_what_a_client_is_charged_is_what_it_has_whatever_happens(seed: int) -> None:
    """Faults of the disk, precious pages, objects that end: `pager.check` compares after each schedule."""
    chance = random.Random(seed)

    def fail(kind: str, offset: int, length: int) -> None:
        if chance.random() < 0.1:
            raise broken(offset)

    def use(world: World, obj: KernelSide) -> None:
        for step in range(30):
            obj.write(chance.randrange(10), pattern(seed, step) * chance.randrange(1, 5))
            if chance.random() < 0.3:
                obj.look(chance.randrange(10), 2, access=chance.choice((1, 3)))  # type: ignore[arg-type]
        if chance.random() < 0.5:
            obj.terminate()

    def body(world: World) -> None:
        limit(world, pages=chance.choice((0, 6, 20)))
        world.disk.before = fail
        for obj in [world.object(peer=peer) for peer in (GREEDY, GREEDY, MODEST)]:
            use(world, obj)

    worlds(body, seeds=3, pages=24)


# -- rights ------------------------------------------------------------------------------------------------------------


def ask_as(world: World, peer: Peer, make: object) -> Message:
    port = world.ipc.allocate("reply")
    port.port.peer = peer
    world.default_pager.send(make(port.make_send_once()))  # type: ignore[operator]
    received = port.receive()
    assert received is not None
    return received.message


def test_what_is_in_an_object_is_shown_to_its_own_user_and_to_root() -> None:
    def body(world: World) -> None:
        obj = world.object(peer=NOBODY)
        obj.write(0, pattern(5))
        obj.read(0)
        read = lambda right: DefaultPagerObjectRead(right, 1, 0, PAGE)  # noqa: E731
        pages = lambda right: DefaultPagerObjectPages(right, 1, 0)  # noqa: E731
        for peer in (Peer(1, 0), Peer(2, 65534)):
            assert ask_as(world, peer, read) == DefaultPagerObjectReadReply(KernReturn.KERN_SUCCESS, pattern(5))
        stranger = Peer(3, 12345)
        assert ask_as(world, stranger, read) == DefaultPagerObjectReadReply(KernReturn.KERN_NO_ACCESS, b"")
        assert ask_as(world, stranger, pages) == DefaultPagerObjectPagesReply(KernReturn.KERN_NO_ACCESS, ())

    worlds(body, seeds=2)


def test_paging_storage_is_not_everybodys_to_change() -> None:
    """Weakness 4.  A device is opened with the pager's rights: whoever could name one could have it overwritten."""

    def body(world: World) -> None:
        for action in StorageAction:
            make = lambda right, a=action: DefaultPagerPagingStorage(right, a, -1, "disk", "/dev/sda", ())  # noqa: E731
            reply = ask_as(world, NOBODY, make)
            assert isinstance(reply, DefaultPagerPagingStorageReply)
            assert reply.result == KernReturn.KERN_NO_ACCESS
        assert world.pager.store.find("disk") is not None

    worlds(body, seeds=1)


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    run("mkpagingfile", tmp_path / "disk.img", "--size", "8M", "--paging-size", "4M")
    with pagerd(
        tmp_path / "disk.img",
        tmp_path / "s",
        "--client-objects",
        "3",
        "--client-pages",
        "256K",
        "--client-requests",
        "4",
    ):
        yield tmp_path / "s"


def test_a_process_has_so_many_connections_and_no_more(served: Path) -> None:
    clients = []
    try:
        for _ in range(64):
            clients.append(PagerClient(str(served)))
            clients[-1].info()
        clients.append(PagerClient(str(served)))
        with pytest.raises(PagerUnavailable, match="has gone"):
            clients[-1].info()
        assert clients[0].statistics()["turned_away"] == 1
        clients.pop().close()
        clients.pop().close()
        other = json.loads(run("pagerctl", "--socket", served, "info", "--json").stdout)
        assert other["page_size"] == PAGE, "another process is let in"
    finally:
        for client in clients:
            client.close()


def test_the_options_set_the_limits_and_pagerctl_shows_who_has_what(served: Path) -> None:
    client = PagerClient(str(served))
    try:
        rights = [client.object_create(PAGE) for _ in range(3)]
        with pytest.raises(Exception, match="KERN_RESOURCE_SHORTAGE"):
            client.object_create(PAGE)
        shown = json.loads(run("pagerctl", "--socket", served, "clients", "--json").stdout)
        assert shown == {
            "object_limit": 3,
            "page_limit": 64,
            "clients": [{"pid": os.getpid(), "uid": os.getuid(), "objects": 3, "pages": 0}],
        }
        for right in rights:
            right.drop()
    finally:
        client.close()


def test_a_client_that_floods_has_one_turn_as_everybody(served: Path) -> None:
    """Between two answers to one client no more than a few messages of another are handled."""
    ipc = Ipc(NativeRuntime())
    network = Network(ipc)
    client = PagerClient(str(served))
    try:
        flood = KernelSide(ipc.runtime, ipc, network.connect(str(served)))
        data = bytes(32 * PAGE)
        sender = threading.Thread(target=lambda: [flood.write(0, data) for _ in range(250)])
        pump, done = ipc.allocate("pump"), threading.Event()
        poller = threading.Thread(target=lambda: [pump.receive(0.1) for _ in iter(done.is_set, True)])
        poller.start()
        sender.start()
        before = client.statistics()["messages"]
        for _ in range(10):
            client.info()
        assert client.statistics()["messages"] - before < 10 * 12
        sender.join()
        assert flood.read(0) == [bytes(PAGE)]
    finally:
        done.set()
        poller.join()
        client.close()
        network.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("allowed", [False, True])
def test_another_user_is_let_in_only_if_it_is_allowed_and_then_not_to_everything(tmp_path: Path, allowed: bool) -> None:
    run("mkpagingfile", tmp_path / "disk.img", "--size", "8M", "--paging-size", "1M")
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        socket = Path(open_to_all) / "s"
        with pagerd(tmp_path / "disk.img", socket, *(("--allow-uid", "65534") if allowed else ())):
            os.chmod(socket, 0o666)  # that the mode keeps others out is one thing, that they are not served another
            child = os.fork()
            if child == 0:
                os._exit(_as_nobody(str(socket)))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (7 if allowed else 3)


def _as_nobody(socket: str) -> int:
    """3: not let in; 7: let in, and refused what is root's."""
    try:
        os.setuid(65534)
        client = PagerClient(socket)
        client.info()
        client.remove_storage(client.partitions()[0].name)
    except PagerUnavailable:
        return 3
    except Exception as error:
        return 7 if "root's affair" in str(error) else 9
    return 1
