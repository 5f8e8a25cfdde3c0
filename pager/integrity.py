"""What guards a page on its way to the disk and back: BLAKE3, keyed by whose page it is and how often it was written.

Interface:
    page_digests(object_id, first_page, generations, data, page_size) -> 20 bytes for each of the pages

A page of another object, another offset or an older generation has another digest, however good its bytes are: so
misdirected and stale blocks are found as surely as rotten ones (promise P2).  Of its 32 bytes the first 20 are kept:
160 bits are out of chance's reach, and the other 12 pay for the slot -> page map (slots.py).

Not here: where digests are kept (page_map.py); what is done about a mismatch (page_io.py).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from blake3 import blake3

_KEY = struct.Struct("<QQQ8s")
_PURPOSE = b"mach-pgr"
DIGEST_BYTES = 20


def page_digests(
    object_id: int, first_page: int, generations: Sequence[int], data: bytes | memoryview, page_size: int
) -> bytes:
    """The digests of `data` as the content of the object's pages from `first_page` on, each in its generation."""
    view, key = memoryview(data), _KEY.pack
    return b"".join(
        [
            blake3(view[at : at + page_size], key=key(object_id, page, generation, _PURPOSE)).digest(DIGEST_BYTES)
            for page, (generation, at) in enumerate(
                zip(generations, range(0, len(data), page_size), strict=True), first_page
            )
        ]
    )
