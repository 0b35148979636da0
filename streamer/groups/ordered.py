"""The ledger of an ordered group: one member owns the partition, and records come in their order.

When a record fails or is given back, the partition goes back to it: leases of what follows are
taken from the owner, without counting, and come again after it. What its own lease still has is
the member's to settle, and nothing goes out before that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamer.groups.ledger import Choice, Lease, Ledger, Retry
from streamer.groups.ranges import pairs
from streamer.groups.settings import GroupSettings

if TYPE_CHECKING:
    from streamer.groups.group import Member

__all__ = ["OrderedLedger"]


class OrderedLedger(Ledger):
    """One owner; `_next` is the lowest offset that is neither done nor leased."""

    def __init__(
        self, number: int, settings: Callable[[], GroupSettings], cursor: int, now: float
    ) -> None:
        super().__init__(number, settings, cursor, now)
        self.owner: Member | None = None
        #: It is to go to another member once nothing of it is out.
        self.moving = False
        self._next = cursor
        #: Something of it came back; what it still has may be behind that.
        self._rest: Lease | None = None

    def next_read(self, high_water: int, *, alone: bool) -> int | None:
        start = self._place()
        if start is None:
            return None
        retry = self.retries.get(start)
        if retry is not None:
            return start if _is_ready(retry, alone=alone) else None
        return start if start < high_water and not alone and self._may_go_on else None

    def choose(
        self, first: int, end: int, keys: Sequence[bytes | None] | None, room: int, *, alone: bool
    ) -> Choice | None:
        start = self._place()
        if start is None or not first <= start < end:
            return None
        retry = self.retries.get(start)
        if retry is not None:
            return self._choose_retry(retry, min(end, start + room), alone=alone)
        if alone:
            return None
        # Up to what is known already.
        stop = min(end, start + room, *(first for first in self.retries if first > start))
        stop = self.done.missing(start, stop)[1]
        self._next = stop
        return Choice([start, stop])

    def _choose_retry(self, retry: Retry, stop: int, *, alone: bool) -> Choice | None:
        if not _is_ready(retry, alone=alone):
            return None
        start = retry.first
        stop = start + 1 if alone else min(stop, retry.end)
        del self.retries[start]
        if stop < retry.end:
            retry.first = stop
            self.retries[stop] = retry
        self._next = stop
        return Choice([start, stop], retry.failures, retry.since_us, alone)

    def _place(self) -> int | None:
        """Where it goes on; None if nothing may go out for now."""
        if self.owner is None or self.moving:
            return None
        # Past what is done: an earlier owner may have acked out of turn.
        self._next = self.done.past(max(self._next, self.cursor))
        waits = self._rest is not None and self._rest.bounds and self._rest.bounds[-1] > self._next
        return None if waits else self._next

    def _came_back(self, lease: Lease, bounds: Sequence[int]) -> None:
        """Hand out from there on again: take back the leases behind it."""
        if not bounds:
            return
        self._rest = lease
        self._next = min(self._next, bounds[0])
        for each in list(self.leases.values()):
            if each is not lease and each.bounds[0] > bounds[0]:
                behind, history = each.bounds, (each.failures, 0, False, "", each.since_us)
                self._drop(each)
                for first, end in pairs(behind):
                    self.retries[first] = Retry(first, end, *history)

    def _ready(self, retry: Retry) -> None:
        """It is found where the partition stands."""

    @property
    def has_suspects(self) -> bool:
        return self.next_read(0, alone=True) is not None

    def load(self, done: list[int], retries: list[list[Any]], now: float, now_us: int) -> None:
        super().load(done, retries, now, now_us)
        self._next = self.cursor


def _is_ready(retry: Retry, *, alone: bool) -> bool:
    return retry.tick is None and retry.suspect is alone
