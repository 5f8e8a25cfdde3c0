"""Writes docs/formats.md: each structure on disk drawn with its offsets, from the construct definitions themselves.

Interface:
    python docs/make_formats.py [--check]    write the page; or only say (exit 1) whether it is out of date
    page() -> str

Not here: the definitions (bootfs/layout*.py, mach/boot_image).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bootfs import layout, layout_ext2, layout_labels
from bootfs.layout_format import Record, record

PAGE = Path(__file__).parent / "formats.md"
TYPES = {
    "B": "u8", "b": "i8", "H": "u16", "h": "i16", "I": "u32", "L": "u32", "i": "i32", "l": "i32",
    "Q": "u64", "q": "i64",
}  # fmt: skip
WIDTHS = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8}
ROW = 16  # bytes in a row of a drawing
DRAWN = 256  # bytes up to which a structure is drawn as well as listed
CELL = 7  # characters that one byte is wide in a drawing
HEAD = """# The formats

Generated from the definitions in `bootfs/layout*.py` by `docs/make_formats.py`; a test keeps it current.

Where things lie on a 4.2/4.3BSD or UFS file system (fragments of `fs_fsize` bytes, counted from its start):

    byte 0        8192                                           cylinder group 0                       group 1 ...
    +-----------+-----------+----------------------------------------------------------------------+--------
    | boot      | superblock| copy of the | struct cg | inodes     | data: files, directories,      | (data)
    | block     | (64K ufs2)| superblock  |           | fs_ipg     | indirect blocks; the summary   | copy ...
    +-----------+-----------+----------------------------------------------------------------------+--------
                             fs_sblkno     fs_cblkno   fs_iblkno    fs_dblkno, in each group after cgstart(cg)

    an inode's pointers      di_db[0..11]   blocks 0 - 11
    (0: a hole)              di_ib[0] -> [ fs_nindir pointers ]                      single indirect
                             di_ib[1] -> [ ] -> [ fs_nindir pointers ]               double
                             di_ib[2] -> [ ] -> [ ] -> [ fs_nindir pointers ]        triple

    a directory              chunks of 512 bytes, crossed by no entry; the last entry's d_reclen reaches the chunk's end
    | d_ino | d_reclen | d_type, d_namlen | name, NUL padded to 4 |  next entry ...                      |

