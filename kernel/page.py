"""Page frames and the pages in them, as arrays: Mach's vm_page_array, at some forty bytes a frame.

Interface:
    Frames(count)            what is known of each frame; .page(number) -> Page
    Page                     a frame in use: which object's, and in what state; equal if it is the same frame
    PageQueue(frames, name)  pages in order of arrival: append, prepend, remove, first, iteration from the head
    SparseTable              number -> number, in rows made on demand: resident pages of an object, mappings of a pmap
    ObjectPages(frames)      the resident pages of an object, by offset in bytes
    BUSY, WANTED, ...        the bits of Frames.flags

A Page is a handle of two words, made when a page is looked at and forgotten afterwards: a machine of a gigabyte has
262144 frames, and an object with its dictionary for each would outweigh what it describes.  A handle does not keep its
page: whoever has slept looks the page up again, as in Mach, where vm_page_t is the address of a reused structure.

Invariants:
    1. A frame is on exactly one queue, or on none; `queue` names it, `next` and `previous` are its neighbours there.

Not here: which states follow each other (kernel/resident.py); what is mapped where (kernel/pmap.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel.vm_object import VmObject

BUSY = 1 << 0  # in transit: nobody may use it but who made it busy
WANTED = 1 << 1  # somebody sleeps on it
ABSENT = 1 << 2  # requested from the pager, or (not busy) the pager has said that it has nothing
ERROR = 1 << 3  # the pager could not give it
LAUNDRY = 1 << 4  # on its way to the default pager
DIRTY = 1 << 5  # differs from what the pager has; the hardware's MODIFIED is merged into it
PRECIOUS = 1 << 6  # the pager keeps no copy: it must go back even if clean
MODIFIED = 1 << 7  # the hardware's bits: set by every write,
REFERENCED = 1 << 8  # by every reference through a pmap
LOCK_SHIFT = 9  # three bits: the access that the pager's lock forbids (vm_prot_t)
UNLOCK_SHIFT = 12  # three bits: the access that the pager has been asked to allow
USED = MODIFIED | REFERENCED
PLACEHOLDER = ABSENT | ERROR  # it has no content
UNMAPPABLE = BUSY | PLACEHOLDER

NONE = 0xFFFFFFFF  # no frame
ROW = 64  # entries of a SparseTable's row


class Frames:
    """What is known of each frame; all pages and queues of a machine look into it."""

    __slots__ = ("count", "flags", "next", "object", "offset", "previous", "queue", "queues", "wire_count")

    def __init__(self, count: int) -> None:
        self.count = count
        self.object: list[VmObject | None] = [None] * count
        self.offset = array("Q", bytes(8 * count))  # bytes, in the object
        self.flags = array("H", bytes(2 * count))
        self.wire_count = array("H", bytes(2 * count))
        self.queue = array("B", bytes(count))  # index into `queues`
        self.next = array("I", bytes(4 * count))
        self.previous = array("I", bytes(4 * count))
        self.queues: list[PageQueue | None] = [None]

    def page(self, frame: int) -> Page:
        return Page(self, frame)


class _Flag:
    """One bit of a page's flags, as an attribute."""

    __slots__ = ("_bit",)

    def __init__(self, bit: int) -> None:
        self._bit = bit

    def __get__(self, page: Page, owner: type[Page]) -> bool:
        return page.frames.flags[page.frame] & self._bit != 0

    def __set__(self, page: Page, value: bool) -> None:
        if value:
            page.frames.flags[page.frame] |= self._bit
        else:
            page.frames.flags[page.frame] &= ~self._bit


class Page:
    """vm_page_t: one frame in use."""

    __slots__ = ("frame", "frames")

    busy = _Flag(BUSY)
    wanted = _Flag(WANTED)
    absent = _Flag(ABSENT)
    error = _Flag(ERROR)
    laundry = _Flag(LAUNDRY)
    dirty = _Flag(DIRTY)
    precious = _Flag(PRECIOUS)
    modified = _Flag(MODIFIED)
    reference = _Flag(REFERENCED)

    def __init__(self, frames: Frames, frame: int) -> None:
        self.frames = frames
        self.frame = frame

    @property
    def object(self) -> VmObject:
        object = self.frames.object[self.frame]
        assert object is not None, f"frame {self.frame} is free"
        return object

    @property
    def offset(self) -> int:
        return self.frames.offset[self.frame]

    @property
    def flags(self) -> int:
        return self.frames.flags[self.frame]

    @property
    def wire_count(self) -> int:
        return self.frames.wire_count[self.frame]

    @property
    def queue(self) -> PageQueue | None:
        return self.frames.queues[self.frames.queue[self.frame]]

    @property
    def page_lock(self) -> int:
        """The access that its pager forbids (vm_prot_t)."""
        return self.flags >> LOCK_SHIFT & 7

    @page_lock.setter
    def page_lock(self, protection: int) -> None:
        self.frames.flags[self.frame] = self.flags & ~(7 << LOCK_SHIFT) | protection << LOCK_SHIFT

    @property
    def unlock_request(self) -> int:
        """The access that its pager has been asked to allow."""
        return self.flags >> UNLOCK_SHIFT & 7

    @unlock_request.setter
    def unlock_request(self, protection: int) -> None:
        self.frames.flags[self.frame] = self.flags & ~(7 << UNLOCK_SHIFT) | protection << UNLOCK_SHIFT

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Page) and other.frame == self.frame

    def __hash__(self) -> int:
        return self.frame

    def __repr__(self) -> str:
        return f"{self.object.object_id}:{self.offset:#x}"


