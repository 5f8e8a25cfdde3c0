"""Page data in transit: it is bytes to everybody, and is freed exactly once by whoever ends up with it."""

from __future__ import annotations

import pytest

from mach.memory_object import MemoryObjectDataWrite
from mach.page_list import PageList, vm_deallocate
from mach.ports import DeadPort, Ipc
from mach.threads.simulated import SimulatedRuntime


def test_a_page_list_is_bytes_and_is_freed_once() -> None:
    freed: list[str] = []
    pages = PageList(b"abc" * 100, lambda: freed.append("freed"))
    assert pages == b"abc" * 100
    assert memoryview(pages)[3:6] == b"abc"
    vm_deallocate(pages)
    vm_deallocate(pages)
    vm_deallocate(b"plain bytes occupy nothing")
    assert freed == ["freed"]


@pytest.mark.parametrize("queued_first", [True, False])
def test_page_data_that_nobody_receives_is_freed_with_its_message(queued_first: bool) -> None:
    freed: list[str] = []

    def body() -> None:
        ipc = Ipc(runtime)
        port, control = ipc.allocate("dying pager"), ipc.allocate("control")
        right = port.make_send()
        message = MemoryObjectDataWrite(control.make_send(), 0, PageList(b"x" * 4096, lambda: freed.append("freed")))
        if queued_first:
            right.send(message)
            assert not freed
        port.destroy()
        if not queued_first:
            with pytest.raises(DeadPort):
                right.send(message)

    runtime = SimulatedRuntime(0)
    runtime.run(body)
    assert freed == ["freed"]
