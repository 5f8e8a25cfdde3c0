"""Which slots of a partition are free, and whose the others are: the slot -> page reverse map.

Interface:
    SlotTable(total)
        .allocate(count, owner) -> (first slot, how many)    at least one, in a row, the n-th of them for owner + n;
                                                             (-1, 0) if none is free
        .give_back(slot), .retire(slot)
        .used_row(slot, limit) -> (first, how many, owner)    the next row of used slots whose owners follow each other
        .bad_slots(limit), .map(first, count), .grow(total), .check()
        .total, .free, .bad
    slot_owner(object_id, page), owner_object(owner), owner_page(owner)    an owner is one number

Slots are kept in chunks of 4096, made when the first slot of one is used and dropped with its last: a paging file of
64 GiB costs what is in use, a byte of state and 8 of owner a slot.  Which chunks may have a row of 2^k free slots is
one byte a chunk and k; a search that finds none there clears it, a slot that is given back sets it.  So each search
that fails was paid for by a slot that came back, and the last free slot of a full partition is found with two memchr.

Invariants:
    1. A slot is exactly one of free, used, bad; `free` counts the free ones, of all and of each chunk.
    2. A chunk that has 2^k free slots in a row is marked as one that may.
    3. Owners are hints: a page is in its slot only if its page map says so, too.

Not here: locks (PagingPartition's guards it); devices; what owners are good for (drain.py).
"""

from __future__ import annotations

from array import array

FREE, USED, BAD = 0, 1, 2
CHUNK_SLOTS = 4096
ROW_CLASSES = 9  # rows of 1, 2, 4 ... 256 slots: clusters are at most 1 MiB of pages of 4 KiB
OWNER_PAGE_BITS = 36
OWNER_OBJECT_BITS = 28
_PATTERNS = tuple(bytes(1 << k) for k in range(ROW_CLASSES))
_AS_TEXT = bytes.maketrans(bytes((FREE, USED, BAD)), b".#x")


def slot_owner(object_id: int, page: int) -> int:
    """Object numbers are never used again, so of a very large one the low bits are kept: no two alive share them."""
    return (object_id & (1 << OWNER_OBJECT_BITS) - 1) << OWNER_PAGE_BITS | page


def owner_object(owner: int) -> int:
    """The low bits of the object's number."""
    return owner >> OWNER_PAGE_BITS


def owner_page(owner: int) -> int:
    return owner & (1 << OWNER_PAGE_BITS) - 1


class _Chunk:
    """The slots of one chunk that is in use."""

    __slots__ = ("owners", "states")

    def __init__(self, slots: int) -> None:
        self.states = bytearray(slots)
        self.owners = array("Q", bytes(8 * slots))


