"""Water marks, sizes of shared objects, secret names: through the service, on many schedules."""

from __future__ import annotations

import pytest
from paging import PAGE, World, broken, pattern, worlds

from mach.default_pager import (
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectLookup,
    DefaultPagerObjectLookupReply,
    DefaultPagerObjectName,
    DefaultPagerObjectNameReply,
    DefaultPagerObjectSetSize,
    DefaultPagerObjectSetSizeReply,
    DefaultPagerSpaceAlert,
    DefaultPagerTriggers,
    DefaultPagerTriggersReply,
    SpaceAlert,
)
from mach.kern_return import KernReturn
from mach.memory_object import (
    MemoryObjectDataError,
    MemoryObjectDataRequest,
    MemoryObjectDataReturn,
    MemoryObjectDataSupply,
    MemoryObjectDataUnavailable,
    MemoryObjectInit,
    MemoryObjectLockRequest,
    MemoryObjectReturn,
    VmProt,
)
from mach.message import Message
from mach.ports import SendRight
from mach.rpc import call

# -- water marks -------------------------------------------------------------------------------------------------------


def watch(world: World, high: int, low: int) -> list[Message]:
    """What comes for who asked to be told."""
    heard: list[Message] = []
    port = world.ipc.allocate("alert", kobject=heard.append)
    make = lambda reply: DefaultPagerTriggers(reply, high * PAGE, low * PAGE, port.make_send_once())  # noqa: E731
    assert call(world.ipc, world.default_pager, make, DefaultPagerTriggersReply).result == KernReturn.KERN_SUCCESS
    return heard


def test_who_asked_is_told_once_when_space_runs_short_and_once_when_it_is_plenty() -> None:
    """mach.md, appendix B: XNU's HI_WAT and LO_WAT, armed again by asking again."""

    def body(world: World) -> None:
        heard = watch(world, high=50, low=0)
        obj = world.object()
        for page in range(14):
            obj.write(page, pattern(page))
        world.settle()
        assert heard == []
        obj.write(20, pattern(20) * 10)
        world.settle()
        assert [message.kind for message in heard] == [SpaceAlert.SHORT]
        assert heard[0] == DefaultPagerSpaceAlert(SpaceAlert.SHORT, heard[0].free_space)
        assert 40 * PAGE <= heard[0].free_space < 50 * PAGE
        obj.write(40, pattern(40))
        world.settle()
        assert len(heard) == 1, "once"
        heard = watch(world, high=0, low=60)
        assert heard == []
        obj.terminate()
        world.settle()
        assert heard == [DefaultPagerSpaceAlert(SpaceAlert.PLENTY, 64 * PAGE)]

    worlds(body, seeds=6)


def test_a_mark_that_is_passed_already_is_told_of_at_once() -> None:
    def body(world: World) -> None:
        heard = watch(world, high=65, low=0)
        world.settle()
        assert heard == [DefaultPagerSpaceAlert(SpaceAlert.SHORT, 64 * PAGE)]
        heard = watch(world, high=0, low=63)
        world.settle()
        assert heard == [DefaultPagerSpaceAlert(SpaceAlert.PLENTY, 64 * PAGE)]

    worlds(body, seeds=2)


def test_people_are_told_in_words_and_not_at_every_page() -> None:
    def body(world: World) -> None:
        obj = world.object()
        for _ in range(3):
            for page in range(62):
                obj.write(page, pattern(page))
        world.settle()
        assert ["short" in words for words in world.reports] == [True]
        obj.terminate()
        world.settle()
        assert "plenty again" in world.reports[1]
        assert len(world.reports) == 2

    worlds(body, seeds=4)


# -- sizes -------------------------------------------------------------------------------------------------------------


class Mapped:
    """A shared object, mapped by a kernel of ours."""

    def __init__(self, world: World) -> None:
        self.world = world
        reply = call(
            world.ipc,
            world.default_pager,
            lambda right: DefaultPagerObjectCreate(right, 16 * PAGE),
            DefaultPagerObjectCreateReply,
        )
        assert reply.memory_object is not None
        self.right: SendRight = reply.memory_object
        self.heard: list[Message] = []
        self.control = world.ipc.allocate("control", kobject=self.heard.append)
        name = world.ipc.allocate("name")
        self.right.send(MemoryObjectInit(self.control.make_send(), name.make_send(), PAGE))
        world.settle()
        self.heard.clear()

    def write(self, page: int, data: bytes) -> None:
        self.right.send(MemoryObjectDataReturn(self.control.make_send(), page * PAGE, 1, 0, data))

    def read(self, page: int) -> bytes | str:
        self.right.send(MemoryObjectDataRequest(self.control.make_send(), page * PAGE, PAGE, VmProt.READ))
        self.world.settle()
        message = self.heard.pop()
        if isinstance(message, MemoryObjectDataSupply):
            return message.data
        assert isinstance(message, MemoryObjectDataError | MemoryObjectDataUnavailable)
        return "error" if isinstance(message, MemoryObjectDataError) else "unavailable"

    def set_size(self, size: int) -> KernReturn:
        make = lambda right: DefaultPagerObjectSetSize(right, size)  # noqa: E731
        result: KernReturn = call(self.world.ipc, self.right, make, DefaultPagerObjectSetSizeReply).result
        return result


