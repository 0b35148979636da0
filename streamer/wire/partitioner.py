"""Which partition a key belongs to: stable for ever, the same in every language.

Rules: CRC-32C of the key (the checksum that batches use anyway), spread over the partitions by
multiply and shift, which needs no division and wastes no range. Changing it would break the order
of every key, so `PROTOCOL.md` fixes it with test vectors.
"""

from __future__ import annotations

import crc32c

__all__ = ["partition_for"]


def partition_for(key: bytes, partitions: int) -> int:
    """The partition, 0 up to but not including `partitions` (at least 1), of `key`."""
    assert partitions >= 1, "a stream has at least one partition"
    crc: int = crc32c.crc32c(key)
    return (crc * partitions) >> 32