class SlotTable:
    """See the head of the module."""

    def __init__(self, total: int) -> None:
        self.total = 0
        self.free = 0
        self.bad = 0
        self._chunks: list[_Chunk | None] = []  # None: all of it is free
        self._free_in = array("H")
        self._may_have = tuple(bytearray() for _ in range(ROW_CLASSES))  # by class, one byte a chunk
        self._next = 0  # next fit: what is paged out together lies together
        self.grow(total)

    def grow(self, total: int) -> None:
        """Have `total` slots, which is not fewer than before."""
        assert total >= self.total
        if self.total % CHUNK_SLOTS:  # the last chunk was not a whole one
            last = len(self._chunks) - 1
            more = min(total, (last + 1) * CHUNK_SLOTS) - self.total
            chunk = self._chunks[last]
            if chunk is not None:
                chunk.states.extend(bytes(more))
                chunk.owners.frombytes(bytes(8 * more))
            self._came_free(last, more)
        for start in range(len(self._chunks) * CHUNK_SLOTS, total, CHUNK_SLOTS):
            self._chunks.append(None)
            self._free_in.append(0)
            for may in self._may_have:
                may.append(0)
            self._came_free(len(self._chunks) - 1, min(CHUNK_SLOTS, total - start))
        self.total = total

    # -- giving out --------------------------------------------------------------------------------------------

    def allocate(self, count: int, owner: int) -> tuple[int, int]:
        """A row as long as is to be had, up to `count`: the nearest behind the last one given out."""
        if not self.free:
            return -1, 0
        for k in range(min(count.bit_length(), ROW_CLASSES) - 1, -1, -1):
            first = self._find(k)
            if first >= 0:
                return first, self._take(first, count, owner)
        raise AssertionError("INV-2: there are free slots, and none is found")

    def _find(self, k: int) -> int:
        """The first of 2^k free slots in a row, -1 if there are none."""
        may, pattern = self._may_have[k], _PATTERNS[k]
        here, offset = divmod(self._next, CHUNK_SLOTS)
        if here < len(may) and may[here]:
            at = self._states(here).find(pattern, offset)
            if at >= 0:
                return here * CHUNK_SLOTS + at
        for low, high in ((here + 1, len(may)), (0, here + 1)):
            chunk = may.find(1, low, high)
            while chunk >= 0:
                at = self._states(chunk).find(pattern)
                if at >= 0:
                    return chunk * CHUNK_SLOTS + at
                for longer in self._may_have[k:]:
                    longer[chunk] = 0
                chunk = may.find(1, chunk + 1, high)
        return -1

    def _states(self, number: int) -> bytearray:
        chunk = self._chunks[number]
        if chunk is None:
            chunk = self._chunks[number] = _Chunk(min(CHUNK_SLOTS, self.total - number * CHUNK_SLOTS))
        return chunk.states

    def _take(self, first: int, count: int, owner: int) -> int:
        number, at = divmod(first, CHUNK_SLOTS)
        chunk = self._chunks[number]
        assert chunk is not None
        row = chunk.states[at : at + count]
        taken = len(row) - len(row.lstrip(b"\0"))
        if taken == 1:
            chunk.states[at], chunk.owners[at] = USED, owner
        else:
            chunk.states[at : at + taken] = bytes((USED,)) * taken
            chunk.owners[at : at + taken] = array("Q", range(owner, owner + taken))
        self.free -= taken
        self._free_in[number] -= taken
        if not self._free_in[number]:
            for may in self._may_have:
                may[number] = 0
        self._next = first + taken
        return taken

    # -- taking back -------------------------------------------------------------------------------------------

    def give_back(self, slot: int) -> None:
        number, at = divmod(slot, CHUNK_SLOTS)
        chunk = self._chunks[number]
        assert chunk is not None, f"slot {slot} is given back and not in use"
        assert chunk.states[at] == USED, f"slot {slot} is given back and not in use"
        chunk.states[at] = FREE
        self._came_free(number, 1)
        if self._free_in[number] == len(chunk.states):
            self._chunks[number] = None

    def _came_free(self, number: int, count: int) -> None:
        self.free += count
        self._free_in[number] += count
        for k in range(min(self._free_in[number].bit_length(), ROW_CLASSES)):
            self._may_have[k][number] = 1

    def retire(self, slot: int) -> None:
        """Never give this used slot out again."""
        number, at = divmod(slot, CHUNK_SLOTS)
        chunk = self._chunks[number]
        assert chunk is not None, f"slot {slot} is retired and not in use"
        assert chunk.states[at] == USED, f"slot {slot} is retired and not in use"
        chunk.states[at] = BAD
        self.bad += 1

    # -- looking -----------------------------------------------------------------------------------------------

    def used_row(self, slot: int, limit: int) -> tuple[int, int, int]:
        """From `slot` on: the next used slot, how many belong together with it, whose it is; (-1, 0, 0) if none is."""
        while slot < self.total:
            number, at = divmod(slot, CHUNK_SLOTS)
            chunk = self._chunks[number]
            first = -1 if chunk is None else chunk.states.find(USED, at)
            if chunk is None or first < 0:
                slot = (number + 1) * CHUNK_SLOTS
                continue
            states, owners = chunk.states, chunk.owners
            owner, count = owners[first], 1
            end = min(first + limit, len(states))
            while first + count < end and states[first + count] == USED and owners[first + count] == owner + count:
                count += 1
            return number * CHUNK_SLOTS + first, count, owner
        return -1, 0, 0

    def bad_slots(self, limit: int) -> list[int]:
        """The first `limit` of the bad ones."""
        found: list[int] = []
        for number, chunk in enumerate(self._chunks if self.bad else ()):
            at = -1 if chunk is None else chunk.states.find(BAD)
            while chunk is not None and at >= 0 and len(found) < limit:
                found.append(number * CHUNK_SLOTS + at)
                at = chunk.states.find(BAD, at + 1)
        return found

    def map(self, first: int, count: int) -> bytes:
        """One character a slot: "." free, "#" used, "x" bad."""
        parts = []
        end = min(first + count, self.total)
        while first < end:
            number, at = divmod(first, CHUNK_SLOTS)
            length = min(CHUNK_SLOTS - at, end - first)
            chunk = self._chunks[number]
            parts.append(bytes(length) if chunk is None else bytes(chunk.states[at : at + length]))
            first += length
        return b"".join(parts).translate(_AS_TEXT)

    def check(self) -> None:
        counts = {FREE: 0, USED: 0, BAD: 0}
        for number, chunk in enumerate(self._chunks):
            slots = min(CHUNK_SLOTS, self.total - number * CHUNK_SLOTS)
            states = bytearray(slots) if chunk is None else chunk.states
            assert len(states) == slots, "INV-1: the slots of a chunk"
            assert self._free_in[number] == states.count(FREE), "INV-1: free in a chunk"
            for k, may in enumerate(self._may_have):
                assert may[number] or states.find(_PATTERNS[k]) < 0, f"INV-2: chunk {number} has a row of {1 << k}"
            for state in counts:
                counts[state] += states.count(state)
        assert (counts[FREE], counts[BAD]) == (self.free, self.bad), "INV-1"
