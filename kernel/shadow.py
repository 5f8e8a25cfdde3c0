"""Copies of memory that are made when one side writes: shadow objects, copy objects, and chains made short again.

Interface:
    Shadows(objects, resident)
        .shadow(entry)                  vm_object_shadow: the entry gets an object of its own over the one it names
        .copy_delayed(source) -> VmObject   vm_object_copy_delayed: a copy object, which gets old pages before a write
        .collapse(object)               vm_object_collapse: take over the object below, or go past it (mach.md 5.9)
        .counts

Two ways to copy (mach.md 5.2).  Symmetric: both sides name the same object, which nobody writes to any more; who writes
gets a shadow first.  Asymmetric, for what several tasks write to, and for permanent objects: the source goes on being
written to, and each page is pushed to the copy object before its first write (kernel/vm_fault.py).

Invariants:
    1. What a task reads through a chain is the same before and after collapse.
    2. A page that hides one below is dirty, or its pager has it: it is never dropped for being zeros.
    3. A page that died with a pager hides what is below it, and stays lost (P5).
    4. Pages of a taken-over memory object that nobody can reach any more are given up (Mach keeps them: weakness 6);
       one that a page in memory hides is overwritten when that goes out.

Not here: which way a copy is made (kernel/vm_copy.py); faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kernel.page import PLACEHOLDER
from kernel.resident import ResidentPages
from kernel.vm_map import MapEntry
from kernel.vm_object import VmObject, VmObjects


class Shadows:
    """See the head of the module.  The kernel mutex is held in every method, and none releases it."""

    def __init__(self, objects: VmObjects, resident: ResidentPages) -> None:
        self.counts: Counter[str] = Counter()
        self.moved: Callable[[VmObject, VmObject], None] = lambda old, new: None  # a memory object changes hands
        self.enabled = True
        self._objects = objects
        self._resident = resident

    def shadow(self, entry: MapEntry) -> None:
        """A new object for the entry's range; the reference to the old one becomes the new one's."""
        made = self._objects.allocate(entry.end - entry.start)
        made.shadow, made.shadow_offset = entry.object, entry.offset
        entry.object, entry.offset = made, 0
        entry.needs_copy = False
        self.counts["shadows"] += 1

    def copy_delayed(self, source: VmObject) -> VmObject:
        """A copy object of all of `source`, with a reference for the caller.  One that nothing was pushed to since it
        was made is as good as new, and is shared."""
        old = source.copy
        if old is not None and not len(old.pages) and old.pager is None and not old.lost and old.size == source.size:
            self._objects.reference(old)
            return old
        made = self._objects.allocate(source.size)
        made.shadow = source
        self._objects.reference(source)
        if old is not None:  # the older copy sees the source through the newer one
            source.references -= 1
            old.shadow = made
            self._objects.reference(made)
        source.copy = made
        for page in source.pages.values():
            self._resident.pv.write_protect(page)
        self.counts["copy_objects"] += 1
        return made

    # -- chains made short -------------------------------------------------------------------------------------

    def collapse(self, object: VmObject) -> None:
        """Until nothing can be taken over or passed any more."""
        while self.enabled and self._is_quiet(object) and object.pager is None:
            backing = object.shadow
            if backing is None or not backing.internal or not self._is_quiet(backing):
                return
            if backing.shadow is not None and backing.shadow.copy is backing:
                return  # a copy object stays: pages are pushed to it by offset
            if backing.orphan:
                return  # what is not resident there is lost, and must not become zeros up here
            if backing.references == 1:
                self._take_over(object, backing)
            elif backing.pager is None and not backing.lost and self._hides(object, backing):
                self._bypass(object, backing)
            else:
                return

    @staticmethod
    def _is_quiet(object: VmObject) -> bool:
        return object.paging_in_progress == object.absent_count == 0

    def _take_over(self, object: VmObject, backing: VmObject) -> None:
        """Nobody else names `backing`: its pages, its pager and its shadow become the object's."""
        offset = object.shadow_offset
        for page in [page for page in object.pages.values() if page.flags & PLACEHOLDER]:
            self._resident.free(page)  # its pager is dead; if it had the page, that is in `lost`
        for at, page in object.pages.items():
            if at + offset in backing.pages or backing.was_sent(at + offset):
                page.dirty = True  # INV-2; and what the pager has of it is old
        for at, page in list(backing.pages.items()):
            mine = at - offset
            reachable = 0 <= mine < object.size and not page.flags & PLACEHOLDER
            if reachable and mine not in object.pages and mine not in object.lost:
                self._resident.rename(page, object, mine)
            else:
                self._resident.free(page)
        below = {at - offset for at in backing.lost if 0 <= at - offset < object.size}
        object.lost |= below - set(object.pages)
        object.shadow, object.shadow_offset = backing.shadow, offset + backing.shadow_offset
        if backing.pager is not None:
            object.pager, object.control, object.name = backing.pager, backing.control, backing.name
            backing.pager = backing.control = backing.name = None
            object.pager_ready, object.existence = backing.pager_ready, backing.existence
            object.paging_offset = backing.paging_offset + offset
            self.moved(backing, object)
        backing.references, backing.alive, backing.shadow = 0, False, None
        del self._objects.by_id[backing.object_id]
        self.counts["collapses"] += 1

    def _hides(self, object: VmObject, backing: VmObject) -> bool:
        """Whether each page of `backing` that the object could see is hidden by one of its own."""
        offset = object.shadow_offset
        if len(backing.pages) > len(object.pages):
            return False
        return all(at - offset in object.pages for at in backing.pages if offset <= at < offset + object.size)

    def _bypass(self, object: VmObject, backing: VmObject) -> None:
        """Others name `backing`, but the object sees nothing of it: look at what is below it at once."""
        for page in object.pages.values():
            if page.offset + object.shadow_offset in backing.pages:
                page.dirty = True  # INV-2
        if backing.copy is object:
            backing.copy = None
        object.shadow = backing.shadow
        object.shadow_offset += backing.shadow_offset
        if object.shadow is not None:
            self._objects.reference(object.shadow)
        backing.references -= 1
        self.counts["bypasses"] += 1
