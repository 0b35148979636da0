"""What a latency took in since the last look, without a second histogram on the way of a record.

A `Latency` tells percentiles over one to two minutes. Judged by the second, one slow answer would
make two minutes bad. So the difference of its counts between two looks is taken here: nothing where
nothing is new, and a quarter of a millisecond where something is. It knows how a `Latency` keeps
its histograms: two that take turns.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from math import ceil
from typing import Any

from streamer.stats import Latency


class Recent:
    """Looks at one latency; the first look sees what came since this was made."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._mark()

    def look(self, *percents: float) -> list[float] | None:
        """The percentiles of what came since the last look, in seconds; None if nothing came."""
        latency = self._latency
        if latency.count == self._count:
            return None
        new = _counts(latency._now)
        if latency._turn_at == self._turn_at:
            new = _less(new, self._before)
        elif latency._before is self._histogram and latency._before.total_count >= self._total:
            new = _plus(new, _less(_counts(latency._before), self._before))
        running = list(accumulate(new))
        seconds = [self._at(running, percent) for percent in percents] if running[-1] else None
        self._mark()
        return seconds

    def _at(self, running: list[int], percent: float) -> float:
        """The smallest value that so many in a hundred are not above."""
        index = bisect_left(running, max(1, ceil(percent / 100 * running[-1])))
        value: int = self._histogram.get_value_from_index(index)
        return value / 1_000_000

    def _mark(self) -> None:
        self._histogram: Any = self._latency._now
        self._count = self._latency.count
        self._turn_at = self._latency._turn_at
        self._total = self._histogram.total_count
        self._before = _counts(self._histogram)


def _counts(histogram: Any) -> array[int]:
    return array("Q", bytes(histogram.counts))


def _less(counts: array[int], before: array[int]) -> array[int]:
    if not any(before):
        return counts
    return array("Q", [now - was for now, was in zip(counts, before, strict=True)])


def _plus(counts: array[int], others: array[int]) -> array[int]:
    return array("Q", [one + other for one, other in zip(counts, others, strict=True)])
