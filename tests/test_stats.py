"""Stats: same object for the same series, a sliding window, and bounds that hold."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from streamer.stats import OTHER, PERCENTILES, Counter, Gauge, Info, Latency, Stats, _Histogram


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats(clock: Clock) -> Stats:
    return Stats(clock, window_s=10.0)


def series(stats: Stats, name: str) -> Iterator[tuple[dict[str, str], object]]:
    return ((m.labels, m.value) for m in stats.metrics() if m.name == name)


def test_the_same_name_and_labels_give_the_same_object(stats: Stats) -> None:
    one = stats.counter("acks", "acks", stream="a", partition=1)
    one.value += 3
    assert stats.counter("acks", "acks", partition="1", stream="a") is one
    assert stats.counter("acks", "acks", stream="a", partition=2) is not one
    latency = stats.latency("commit_seconds", "commits")
    assert stats.latency("commit_seconds", "commits") is latency
    assert one.value == 3


def test_a_newer_gauge_takes_the_place_of_the_older(stats: Stats) -> None:
    stats.gauge("depth", "depth", lambda: 1.0, stage="a")
    stats.gauge("depth", "depth", lambda: 2.0, stage="a")
    [(labels, gauge)] = series(stats, "depth")
    assert isinstance(gauge, Gauge)
    assert (labels, gauge.read()) == ({"stage": "a"}, 2.0)


def test_metrics_keep_the_series_of_a_name_together(stats: Stats) -> None:
    stats.counter("a", "help of a", x="1")
    stats.counter("b", "help of b")
    stats.counter("a", "help of a", x="2")
    stats.info("build", "facts", version="0.1.0")
    found = [(m.name, m.kind, m.help, m.labels) for m in stats.metrics()]
    assert found[1:] == [
        ("a", "counter", "help of a", {"x": "1"}),
        ("a", "counter", "help of a", {"x": "2"}),
        ("b", "counter", "help of b", {}),
        ("build", "info", "facts", {"version": "0.1.0"}),
    ]
    assert [type(m.value) for m in stats.metrics()] == [Counter] * 4 + [Info]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda stats: stats.counter("a_total", ""),
        lambda stats: stats.latency("a", ""),
        lambda stats: stats.counter("No-Name", ""),
        lambda stats: stats.counter("a", "", Label=1),
        lambda stats: (stats.counter("a", ""), stats.gauge("a", "", lambda: 0.0)),
        lambda stats: (stats.counter("a", "", x=1), stats.counter("a", "", y=1)),
        lambda stats: stats.remove(),
    ],
)
def test_misuse_is_a_programmer_error(stats: Stats, misuse: object) -> None:
    assert callable(misuse)
    with pytest.raises(AssertionError):
        misuse(stats)


# -------------------------------------------------------------------------------------- removal


def test_remove_drops_every_series_that_carries_all_the_labels(stats: Stats) -> None:
    for stream in ("a", "b"):
        for partition in (0, 1):
            stats.counter("bytes", "", stream=stream, partition=partition)
    stats.latency("commit_seconds", "", stream="a")
    assert stats.remove(stream="a", partition=1) == 1
    assert stats.remove(stream="a") == 2
    assert stats.remove(stream="a") == 0
    assert stats.remove(stream="never") == 0
    assert [labels for labels, _ in series(stats, "bytes")] == [
        {"partition": "0", "stream": "b"},
        {"partition": "1", "stream": "b"},
    ]
    assert not list(series(stats, "commit_seconds"))
    assert len(stats) == 3


def test_a_removed_series_begins_anew_and_the_old_object_is_harmless(stats: Stats) -> None:
    old = stats.counter("bytes", "", stream="a")
    stats.remove(stream="a")
    old.value += 5
    assert stats.counter("bytes", "", stream="a").value == 0


def test_removal_leaves_nothing_behind(stats: Stats) -> None:
    before = len(stats)
    for session in range(5_000):
        stats.counter("frames", "", session=session)
        stats.remove(session=session)
    assert len(stats) == before
    assert not stats._by_label


# --------------------------------------------------------------------------------------- bounds


def test_series_above_the_bound_of_a_name_share_one(clock: Clock) -> None:
    stats = Stats(clock, series_per_name_max=3)
    counters = [stats.counter("n", "", client=i) for i in range(10)]
    for counter in counters:
        counter.value += 1
    values = {labels["client"]: value.value for labels, value in series(stats, "n")}  # type: ignore[attr-defined]
    assert values == {"0": 1, "1": 1, "2": 1, OTHER: 7}
    assert stats.counter("n", "", client=1) is counters[1]
    [(_, overflow)] = series(stats, "stats_overflow")
    assert overflow.value == 7  # type: ignore[attr-defined]


def test_the_bound_in_all_holds_over_names_and_removal_makes_room(clock: Clock) -> None:
    stats = Stats(clock, series_max=3)
    stats.counter("a", "", x=1)
    stats.counter("b", "", x=1)
    stats.counter("c", "", x=1)
    assert [labels for labels, _ in series(stats, "c")] == [{"x": OTHER}]
    stats.remove(x=1)
    stats.counter("d", "", x=2)
    assert [labels for labels, _ in series(stats, "d")] == [{"x": "2"}]


def test_a_gauge_above_the_bound_is_not_shown(clock: Clock) -> None:
    stats = Stats(clock, series_per_name_max=1)
    stats.gauge("depth", "", lambda: 1.0, stage="a")
    hidden = stats.gauge("depth", "", lambda: 2.0, stage="b")
    assert hidden.read() == 2.0
    assert [labels for labels, _ in series(stats, "depth")] == [{"stage": "a"}]


# ------------------------------------------------------------------------------------ latencies


def test_percentiles_are_within_one_percent(stats: Stats) -> None:
    latency = stats.latency("commit_seconds", "")
    for milliseconds in range(1, 1001):
        latency.record(milliseconds / 1000)
    seen = latency.summary()
    assert seen.count == latency.count == 1000
    assert latency.total_s == pytest.approx(500.5)
    assert seen.p50_s == pytest.approx(0.5, rel=0.01)
    assert seen.p95_s == pytest.approx(0.95, rel=0.01)
    assert seen.p99_s == pytest.approx(0.99, rel=0.01)
    assert seen.p999_s == pytest.approx(0.999, rel=0.01)
    assert seen.max_s == 1.0
    assert list(seen.quantiles()) == [0.5, 0.95, 0.99, 0.999]


def test_a_latency_that_saw_nothing_is_all_zero(stats: Stats) -> None:
    seen = stats.latency("commit_seconds", "").summary()
    assert (seen.count, seen.p50_s, seen.max_s) == (0, 0.0, 0.0)


def test_odd_values_are_held_to_the_range(stats: Stats) -> None:
    latency = stats.latency("commit_seconds", "")
    latency.record(-1.0)
    latency.record(1e9, times=3)
    seen = latency.summary()
    assert (seen.count, seen.max_s) == (4, 3600.0)
    assert seen.p99_s == 3600.0


def test_values_leave_after_two_windows_and_the_count_stays(stats: Stats, clock: Clock) -> None:
    latency = stats.latency("commit_seconds", "")
    latency.record(5.0)
    clock.now += 10.0
    latency.record(0.001)
    assert (latency.summary().count, latency.summary().max_s) == (2, 5.0)
    clock.now += 10.0
    assert (latency.summary().count, latency.summary().max_s) == (1, 0.001)
    clock.now += 10.0
    assert latency.summary().count == 0
    assert latency.count == 2


def test_a_long_silence_empties_both_windows(stats: Stats, clock: Clock) -> None:
    latency = stats.latency("commit_seconds", "")
    latency.record(5.0)
    clock.now += 1_000.0
    latency.record(0.001)
    assert (latency.summary().count, latency.summary().max_s) == (1, 0.001)


@given(st.lists(st.integers(0, 3_600_000_000), max_size=50))
def test_the_short_way_of_recording_is_the_librarys(values: list[int]) -> None:
    ours, theirs = _Histogram(), HdrHistogram(1, 3_600_000_000, 2)
    for value in values:
        ours.take(value, 2)
        assert theirs.record_value(value, 2)
    assert list(ours.counts) == list(theirs.counts)
    assert (ours.total_count, ours.max_value) == (theirs.total_count, theirs.max_value)


def test_a_latency_is_made_outside_of_a_run_only_with_a_clock_of_its_own() -> None:
    stats = Stats()
    with pytest.raises(RuntimeError):
        stats.latency("commit_seconds", "")


async def test_time_is_trios_by_default(autojump_clock: object) -> None:
    latency = Stats().latency("commit_seconds", "")
    latency.record(0.25)
    assert isinstance(latency, Latency)
    assert latency.summary().max_s == 0.25


def test_percentiles_are_those_of_the_library() -> None:
    rng = random.Random(3)
    for size in (1, 2, 7, 500, 20_000):
        one, other = _Histogram(), _Histogram()
        both = HdrHistogram(1, 3_600 * 1_000_000, 2)
        for histogram, count in ((one, size), (other, rng.choice((0, size)))):
            for _ in range(count):
                value = int(rng.lognormvariate(8, 3))
                histogram.take(value, 1)
                both.record_value(value)
        longest = max(one.max_value, other.max_value)
        values = both.get_percentile_to_value_dict(list(PERCENTILES))
        expected = [min(values[percent], longest) for percent in PERCENTILES]
        assert one.values_at(PERCENTILES, other) == expected


def test_many_at_once_are_each_of_them() -> None:
    clock = Clock()
    one, other = Latency(clock, 60.0), Latency(clock, 60.0)
    seconds = [0.0, 1e-6, 0.0123, 0.5, 3599.0, 3600.0, 9000.0, -1.0]
    for each in seconds:
        one.record(each)
    other.record_since([clock.now - each for each in seconds], clock.now)
    assert one.summary() == other.summary()
    assert one.count == other.count
    assert one.total_s == pytest.approx(other.total_s)