def test_truncation_gives_blocks_back_and_clears_the_rest_of_the_last_page() -> None:
    """Appendix C, Hurd's set_size; weakness 19: pages leak, and size 0 underflows."""

    def body(world: World) -> None:
        obj = Mapped(world)
        obj.write(0, b"".join(pattern(n) for n in range(10)))
        world.settle()
        assert world.free == 54
        assert obj.set_size(2 * PAGE + 100) == KernReturn.KERN_SUCCESS
        world.settle()
        assert world.free == 61
        flushes = [m for m in obj.heard if isinstance(m, MemoryObjectLockRequest)]
        assert [(m.offset, m.should_flush, m.should_return) for m in flushes] == [
            (3 * PAGE, 1, MemoryObjectReturn.NONE),
            (2 * PAGE, 1, MemoryObjectReturn.ALL),
        ], "the kernel is told to forget what lies behind, and to give the last page back"
        assert [obj.read(0), obj.read(1), obj.read(2)] == [pattern(0), pattern(1), pattern(2)[:100] + bytes(PAGE - 100)]
        assert [obj.read(3), obj.read(9)] == ["error", "error"]
        obj.write(2, b"\xee" * 2 * PAGE)  # the flushed page comes back, and one that is behind the end
        world.settle()
        assert world.free == 61
        assert obj.read(2) == b"\xee" * 100 + bytes(PAGE - 100)
        assert obj.read(3) == "error"
        obj.set_size(12 * PAGE)
        assert obj.read(2) == b"\xee" * 100 + bytes(PAGE - 100)
        assert obj.read(3) == "unavailable", "what was cut off is gone for good, and what grows is zeros"
        obj.set_size(0)
        world.settle()
        assert world.free == 64
        assert obj.read(0) == "error"
        obj.right.drop()

    worlds(body, seeds=8)


def test_the_last_page_is_an_error_if_it_cannot_be_read_never_its_old_content() -> None:
    def body(world: World) -> None:
        obj = Mapped(world)
        obj.write(0, pattern(0) + pattern(1))
        world.settle()

        def fail(kind: str, offset: int, length: int) -> None:
            if kind == "read":
                raise broken(offset)

        world.disk.before = fail
        obj.set_size(PAGE + 1)
        world.disk.before = lambda kind, offset, length: None
        assert [obj.read(0), obj.read(1)] == [pattern(0), "error"]
        obj.right.drop()

    worlds(body, seeds=4)


def test_the_size_of_a_temporary_object_is_its_kernels_affair() -> None:
    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(0))
        make = lambda right: DefaultPagerObjectSetSize(right, 0)  # noqa: E731
        reply = call(world.ipc, obj.memory_object, make, DefaultPagerObjectSetSizeReply)
        assert reply.result == KernReturn.KERN_INVALID_ARGUMENT
        assert obj.read(0) == [pattern(0)]

    worlds(body, seeds=2)


# -- secret names ------------------------------------------------------------------------------------------------------


def name_of(world: World, right: SendRight) -> bytes:
    reply = call(world.ipc, right, lambda reply: DefaultPagerObjectName(reply), DefaultPagerObjectNameReply)
    name: bytes = reply.name
    return name


def look_up(world: World, name: bytes) -> DefaultPagerObjectLookupReply:
    make = lambda right: DefaultPagerObjectLookup(right, name)  # noqa: E731
    return call(world.ipc, world.default_pager, make, DefaultPagerObjectLookupReply)


def test_a_right_is_handed_on_by_a_name_that_cannot_be_guessed() -> None:
    """P7: an object is reached only by who holds a right, or was told by one who does."""

    def body(world: World) -> None:
        obj = Mapped(world)
        obj.write(0, pattern(7))
        name = name_of(world, obj.right)
        other = look_up(world, name).memory_object
        assert other is not None
        obj.right.drop()
        world.settle()
        assert world.free == 63, "the second right keeps it alive"
        obj.right = other
        assert obj.read(0) == pattern(7)
        for at in range(len(name)):
            guess = name[:at] + bytes([name[at] ^ 1]) + name[at + 1 :]
            reply = look_up(world, guess)
            assert (reply.result, reply.memory_object) == (KernReturn.KERN_INVALID_NAME, None)
        other.drop()
        world.settle()
        assert look_up(world, name).result == KernReturn.KERN_INVALID_NAME, "the name dies with its object"
        assert world.free == 64

    worlds(body, seeds=4)


def test_names_of_another_pager_are_no_names_here() -> None:
    def body(world: World) -> None:
        obj = Mapped(world)
        name = name_of(world, obj.right)
        world.pager.secret = b"\1" * 32
        assert look_up(world, name).result == KernReturn.KERN_INVALID_NAME
        obj.right.drop()

    worlds(body, seeds=1)


@pytest.mark.parametrize("block", range(4))
def test_an_object_that_is_looked_up_while_its_last_right_goes_lives_or_is_gone_and_nothing_between(block: int) -> None:
    def body(world: World) -> None:
        obj = Mapped(world)
        obj.write(0, pattern(7))
        name = name_of(world, obj.right)
        thread = world.runtime.fork(obj.right.drop, "dropper")
        found = look_up(world, name).memory_object
        thread.join()
        world.settle()
        if found is not None:
            assert world.free == 63
            obj.right = found
            assert obj.read(0) == pattern(7)
            found.drop()
            world.settle()
        assert world.free == 64

    worlds(body, seeds=10 + block * 10)
