"""The ledger of a shared group in the order of keys: a key's records are never in two leases.

Each record that was looked at and is not done stands in the line of its key. It may be handed out
when nothing of its key is out, and it is the head of its line or goes out with all before it.
What may not yet is parked; when a key gets free, the head of its line is ready. So a retry that
waits holds up its key and no other. A record without a key has no line.

What is looked at and not done is bounded, and so is what is parked.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from streamer.groups.ledger import RANGES_MAX, Choice, Lease, Ledger, Retry
from streamer.groups.ranges import Ranges, pairs
from streamer.groups.settings import GroupSettings

__all__ = ["LOOKED_AT_MAX", "KeyedLedger"]

#: Records that were looked at and are not done: leased, parked or to be tried again.
LOOKED_AT_MAX = 20_000


class KeyedLedger(Ledger):
    """Leases, retries and parked records by key; retries are of one record each."""

    needs_keys = True

    def __init__(
        self, number: int, settings: Callable[[], GroupSettings], cursor: int, now: float
    ) -> None:
        super().__init__(number, settings, cursor, now)
        #: All below it that is not done was looked at.
        self._next = cursor
        #: The line of each key: offsets that were looked at and are not done, ascending.
        self._lines: dict[bytes, deque[int]] = {}
        #: The keys of what stands in a line.
        self._keys: dict[int, bytes] = {}
        #: Looked at, never handed out.
        self._parked: set[int] = set()
        #: How many records of a key are out.
        self._out: dict[bytes, int] = {}
        #: Offsets that may be ready; whether they are is seen when they come to the top.
        self._ready_heap: list[int] = []
        self._suspects: list[int] = []

    # ------------------------------------------------------------------------------- handing out

    def next_read(self, high_water: int, *, alone: bool) -> int | None:
        top = self._top(self._suspects if alone else self._ready_heap)
        if top is not None:
            return top
        if alone or not self._may_go_on:
            return None
        start = max(self._next, self.cursor)
        return start if start < high_water else None

    @property
    def _may_go_on(self) -> bool:
        return super()._may_go_on and len(self._keys) + len(self._parked) < LOOKED_AT_MAX

    def choose(
        self, first: int, end: int, keys: Sequence[bytes | None] | None, room: int, *, alone: bool
    ) -> Choice | None:
        assert keys is not None, "the order of keys needs them"
        if first <= max(self._next, self.cursor) < end and self._may_go_on:
            self._look_at(first, end, keys)
        heap = self._suspects if alone else self._ready_heap
        head = self._top(heap)
        if head is None or not first <= head < end:
            return None
        failures, since_us = self._history(head)
        bounds = Ranges()
        if alone:
            self._hand_out(head, bounds)
            return Choice(bounds.bounds, failures, since_us, alone=True)
        while room > 0 and head is not None and head < end and len(bounds) < RANGES_MAX:
            if self._history(head)[0] != failures:
                break
            for offset in self._with(head, end, failures, room):
                self._hand_out(offset, bounds)
                room -= 1
            head = self._top(heap)
        return Choice(bounds.bounds, failures, since_us)

    def _with(self, head: int, end: int, failures: int, room: int) -> list[int]:
        """A record, and what stands behind it in its line and may go out in the same lease."""
        key = self._keys.get(head)
        if key is None:
            return [head]
        found: list[int] = []
        for offset in self._lines[key]:
            if offset >= end or len(found) >= room:
                break
            retry = self.retries.get(offset)
            if retry is None:
                fits = not failures
            else:
                fits = retry.failures == failures and retry.tick is None and not retry.suspect
            if not fits:
                break
            found.append(offset)
        return found

    def _history(self, offset: int) -> tuple[int, int | None]:
        """How often it failed, and when it was first handed out."""
        retry = self.retries.get(offset)
        return (retry.failures, retry.since_us) if retry is not None else (0, None)

    def _hand_out(self, offset: int, bounds: Ranges) -> None:
        self.retries.pop(offset, None)
        self._parked.discard(offset)
        key = self._keys.get(offset)
        if key is not None:
            self._out[key] = self._out.get(key, 0) + 1
        bounds.add(offset, offset + 1)

    def _look_at(self, first: int, end: int, keys: Sequence[bytes | None]) -> None:
        """Put the new records of a batch into their lines."""
        start = max(self._next, self.cursor)
        stop = min(end, start + LOOKED_AT_MAX)
        self._next = stop
        for offset in range(start, stop):
            if offset in self.done:
                continue
            if offset not in self.retries:
                self._parked.add(offset)
            key = keys[offset - first]
            if key is not None:
                self._keys[offset] = key
                self._lines.setdefault(key, deque()).append(offset)
            self._offer(offset)

    # ------------------------------------------------------------------------------ what is ready

    def _offer(self, offset: int) -> None:
        """It may be ready."""
        retry = self.retries.get(offset)
        heap = self._suspects if retry is not None and retry.suspect else self._ready_heap
        heapq.heappush(heap, offset)

    def _is_ready(self, offset: int) -> bool:
        if offset >= self._next:
            # A start has found it failed, and has not come by yet.
            return False
        retry = self.retries.get(offset)
        waits = offset not in self._parked if retry is None else retry.tick is not None
        if waits:
            return False
        key = self._keys.get(offset)
        return key is None or (key not in self._out and self._lines[key][0] == offset)

    def _top(self, heap: list[int]) -> int | None:
        while heap:
            if self._is_ready(heap[0]) and self._is_suspect(heap[0]) is (heap is self._suspects):
                return heap[0]
            # It is offered again when that changes.
            heapq.heappop(heap)
        return None

    def _is_suspect(self, offset: int) -> bool:
        retry = self.retries.get(offset)
        return retry is not None and retry.suspect

    def _ready(self, retry: Retry) -> None:
        self._offer(retry.first)

    @property
    def has_suspects(self) -> bool:
        return self._top(self._suspects) is not None

    # ---------------------------------------------------------------------------- what comes back

    def _pieces(self, bounds: Sequence[int]) -> Iterable[tuple[int, int]]:
        return ((offset, offset + 1) for offset in _offsets(bounds))

    def _freed(self, bounds: Sequence[int]) -> None:
        for offset in _offsets(bounds):
            self._leave_line(offset, out=True)

    def _came_back(self, lease: Lease, bounds: Sequence[int]) -> None:
        for offset in _offsets(bounds):
            key = self._keys.get(offset)
            if key is not None:
                self._returned(key)

    def _returned(self, key: bytes) -> None:
        """One of a key's records is not out any more."""
        left = self._out[key] - 1
        if left:
            self._out[key] = left
            return
        del self._out[key]
        line = self._lines.get(key)
        if line:
            self._offer(line[0])

    def _leave_line(self, offset: int, *, out: bool) -> None:
        """A record is done."""
        key = self._keys.pop(offset, None)
        if key is None:
            return
        line = self._lines[key]
        line.remove(offset)
        if not line:
            del self._lines[key]
        if out:
            self._returned(key)
        elif line and key not in self._out:
            self._offer(line[0])

    def skip_to(self, offset: int) -> int:
        lost = super().skip_to(offset)
        out = set(chain.from_iterable(_offsets(lease.bounds) for lease in self.leases.values()))
        for gone in [each for each in (*self._keys, *self._parked) if each < offset]:
            self._parked.discard(gone)
            if gone not in out:
                self._leave_line(gone, out=False)
        return lost

    def load(self, done: list[int], retries: list[list[object]], now: float, now_us: int) -> None:
        super().load(done, retries, now, now_us)
        self._next = self.cursor


def _offsets(bounds: Sequence[int]) -> Iterator[int]:
    return chain.from_iterable(range(first, end) for first, end in pairs(bounds))
