"""Counters, gauges and latencies: small objects that the hot path touches directly.

Rules:

- `Stats` is passed around; there is no global registry. Who counts keeps the object that
  `counter()` gave and adds to its `value`: an attribute, no look-up, no lock.
- All of it belongs to the event loop's thread. A worker thread returns its figures with its result.
- A gauge is a callable that is read when somebody looks, so that nothing is kept up to date twice.
- Names are without prefix and without `_total`: exporters add what their format wants.
- The number of series is bounded, for one name and in all. What comes above the bound is counted
  in one series of its name whose label values are `other`: sums stay right, memory stays bounded.
- `other` is never removed, and a removed object may still be added to; it is just not shown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add
from typing import Literal, NamedTuple, TypeVar

import attrs
import trio
from hdrh.histogram import HdrHistogram

#: Percentiles that a latency reports, in percent.
PERCENTILES = (50.0, 95.0, 99.0, 99.9)
#: Label value of the series that takes what is above a bound.
OTHER = "other"

_MICROSECOND_MAX = 3_600 * 1_000_000
#: Two digits: a percentile is at most 1 % off, and a window takes 27 KB where three take 200.
_DIGITS = 2
_NAME = re.compile(r"[a-z_][a-z0-9_]*")

Kind = Literal["counter", "gauge", "latency", "info"]
Labels = tuple[tuple[str, str], ...]


class Counter:
    """A number that only grows: `counter.value += n`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Gauge:
    """A number that is read when somebody looks."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read


class Info:
    """Facts that do not change while the daemon runs; its labels are the content."""

    __slots__ = ()


@attrs.frozen
class LatencySummary:
    """What a latency looked like in the last one to two windows; seconds."""

    #: In the window; `Latency.count` has those since the start.
    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    p999_s: float
    max_s: float

    def quantiles(self) -> dict[float, float]:
        """Seconds by quantile (0.5, 0.95, 0.99, 0.999)."""
        return {0.5: self.p50_s, 0.95: self.p95_s, 0.99: self.p99_s, 0.999: self.p999_s}


class _Histogram(HdrHistogram):  # type: ignore[misc]
    """Microseconds up to an hour.

    `take` is `record_value` with its four calls in one place, at a third of the time, and it is
    called for each request. `values_at` is `get_percentile_to_value_dict` of two histograms with
    its loop in C: a page that shows twenty of them once a second would cost more than it shows.
    Tests hold each against the library's own.
    """

    max_value: int

    def __init__(self) -> None:
        super().__init__(1, _MICROSECOND_MAX, _DIGITS)

    def take(self, value: int, times: int) -> None:
        half = self.sub_bucket_half_count_magnitude
        bucket = (value | self.sub_bucket_mask).bit_length() - half - 1
        self.counts[(bucket << half) + (value >> bucket)] += times
        self.total_count += times
        if value > self.max_value:
            self.max_value = value

    def take_since(self, starts: Iterable[float], now: float) -> tuple[int, float]:
        """`take` of the time from each start to `now`, in seconds; how many, and their sum.

        One loop without calls, as the first stage takes in every record by itself.
        """
        half, mask = self.sub_bucket_half_count_magnitude, self.sub_bucket_mask
        counts, longest, total_s, times = self.counts, self.max_value, 0.0, 0
        for start in starts:
            seconds = now - start
            total_s += seconds
            times += 1
            value = int(seconds * 1_000_000)
            if value > longest:
                longest = value = min(value, _MICROSECOND_MAX)
            elif value < 0:
                value = 0
            bucket = (value | mask).bit_length() - half - 1
            counts[(bucket << half) + (value >> bucket)] += 1
        self.total_count += times
        self.max_value = longest
        return times, total_s

    def values_at(self, percents: Sequence[float], other: _Histogram) -> list[int]:
        """The values at these percentiles of this one and `other` together, which have some."""
        longest = max(self.max_value, other.max_value)
        half = self.sub_bucket_half_count_magnitude
        bucket = (longest | self.sub_bucket_mask).bit_length() - half - 1
        end = (bucket << half) + (longest >> bucket) + 1
        running = list(accumulate(map(add, self.counts[:end], other.counts[:end])))
        found = []
        for percent in percents:
            wanted = max(1, int(percent / 100 * running[-1] + 0.5))
            value = self.get_value_from_index(bisect_left(running, wanted))
            found.append(min(self.get_highest_equivalent_value(value), longest))
        return found


class Latency:
    """Durations, with percentiles over a sliding window.

    Two histograms take turns: the percentiles cover the running window and the whole one before
    it, so that they never come from just a few values after a turn, and old values leave.
    `count` and `total_s` go on from the start.
    """

    __slots__ = ("_before", "_clock", "_now", "_turn_at", "_window_s", "count", "total_s")

    def __init__(self, clock: Callable[[], float], window_s: float) -> None:
        self.count = 0
        self.total_s = 0.0
        self._clock = clock
        self._window_s = window_s
        self._now = _Histogram()
        self._before = _Histogram()
        self._turn_at = clock() + window_s

    def record(self, seconds: float, times: int = 1, *, now: float | None = None) -> None:
        """Take in a duration (`times` over); below 0 counts as 0, above an hour as an hour.

        `now` is the clock's, from who has looked at it already.
        """
        if (self._clock() if now is None else now) >= self._turn_at:
            self._turn()
        self.count += times
        self.total_s += seconds * times
        self._now.take(min(max(int(seconds * 1_000_000), 0), _MICROSECOND_MAX), times)

    def record_since(self, starts: Iterable[float], now: float) -> None:
        """Take in the time from each of `starts` until `now`, by the clock."""
        if now >= self._turn_at:
            self._turn()
        times, total_s = self._now.take_since(starts, now)
        self.count += times
        self.total_s += total_s

    def summary(self) -> LatencySummary:
        """Percentiles of the window; all 0 when nothing was recorded in it."""
        if self._clock() >= self._turn_at:
            self._turn()
        count = self._before.total_count + self._now.total_count
        if not count:
            return LatencySummary(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        longest = max(self._before.max_value, self._now.max_value)
        values = self._now.values_at(PERCENTILES, self._before)
        p50, p95, p99, p999 = (value / 1_000_000 for value in values)
        return LatencySummary(count, p50, p95, p99, p999, longest / 1_000_000)

    def _turn(self) -> None:
        now = self._clock()
        whole_window_idle = now >= self._turn_at + self._window_s
        self._before, self._now = self._now, self._before
        self._now.reset()
        if whole_window_idle:
            self._before.reset()
        self._turn_at = now + self._window_s


Value = Counter | Gauge | Latency | Info
V = TypeVar("V", Counter, Gauge, Latency, Info)


class Metric(NamedTuple):
    """One series, for exporters."""

    name: str
    kind: Kind
    help: str
    labels: dict[str, str]
    value: Value


@attrs.define
class _Family:
    kind: Kind
    help: str
    label_names: tuple[str, ...]
    series: dict[Labels, Value] = attrs.field(factory=dict)


class Stats:
    """All counters, gauges and latencies of one daemon (or of one client)."""

    def __init__(
        self,
        clock: Callable[[], float] = trio.current_time,
        *,
        window_s: float = 60.0,
        series_max: int = 10_000,
        series_per_name_max: int = 2_000,
    ) -> None:
        """`clock` gives monotonic seconds; it is first asked when a latency is made."""
        self._clock = clock
        self._window_s = window_s
        self._series_max = series_max
        self._series_per_name_max = series_per_name_max
        self._families: dict[str, _Family] = {}
        self._by_label: dict[tuple[str, str], set[tuple[str, Labels]]] = {}
        self._size = 0
        self._overflow = self.counter(
            "stats_overflow", "series not kept apart because there are too many"
        )

    def __len__(self) -> int:
        return self._size

    def counter(self, name: str, help: str, **labels: str | int) -> Counter:
        """The counter of that name and labels, made if need be."""
        assert not name.endswith("_total"), f"{name}: exporters add _total"
        return self._get(name, "counter", help, labels, Counter, Counter)

    def gauge(self, name: str, help: str, read: Callable[[], float], **labels: str | int) -> Gauge:
        """Have `read()` called at each look; the newest `read` of the same series holds.

        A gauge above the bounds is not shown at all: `other` would add up nothing.
        """
        gauge = self._get(name, "gauge", help, labels, Gauge, lambda: Gauge(read), keep=False)
        gauge.read = read
        return gauge

    def latency(self, name: str, help: str, **labels: str | int) -> Latency:
        """The latency of that name and labels, made if need be; names end in `_seconds`."""
        assert name.endswith("_seconds"), f"{name}: latencies end in _seconds"
        return self._get(
            name, "latency", help, labels, Latency, lambda: Latency(self._clock, self._window_s)
        )

    def info(self, name: str, help: str, **labels: str | int) -> None:
        """State facts (version, format, ...) as the labels of a series that is always 1."""
        self._get(name, "info", help, labels, Info, Info)

    def metrics(self) -> Iterator[Metric]:
        """Every series, those of one name together, names in order of their making."""
        for name, family in list(self._families.items()):
            for labels, value in list(family.series.items()):
                yield Metric(name, family.kind, family.help, dict(labels), value)

    def family(self, name: str) -> Iterator[tuple[dict[str, str], Value]]:
        """The series of one name: labels and value."""
        family = self._families.get(name)
        if family is not None:
            for labels, value in list(family.series.items()):
                yield dict(labels), value

    def remove(self, **labels: str | int) -> int:
        """Drop every series that carries all these labels; returns how many there were."""
        assert labels, "remove() without labels would drop everything"
        wanted = [self._by_label.get((key, str(value)), set()) for key, value in labels.items()]
        gone = set.intersection(*wanted)
        for name, key in gone:
            family = self._families[name]
            del family.series[key]
            if not family.series:
                del self._families[name]
            for pair in key:
                self._by_label[pair].discard((name, key))
                if not self._by_label[pair]:
                    del self._by_label[pair]
        self._size -= len(gone)
        return len(gone)

    def _get(
        self,
        name: str,
        kind: Kind,
        help: str,
        labels: dict[str, str | int],
        cls: type[V],
        make: Callable[[], V],
        keep: bool = True,
    ) -> V:
        key: Labels = tuple(sorted((label, str(value)) for label, value in labels.items()))
        family = self._families.get(name)
        if family is None:
            assert _NAME.fullmatch(name), f"{name!r} is no name for a metric"
            assert all(_NAME.fullmatch(label) for label, _ in key), f"{name}: label names of {key}"
            family = _Family(kind, help, tuple(label for label, _ in key))
        assert family.kind == kind, f"{name} is a {family.kind}, not a {kind}"
        names = tuple(label for label, _ in key)
        assert family.label_names == names, f"{name} has labels {family.label_names}, not {names}"
        known = family.series.get(key)
        if known is None and key and self._full(family):
            self._overflow.value += 1
            if not keep:
                return make()
            key = tuple((label, OTHER) for label, _ in key)
            known = family.series.get(key)
        if known is None:
            known = family.series[key] = make()
            self._families[name] = family
            self._size += 1
            for pair in key:
                if pair[1] != OTHER:
                    self._by_label.setdefault(pair, set()).add((name, key))
        assert isinstance(known, cls)
        return known

    def _full(self, family: _Family) -> bool:
        return len(family.series) >= self._series_per_name_max or self._size >= self._series_max
