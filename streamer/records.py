"""Records, receipts and the few words that programs use about them."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs


class AckLevel(enum.StrEnum):
    """What an ack promises: in memory, on the disk, or on a majority of disks."""

    ACCEPTED = "accepted"
    SYNCED = "synced"
    QUORUM = "quorum"


class Lane(enum.StrEnum):
    """How ingest treats a single record: `high` goes at once, `normal` is grouped."""

    NORMAL = "normal"
    HIGH = "high"


@attrs.frozen
class Record:
    """One value with what belongs to it.

    `timestamp_us` is in microseconds since 1970 UTC and is the producer's; `deliver_at_us`
    (same unit) is when it becomes due, None for at once.
    """

    value: bytes
    key: bytes | None = None
    timestamp_us: int | None = None
    headers: Mapping[str, bytes] | None = None
    deliver_at_us: int | None = None

    @property
    def nbytes(self) -> int:
        """Size for limits and credit: payload bytes plus a small allowance for the rest."""
        size = len(self.value) + 16
        if self.key is not None:
            size += len(self.key)
        if self.headers:
            size += sum(len(name) + len(value) for name, value in self.headers.items())
        return size


@attrs.frozen
class ProducerStamp:
    """Who wrote it, for idempotence: sequences run on across epochs, an epoch only fences."""

    producer_id: int
    epoch: int
    sequence: int


@attrs.frozen
class Receipt:
    """A committed append: `count` records of `partition` from `offset` on, at `level`.

    `duplicate` says that they had been committed before; offset is the original one, or -1 where
    the partition no longer remembers it.
    """

    stream: str
    partition: int
    offset: int
    count: int
    level: AckLevel
    duplicate: bool = False
