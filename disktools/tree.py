"""A tree of files, from a directory of this machine or made up, planted on a disk.

Interface:
    Node                         one file, directory, link, device or reserved (paging) file
    scan(path, limits) -> (Node, [skipped])    the host's tree; Refusal where it cannot be read
    directory_at(root, path) -> Node      the directory at `path` in a tree, made where it is missing
    plant(allocator, plan, top, parent_ino, time)       takes inodes and blocks, and plans every write of the tree
Not here: the disk itself, and the entry that makes `top` reachable.

A hard link is one Node in several directories. Inodes and blocks are taken first fit, in the order of the names; space
that must lie in few runs is taken when everything else has its place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from bootfs.geometry import fragroundup, fsbtobyte, ino_to_cg
from bootfs.layout import DEV_BSIZE, NDADDR
from disktools.allocator import Allocator, Run
from disktools.directory import check_name, pack_directory
from disktools.errors import NoRoom, Refusal
from disktools.inode import BlockMap, NewInode, indirect_blocks, inode_offset, map_blocks
from disktools.limits import Limits
from disktools.sizes import format_size
from disktools.source import data_blocks
from disktools.write_plan import Extent, FileExtent, WritePlan, extents_of

MAXPATHLEN = 1024
LARGEST_LINK_COUNT = 32767
NOBODY = 65534
DIRECTORY_MODE = stat.S_IFDIR | 0o755


@dataclass(slots=True, eq=False)
class Node:
    """`mode` with its type bits. Which of the other fields count follows from the type."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    mtimensec: int = 0
    children: dict[bytes, Node] = field(default_factory=dict)  # of a directory, in the order they will have
    at_least: int = 0  # bytes of a directory
    size: int = 0  # of a file
    source: bytes = b""  # the host's path of a file's contents; without one the file is reserved, and zeros
    target: bytes = b""  # of a symbolic link
    device: int = 0  # the dev_t that all BSDs share, of a device: major << 8 | minor
    ino: int = 0
    links: int = 0
    runs: list[Run] = field(default_factory=list)  # of a reserved file, once planted

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_reserved(self) -> bool:
        return stat.S_ISREG(self.mode) and not self.source


def scan(path: bytes, limits: Limits) -> tuple[Node, list[str]]:
    """The tree under directory `path`, and a line for each thing left out: FIFOs, sockets, what the format lacks."""
    skipped: list[str] = []
    try:
        root = _node(path, os.stat(path), limits)
        if not root.is_directory:
            raise Refusal(f"{os.fsdecode(path)} is not a directory; --from takes the directory to copy")
        shared: dict[tuple[int, int], Node] = {}
        pending = [(path, root)]
        while pending:
            where, node = pending.pop()
            for entry in sorted(os.scandir(where), key=lambda one: one.name):
                status = entry.stat(follow_symlinks=False)
                key = (status.st_dev, status.st_ino)
                why = _unfit(entry.path, status, limits)
                if why:
                    skipped.append(f"{os.fsdecode(entry.path)}: {why}")
                    continue
                check_name(entry.name)
                child = shared.get(key) or _node(entry.path, status, limits)
                node.children[entry.name] = child
                if child.is_directory:
                    pending.append((entry.path, child))
                elif status.st_nlink > 1:
                    shared[key] = child
    except OSError as error:
        raise Refusal(f"{os.fsdecode(error.filename or path)} cannot be read: {error.strerror}") from error
    return root, skipped


def _unfit(path: bytes, status: os.stat_result, limits: Limits) -> str | None:
    """Why this cannot be in a file system of the format, or None."""
    kind = stat.S_IFMT(status.st_mode)
    if kind in limits.absent:
        return f"left out: a {'FIFO' if kind == stat.S_IFIFO else 'socket'}"
    if kind == stat.S_IFREG and status.st_size > limits.file_bytes:
        return f"left out: larger than {format_size(limits.file_bytes + 1)}, the format's limit"
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and _device(status.st_rdev) >> limits.device_bits:
        return f"left out: its device numbers do not fit {limits.device_bits} bits"
    if kind == stat.S_IFLNK and len(os.readlink(path)) >= MAXPATHLEN:
        return f"left out: a symbolic link of {MAXPATHLEN} bytes or more"
    return None


def _node(path: bytes, status: os.stat_result, limits: Limits) -> Node:
    uid, gid = (one if one <= limits.identity else NOBODY for one in (status.st_uid, status.st_gid))
    seconds, mtimensec = divmod(status.st_mtime_ns, 10**9)
    mtime = limits.time(seconds)
    node = Node(status.st_mode, uid, gid, mtime, mtimensec if mtime == seconds else 0)
    if stat.S_ISREG(node.mode):
        node.size, node.source = status.st_size, path
    elif stat.S_ISLNK(node.mode):
        node.target = os.readlink(path)
    elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        node.device = _device(status.st_rdev)
    return node


def _device(rdev: int) -> int:
    """The dev_t of BSD: 8 bits of major and minor as ever, and above them what FreeBSD added (sys/sys/types.h)."""
    major, minor = os.major(rdev), os.minor(rdev)
    return (major & 0xFFFFFF00) << 32 | (minor & 0xFF00) << 24 | (major & 0xFF) << 8 | minor & 0xFFFF00FF


def directory_at(root: Node, path: list[bytes], time: int) -> Node:
    """The directory at the components `path`, new ones (0755, root's, of `time`) where they are missing. Refusal."""
    node = root
    for depth, name in enumerate(path, 1):
        check_name(name)
        if name not in node.children:
            node.children[name] = Node(DIRECTORY_MODE, mtime=time)
        node = node.children[name]
        if not node.is_directory:
            where = "/" + os.fsdecode(b"/".join(path[:depth]))
            raise Refusal(f"{where} is not a directory; choose another --path")
    return node


