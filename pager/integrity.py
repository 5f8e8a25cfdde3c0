"""What guards a page on its way to the disk and back: BLAKE3, keyed by whose page it is and how often it was written.

Interface:
    page_digest(object_id, page, generation, data) -> 20 bytes

A page of another object, another offset or an older generation has another digest, however good its bytes are: so
misdirected and stale blocks are found as surely as rotten ones (promise P2).  Of its 32 bytes the first 20 are kept:
160 bits are out of chance's reach, and the other 12 pay for the slot -> page map (slots.py).

Not here: where digests are kept (page_map.py); what is done about a mismatch (page_io.py).
"""

from __future__ import annotations

import struct

from blake3 import blake3

_KEY = struct.Struct("<QQQ8s")
DIGEST_BYTES = 20


def page_digest(object_id: int, page: int, generation: int, data: bytes | memoryview) -> bytes:
    """The digest of `data` as the content of that page in that generation."""
    return blake3(data, key=_KEY.pack(object_id, page, generation, b"mach-pgr")).digest(DIGEST_BYTES)
