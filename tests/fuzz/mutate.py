"""Broken disks by number: a sound small disk, and 1 to 4 edits of it that follow from a seed alone.

Interface:
    bases() -> {name: Base}             the sound disks: formats x byte orders x labels, and ext2 where mke2fs is
    make_base(name, image, byte order)  of another sound disk
    mutate(base, seed, number) -> Mutant        the same every time; Mutant.edits say in words what was done
Not here: what a reader makes of them (campaign).

Where an edit goes is drawn by kind of structure first, so that the few superblock fields are hit as often as the many
bytes of inodes. What is written there: numbers at which arithmetic breaks, neighbours of what was there, other blocks'
numbers, chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from bootfs import geometry, layout
from bootfs.device import MemoryDevice
from bootfs.filesystem import FileSystem
from bootfs.inode import Inode
from bootfs.layout_format import Record, record
from fixtures.disks.ffs_image import Shape, make_image
from fixtures.disks.labels import LABELS
from tests.fuzz.content import fuzz_tree

WIDTHS = {"B": 1, "b": 1, "H": 2, "h": 2, "I": 4, "i": 4, "L": 4, "l": 4, "Q": 8, "q": 8, "s": 1}
SHAPES = {"4.3bsd": (4096, 512, 2), "ufs1": (8192, 1024, 1), "ufs2": (4096, 512, 1)}


@dataclass(frozen=True, slots=True)
class Place:
    """`width` bytes at `offset` of the disk, and what they are."""

    name: str
    offset: int
    width: int


@dataclass(frozen=True, slots=True)
class Base:
    """A sound disk. `fs_offset` is where its file system begins; `places` by kind of structure."""

    name: str
    data: bytes
    byte_order: str
    fs_offset: int
    partition: str
    places: dict[str, tuple[Place, ...]]
    numbers: tuple[int, ...]  # block and inode numbers that mean something on this disk


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken disk."""

    name: str
    base: Base
    data: bytearray
    edits: tuple[str, ...]


@cache
def bases() -> dict[str, Base]:
    """All of them, made once; some 2 MiB together."""
    found = {}
    for format_name, sizes in SHAPES.items():
        for order in ("little", "big"):
            shape = Shape(format_name, order, *sizes)  # type: ignore[arg-type]
            image = bytes(make_image(shape, fuzz_tree(shape)).data)
            found[f"{format_name}-{order}"] = make_base(f"{format_name}-{order}", image, order)
    for label, wrap in LABELS.items():
        order = "big" if label in ("sun", "next_label") else "little"
        plain = found["ufs1-" + order]
        data, partition, offset = wrap(plain.data, order)
        found[label] = _labelled(label, plain, bytes(data), partition, offset)
    return found


