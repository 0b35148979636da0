"""A group with a log, a clock and tokens, to be handed out from one lease at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from streamer.groups.group import Group, Member
from streamer.groups.ledger import Failure, Lease, Ledger
from streamer.groups.settings import GroupSettings

EPOCH_US = 1_700_000_000_000_000


class Kit:
    """`batches` are the sizes of each partition's batches, or their records' keys."""

    def __init__(
        self,
        *partitions: Sequence[int | Sequence[bytes | None]],
        cursors: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        self.rng = random.Random(1)
        self.batches = [_batches(each) for each in partitions or [()]]
        told = GroupSettings.of({"backoff_s": [1.0], **settings})
        begins = cursors or [0] * len(self.batches)
        self.group = Group("orders", "billing", told, begins, self.now, self.rng)
        self._token = 0

    @property
    def now_us(self) -> int:
        return EPOCH_US + round(self.now * 1_000_000)

    @property
    def ledger(self) -> Ledger:
        return self.group.ledgers[0]

    def join(self, records_max: int = 1000, bytes_max: int = 10**6, most: int = 0) -> Member:
        number = max(self.group.members, default=0) + 1
        member = Member(number, "", "", records_max, bytes_max, most)
        self.group.join(member)
        return member

    def give(
        self, member: Member, room: int = 1000, *, alone: bool = False, partition: int = 0
    ) -> Lease | None:
        """Hand out what comes next; None if nothing may."""
        ledger, batches = self.group.ledgers[partition], self.batches[partition]
        high_water = batches[-1][1] if batches else 0
        while (offset := ledger.next_read(high_water, alone=alone)) is not None:
            first, end, keys = next(each for each in batches if each[0] <= offset < each[1])
            choice = ledger.choose(first, end, keys, room, alone=alone)
            if choice is not None:
                self._token += 1
                return ledger.lease(self._token, member, choice, 100, self.now, self.now_us)
        return None

    def give_all(self, member: Member, room: int = 1000, *, partition: int = 0) -> list[list[int]]:
        """The bounds of all that goes out."""
        found = []
        while (lease := self.give(member, room, partition=partition)) is not None:
            found.append(list(lease.bounds))
        return found

    def fail(self, lease: Lease, bounds: list[int] | None = None, **failure: Any) -> int:
        why = Failure(**{"error": "no", "at": self.now, "at_us": self.now_us, **failure})
        return lease.ledger.fail(lease, bounds or lease.bounds, why, self.rng)

    def wait(self, seconds: float) -> int:
        """Let time pass; how many leases ran out."""
        self.now += seconds
        ledgers = self.group.ledgers
        return sum(self.group.expire(ledger, self.now, self.now_us) for ledger in ledgers)


def _batches(
    told: Sequence[int | Sequence[bytes | None]],
) -> list[tuple[int, int, Sequence[bytes | None]]]:
    found, first = [], 0
    for each in told:
        keys = [None] * each if isinstance(each, int) else each
        found.append((first, first + len(keys), keys))
        first += len(keys)
    return found
