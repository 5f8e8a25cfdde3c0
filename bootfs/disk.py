"""Which file system of a disk is meant, and opening it: at an offset, in a partition, or the only one there is.

Interface:
    open_file_system(device, partition=None, offset=None)    FileSystemError; the device stays the caller's to close
    place_of(device, partition, offset)                      bytes (offset, size) of a part of the disk
    find_file_systems(device)                                every one that is there, with the partition it is in
    FoundFileSystem
Not here: partition tables (labels), formats (probe).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode, UnknownFormat
from bootfs.filesystem import FileSystem
from bootfs.labels import Partition, partitions
from bootfs.mounted import MountedFileSystem
from bootfs.probe import open_any


@dataclass(frozen=True, slots=True)
class FoundFileSystem:
    """A file system, and the name of the partition that it is in; "" for one that is not in any."""

    partition: str
    file_system: MountedFileSystem


def open_file_system(device: BlockDevice, partition: str | None = None, offset: int | None = None) -> MountedFileSystem:
    """The file system at a byte `offset`, or in the partition of that name (a, s1a, s1, p2, or 1); or the only one.

    FileSystemError: FS_INVALID_FS, UnknownFormat as its open has it; FS_INVALID_PARAMETER: both are given, there is no
    such partition, or there are several file systems and neither is given: then the message lists them.
    A superblock that is lost is replaced by one of its copies, if nothing else is there.
    """
    if offset is not None:
        if partition is not None:
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "give a partition or an offset, and not both", partition)
        return _open_at(device, offset)
    if partition is not None:
        return _open_at(device, _named(partitions(device), partition).offset)
    found = list(find_file_systems(device))
    if len(found) > 1:
        raise FileSystemError(
            FsCode.FS_INVALID_PARAMETER, f"several file systems, choose with --partition or --offset: {_listed(found)}"
        )
    return found[0].file_system if found else _open_at(device, 0)


def place_of(device: BlockDevice, partition: str | None = None, offset: int | None = None) -> tuple[int, int]:
    """Where the partition of that name, or what begins at a byte `offset`, or else the whole device, is.

    FileSystemError FS_INVALID_PARAMETER: both are given, or there is no such place.
    """
    if partition is not None:
        if offset is not None:
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "give a partition or an offset, and not both", partition)
        named = _named(partitions(device), partition)
        return named.offset, named.size
    start = offset or 0
    if not 0 <= start < device.size:
        raise FileSystemError(FsCode.FS_INVALID_PARAMETER, f"{start} is not within the {device.size} bytes", "offset")
    return start, device.size - start


def find_file_systems(device: BlockDevice) -> Iterator[FoundFileSystem]:
    """All on the device: at its start, and in its partitions; one that is in two only once.

    Damaged ones are left out, unless none is sound: then those whose superblock has a sound copy.
    """
    table = partitions(device)
    places: dict[int, str] = {0: ""}
    for one in table:
        places.setdefault(one.offset, one.name)
    found = False
    for offset, name in places.items():
        try:
            file_system = open_any(device, offset)
        except FileSystemError as error:
            if error.code != FsCode.FS_INVALID_FS:
                raise
            continue
        found = True
        yield FoundFileSystem(name, file_system)
    for offset, name in places.items() if not found else ():
        try:
            yield FoundFileSystem(name, FileSystem.open_alternate(device, offset))
        except UnknownFormat:
            continue


def _open_at(device: BlockDevice, offset: int) -> MountedFileSystem:
    try:
        return open_any(device, offset)
    except FileSystemError as error:
        if error.code != FsCode.FS_INVALID_FS or not 0 <= offset < device.size:
            raise
        try:
            return FileSystem.open_alternate(device, offset)
        except UnknownFormat:
            raise error from None


def _named(table: tuple[Partition, ...], name: str) -> Partition:
    for one in table:
        if one.answers_to(name):
            return one
    there = ", ".join(one.name for one in table) or "none"
    raise FileSystemError(FsCode.FS_INVALID_PARAMETER, f"no such partition; there are: {there}", f"partition {name}")


def _listed(found: list[FoundFileSystem]) -> str:
    """One short text for each."""
    texts = []
    for one in found:
        what = f"{one.file_system.info()['format']}, {one.file_system.capacity >> 20} MiB"
        texts.append(f"{one.partition or '--offset 0'} ({what})")
    return "; ".join(texts)
