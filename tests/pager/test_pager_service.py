"""What the default pager tells of itself, and objects made through its service."""

from __future__ import annotations

from paging import PAGE, World, pattern, worlds

from mach.default_pager import (
    DefaultPagerInfo,
    DefaultPagerInfoReply,
    DefaultPagerObjectCreate,
    DefaultPagerObjectCreateReply,
    DefaultPagerObjectPages,
    DefaultPagerObjectPagesReply,
    DefaultPagerObjectRead,
    DefaultPagerObjectReadReply,
    DefaultPagerObjects,
    DefaultPagerObjectsReply,
    DefaultPagerPartitionMap,
    DefaultPagerPartitionMapReply,
    PageState,
)
from mach.kern_return import KernReturn
from mach.memory_object import (
    MemoryObjectDataRequest,
    MemoryObjectDataReturn,
    MemoryObjectDataWrite,
    MemoryObjectDestroy,
    MemoryObjectInit,
    MemoryObjectSetAttributes,
    MemoryObjectTerminate,
    VmProt,
)
from mach.message import Message
from mach.ports import SendRight
from mach.rpc import call


def test_a_shared_object_is_made_mapped_and_goes_with_its_last_right() -> None:
    """36, the pager's part: init is answered with set_attributes(ready); terminate and re-map keep the content."""

    def body(world: World) -> None:
        reply = call(
            world.ipc,
            world.default_pager,
            lambda right: DefaultPagerObjectCreate(right, 8 * PAGE),
            DefaultPagerObjectCreateReply,
        )
        right = reply.memory_object
        assert right is not None
        for round_number in range(2):
            answers: list[Message] = []
            control = world.ipc.allocate("control", kobject=answers.append)
            name = world.ipc.allocate("name")
            right.send(MemoryObjectInit(control.make_send(), name.make_send(), PAGE))
            world.settle()
            assert isinstance(answers.pop(), MemoryObjectSetAttributes)
            if round_number == 0:
                right.send(MemoryObjectDataWrite(control.make_send(), 0, pattern(1)))
            right.send(MemoryObjectDataRequest(control.make_send(), 0, PAGE, VmProt.READ))
            world.settle()
            assert answers.pop().data == pattern(1)
            control.resign_kobject()
            right.send(MemoryObjectTerminate(control, name))
            world.settle()
        assert world.free == 63
        right.drop()
        world.settle()
        assert world.free == 64

    worlds(body, seeds=5)


def shared_object(world: World) -> SendRight:
    reply = call(
        world.ipc,
        world.default_pager,
        lambda right: DefaultPagerObjectCreate(right, 8 * PAGE),
        DefaultPagerObjectCreateReply,
    )
    assert reply.memory_object is not None
    return reply.memory_object


def test_a_shared_object_whose_kernel_died_can_be_mapped_again() -> None:
    """Its content stays; Mach's pager would panic at the second init."""

    def body(world: World) -> None:
        right = shared_object(world)
        for version in range(3):
            answers: list[Message] = []
            control = world.ipc.allocate("control", kobject=answers.append)
            right.send(MemoryObjectInit(control.make_send(), world.ipc.allocate("name").make_send(), PAGE))
            world.settle()
            assert isinstance(answers.pop(), MemoryObjectSetAttributes)
            if version:
                right.send(MemoryObjectDataRequest(control.make_send(), 0, PAGE, VmProt.READ))
                world.settle()
                assert answers.pop().data == pattern(version - 1)
            returned = MemoryObjectDataReturn(control.make_send(), 0, dirty=1, kernel_copy=0, data=pattern(version))
            right.send(returned)
            control.destroy()  # no terminate
            world.settle()
        right.drop()
        world.settle()
        assert world.free == 64

    worlds(body, seeds=6)


def test_a_shared_object_is_mapped_by_one_kernel_at_a_time() -> None:
    """No consistency between kernels (paper 6.1): the second one is refused, never silently wrong."""

    def body(world: World) -> None:
        right = shared_object(world)
        answers: list[list[Message]] = [[], []]
        for number in range(2):
            control = world.ipc.allocate("control", kobject=answers[number].append)
            right.send(MemoryObjectInit(control.make_send(), world.ipc.allocate("name").make_send(), PAGE))
            world.settle()
        assert isinstance(answers[0].pop(), MemoryObjectSetAttributes)
        assert answers[1] == [MemoryObjectDestroy(KernReturn.KERN_NO_ACCESS)], "or it would wait for ever"
        assert world.pager.totals()["refused"] == 1

    worlds(body, seeds=3)