Offsets and sizes are bytes. Numbers are in the byte order of the machine that made the disk, except where one is named.
"""
SECTIONS: list[tuple[str, list[tuple[str, Any, str]]]] = [
    ("Superblock", [
        ("struct fs, 4.2 and 4.3BSD", layout.superblock("little", "4.3"), "At byte 8192; magic 0x011954."),
        ("struct fs, UFS1 (4.4BSD)", layout.superblock("little", "4.4"), "At byte 8192; magic 0x011954."),
        ("struct fs, UFS2", layout.superblock("little", "ufs2"), "At byte 65536; magic 0x19540119."),
        ("struct csum", layout.csum("little"), "One for each group from fs_csaddr; fs_cstotal is their sum."),
        ("struct csum_total, UFS2", layout.csum_total("little"), ""),
        ("Solaris in struct fs", layout.sun_masks("little"), f"At its byte {layout.SUN_MASKS_AT}."),
        ("NetBSD in struct fs", layout.netbsd_inodes("little"), f"At its byte {layout.NETBSD_INODES_AT}."),
    ]),
    ("Cylinder group", [
        ("struct cg, 4.2 and 4.3BSD", layout.cylinder_group("little", "4.3"), "Then cg_free, fs_fpg bits."),
        ("struct cg, UFS1", layout.cylinder_group("little", "4.4"), "Then the maps, at the offsets that it gives."),
        ("struct cg, UFS2", layout.cylinder_group("little", "ufs2"), "Then the maps, at the offsets that it gives."),
    ]),
    ("Inode", [
        ("struct dinode, 4.2BSD to UFS1", layout.dinode("little", "4.4"), "A short link's text is in di_db and di_ib."),
        ("struct ufs2_dinode", layout.dinode("little", "ufs2"), "A short link's text is in di_db and di_ib."),
        ("struct extattr", layout.extattr_header("little"), "In the blocks of di_extb; then the name, then contents."),
    ]),
    ("Directory entry", [
        ("struct direct, 4.2 and 4.3BSD", layout.directory_header("little", "4.3"), "Then the name."),
        ("struct direct, 4.4BSD and UFS2", layout.directory_header("little", "4.4"), "Then the name."),
    ]),
    ("Partition tables", [
        ("MBR entry", layout_labels.mbr_entry(), "Four, from byte 446 of sector 0; little endian."),
        ("GPT header", layout_labels.gpt_header(), "In sector 1, and again in the last; little endian."),
        ("GPT entry", layout_labels.gpt_entry(), ""),
        ("struct disklabel", layout_labels.disklabel("little"), "In sector 0 or 1; then d_npartitions partitions."),
        ("struct partition", layout_labels.disklabel_partition("little"), ""),
        ("Sun struct dk_label", layout_labels.sun_label(), "Sector 0; big endian."),
        ("NeXT struct disk_label", layout_labels.next_label(), "Big endian; then eight partitions."),
        ("struct disklabel64 (DragonFly)", layout_labels.disklabel64(), "At byte 512; then its partitions."),
        ("struct partition64", layout_labels.disklabel64_partition(), ""),
        ("Solaris x86 struct dk_label", layout_labels.vtoc(), "In sector 1 of its slice."),
        ("Solaris x86 struct dkl_partition", layout_labels.vtoc_partition(), ""),
        ("Apple partition map entry", layout_labels.apple_partition(), "One a block, from block 1 on."),
        ("NeXT struct partition", layout_labels.next_partition(), ""),
    ]),
    ("ext2", [
        ("Superblock", layout_ext2.superblock(), "At byte 1024; little endian, as all of ext2."),
        ("Group descriptor", layout_ext2.group_descriptor(), ""),
        ("Inode", layout_ext2.inode(), ""),
        ("Directory entry", layout_ext2.directory_header(True), "Then the name."),
    ]),
]  # fmt: skip


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for title, structures in SECTIONS:
        parts.append(f"\n## {title}\n")
        parts += [structure(name, record(form), words) for name, form, words in structures]
    return "".join(parts)


def structure(name: str, form: Record, words: str) -> str:
    """A heading, a drawing if it is small, and the list of fields."""
    text = f"\n### {name}\n\n{form.size} bytes. {words}".rstrip() + "\n"
    if form.size <= DRAWN:
        text += "\n" + "".join(f"    {line}\n" for line in drawing(form))
    rows = [(f"{at}", f"{at:#x}", kind, field) for at, _, kind, field in fields(form)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    text += "\n```\n"
    for offset, hexadecimal, kind, field in rows:
        text += f"{offset:>{widths[0]}}  {hexadecimal:>{widths[1]}}  {kind:<{widths[2]}}  {field}\n"
    return text + "```\n"


def fields(form: Record) -> Iterator[tuple[int, int, str, str]]:
    """Offset, bytes, type and name of each field; fields alike that follow each other stay apart."""
    for field in form.fields:
        at = form.offset_of(field.name)
        name = field.name or "(one number)"
        if field.code == "s":
            yield at, field.count or 1, f"byte[{field.count}]", name
            continue
        kind = TYPES[field.code]
        count = field.count or 1
        yield at, WIDTHS[kind] * count, kind if field.count is None else f"{kind}[{field.count}]", name


def drawing(form: Record) -> Iterator[str]:
    """Rows of 16 bytes, as tables in the headers of protocols are drawn."""
    yield " " * 6 + "".join(f"{byte:<{CELL}}" for byte in range(ROW)).rstrip()
    cells = list(_cells(form))
    yield _rule(0, cells)
    for row in range(0, form.size, ROW):
        line = f"{row:4} |"
        for begin, end, name in cells:
            if row <= begin < row + ROW:
                line += f"{name[: (end - begin) * CELL - 1]:^{(end - begin) * CELL - 1}}|"
        yield line
        yield _rule(row, cells)


def _cells(form: Record) -> Iterator[tuple[int, int, str]]:
    """First byte, byte after the last and name of every stretch of a field that is in one row."""
    for at, size, _, name in fields(form):
        begin, first = at, True
        while begin < at + size:
            end = min(at + size, begin - begin % ROW + ROW)
            yield begin, end, name if first else '"'
            begin, first = end, False


def _rule(row: int, cells: list[tuple[int, int, str]]) -> str:
    used = min(ROW, max(end for _, end, _ in cells) - row)
    return " " * 5 + "+" + ("-" * (CELL - 1) + "+") * used


def main() -> int:
    """Write it, or compare."""
    text = page()
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
