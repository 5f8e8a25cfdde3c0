"""Names by which a client hands the right to a memory object to another: whoever knows one may have the right.

Interface:
    secret_name(secret, object_id) -> 28 bytes
    named_object(secret, name) -> the object's number, or None if it is no name of ours

A name is the object's number and a BLAKE3 of it, keyed with what only this pager knows (Amoeba's sparse capabilities:
Tanenbaum, Mullender and van Renesse, 1986).  So there is no table of names to fill up, and a name dies with its object:
numbers are never used again.

Not here: who may ask for one (whoever has a right: the question goes to the object's port).
"""

from __future__ import annotations

import hmac
import struct

from blake3 import blake3

_NUMBER = struct.Struct("<Q")
PROOF_BYTES = 20


def secret_name(secret: bytes, object_id: int) -> bytes:
    number = _NUMBER.pack(object_id)
    return number + blake3(number, key=secret).digest(PROOF_BYTES)


def named_object(secret: bytes, name: bytes) -> int | None:
    (object_id,) = _NUMBER.unpack_from(name)
    return object_id if hmac.compare_digest(name, secret_name(secret, object_id)) else None
