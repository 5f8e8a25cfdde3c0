"""The tree: from every directory to every inode and back, so that each has the names and links that it says.

Interface:
    check_tree(disk, inodes, step)
    find_paths(disk, inodes, wanted) -> dict     a path for each inode number of `wanted` that has one
Not here: the entries themselves (check_directory), blocks.

Sources: 4.3BSD etc/fsck/pass2.c to pass4.c.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Set

from bootfs.layout import ROOTINO
from disktools.check_directory import DirectoryReader, Found
from disktools.check_disk import Disk
from disktools.check_hidden import is_shadow, netbsd_inodes_of
from disktools.check_inodes import KINDS, Inodes
from disktools.check_report import Step

WINO, DT_WHT = 1, 14  # 4.4: a name that hides one of a lower layer
MAX_DEPTH = 1000


def check_tree(disk: Disk, inodes: Inodes, step: Step) -> None:
    """Names, links, and whether all hangs together."""
    tree = _Tree(disk, inodes)
    if not stat.S_ISDIR(inodes.modes.get(ROOTINO, 0)):
        disk.report.inode(ROOTINO, "the root is not a directory")
    for at, ino in enumerate(inodes.directories):
        if not at & 0xFF:
            step(at, len(inodes.directories))
        tree.directory(ino)
    tree.parents()
    tree.shadows()
    tree.links()


class _Tree:
    """The pass under way: how often each inode is named, and which directory names which."""

    def __init__(self, disk: Disk, inodes: Inodes) -> None:
        self.disk, self.report, self.inodes = disk, disk.report, inodes
        self.reader = DirectoryReader(disk)
        self.typed = disk.fs.entries == "4.4"
        self.names: Counter[int] = Counter()
        self.parent: dict[int, int] = {ROOTINO: ROOTINO}
        self.dotdot: dict[int, int] = {}
        self.limit = disk.fs.fs_ipg * disk.fs.fs_ncg

    def directory(self, ino: int) -> None:
        """One directory: "." and ".." first, then names, each leading to an inode in use, none of them twice."""
        found = self.reader.entries(ino, self.inodes.directories[ino])
        self.names.update(one[0] for one in found)
        rest = self.dots(ino, found)
        modes = self.inodes.modes
        for target, kind, name in rest:
            mode = modes.get(target)
            if mode is None:
                self.missing(ino, target, kind, name)
                continue
            if kind is not None and kind != mode >> 12:
                self.report.inode(
                    ino,
                    f"its entry {name!r} has d_type {kind}, but the inode is a {_kind(mode)}",
                )
            if mode & 0o170000 == stat.S_IFDIR:
                self.child(ino, target, name)
        if len({one[2] for one in found}) < len(found):
            twice = [name for name, count in Counter(one[2] for one in found).items() if count > 1]
            self.report.inode(ino, f"the name {twice[0]!r} is in it twice")

    def dots(self, ino: int, found: list[Found]) -> list[Found]:
        """Checks the first two entries; what follows them."""
        names = [one[2] for one in found[:2]]
        if names[:1] != [b"."]:
            self.report.inode(ino, "its first entry is not '.'")
        elif found[0][0] != ino:
            self.report.inode(ino, f"its '.' is inode {found[0][0]}")
        if names[1:2] != [b".."]:
            self.report.inode(ino, "its second entry is not '..'")
        else:
            self.dotdot[ino] = found[1][0]
        for target, kind, name in found[:2]:
            if name in (b".", b"..") and kind not in (None, 4):
                self.report.inode(ino, f"its entry {name!r} has d_type {kind}, but is a directory")
            if name in (b".", b"..") and target not in self.inodes.directories:
                self.report.inode(ino, f"its {name.decode()!r} leads to inode {target}, which is no directory")
        rest = [one for at, one in enumerate(found) if at > 1 or one[2] not in (b".", b"..")]
        for one in rest:
            if one[2] in (b".", b".."):
                self.report.inode(ino, f"a further entry {one[2].decode()!r}")
        return [one for one in rest if one[2] not in (b".", b"..")]

    def missing(self, ino: int, target: int, kind: int | None, name: bytes) -> None:
        if target == WINO and kind == DT_WHT:
            self.names[WINO] -= 1
            return
        if not ROOTINO <= target < self.limit:
            self.report.inode(ino, f"its entry {name!r} leads to inode {target}; they go from 2 to {self.limit - 1}")
        elif target // self.disk.fs.fs_ipg not in self.inodes.unread:
            self.report.inode(ino, f"its entry {name!r} leads to inode {target}, which is not in use")

    def child(self, ino: int, target: int, name: bytes) -> None:
        if target in self.parent:
            other = self.parent[target]
            self.report.inode(ino, f"its entry {name!r} is a second name of directory {target}, which is in {other}")
        else:
            self.parent[target] = ino

    def parents(self) -> None:
        """Each directory leads back to the one that names it, and from the root to all."""
        sound = {ROOTINO}
        for ino in self.inodes.directories:
            up = self.parent.get(ino)
            if up is None:
                self.report.inode(ino, "a directory that no directory names")
            elif self.dotdot.get(ino, up) != up:
                self.report.inode(ino, f"its '..' is inode {self.dotdot[ino]}, should be {up}")
        for ino in self.inodes.directories:
            trail: list[int] = []
            seen: set[int] = set()
            at: int | None = ino
            while at is not None and at not in sound and at not in seen:
                seen.add(at)
                trail.append(at)
                at = self.parent.get(at)
            if at in seen:
                self.report.inode(ino, "directories that name each other in a ring, out of the root's reach")
            sound.update(trail)

    def shadows(self) -> None:
        """Solaris: an access control list is named by the inodes that it is for, and by no directory."""
        for ino, count in self.inodes.shadows.items():
            mode = self.inodes.modes.get(ino, 0)
            if is_shadow(self.disk.fs, mode):
                self.names[ino] += count
            elif ino // self.disk.fs.fs_ipg not in self.inodes.unread:
                self.report.add("inodes", f"{count} have their access control list in inode {ino}, which is none")

    def links(self) -> None:
        """Each inode in use has as many names as it says."""
        names, links, modes = self.names, self.inodes.links, self.inodes.modes
        if names == links:
            return
        hidden = netbsd_inodes_of(self.disk)
        for ino, count in links.items():
            found = names[ino]
            if found == count or (found == 0 and ino in hidden):
                continue
            if ino not in self.parent and modes[ino] & 0o170000 == stat.S_IFDIR:
                continue  # told of by parents()
            if found == 0:
                self.report.inode(ino, f"a {_kind(modes[ino])} that no directory names")
            else:
                self.report.inode(ino, f"link count {count}, should be {found}")


def _kind(mode: int) -> str:
    return KINDS.get(mode & 0o170000, "thing of no known type")


def find_paths(disk: Disk, inodes: Inodes, wanted: Set[int]) -> dict[int, str]:
    """One path for each wanted inode that a name leads to. Reads the directories again: only who asks pays."""
    reader = DirectoryReader(disk)
    up: dict[int, tuple[int, bytes]] = {}
    for ino, directory in inodes.directories.items():
        for target, _, name in reader.entries(ino, directory, quiet=True):
            if name not in (b".", b"..") and (target in wanted or target in inodes.directories):
                up.setdefault(target, (ino, name))
    up.pop(ROOTINO, None)
    paths = {ROOTINO: "/"} if ROOTINO in wanted else {}
    for ino in wanted & up.keys():
        names: list[bytes] = []
        at = ino
        while at in up and len(names) < MAX_DEPTH:
            at, name = up[at]
            names.append(name)
        if at == ROOTINO:
            paths[ino] = "/" + b"/".join(reversed(names)).decode("utf-8", "surrogateescape")
    return paths