class PageQueue:
    """A doubly linked list through the frames."""

    __slots__ = ("_frames", "_head", "_length", "_number", "_tail", "name")

    def __init__(self, frames: Frames, name: str) -> None:
        self.name = name
        self._frames = frames
        self._head = self._tail = NONE
        self._length = 0
        self._number = len(frames.queues)
        frames.queues.append(self)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, page: Page) -> bool:
        return self._frames.queue[page.frame] == self._number

    def __iter__(self) -> Iterator[Page]:
        at = self._head
        while at != NONE:
            after = self._frames.next[at]
            yield Page(self._frames, at)
            at = after

    def first(self) -> Page | None:
        return Page(self._frames, self._head) if self._length else None

    def append(self, page: Page) -> None:
        """To the tail."""
        frames, frame, tail = self._frames, page.frame, self._tail
        assert not frames.queue[frame], f"INV-1: frame {frame} is on two queues"
        frames.queue[frame] = self._number
        frames.previous[frame], frames.next[frame] = tail, NONE
        if tail == NONE:
            self._head = frame
        else:
            frames.next[tail] = frame
        self._tail = frame
        self._length += 1

    def prepend(self, page: Page) -> None:
        """To the head: it is the next."""
        frames, frame, head = self._frames, page.frame, self._head
        assert not frames.queue[frame], f"INV-1: frame {frame} is on two queues"
        frames.queue[frame] = self._number
        frames.previous[frame], frames.next[frame] = NONE, head
        if head == NONE:
            self._tail = frame
        else:
            frames.previous[head] = frame
        self._head = frame
        self._length += 1

    def remove(self, page: Page) -> None:
        frames, frame = self._frames, page.frame
        assert frames.queue[frame] == self._number, f"INV-1: frame {frame} is not on the {self.name} queue"
        before, after = frames.previous[frame], frames.next[frame]
        if before == NONE:
            self._head = after
        else:
            frames.next[before] = after
        if after == NONE:
            self._tail = before
        else:
            frames.previous[after] = before
        frames.queue[frame] = 0
        self._length -= 1


class SparseTable:
    """Whole numbers from 1 on, by index; an index without one has 0.  A row's last element counts what is in it."""

    __slots__ = ("_rows", "count")

    def __init__(self) -> None:
        self.count = 0
        self._rows: dict[int, array[int]] = {}

    def get(self, index: int) -> int:
        row = self._rows.get(index // ROW)
        return row[index % ROW] if row is not None else 0

    def set(self, index: int, number: int) -> None:
        row = self._rows.get(index // ROW)
        if row is None:
            row = self._rows[index // ROW] = array("I", bytes(4 * (ROW + 1)))
        if not row[index % ROW]:
            self.count += 1
            row[ROW] += 1
        row[index % ROW] = number

    def clear(self, index: int) -> int:
        """Forget the number at `index`, and return it."""
        row = self._rows.get(index // ROW)
        if row is None or not row[index % ROW]:
            return 0
        number, row[index % ROW] = row[index % ROW], 0
        self.count -= 1
        row[ROW] -= 1
        if not row[ROW]:
            del self._rows[index // ROW]
        return number

    def items(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """(index, number) of what is in [first, end), in order; it may be cleared meanwhile."""
        if end is not None and (end - first) // ROW < len(self._rows):
            rows = range(first // ROW, (end - 1) // ROW + 1) if end > first else range(0)
            numbers = [number for number in rows if number in self._rows]
        else:
            numbers = sorted(self._rows)
        for number in numbers:
            row = self._rows.get(number)
            for within in range(ROW) if row is not None else ():
                index = number * ROW + within
                if row is not None and row[within] and first <= index and (end is None or index < end):
                    yield index, row[within]


class ObjectPages:
    """The resident pages of an object, by offset in bytes; in order."""

    __slots__ = ("_frames", "_page_size", "_table")

    def __init__(self, frames: Frames, page_size: int) -> None:
        self._frames = frames
        self._page_size = page_size
        self._table = SparseTable()

    def get(self, offset: int) -> Page | None:
        frame = self._table.get(offset // self._page_size)
        return Page(self._frames, frame - 1) if frame else None

    def __getitem__(self, offset: int) -> Page:
        page = self.get(offset)
        if page is None:
            raise KeyError(offset)
        return page

    def __setitem__(self, offset: int, page: Page) -> None:
        self._table.set(offset // self._page_size, page.frame + 1)

    def __delitem__(self, offset: int) -> None:
        self._table.clear(offset // self._page_size)

    def __contains__(self, offset: int) -> bool:
        return self._table.get(offset // self._page_size) != 0

    def __len__(self) -> int:
        return self._table.count

    def __iter__(self) -> Iterator[int]:
        return (index * self._page_size for index, _ in self._table.items())

    def items(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, Page]]:
        """(offset, page) of what is in [first, end), in order; pages may leave meanwhile."""
        last = None if end is None else -(-end // self._page_size)
        for index, frame in self._table.items(-(-first // self._page_size), last):
            yield index * self._page_size, Page(self._frames, frame - 1)

    def values(self) -> Iterator[Page]:
        return (page for _, page in self.items())
