"""The kinds of damage of the 4.3BSD judge's own self-test, by their names there, done to a disk of any format.

DAMAGES: name -> Damage(do, expect, applies): what to do to a Patient, what must be said of it, and which have it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bootfs.device import MemoryDevice
from bootfs.filesystem import FileSystem
from bootfs.geometry import cgtod, fsbtobyte, ino_to_fsba, ino_to_fsbo
from bootfs.inode import Inode
from bootfs.layout import cylinder_group, dinode, directory_header, pointer, superblock
from bootfs.layout_format import Record, record
from disktools.check_file_system import Checked, check_file_system


class Patient:
    """A disk in memory with an operating table: fields by name, added to or set."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.files = FileSystem.open(MemoryDevice(bytearray(data)))
        self.fs = fs = self.files.superblock
        self.superblock = record(superblock(fs.byte_order, fs.tables))
        self.group = record(cylinder_group(fs.byte_order, fs.tables))
        self.dinode = record(dinode(fs.byte_order, fs.tables))
        self.entry = record(directory_header(fs.byte_order, fs.entries))
        self.pointer = record(pointer(fs.byte_order, fs.tables))

    def checked(self) -> Checked:
        found = check_file_system(MemoryDevice(self.data))
        assert found is not None
        return found

    def lookup(self, path: str) -> Inode:
        return self.files.lookup(path, follow=False)

    # Fields

    def place(self, layout: Record, base: int, name: str, index: int) -> tuple[int, str]:
        code = next(one.code for one in layout.fields if one.name == name)
        code = layout.struct.format[0] + code
        return base + layout.offset_of(name) + index * struct.calcsize(code), code

    def get(self, layout: Record, base: int, name: str, index: int = 0) -> int:
        at, code = self.place(layout, base, name, index)
        return int(struct.unpack_from(code, self.data, at)[0])

    def put(self, layout: Record, base: int, name: str, value: int, index: int = 0) -> None:
        at, code = self.place(layout, base, name, index)
        struct.pack_into(code, self.data, at, value)

    def add(self, layout: Record, base: int, name: str, value: int, index: int = 0) -> None:
        self.put(layout, base, name, self.get(layout, base, name, index) + value, index)

    # Places

    @property
    def sb(self) -> tuple[Record, int]:
        return self.superblock, self.fs.location

    def cg(self, group: int = 0) -> tuple[Record, int]:
        return self.group, fsbtobyte(self.fs, cgtod(self.fs, group))

    def inode(self, path: str) -> tuple[Record, int]:
        ino, fs = self.lookup(path).ino, self.fs
        return self.dinode, fsbtobyte(fs, ino_to_fsba(fs, ino)) + ino_to_fsbo(fs, ino) * self.dinode.size

    def free_inode(self) -> int:
        """The last of group 0."""
        return self.fs.fs_ipg - 1

    def entry_at(self, directory: str, at: int) -> tuple[Record, int]:
        return self.entry, fsbtobyte(self.fs, self.lookup(directory).pointers[0]) + at

    def flip(self, name: str, bit: int, cg: int = 0) -> None:
        """One bit of a map of a group: "iused", "free" or "cluster"."""
        if self.fs.tables == "4.3":
            offset = self.group.offset_of("cg_iused") if name == "iused" else self.group.size
        else:
            offset = self.get(*self.cg(cg), f"cg_{name}off")
        self.data[self.cg(cg)[1] + offset + bit // 8] ^= 1 << bit % 8

    def add_to_table(self, name: str, code: str, index: int) -> None:
        """One more in cg_btot, cg_b or a cluster table of group 0."""
        if self.fs.tables == "4.3":
            self.add(*self.cg(), f"cg_{name}", 1, index)
            return
        at = self.cg()[1] + self.get(*self.cg(), f"cg_{name}off") + index * struct.calcsize(code)
        code = self.group.struct.format[0] + code
        struct.pack_into(code, self.data, at, struct.unpack_from(code, self.data, at)[0] + 1)


Do = Callable[[Patient], Any]
Applies = Callable[[Patient], bool]


@dataclass(frozen=True, slots=True)
class Damage:
    """`expect` is a regular expression that one problem, as text, must match."""

    do: Do
    expect: str
    applies: Applies


DAMAGES: dict[str, Damage] = {}
# Those that the fsck of 1986 does not see (README of the judge, blind spots 1 to 3).
UNSEEN_IN_1986 = (
    "sb_alternate_minfree",
    "file_size_within_fragment",
    "inode_flags_word",
    "timestamps_nsec",
    "size_high_word",
    "dir_name_slash",
)


def damage(expect: str, applies: Applies = lambda p: True) -> Callable[[Do], Do]:
    def enter(do: Do) -> Do:
        DAMAGES[do.__name__] = Damage(do, expect, applies)
        return do

    return enter


def old(p: Patient) -> bool:
    return p.fs.tables == "4.3"


def not_ufs2(p: Patient) -> bool:
    return p.fs.tables != "ufs2"


def said(patient: Patient, expect: str) -> bool:
    """Whether a problem matches; check hashes, which see everything, do not count."""
    problems = [str(problem) for problem in patient.checked().report.problems]
    return any(re.search(expect, problem) for problem in problems if "ckhash" not in problem)


# The self-test's 47


@damage("inode .* /xtr: link count 2, should be 1")
def link_count(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_nlink", 2)


@damage("fragment .* is in use, but free in its map")
def free_bitmap_used_as_free(p: Patient) -> None:
    p.flip("free", p.lookup("/xtr").pointers[0])


@damage("fragment .* is free, but in use in its map")
def free_bitmap_free_as_used(p: Patient) -> None:
    p.flip("free", 4000 if old(p) and p.fs.fs_ncg == 1 else min(p.fs.fs_fpg, p.fs.fs_size) - 2)


@damage("inode .* is in use, but free in its map")
def inode_bitmap_used_as_free(p: Patient) -> None:
    p.flip("iused", p.lookup("/xtr").ino)


@damage("inode .* is free, but in use in its map")
def inode_bitmap_free_as_used(p: Patient) -> None:
    p.flip("iused", p.free_inode())


@damage(r"cylinder group 0: cg_btot\[0\] is", not_ufs2)
def cg_btot(p: Patient) -> None:
    p.add_to_table("btot", "i", 0)


@damage(r"cylinder group 0: cg_b\[0\]\[0\] is", not_ufs2)
def cg_b_rot(p: Patient) -> None:
    p.add_to_table("b", "h", 0)


@damage(r"cylinder group 0: cg_frsum\[2\] is")
def cg_frsum(p: Patient) -> None:
    p.add(*p.cg(), "cg_frsum", 1, 2)


@damage("cylinder group 0: cg_cs.cs_nbfree is")
def cg_cs_nbfree(p: Patient) -> None:
    p.add(*p.cg(), "cg_cs.cs_nbfree", 1)


@damage("cylinder group 0: cg_ncyl is", not_ufs2)
def cg_ncyl(p: Patient) -> None:
    p.add(*p.cg(), "cg_ncyl", 3)


@damage("cylinder group 0: cg_niblk is")
def cg_niblk(p: Patient) -> None:
    p.add(*p.cg(), "cg_niblk", -1)


@damage("cylinder group 0: cg_ndblk is")
def cg_ndblk(p: Patient) -> None:
    p.add(*p.cg(), "cg_ndblk", -1)


@damage("cylinder group 0: cg_cgx is 5, should be 0")
def cg_cgx(p: Patient) -> None:
    p.put(*p.cg(), "cg_cgx", 5)


@damage("cylinder group 0: cg_magic is 0")
def cg_magic(p: Patient) -> None:
    p.put(*p.cg(), "cg_magic", 0)


@damage("cylinder group 0: cg_irotor is 90000, should be below")
def cg_irotor_out_of_range(p: Patient) -> None:
    p.put(*p.cg(), "cg_irotor", 90000)


@damage("summary area, cylinder group 0: cs_ndir is")
def csum_area(p: Patient) -> None:
    p.data[fsbtobyte(p.fs, p.fs.fs_csaddr) + (0 if p.fs.byte_order == "little" else 3)] ^= 1


@damage("superblock: fs_cstotal.cs_ndir is")
def sb_cstotal(p: Patient) -> None:
    p.add(*p.sb, "fs_cstotal.cs_ndir", 1)


@damage("superblock: none .*its copy at byte .* is used")
def sb_magic(p: Patient) -> None:
    p.put(*p.sb, "fs_magic", 0)


@damage("superblock: .*fs_size.*")
def sb_size(p: Patient) -> None:
    p.add(*p.sb, "fs_size", 8)


@damage("superblock: fs_dsize is .*, but .* in (its copy|all its .* copies)")
def sb_dsize(p: Patient) -> None:
    p.add(*p.sb, "fs_dsize", -8)


@damage(r"superblock: fs_postbl\[0\] is", old)
def sb_postbl(p: Patient) -> None:
    p.add(*p.sb, "fs_postbl", 1)


@damage("superblock: fs_minfree is 5, but [0-9]+ in (its copy|all its .* copies)")
def sb_alternate_minfree(p: Patient) -> None:
    p.put(*p.sb, "fs_minfree", 5)


@damage("superblock: broken relation: fs_bmask")
def sb_bmask(p: Patient) -> None:
    p.put(*p.sb, "fs_bmask", -8192 if p.fs.fs_bsize != 8192 else -4096)


@damage("inode .* /(xtr|boot): .*fragment.* also to inode")
def dup_block(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_db", p.lookup("/boot").pointers[0])


@damage("inode .* /xtr: block 0 is at fragment 999999, beyond")
def bad_block(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_db", 999999)


@damage("inode .* /xtr: di_blocks is")
def block_count(p: Patient) -> None:
    p.add(*p.inode("/xtr"), "di_blocks", 2)


@damage("inode .* /xtr: di_blocks is")
def file_size_short(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_size", 100)


@damage("inode .* /xtr: there is data beyond its end")
def file_size_within_fragment(p: Patient) -> None:
    p.add(*p.inode("/xtr"), "di_size", -40)


@damage("inode .* /xtr: di_blocks is")
def file_size_beyond_blocks(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_size", p.fs.fs_bsize + 904)


@damage("inode .* /a: directory of 500 bytes, no multiple of 512")
def dir_size_unaligned(p: Patient) -> None:
    p.put(*p.inode("/a"), "di_size", 500)


@damage("inode .* /xtr: mode 170644 is of no known type")
def mode_unknown(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_mode", 0o170644)


@damage("inode 2 /: its entry b'xtr' leads to inode .*, which is not in use")
def inode_zeroed(p: Patient) -> None:
    layout, at = p.inode("/xtr")
    p.data[at : at + layout.size] = bytes(layout.size)


@damage("inode .* /bin: directory entry at byte 12: d_reclen is 7")
def dir_reclen(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 12), "d_reclen", 7)


@damage("inode .* /bin: directory entry at byte 24: d_namlen is 200")
def dir_namlen(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 24), "d_namlen", 200)
    if p.fs.entries == "4.4":  # there the last entry of a chunk has room for any name
        p.put(*p.entry_at("/bin", 24), "d_reclen", 16)
        p.put(*p.entry_at("/bin", 40), "d_reclen", 512 - 40)


@damage("inode .* /bin: its '.' is inode 6")
def dir_dot_wrong_inode(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 0), "d_ino", 6)


@damage("inode .* /bin: its '..' .* inode 6")
def dir_dotdot_wrong_inode(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 12), "d_ino", 6)


@damage("inode .* /bin: its entry .* leads to inode .*, which is not in use")
def dir_entry_free_inode(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 24), "d_ino", p.free_inode())


@damage("inode .* /bin: its entry .* leads to inode 50000; they go from 2 to")
def dir_entry_inode_out_of_range(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 24), "d_ino", 50000)


@damage("inode .*: (a file that no directory names|link count)")
def dir_entry_removed(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 24), "d_ino", 0)