def _labelled(label: str, plain: Base, data: bytes, partition: str, offset: int) -> Base:
    """Words wherever the label has something, beside the places of the file system."""
    head = [*range(0, 34 * 512, 4), *range(len(data) - 33 * 512, len(data), 4)]
    words = tuple(
        Place(f"label byte {at}", at, 4) for at in head if any(data[at : at + 4]) and at // 8192 != offset // 8192 + 1
    )
    places = {
        kind: tuple(Place(one.name, one.offset + offset, one.width) for one in these)
        for kind, these in plain.places.items()
    }
    numbers = (*plain.numbers, len(data) // 512, offset // 512)
    return Base(label, data, plain.byte_order, offset, partition, {"label": words, **places}, numbers)


def make_base(name: str, data: bytes, order: str) -> Base:
    """The places of a sound disk whose file system begins at its byte 0."""
    fs = FileSystem.open(MemoryDevice(bytearray(data)))
    sb = fs.superblock
    inodes = {inode.ino: inode for _, inode in fs.walk()}
    places: dict[str, list[Place]] = {"superblock": [], "group": [], "inode": [], "directory": [], "indirect": []}
    locations = [sb.location, *(geometry.fsbtobyte(sb, geometry.cgsblock(sb, cg)) for cg in range(sb.fs_ncg))]
    whole = record(layout.superblock(sb.byte_order, sb.tables))
    for number, at in enumerate(locations):
        places["superblock"] += _fields(whole, at, f"superblock {number}" if number else "superblock")
    for cg in range(sb.fs_ncg):
        at = geometry.fsbtobyte(sb, geometry.cgtod(sb, cg))
        places["group"] += _fields(record(layout.cylinder_group(sb.byte_order, sb.tables)), at, f"group {cg}")
    dinode = record(layout.dinode(sb.byte_order, sb.tables))
    for ino, inode in inodes.items():
        at = geometry.fsbtobyte(sb, geometry.ino_to_fsba(sb, ino)) + geometry.ino_to_fsbo(sb, ino) * sb.inode_bytes
        places["inode"] += _fields(dinode, at, f"inode {ino}")
        places["indirect"] += _indirect(fs, inode)
        if inode.kind == "dir":
            places["directory"] += _entries(fs, inode, data)
    numbers = {
        0,
        1,
        sb.fs_size - 1,
        sb.fs_size,
        sb.fs_csaddr,
        *inodes,
        *(p for i in inodes.values() for p in i.pointers),
    }
    kept = {kind: tuple(these) for kind, these in places.items()}
    return Base(name, data, order, 0, "", kept, tuple(sorted(n for n in numbers if n < 1 << 32)))


def _fields(layout_record: Record, at: int, name: str) -> Iterator[Place]:
    """Every field; of an array some elements, of bytes some bytes."""
    for field in layout_record.fields:
        width, offset = WIDTHS[field.code], at + layout_record.offset_of(field.name)
        count = 1 if field.count is None else field.count
        for index in range(min(count, 16) if field.code != "s" else min(count, 2)):
            yield Place(f"{name} {field.name}" + (f"[{index}]" if count > 1 else ""), offset + index * width, width)


def _indirect(fs: FileSystem, inode: Inode) -> Iterator[Place]:
    """The first pointers of every indirect block of a file, and those in use."""
    if inode.kind == "other" or inode.text is not None:
        return
    sb = fs.superblock
    word = record(layout.pointer(sb.byte_order, sb.tables))
    waiting = [(pointer, level) for level, pointer in enumerate(inode.pointers[12:]) if pointer]
    while waiting:
        fragment, level = waiting.pop()
        at = geometry.fsbtobyte(sb, fragment)
        pointers = word.array(sb.fs_nindir).unpack(fs.device.read(at, sb.fs_bsize))
        for index, pointer in enumerate(pointers):
            if pointer or index < 4 or index == sb.fs_nindir - 1:
                yield Place(f"{inode} indirect [{index}]", at + index * word.size, word.size)
            if pointer and level:
                waiting.append((pointer, level - 1))


def _entries(fs: FileSystem, inode: Inode, data: bytes) -> Iterator[Place]:
    """The head of every entry of a directory, and the first bytes of its name."""
    sb = fs.superblock
    head = record(layout.directory_header(sb.byte_order, sb.entries))
    for run in fs.runs(inode):
        at = run.device_offset  # type: ignore[union-attr]
        while at < run.device_offset + run.length:  # type: ignore[union-attr]
            yield from _fields(head, at, f"{inode} entry")
            yield Place(f"{inode} name", at + head.size, 1)
            at += head.struct.unpack_from(data, at)[1]


# Edits


def mutate(base: Base, seed: int, number: int) -> Mutant:
    """Mutant `number` of `base` under `seed`."""
    choose = random.Random(f"{base.name}:{seed}:{number}")
    data = bytearray(base.data)
    said = []
    for _ in range(choose.choice((1, 1, 2, 2, 3, 4))):
        if choose.random() < 0.04:
            length = choose.choice([choose.randrange(len(base.data)), choose.randrange(0, 20000, 512)])
            del data[length:]
            said.append(f"cut to {length} bytes")
            continue
        place = choose.choice(base.places[choose.choice(list(base.places))])
        if place.offset + place.width > len(data):
            continue
        order: Any = base.byte_order
        before = int.from_bytes(data[place.offset : place.offset + place.width], order)
        value = _value(choose, base, place.width, before)
        data[place.offset : place.offset + place.width] = value.to_bytes(place.width, order)
        said.append(f"{place.name} (byte {place.offset}): {before:#x} -> {value:#x}")
    return Mutant(f"{base.name}:{seed}:{number}", base, data, tuple(said))


def _value(choose: random.Random, base: Base, width: int, before: int) -> int:
    top = 1 << 8 * width
    near = [before + 1, before - 1, before * 2, before // 2, -before, before ^ 1 << choose.randrange(8 * width)]
    breaking = [
        0,
        1,
        2,
        3,
        7,
        8,
        0x7F,
        0xFF,
        255,
        256,
        512,
        0x7FFF,
        0xFFFF,
        1 << 20,
        0x7FFFFFFF,
        0x80000000,
        0xFFFFFFFF,
    ]
    breaking += [1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    kind = choose.randrange(10)
    if kind < 4:
        return choose.choice(breaking) % top
    if kind < 6:
        return choose.choice(near) % top
    if kind < 8:
        return choose.choice(base.numbers) % top
    return choose.randrange(top)
