"""Extended attributes of ufs2: names and sizes, kept in one or two blocks of their own beside the file's.

Interface:
    Attribute                            namespace, name, size in bytes
    attributes(device, fs, inode)        those of a file, in disk order. FileSystemError FS_INVALID_FS
    EXTATTR_NAMESPACES                   names of the namespaces, by number
Not here: their contents (access control lists and the like have formats of their own).

Source: FreeBSD sys/ufs/ufs/extattr.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootfs import geometry
from bootfs.blockmap import check_data
from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Inode
from bootfs.layout import NXADDR, extattr_header
from bootfs.layout_format import record
from bootfs.superblock import Superblock

EXTATTR_NAMESPACES = {1: "user", 2: "system"}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: "user" or "system" (else the number as text), its name, and the bytes of its contents."""

    namespace: str
    name: bytes
    size: int


def attributes(device: BlockDevice, fs: Superblock, inode: Inode) -> list[Attribute]:
    """The extended attributes of a file; none in the formats that have none."""
    place = f"{inode}, extended attributes"
    data = _area(device, fs, inode, place)
    header = record(extattr_header(fs.byte_order))
    found = []
    at = 0
    while at < len(data):
        if at + header.size > len(data):
            raise FileSystemError(FsCode.FS_INVALID_FS, f"cut short at byte {at}", place)
        length, namespace, padding, namelen = header.struct.unpack_from(data, at)
        begin = -(-(header.size + namelen) // 8) * 8  # of the contents
        if length < begin + padding or length % 8 or length > len(data) - at:
            raise FileSystemError(FsCode.FS_INVALID_FS, f"ea_length {length} at byte {at}", place)
        name = data[at + header.size : at + header.size + namelen]
        if namespace:  # 0 is free space
            found.append(Attribute(EXTATTR_NAMESPACES.get(namespace, str(namespace)), name, length - begin - padding))
        at += length
    return found


def _area(device: BlockDevice, fs: Superblock, inode: Inode, place: str) -> bytes:
    """The bytes that hold the attributes."""
    size, pointers = inode.details.ext_size, inode.details.ext_pointers
    if size > NXADDR * fs.fs_bsize:
        raise FileSystemError(FsCode.FS_INVALID_FS, f"di_extsize {size}", place)
    data = b""
    for block, fragment in enumerate(pointers[: -(-size // fs.fs_bsize)]):
        if fragment == 0:
            raise FileSystemError(FsCode.FS_INVALID_FS, f"a hole at block {block}", place)
        length = geometry.blksize(fs, size, block)
        check_data(fs, fragment, geometry.numfrags(fs, length), place)
        data += device.read(geometry.fsbtobyte(fs, fragment), length)
    return data[:size]
