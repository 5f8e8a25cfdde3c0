"""A small maker of FFS images for tests, where every pointer and every byte can be put wherever a test wants it.

It shares only the layouts with the code under test; it keeps no bitmaps (a reader needs none) and never frees.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from bootfs.device import MemoryDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.layout import CG_MAGIC, FS_UFS2_MAGIC, cylinder_group, dinode, directory_header, pointer, superblock
from bootfs.layout_format import record

SHARED = Path(__file__).resolve().parents[3] / "shared"
DIR, FILE, LINK, CHAR = 0o040000, 0o100000, 0o120000, 0o020000


def failing(code: FsCode, match: str | None = None) -> pytest.RaisesExc[FileSystemError]:
    """What is tried fails with this code."""
    return pytest.raises(FileSystemError, match=match, check=lambda error: error.code == code)


class Builder:
    """One image in the making. `variant` is "4.3", "4.4" or "ufs2"; sizes in bytes, `size` in fragments."""

    def __init__(
        self,
        order: str = "little",
        variant: str = "4.3",
        bsize: int = 4096,
        fsize: int = 512,
        size: int = 4096,
        ncg: int = 1,
    ) -> None:
        self.order, self.variant, self.bsize, self.fsize, self.frag = order, variant, bsize, fsize, bsize // fsize
        self.pointer, self.layout = record(pointer(order, variant)), record(dinode(order, variant))
        self.nindir, self.inopb = bsize // self.pointer.size, bsize // self.layout.size
        self.location = 65536 if variant == "ufs2" else 8192
        metadata = -(-(self.location + 8192) // fsize)  # fragments before the copy: boot block, superblock
        sblkno = self.up(metadata)
        cblkno = sblkno + self.up(8192 // fsize)
        iblkno = cblkno + self.frag
        inode_blocks = 4 if variant == "ufs2" else 2
        self.ipg = inode_blocks * self.inopb
        dblkno = iblkno + inode_blocks * self.frag
        fpg = self.up(-(-size // ncg))
        self.fields: dict[str, Any] = {
            "fs_sblkno": sblkno, "fs_cblkno": cblkno, "fs_iblkno": iblkno, "fs_dblkno": dblkno,
            "fs_cgoffset": 16 if ncg > 1 else 0, "fs_cgmask": -4, "fs_time": 500_000_000, "fs_size": size,
            "fs_dsize": size - ncg * dblkno, "fs_ncg": ncg, "fs_bsize": bsize, "fs_fsize": fsize, "fs_frag": self.frag,
            "fs_minfree": 10, "fs_bmask": -bsize, "fs_fmask": -fsize, "fs_bshift": bsize.bit_length() - 1,
            "fs_fshift": fsize.bit_length() - 1, "fs_fragshift": self.frag.bit_length() - 1,
            "fs_fsbtodb": (fsize // 512).bit_length() - 1, "fs_sbsize": 2048, "fs_nindir": self.nindir,
            "fs_inopb": self.inopb, "fs_csaddr": dblkno, "fs_cssize": -(-16 * ncg // fsize) * fsize, "fs_cgsize": bsize,
            "fs_ipg": self.ipg, "fs_fpg": fpg, "fs_fsmnt": b"/test", "fs_magic": 0x011954, "fs_clean": 1,
        }  # fmt: skip
        self._be_of_the_variant(variant)
        self.sound = dict(self.fields)  # where things really are, whatever a test does to the fields
        self.image = bytearray(size * fsize)
        self.next_fragment = self.up(dblkno + self.fields["fs_cssize"] // fsize)
        self.next_ino = 3
        self.root_entries: list[tuple[bytes, int]] = [(b".", 2), (b"..", 2)]
        self.nodes: dict[int, dict[str, Any]] = {}

    def _be_of_the_variant(self, variant: str) -> None:
        if variant == "4.4":
            self.fields |= {"fs_maxsymlinklen": 60, "fs_inodefmt": 2, "fs_postblformat": 1}
        if variant == "ufs2":
            del self.fields["fs_cgoffset"], self.fields["fs_cgmask"]
            self.fields |= {"fs_maxsymlinklen": 120, "fs_magic": FS_UFS2_MAGIC, "fs_sblockloc": 65536}

    def up(self, fragments: int) -> int:
        return -(-fragments // self.frag) * self.frag

    # Space

    def allocate(self, data: bytes = b"") -> int:
        """A block of the disk with `data` at its start; its fragment number."""
        fragment, self.next_fragment = self.next_fragment, self.next_fragment + self.frag
        self.image[fragment * self.fsize : fragment * self.fsize + len(data)] = data
        return fragment

    def set_pointer(self, ino: int, block: int, fragment: int) -> None:
        """Make block `block` of a file be at `fragment`, through as many indirect blocks as it takes."""
        pointers = self.nodes[ino]["pointers"]
        if block < 12:
            pointers[block] = fragment
            return
        block, level, span = block - 12, 0, self.nindir
        while block >= span:
            block, level, span = block - span, level + 1, span * self.nindir
        pointers[12 + level] = pointers[12 + level] or self.allocate()
        at = pointers[12 + level]
        word = self.pointer.struct
        while True:
            span //= self.nindir
            place = at * self.fsize + self.pointer.size * (block // span)
            block %= span
            if span == 1:
                word.pack_into(self.image, place, fragment)
                return
            (at,) = word.unpack_from(self.image, place)
            if not at:
                at = self.allocate()
                word.pack_into(self.image, place, at)

    # Files

    def node(self, mode: int, size: int, name: bytes | str | None = None, **fields: Any) -> int:
        """An inode without blocks, with a name in the root if one is given."""
        ino, self.next_ino = self.next_ino, self.next_ino + 1
        self.nodes[ino] = {"mode": mode, "size": size, "pointers": [0] * 15, **fields}
        if name is not None:
            self.root_entries.append((name.encode() if isinstance(name, str) else name, ino))
        return ino

    def file(self, name: bytes | str | None, data: bytes, mode: int = FILE | 0o644) -> int:
        """A file of `data` in whole blocks as they come, so contiguous on disk."""
        ino = self.node(mode, len(data), name)
        for block in range(-(-len(data) // self.bsize)):
            self.set_pointer(ino, block, self.allocate(data[block * self.bsize : (block + 1) * self.bsize]))
        return ino

    def link(self, name: bytes | str | None, target: bytes | str, fast: bool | None = None) -> int:
        """A symbolic link; `fast` as the variant has it by default."""
        text = target.encode() if isinstance(target, str) else target
        if fast if fast is not None else len(text) < self.fields.get("fs_maxsymlinklen", 0):
            return self.node(LINK | 0o777, len(text), name, text=text, flags=1 if self.variant == "4.3" else 0)
        return self.file(name, text, LINK | 0o777)

    def entries(self, names: list[tuple[bytes, int]]) -> bytes:
        """Directory data of these entries."""
        header = record(directory_header(self.order, self.variant))
        chunks, chunk, last = [], bytearray(), 0
        for name, ino in names:
            need = 8 + (len(name) + 4) // 4 * 4
            if len(chunk) + need > 512:
                chunks.append(self.closed(chunk, last))
                chunk = bytearray()
            last = len(chunk)
            chunk += header.pack({"d_ino": ino, "d_reclen": need, "d_namlen": len(name)}) + name.ljust(need - 8, b"\0")
        return b"".join([*chunks, self.closed(chunk, last)])

    def closed(self, chunk: bytearray, last: int) -> bytes:
        """A chunk whose last entry, at `last`, takes the rest of it."""
        word = "<H" if self.order == "little" else ">H"
        struct.pack_into(word, chunk, last + 4, 512 - last)
        return bytes(chunk.ljust(512, b"\0"))

    def directory(self, name: bytes | str | None, names: list[tuple[bytes, int]], parent: int = 2) -> int:
        ino = self.next_ino
        data = self.entries([(b".", ino), (b"..", parent), *names])
        return self.file(name, data, DIR | 0o755)

    # The whole

    def inode_place(self, ino: int) -> int:
        """The byte of the image where an inode is."""
        f, cg = self.sound, ino // self.ipg
        return (self.group_start(cg) + f["fs_iblkno"]) * self.fsize + ino % self.ipg * self.layout.size

    def group_start(self, cg: int) -> int:
        """The fragment that a group's metadata are counted from."""
        f = self.sound
        return int(f["fs_fpg"] * cg + f.get("fs_cgoffset", 0) * (cg & ~f.get("fs_cgmask", -1)))

    def write_copies(self) -> None:
        """A copy of the superblock in each group, as newfs makes them, and just the head of a struct cg."""
        layout = record(cylinder_group(self.order, self.variant))
        for cg in range(self.sound["fs_ncg"]):
            at = (self.group_start(cg) + self.sound["fs_sblkno"]) * self.fsize
            self.image[at : at + 1380] = record(superblock(self.order, self.variant)).pack(self.sound)
            at = (self.group_start(cg) + self.sound["fs_cblkno"]) * self.fsize
            self.image[at : at + layout.size] = layout.pack(
                {"cg_magic": CG_MAGIC, "cg_cgx": cg} | ({"cg_iused": b""} if self.variant == "4.3" else {})
            )

    def build(self, root_data: bytes | None = None) -> bytearray:
        """The image; `root_data` in place of the root directory's own."""
        data = self.entries(self.root_entries) if root_data is None else root_data
        self.nodes[2] = {"mode": DIR | 0o755, "size": len(data), "pointers": [0] * 15}
        for block in range(-(-len(data) // self.bsize)):
            self.set_pointer(2, block, self.allocate(data[block * self.bsize : (block + 1) * self.bsize]))
        assert self.next_fragment * self.fsize <= len(self.image), "the test's image is too small"
        layout = self.layout
        text_at = layout.offset_of("di_db")
        for ino, node in self.nodes.items():
            values = {
                "di_mode": node["mode"], "di_nlink": node.get("nlink", 1), "di_size": node["size"], "di_mtime": 1234,
                "di_db": tuple(node["pointers"][:12]), "di_ib": tuple(node["pointers"][12:]),
                "di_flags": node.get("flags", 0), "di_blocks": sum(map(bool, node["pointers"])) * self.bsize // 512,
                "di_ouid" if self.variant == "4.3" else "di_uid": node.get("uid", 7), **node.get("more", {}),
            }  # fmt: skip
            raw = bytearray(layout.pack(values))
            text = node.get("text", b"")
            raw[text_at : text_at + len(text)] = text
            self.image[self.inode_place(ino) : self.inode_place(ino) + layout.size] = raw
        self.image[self.location : self.location + 1380] = record(superblock(self.order, self.variant)).pack(
            self.fields
        )
        return self.image

    def device(self) -> MemoryDevice:
        return MemoryDevice(self.build())

    def mount(self) -> FileSystem:
        return FileSystem.open(self.device())
