"""The ledger of a shared group: any member takes the next records; what is due again goes first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from streamer.groups.ledger import RANGES_MAX, Choice, Ledger, Retry
from streamer.groups.ranges import Ranges
from streamer.groups.settings import GroupSettings

__all__ = ["SharedLedger"]


class SharedLedger(Ledger):
    """Retries that are due by their offsets, suspects apart from the others, then what is new."""

    def __init__(
        self, number: int, settings: Callable[[], GroupSettings], cursor: int, now: float
    ) -> None:
        super().__init__(number, settings, cursor, now)
        #: The lowest offset that was never handed out.
        self._next = cursor
        #: What a start has found done or failed: not new, where `_next` comes by.
        self._known = Ranges()
        self._ready_heap: list[Retry] = []
        self._suspects: list[Retry] = []

    def next_read(self, high_water: int, *, alone: bool) -> int | None:
        heap = self._suspects if alone else self._ready_heap
        top = self._top(heap)
        if top is not None:
            return top.first
        if alone or not self._may_go_on:
            return None
        start = self._first_new()
        return start if start < high_water else None

    def choose(
        self, first: int, end: int, keys: Sequence[bytes | None] | None, room: int, *, alone: bool
    ) -> Choice | None:
        if alone:
            return self._choose_suspect(first, end)
        top = self._top(self._ready_heap)
        if top is not None:
            return self._choose_retries(top, first, end, room)
        return self._choose_new(first, end, room)

    def _choose_suspect(self, first: int, end: int) -> Choice | None:
        top = self._top(self._suspects)
        if top is None or not first <= top.first < end:
            return None
        offset = top.first
        self._take(top, offset + 1)
        return Choice([offset, offset + 1], top.failures, top.since_us, alone=True)

    def _choose_retries(self, top: Retry, first: int, end: int, room: int) -> Choice | None:
        """The retries of the batch that have failed as often as the first of them."""
        if not first <= top.first < end:
            return None
        bounds, failures, since_us = Ranges(), top.failures, top.since_us
        retry: Retry | None = top
        while (
            retry is not None
            and retry.first < end
            and retry.failures == failures
            and room > 0
            and len(bounds) < RANGES_MAX
        ):
            last = min(retry.end, end, retry.first + room)
            bounds.add(retry.first, last)
            room -= last - retry.first
            since_us = min(since_us, retry.since_us)
            self._take(retry, last)
            retry = self._top(self._ready_heap)
        return Choice(bounds.bounds, failures, since_us)

    def _choose_new(self, first: int, end: int, room: int) -> Choice | None:
        start = self._first_new()
        if not first <= start < end:
            return None
        stop = min(end, start + room)
        bounds = self._known.missing(start, stop) if self._known else [start, stop]
        del bounds[2 * RANGES_MAX :]
        self._next = stop if len(bounds) < 2 * RANGES_MAX else bounds[-1]
        return Choice(bounds)

    def _first_new(self) -> int:
        """The first offset that is not known in any way."""
        offset = max(self._next, self.cursor)
        if self._known:
            offset = self._known.past(offset)
            self._known.remove(0, offset)
        self._next = offset
        return offset

    def load(self, done: list[int], retries: list[list[Any]], now: float, now_us: int) -> None:
        super().load(done, retries, now, now_us)
        self._known = self.done.copy()
        for retry in self.retries.values():
            self._known.add(retry.first, retry.end)

    def _take(self, retry: Retry, end: int) -> None:
        """Take the front of a retry that is on top of its heap; the rest stays."""
        heapq.heappop(self._suspects if retry.suspect else self._ready_heap)
        del self.retries[retry.first]
        if end < retry.end:
            retry.first = end
            self.retries[end] = retry
            self._ready(retry)

    def _ready(self, retry: Retry) -> None:
        heapq.heappush(self._suspects if retry.suspect else self._ready_heap, retry)

    def _top(self, heap: list[Retry]) -> Retry | None:
        while heap:
            if self.retries.get(heap[0].first) is heap[0]:
                return heap[0]
            # Retention took it.
            heapq.heappop(heap)
        return None

    @property
    def has_suspects(self) -> bool:
        return self._top(self._suspects) is not None