def test_what_the_service_tells_is_exact() -> None:
    """mach.md 8.37: objects, pages with exact offsets beyond 64 pages, the map, the paged image."""

    def body(world: World) -> None:
        obj = world.object(200 * PAGE)
        numbers = [0, 5, 63, 64, 150]
        for page in numbers:
            obj.write(page, pattern(page))
        obj.read(150)
        world.settle()
        ask = lambda make, reply: call(world.ipc, world.default_pager, make, reply)  # noqa: E731
        info = ask(DefaultPagerInfo, DefaultPagerInfoReply)
        assert (info.total_space, info.free_space, info.page_size, info.objects) == (64 * PAGE, 59 * PAGE, PAGE, 1)
        (record,) = ask(lambda r: DefaultPagerObjects(r, 0), DefaultPagerObjectsReply).objects
        assert (record.size, record.paged, record.pageouts, record.pageins) == (200 * PAGE, 5 * PAGE, 5, 1)
        assert ask(lambda r: DefaultPagerObjects(r, 1), DefaultPagerObjectsReply).objects == ()
        pages = ask(lambda r: DefaultPagerObjectPages(r, 1, 0), DefaultPagerObjectPagesReply).pages
        assert [page.offset for page in pages] == [page * PAGE for page in numbers]
        for page in pages:
            assert bytes(world.disk.data[page.device_offset :][:PAGE]) == pattern(page.offset // PAGE)
            assert page.state is PageState.IDLE
        content = ask(lambda r: DefaultPagerPartitionMap(r, 0, 0), DefaultPagerPartitionMapReply).data
        assert (content.count(b"#"), content.count(b".")) == (5, 59)
        read = ask(lambda r: DefaultPagerObjectRead(r, 1, 4 * PAGE + 100, 2 * PAGE), DefaultPagerObjectReadReply)
        assert read.data == (bytes(PAGE) + pattern(5) + bytes(PAGE))[100 : 100 + 2 * PAGE]
        for request in (lambda r: DefaultPagerObjectPages(r, 9, 0), lambda r: DefaultPagerObjectRead(r, 9, 0, 1)):
            assert call(world.ipc, world.default_pager, request, Message).result is KernReturn.KERN_INVALID_ARGUMENT

    worlds(body, seeds=3)


def test_looking_changes_nothing() -> None:
    def body(world: World) -> None:
        obj = world.object()
        obj.write(0, pattern(1))
        obj.read(0)
        world.settle()
        image = bytes(world.disk.data)
        call(
            world.ipc,
            world.default_pager,
            lambda right: DefaultPagerObjectRead(right, 1, 0, 64 * PAGE),
            DefaultPagerObjectReadReply,
        )
        assert bytes(world.disk.data) == image
        record = call(
            world.ipc, world.default_pager, lambda right: DefaultPagerObjects(right, 0), DefaultPagerObjectsReply
        ).objects[0]
        assert (record.pageins, record.pageouts) == (1, 1)

    worlds(body, seeds=2)


def test_listing_while_objects_come_and_go_gives_none_twice_and_none_that_never_was() -> None:
    """mach.md 8.37, weakness 14: Mach lists what it did not fill in."""

    def body(world: World) -> None:
        def come_and_go() -> None:
            for number in range(12):
                obj = world.object((1 + number) * PAGE)
                obj.write(0, pattern(number))
                obj.read(0)
                obj.terminate()

        thread = world.runtime.fork(come_and_go, "objects")
        for _ in range(6):
            reply = call(
                world.ipc, world.default_pager, lambda right: DefaultPagerObjects(right, 0), DefaultPagerObjectsReply
            )
            numbers = [record.object_id for record in reply.objects]
            assert numbers == sorted(set(numbers))
            assert all(1 <= record.object_id <= 12 for record in reply.objects)
            assert all(record.paged in (0, PAGE) and record.size == record.object_id * PAGE for record in reply.objects)
        thread.join()

    worlds(body, seeds=8)