def _walk(top: Node) -> Iterator[tuple[Node, Node | None]]:
    """Every node once, with one directory that it is in; directories before what is in them. Counts the links."""
    pending: list[tuple[Node, Node | None]] = [(top, None)]
    while pending:
        node, parent = pending.pop()
        node.links += 1
        if node.links == 1:
            yield node, parent
            pending.extend((child, node) for child in reversed(node.children.values()))


def plant(allocator: Allocator, plan: WritePlan, top: Node, parent_ino: int, time: int) -> None:
    """Give `top` and all below it inodes and blocks, and plan their writing. NoRoom, with nothing planned that matters.

    `parent_ino` is the directory that `top` will be in; 0 when it is the root. Afterwards each node knows its ino.
    """
    nodes = list(_walk(top))
    for node, parent in nodes:
        cg = ino_to_cg(allocator.fs, parent.ino if parent else parent_ino)
        node.ino = allocator.take_inode(cg, node.is_directory)
    for node, parent in sorted(nodes, key=lambda pair: pair[0].is_reserved):
        text = b""
        if node.is_directory:
            up = parent.ino if parent else parent_ino or node.ino
            node.links += 1 + sum(child.is_directory for child in node.children.values())
            blocks, size = _plant_directory(allocator, plan, node, up)
        elif stat.S_ISREG(node.mode):
            blocks, size = _plant_file(allocator, plan, node), node.size
        elif stat.S_ISLNK(node.mode):
            short = len(node.target) < allocator.fs.fs_maxsymlinklen  # 4.4: kept in the inode; 0 in the older
            text, size = (node.target if short else b""), len(node.target)
            blocks = BlockMap() if short else _plant_data(allocator, plan, node.ino, node.target)
        else:
            blocks, size = BlockMap((node.device, *BlockMap().db[1:])), 0
        if node.links > LARGEST_LINK_COUNT:
            raise Refusal(f"a file has {node.links} links, and the format counts only to {LARGEST_LINK_COUNT}")
        for offset, data in blocks.indirect:
            plan.add_block(offset, data)
        mtime, nsec = (node.mtime, node.mtimensec) if node.mtime < time else (time, 0)
        inode = NewInode(node.mode, node.links, node.uid, node.gid, size, mtime, time, blocks, nsec, text)
        plan.add_inode(inode_offset(allocator.fs, node.ino), inode.pack(allocator.fs))


def _plant_directory(allocator: Allocator, plan: WritePlan, node: Node, parent_ino: int) -> tuple[BlockMap, int]:
    names = [(node.ino, DIRECTORY_MODE, b"."), (parent_ino, DIRECTORY_MODE, b"..")]
    names += [(child.ino, child.mode, name) for name, child in node.children.items()]
    data = pack_directory(allocator.fs, names, node.at_least)
    return _plant_data(allocator, plan, node.ino, data), len(data)


def _plant_data(allocator: Allocator, plan: WritePlan, ino: int, data: bytes) -> BlockMap:
    """Contents that are at hand: directories and link texts."""
    blocks, extents = _take(allocator, ino, len(data), [range(-(-len(data) // allocator.fs.fs_bsize))])
    for extent in extents:
        plan.add_block(extent.offset, data[extent.at : extent.at + extent.length].ljust(extent.length, b"\0"))
    return blocks


def _take(allocator: Allocator, ino: int, size: int, there: list[range]) -> tuple[BlockMap, list[FileExtent]]:
    """A map of those blocks of a file of `size` bytes that are `there`, and where its bytes go."""
    fs = allocator.fs
    count = -(-size // fs.fs_bsize)
    blocks = there[0] if len(there) == 1 else list(chain.from_iterable(there))
    addresses = allocator.take_file(size, ino_to_cg(fs, ino), count - len(blocks))
    rest = size % fs.fs_bsize
    last = fs.fs_bsize if not rest or count > NDADDR else fragroundup(fs, rest)
    extents = extents_of(blocks, addresses, fs.fs_fsize, fs.fs_bsize, last)
    sectors = sum(extent.length for extent in extents) // DEV_BSIZE
    return map_blocks(allocator, addresses, sectors, blocks), extents


def _plant_file(allocator: Allocator, plan: WritePlan, node: Node) -> BlockMap:
    fs = allocator.fs
    if not node.is_reserved:
        there = data_blocks(node.source, node.size, fs.fs_bsize)
        mapped, extents = _take(allocator, node.ino, node.size, there)
        plan.add_file(node.source, node.size, extents)
        return mapped
    blocks = node.size // fs.fs_bsize
    _check_room(allocator, blocks)
    node.runs = allocator.take_runs(blocks)
    plan.add_zeros(Extent(fsbtobyte(fs, run.fragment), run.blocks * fs.fs_bsize) for run in node.runs)
    addresses = [run.fragment + block * fs.fs_frag for run in node.runs for block in range(run.blocks)]
    return map_blocks(allocator, addresses, node.size // DEV_BSIZE)


def _check_room(allocator: Allocator, blocks: int) -> None:
    """NoRoom, with the size that would do, unless a reserved file of `blocks` and its indirect blocks fit."""
    fs, free = allocator.fs, allocator.free_blocks()
    if blocks + indirect_blocks(fs, blocks) <= free:
        return
    most = free
    while most + indirect_blocks(fs, most) > free:
        most -= 1
    wanted = f"a paging file of {blocks * fs.fs_bsize} bytes does not fit: {free} blocks of {fs.fs_bsize} are free"
    raise NoRoom(
        f"{wanted}; give at most --paging-size {most * fs.fs_bsize}" if most else f"{wanted}; the disk is full"
    )
