"""What a file can be in each format: the bounds that differ, in one table.

Interface:
    LIMITS[format] -> Limits
Not here: bounds that follow from a disk's own superblock.

Sources: 4.3BSD sys/h/inode.h, 4.4BSD sys/ufs/ufs/dinode.h, FreeBSD sys/ufs/ufs/dinode.h.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from bootfs.superblock import Format


@dataclass(frozen=True, slots=True)
class Limits:
    """`file_bytes` in one file; user and group numbers up to `identity`; times (seconds since 1970) of `time_bits`.

    Device numbers, packed as FreeBSD packs them, are of `device_bits`.

    `absent` are the types of file that the format lacks, `name` is what it is called in a refusal.
    """

    name: str
    file_bytes: int
    identity: int
    time_bits: int
    device_bits: int
    absent: frozenset[int] = frozenset()

    def time(self, seconds: int) -> int:
        """The nearest time that can be kept."""
        most = 1 << self.time_bits - 1
        return max(min(seconds, most - 1), -most)


_SPECIAL = frozenset((stat.S_IFIFO, stat.S_IFSOCK))
LIMITS: dict[Format, Limits] = {
    "4.3bsd": Limits("4.3BSD", (1 << 31) - 1, 0xFFFF, 32, 16, _SPECIAL),  # off_t is a signed word
    "ufs1": Limits("UFS1", (1 << 63) - 1, 0xFFFFFFFF, 32, 32),
    "ufs2": Limits("UFS2", (1 << 63) - 1, 0xFFFFFFFF, 64, 64),
}
