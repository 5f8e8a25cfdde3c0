"""The tree that is broken: small, and with one of everything that a reader treats in its own way.

Interface: fuzz_tree(shape) -> [Item]
Not here: breaking it (mutate).
"""

from __future__ import annotations

import stat

from fixtures.disks.ffs_image import DIRECT, Item, Shape

DIR, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


def fuzz_tree(shape: Shape) -> list[Item]:
    """Some 20 names, of which a file uses each level of indirection, most of them holes."""
    bs, n = shape.block_size, shape.nindir
    single, double, triple = DIRECT * bs, (DIRECT + n) * bs, (DIRECT + n + n * n) * bs
    levels = [(0, b"direct"), (single + bs, b"single"), (double, b"double")]
    if shape.format != "4.3bsd":
        levels.append((triple, b"triple"))
    paging = tuple((block * bs, b"p%d" % block) for block in range(16))
    return [
        Item(b"dir", DIR),
        Item(b"dir/below", DIR),
        Item(b"dir/below/file", FILE, 700, ((0, b"x" * 700),)),
        Item(b"dir/name", FILE, same_as=b"dir/below/file"),
        Item(b"dir/" + b"n" * 255, FILE, 3, ((0, b"abc"),)),
        Item(b"empty", DIR),
        Item(b"levels", FILE, levels[-1][0] + 100, tuple(levels)),
        Item(b"paging_file", FILE, 16 * bs, paging),
        Item(b"tail", FILE, bs + 5, ((0, b"t" * (bs + 5)),)),
        Item(b"last-hole", FILE, 3 * bs, ((0, b"h"),)),
        Item(b"fast", LINK, target=b"dir/name"),
        Item(b"slow", LINK, target=b"/" * 130 + b"dir/name"),
        Item(b"loop", LINK, target=b"loop"),
        Item(b"null", stat.S_IFCHR | 0o666, rdev=(2, 2)),
        *(Item(b"many%02d" % number, FILE) for number in range(8)),
    ]
