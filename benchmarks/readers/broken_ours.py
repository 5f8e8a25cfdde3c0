"""bootfs on broken disks."""

from __future__ import annotations

from broken import MOST_NAMES, PIECE, serve

from bootfs.device import FileDevice
from bootfs.errors import FileSystemError
from bootfs.filesystem import FileSystem


def look(path: str) -> None:
    """Every name, the ends of every file, where its blocks are."""
    with FileDevice(path) as device:
        fs = FileSystem.open(device)
        for number, (_, inode) in enumerate(fs.walk()):
            if inode.kind == "file":
                fs.read(inode, 0, min(inode.size, PIECE))
                fs.read(inode, max(0, inode.size - PIECE), min(inode.size, PIECE))
                fs.blocks(inode)
            elif inode.kind == "link":
                fs.readlink(inode)
            if number == MOST_NAMES:
                return


serve(look, FileSystemError)