@damage("inode .* /bin: directory entry at byte 24: a '/' in the name")
def dir_name_slash(p: Patient) -> None:
    p.data[p.entry_at("/bin", 24)[1] + 8] = ord("/")


@damage("inode .* /bin: directory entry at byte 24: the name .* is not ended by a NUL")
def dir_name_not_nul_padded(p: Patient) -> None:
    layout, at = p.entry_at("/bin", 24)
    p.data[at + 8 + p.get(layout, at, "d_namlen")] = 0x41


@damage("inode .* /bin: directory entry at byte 24: d_namlen is .*, with a d_reclen", old)
def dir_new_style_type_byte(p: Patient) -> None:
    layout, at = p.entry_at("/bin", 24)
    p.data[at + 6 : at + 8] = struct.pack("BB", 8, p.get(layout, at, "d_namlen"))


@damage("its entry .* is a second name of directory")
def second_name_of_directory(p: Patient) -> None:
    p.put(*p.entry_at("/bin", 24), "d_ino", p.lookup("/etc").ino)


@damage("inode .* /xtr: (the spare words beside its times are not 0|a time with 2000000000 nanoseconds)")
def timestamps_nsec(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_atimensec", 123456 if old(p) else 2_000_000_000)


@damage("inode .* /xtr: di_flags (is 0x1, should be 0|has unknown bits 0x40)")
def inode_flags_word(p: Patient) -> None:
    p.put(*p.inode("/xtr"), "di_flags", 1 if old(p) else 0x40)


@damage("inode .* /xtr: (the high word of its size is 1|di_blocks is)")
def size_high_word(p: Patient) -> None:
    p.add(*p.inode("/xtr"), "di_size", 1 << 32)


@damage("inode .* /vmunix: block .* is at fragment 2147483647, beyond")
def indirect_bad(p: Patient) -> None:
    at = fsbtobyte(p.fs, p.lookup("/vmunix").pointers[12]) + 3 * p.pointer.size
    p.data[at : at + p.pointer.size] = p.pointer.struct.pack(0x7FFFFFFF)
