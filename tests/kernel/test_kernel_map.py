"""Address maps against a plain model: one entry a page."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kernel.processor import Processor
from kernel.resident import ResidentPages
from kernel.vm_map import VM_MAX_ADDRESS, VmMap
from kernel.vm_object import VmObjects
from mach.kern_return import KernReturn, MachError
from mach.memory_object import VmProt
from mach.threads import NativeRuntime

PAGE = 4096
SPAN = 12  # pages that most of the calls are about: few, so that they meet


def new_map() -> tuple[VmMap, VmObjects]:
    processor = Processor(NativeRuntime())
    objects = VmObjects(processor, ResidentPages(processor, 64, PAGE))
    return VmMap(PAGE, objects), objects


pages = st.integers(0, SPAN)
addresses = st.one_of(pages.map(lambda page: page * PAGE), st.integers(0, (SPAN + 2) * PAGE))
sizes = st.one_of(pages.map(lambda page: page * PAGE // 2), st.integers(0, 6 * PAGE))
protections = st.integers(0, 7).map(VmProt)


class AddressMap(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.objects = new_map()
        self.model: dict[int, tuple[int, int]] = {}  # page -> protection, maximum
        self.touched: dict[int, tuple[int, int]] = {}  # page -> object, offset: may not change while it is there

    @staticmethod
    def pages(address: int, size: int) -> range:
        return range(address // PAGE, -(-(address + size) // PAGE)) if size else range(0)

    @rule(address=addresses, size=sizes)
    def allocate_fixed(self, address: int, size: int) -> None:
        wanted = self.pages(address, size)
        taken = any(page in self.model for page in wanted)
        if size and (wanted.start < 1 or taken):
            with pytest.raises(MachError) as refused:
                self.map.allocate(size, address)
            low = wanted.start < 1
            assert refused.value.code == (KernReturn.KERN_INVALID_ADDRESS if low else KernReturn.KERN_NO_SPACE)
            return
        start = self.map.allocate(size, address)
        assert not size or start == wanted.start * PAGE
        self.model.update(dict.fromkeys(wanted, (3, 7)))

    @rule(size=sizes)
    def allocate_anywhere(self, size: int) -> None:
        start = self.map.allocate(size)
        if size:
            got = self.pages(start, size)
            assert got.start >= 1
            assert not any(page in self.model for page in got)
            first = next(
                at for at in range(1, 10**6) if not any(page in self.model for page in range(at, at + len(got)))
            )
            assert got.start == first, "not the first fit"
            self.model.update(dict.fromkeys(got, (3, 7)))

    @rule(address=addresses, size=sizes)
    def deallocate(self, address: int, size: int) -> None:
        for entry in self.map.deallocate(address, size):
            self.objects.deallocate(entry.object)
        for page in self.pages(address, size):
            self.model.pop(page, None)
            self.touched.pop(page, None)

    @rule(address=addresses, size=sizes, protection=protections, set_maximum=st.booleans())
    def protect(self, address: int, size: int, protection: VmProt, set_maximum: bool) -> None:
        there = [page for page in self.pages(address, size) if page in self.model]
        if any(int(protection) & ~self.model[page][1] for page in there):
            with pytest.raises(MachError) as refused:
                self.map.protect(address, size, set_maximum, protection)
            assert refused.value.code == KernReturn.KERN_PROTECTION_FAILURE
            return
        self.map.protect(address, size, set_maximum, protection)
        for page in there:
            current, maximum = self.model[page]
            self.model[page] = (
                (current & int(protection), int(protection)) if set_maximum else (int(protection), maximum)
            )

    @rule(address=st.integers(PAGE, (SPAN + 6) * PAGE))
    def touch(self, address: int) -> None:
        entry = self.map.lookup(address)
        page = address // PAGE
        assert (entry is not None) == (page in self.model)
        if entry is not None:
            object = self.map.object_of(entry)
            self.touched.setdefault(page, (object.object_id, entry.offset + page * PAGE - entry.start))

    @invariant()
    def agrees(self) -> None:
        self.map.check()
        seen: dict[int, tuple[int, int]] = {}
        references: dict[int, int] = {}
        for entry in self.map.entries:
            for page in range(entry.start // PAGE, entry.end // PAGE):
                seen[page] = (entry.protection, entry.max_protection)
                if page in self.touched:
                    assert entry.object is not None
                    place = (entry.object.object_id, entry.offset + page * PAGE - entry.start)
                    assert place == self.touched[page], "a page moved to another place in its object"
            if entry.object is not None:
                references[entry.object.object_id] = references.get(entry.object.object_id, 0) + 1
        assert seen == self.model
        assert references == {number: object.references for number, object in self.objects.by_id.items()}


TestAddressMap = AddressMap.TestCase
TestAddressMap.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_memory_beyond_the_map_is_refused_by_its_code() -> None:
    map, _ = new_map()
    for address in (0, VM_MAX_ADDRESS, VM_MAX_ADDRESS - PAGE + 1, -PAGE):
        with pytest.raises(MachError) as refused:
            map.allocate(PAGE, address)
        assert refused.value.code == KernReturn.KERN_INVALID_ADDRESS
    with pytest.raises(MachError) as refused:
        map.allocate(VM_MAX_ADDRESS)
    assert refused.value.code == KernReturn.KERN_NO_SPACE


def test_a_region_is_the_one_that_holds_the_address_or_the_next() -> None:
    map, _ = new_map()
    map.allocate(2 * PAGE, 10 * PAGE)
    assert map.region(0).start == 10 * PAGE
    assert map.region(11 * PAGE + 5).start == 10 * PAGE
    with pytest.raises(MachError) as refused:
        map.region(12 * PAGE)
    assert refused.value.code == KernReturn.KERN_NO_SPACE
