"""A story: what the programs of one family of tasks do, step by step, and what their memory must hold after each.

A step is four numbers and a name; what it is about is computed from the numbers and the state that it meets, so that
any steps can be left out of a story and the rest still means something: that is how a failing one is made short.
Scenes, steps of several that chance alone would hardly put in a row, are told by system/scenes.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.task import Task
from kernel.vm_map import Inheritance
from mach.kern_return import KernReturn, MachError
from mach.memory_object import MemoryObjectReturn, VmProt
from system.model import PAGE, Cell, Place, TaskModel

if TYPE_CHECKING:
    from system.world import World

TASKS_MAX = 5
SPAN = 40  # pages of an address space that the steps are about
FAULTS = (KernReturn.KERN_MEMORY_ERROR, KernReturn.KERN_RESOURCE_SHORTAGE)
INHERIT = {"share": Inheritance.SHARE, "copy": Inheritance.COPY, "none": Inheritance.NONE}

WEIGHTS = {
    "write": 9,
    "write_part": 3,
    "read": 7,
    "allocate": 4,
    "fork": 5,
    "copy": 5,
    "squeeze": 4,
    "map": 4,
    "maintain": 3,
    "deallocate": 2,
    "terminate": 2,
    "inherit": 4,
    "protect": 2,
    "wire": 2,
    "unwire": 2,
    "vm_write": 2,
    "copy_bytes": 1,
    "stop_caching": 1,
    "rest": 1,
    "kill": 1,
    "crowd": 2,
    "inherit_part": 1,
}


@dataclass(frozen=True, slots=True)
class Step:
    kind: str
    a: int
    b: int
    c: int
    d: int


def draw_story(seed: int, steps: int) -> list[Step]:
    draw = random.Random(seed)
    kinds = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps)
    first = [Step("allocate", 0, 1, 20, 0), Step("write", 0, 1, 6, 0)]
    return first + [Step(kind, *(draw.randrange(1 << 16) for _ in range(4))) for kind in kinds]


class Wrong(AssertionError):
    """Memory is not what it must be."""


class Family:
    """Tasks that came of one, each with the model of its memory."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.tasks: list[tuple[Task, TaskModel]] = [(world.host.task_create(f"task {number}.0"), TaskModel())]
        self.told: list[str] = []
        self._born = 0
        self._written = 0

    def tell(self, words: str) -> None:
        self.told.append(words)

    def act(self, step: Step) -> None:
        """One step, and then all memory compared."""
        if not self.tasks:
            self.tasks.append((self.world.host.task_create(f"task {self.number}.again"), TaskModel()))
        task, model = self.tasks[step.a % len(self.tasks)]
        action: Callable[[Task, TaskModel, Step], None] = getattr(self, step.kind)
        action(task, model, step)
        self.compare()

    # -- comparing ---------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Every page of every task, without touching one (kernel/coherent.py)."""
        for task, model in self.tasks:
            for page, place in model.places.items():
                try:
                    found = self.world.reader.read_map(task.map, page * PAGE, PAGE)
                except MachError as error:
                    if error.code != KernReturn.KERN_NO_ACCESS:  # a page that only the user pager has
                        self.expect_failure(error)
                    continue
                self.must_be(place.cell, found, f"{task.name}, page {page}, seen from outside")

    def must_be(self, cell: Cell, found: bytes, where: str) -> None:
        if found not in cell.possible:
            raise Wrong(f"{where} holds {self.words(found)}, and should hold {self.words(cell.possible[0])}")
        cell.set(found)

    @staticmethod
    def words(content: bytes) -> str:
        return repr(content[:24]) if any(content) else "zeros"

    def expect_failure(self, error: MachError) -> None:
        if error.code not in FAULTS or not self.world.tolerant:
            raise Wrong(f"an error that nobody caused: {error}") from error

    def content(self) -> bytes:
        self._written += 1
        text = b"family %d, write %05d. " % (self.number, self._written)
        return (text * (PAGE // len(text) + 1))[:PAGE]

    # -- what a program does -----------------------------------------------------------------------------------

    def pick(self, model: TaskModel, number: int, limit: int = 4) -> tuple[int, int] | None:
        """A page that is there, and how many follow it."""
        if not model.places:
            return None
        pages = sorted(model.places)
        page = pages[number % len(pages)]
        return page, model.run(page, limit)

    def allocate(self, task: Task, model: TaskModel, step: Step) -> None:
        page, count = 1 + step.b % SPAN, 1 + step.c % 20
        taken = any(page + at in model.places for at in range(count))
        self.tell(f"{task.name} allocates {count} pages at {page}")
        try:
            task.vm_allocate(count * PAGE, page * PAGE)
        except MachError as error:
            if not taken or error.code != KernReturn.KERN_NO_SPACE:
                raise Wrong(f"an allocation that should succeed: {error}") from error
            return
        if taken:
            raise Wrong(f"{task.name} got what was taken")
        for at in range(count):
            model.places[page + at] = Place(Cell())

    def deallocate(self, task: Task, model: TaskModel, step: Step) -> None:
        page, count = 1 + step.b % SPAN, 1 + step.c % 8
        self.tell(f"{task.name} deallocates {count} pages at {page}")
        task.vm_deallocate(page * PAGE, count * PAGE)
        for at in range(count):
            model.places.pop(page + at, None)

    def write(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b, 8)
        if found is None:
            return
        page, count = found[0], 1 + step.c % found[1]
        self.tell(f"{task.name} writes {count} pages at {page}")
        for at in range(page, page + count):
            self.store(task.write, model, at, 0, self.content())

    def write_part(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b)
        if found is not None:
            start = step.c % (PAGE - 100)
            self.tell(f"{task.name} writes 90 bytes into page {found[0]}")
            self.store(task.write, model, found[0], start, self.content()[:90])

    def vm_write(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b)
        if found is not None:
            self.tell(f"the kernel writes page {found[0]} of {task.name}")
            self.store(task.vm_write, model, found[0], 0, self.content())

    def store(self, store: Callable[[int, bytes], None], model: TaskModel, page: int, start: int, data: bytes) -> None:
        """One store within a page, and what it must do."""
        place = model.places[page]
        after = tuple(old[:start] + data + old[start + len(data) :] for old in place.cell.possible)
        try:
            store(page * PAGE + start, data)
        except MachError as error:
            if error.code == KernReturn.KERN_PROTECTION_FAILURE and not place.protection & VmProt.WRITE:
                return
            self.expect_failure(error)
            return
        if not place.protection & VmProt.WRITE:
            raise Wrong(f"page {page} was written though it may not be")
        place.cell.possible = after

    def read(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b, 12)
        if found is None:
            return
        self.tell(f"{task.name} reads {found[1]} pages at {found[0]}")
        for page in range(found[0], found[0] + found[1]):
            place = model.places[page]
            try:
                data = task.read(page * PAGE, PAGE)
            except MachError as error:
                if error.code != KernReturn.KERN_PROTECTION_FAILURE or place.protection & VmProt.READ:
                    self.expect_failure(error)
                continue
            assert place.protection & VmProt.READ, f"page {page} was read though it may not be"
            self.must_be(place.cell, data, f"{task.name}, page {page}")

    def protect(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b, 6)
        if found is None:
            return
        page, count = found
        protection = (VmProt.READ, VmProt.DEFAULT, VmProt.DEFAULT, VmProt.NONE)[step.d % 4]
        self.tell(f"{task.name} protects {count} pages at {page}: {protection!r}")
        task.vm_protect(page * PAGE, count * PAGE, protection)
        for at in range(page, page + count):
            if at in model.places:
                model.places[at].protection = protection

    def inherit(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b, 10)
        if found is None:
            return
        page, count = found
        how = ("share", "share", "copy", "none")[step.d % 4]
        self.tell(f"{task.name} lets its children {how} {count} pages at {page}")
        task.vm_inherit(page * PAGE, count * PAGE, INHERIT[how])
        for at in range(page, page + count):
            if at in model.places:
                model.places[at].inherit = how  # type: ignore[assignment]

    def fork(self, task: Task, model: TaskModel, step: Step) -> None:
        if len(self.tasks) >= TASKS_MAX:
            return
        self._born += 1
        self.tell(f"{task.name} forks task {self.number}.{self._born}")
        try:
            child = task.fork(f"task {self.number}.{self._born}")
        except MachError as error:
            self.expect_failure(error)
            return
        self.tasks.append((child, model.child()))

    def terminate(self, task: Task, model: TaskModel, step: Step) -> None:
        if len(self.tasks) > 1:
            self.tell(f"{task.name} ends")
            self.tasks.remove((task, model))
            task.terminate()

    def copy(self, task: Task, model: TaskModel, step: Step) -> None:
        self._copy(task, model, step, 0, 0)

    def copy_bytes(self, task: Task, model: TaskModel, step: Step) -> None:
        self._copy(task, model, step, 100, 50)

    def _copy(self, task: Task, model: TaskModel, step: Step, skip: int, less: int) -> None:
        source, target = self.pick(model, step.b, 6), self.pick(model, step.c, 6)
        if source is None or target is None:
            return
        count = min(source[1], target[1])
        but = ", but for some bytes" * (skip > 0)
        self.tell(f"{task.name} copies {count} pages at {source[0]} to {target[0]}{but}")
        readable = all(model.places[source[0] + at].protection & VmProt.READ for at in range(count))
        writable = all(model.places[target[0] + at].protection & VmProt.WRITE for at in range(count))
        before = [model.places[source[0] + at].cell.possible for at in range(count)]
        after: dict[Cell, tuple[bytes, ...]] = {}  # several pages may be one: an object mapped twice
        for index, new in enumerate(before):
            cell = model.places[target[0] + index].cell
            head, end = skip if index == 0 else 0, PAGE - (less if index == count - 1 else 0)
            old = after.get(cell, cell.possible)
            after[cell] = tuple({was[:head] + now[head:end] + was[end:]: None for was in old for now in new})
        try:
            task.vm_copy(source[0] * PAGE + skip, count * PAGE - skip - less, target[0] * PAGE + skip)
        except MachError as error:
            if error.code == KernReturn.KERN_PROTECTION_FAILURE and not (readable and writable):
                return
            self.expect_failure(error)
            for cell, possible in after.items():
                cell.maybe(possible)
            return
        if not (readable and writable):
            raise Wrong("what is protected was copied")
        for cell, possible in after.items():
            cell.possible = possible

    def wire(self, task: Task, model: TaskModel, step: Step) -> None:
        found = self.pick(model, step.b)
        if found is None or sum(place.wired > 0 for _, m in self.tasks for place in m.places.values()) > 8:
            return
        page, count = found
        access = VmProt.READ if step.d % 2 else VmProt.DEFAULT
        allowed = all(not access & ~model.places[page + at].protection for at in range(count))
        self.tell(f"{task.name} has {count} pages at {page} wired")
        try:
            self.world.host.vm_wire(self.world.host.host_priv, task, page * PAGE, count * PAGE, access)
        except MachError as error:
            if error.code != KernReturn.KERN_FAILURE or allowed:
                self.expect_failure(error)
            return
        assert allowed, "what is protected was wired"
        for at in range(page, page + count):
            model.places[at].wired += 1

    def unwire(self, task: Task, model: TaskModel, step: Step) -> None:
        wired = [page for page in sorted(model.places) if model.places[page].wired]
        if wired:
            page = wired[step.b % len(wired)]
            self.tell(f"{task.name} has page {page} unwired")
            self.world.host.vm_wire(self.world.host.host_priv, task, page * PAGE, PAGE, VmProt.NONE)
            model.places[page].wired -= 1

    def map(self, task: Task, model: TaskModel, step: Step) -> None:
        """Map a user pager's object, or a copy of it."""
        offered, cells = self.world.object(self.number, step.b)
        if offered is None:
            return
        first = step.c % offered.pages
        count, copy = 1 + step.d % (offered.pages - first), step.d % 3 == 0
        page = 1 + SPAN + step.c % 10
        if any(page + at in model.places for at in range(count)):
            return
        right = offered.port.make_send()
        self.tell(f"{task.name} maps {count} pages of object {offered.number} at {page}" + (", copied" * copy))
        try:
            task.vm_map(right, count * PAGE, page * PAGE, offset=first * PAGE, copy=copy)
        except MachError as error:
            self.expect_failure(error)
            return
        finally:
            right.drop()
        for at in range(count):
            cell = cells[first + at]
            model.places[page + at] = Place(cell.copy() if copy else cell, private=copy)

    # -- what happens to it ------------------------------------------------------------------------------------

    def squeeze(self, task: Task, model: TaskModel, step: Step) -> None:
        """Somebody else needs all the memory for a while."""
        self.tell("memory is needed elsewhere")
        self.world.squeeze(20 + step.b % 30)

    def maintain(self, task: Task, model: TaskModel, step: Step) -> None:
        offered, _ = self.world.object(self.number, step.b)
        if offered is not None:
            which = (MemoryObjectReturn.NONE, MemoryObjectReturn.DIRTY, MemoryObjectReturn.ALL)[step.c % 3]
            self.tell(f"the pager takes {which.name} of object {offered.number} back" + ", flushed" * (step.d % 2))
            self.world.user.maintain(offered, step.d % offered.pages, 8, bool(step.d % 2), which)

    def stop_caching(self, task: Task, model: TaskModel, step: Step) -> None:
        offered, _ = self.world.object(self.number, step.b)
        if offered is not None:
            self.tell(f"object {offered.number} is not to be cached")
            self.world.user.stop_caching(offered)

    def rest(self, task: Task, model: TaskModel, step: Step) -> None:
        self.world.runtime.sleep(0.3)

    def kill(self, task: Task, model: TaskModel, step: Step) -> None:
        """Who may die in this world, dies."""
        if self.world.mortal == "user" and not self.world.user.dead:
            self.tell("the user pager dies")
            self.world.tolerant = True
            self.world.user.die()
        if self.world.mortal == "default":
            self.tell("the default pager dies, and another takes its place")
            self.world.tolerant = True
            self.world.succeed()
