"""Scenes of a story: what chance alone would hardly put together, and where a kernel goes wrong.

Interface:
    Scenes    a Family whose stories have these steps, too: crowd, inherit_part

What they are for: threads that wait for one page, or for memory, and must be woken; objects that begin within another's
memory object when they take its pager over.  Without them the search missed such bugs that were put in on purpose.
"""

from __future__ import annotations

from kernel.task import Task
from mach.kern_return import KernReturn, MachError
from system.model import PAGE, Cell, Place, TaskModel
from system.story import INHERIT, TASKS_MAX, Family, Step

HEIRLOOM = 70  # the first page of what passes from parent to child, beyond all that other steps are about
HEIRLOOM_PAGES = 20


class Scenes(Family):
    """See the head of the module."""

    def crowd(self, task: Task, model: TaskModel, step: Step) -> None:
        """Threads of one task that use the same pages at the same time, in as many orders, while memory is short: they
        wait for memory and for each other's pages, and whoever is not woken is a deadlock."""
        found = self.pick(model, step.b, 12)
        if found is None:
            return
        pages = [found[0] + at for at in range(found[1])]
        threads = 2 + step.c % 3
        cells = list(dict.fromkeys(model.places[page].cell for page in pages))  # an object may be mapped twice
        self.tell(f"{threads} threads of {task.name} use {len(pages)} pages at {pages[0]}, while memory is short")

        def use(number: int) -> None:
            for at in range(len(pages)):
                page = pages[(at * (1 + number) + number * step.d) % len(pages)]
                if cells.index(model.places[page].cell) % threads == number:  # who writes it, and nobody else
                    self.store(task.write, model, page, 0, self.content())
                else:
                    self._touch(task, page)

        at_work = [self.world.runtime.fork(lambda me=me: use(me), f"{task.name}, {me}") for me in range(threads)]  # type: ignore[misc]
        self.world.squeeze(30 + step.d % 20)
        for thread in at_work:
            thread.join()

    def _touch(self, task: Task, page: int) -> None:
        """A read of what another thread may be writing: it must end, and `compare` sees what came of it."""
        try:
            task.read(page * PAGE, PAGE)
        except MachError as error:
            if error.code != KernReturn.KERN_PROTECTION_FAILURE:
                self.expect_failure(error)

    def inherit_part(self, task: Task, model: TaskModel, step: Step) -> None:
        """What a child inherits begins within an object that is paged out, and its parent ends: the object's pager and
        its place in that pager's memory object pass to the child's (vm_object_collapse), perhaps to a grandchild's."""
        if len(self.tasks) >= TASKS_MAX:
            return
        page, count = HEIRLOOM, 5 + step.b % 8
        self.tell(f"{task.name} has {count} new pages at {page}, and writes them")
        task.vm_deallocate(page * PAGE, HEIRLOOM_PAGES * PAGE)
        task.vm_allocate(count * PAGE, page * PAGE)
        for at in range(page, page + HEIRLOOM_PAGES):
            model.places.pop(at, None)
        for at in range(page, page + count):
            model.places[at] = Place(Cell())
            self.store(task.write, model, at, 0, self.content())
        for generation in range(1 + step.c % 2):
            count = model.run(page + generation, count)
            if count > 1:
                task, model = self._bequeath(task, model, page + generation, count, step)

    def _bequeath(self, task: Task, model: TaskModel, page: int, count: int, step: Step) -> tuple[Task, TaskModel]:
        """All of its `count` pages but the first go to a child, which writes one of them."""
        self.squeeze(task, model, Step("squeeze", 0, 29, 0, 0))
        self.tell(f"{task.name} keeps page {page} from its children, and ends")
        for first, pages, how in ((page, 1, "none"), (page + 1, count - 1, "copy")):  # each range one entry
            task.vm_inherit(first * PAGE, pages * PAGE, INHERIT[how])
            for at in range(first, first + pages):
                model.places[at].inherit = how  # type: ignore[assignment]
        before = len(self.tasks)
        self.fork(task, model, step)
        if len(self.tasks) == before:
            return task, model
        self.terminate(task, model, step)
        child, its = self.tasks[-1]
        written = page + 1 + step.d % (count - 1)
        self.tell(f"{child.name} writes page {written}")
        self.store(child.write, its, written, 0, self.content())
        return child, its
