"""Which partition a key belongs to: stable for ever, the same in every language.

Rules: CRC-32C of the key (the checksum that batches use anyway), mixed by an odd constant, since
the checksum is linear and keys of one form (`user17@example.org`) differ in few of its bits, and
spread over the partitions by multiply and shift, which needs no division and wastes no range.
Changing it would break the order of every key, so `PROTOCOL.md` fixes it with test vectors.
"""

from __future__ import annotations

import crc32c

__all__ = ["partition_for"]

#: 2^32 by the golden ratio, odd: Knuth's multiplicative hashing.
_MIX = 0x9E3779B1


def partition_for(key: bytes, partitions: int) -> int:
    """The partition, 0 up to but not including `partitions` (at least 1), of `key`."""
    assert partitions >= 1, "a stream has at least one partition"
    mixed = crc32c.crc32c(key) * _MIX & 0xFFFFFFFF
    return (mixed * partitions) >> 32
