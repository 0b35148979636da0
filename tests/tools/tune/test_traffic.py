"""What of a run is counted: not the warm-up, not what comes after the end, and every error."""

from __future__ import annotations

import math
import time

import pytest

from streamer.errors import Overloaded
from streamer_tools.tune.traffic import Tally, percentile, warm_up_s


def test_percentiles() -> None:
    times = [float(number) for number in range(1, 101)]
    assert (percentile(times, 0.5), percentile(times, 0.99)) == (50.0, 99.0)
    assert percentile([3.0], 0.99) == 3.0
    assert math.isnan(percentile([], 0.5))


def test_the_warm_up_is_not_counted() -> None:
    now = time.perf_counter()
    tally = Tally(now + 100, now + 101)
    tally.done(now, 5)
    assert (len(tally.latencies_s), tally.records) == (0, 0)
    assert tally.run().failed


def test_what_began_in_time_has_a_latency_and_what_came_in_time_counts() -> None:
    now = time.perf_counter()
    tally = Tally(now - 2, now - 1)
    # Acked after the end: it was waited for, but the time for its throughput was over.
    tally.done(now - 1.5, 5)
    assert len(tally.latencies_s) == 1
    assert tally.records == 0
    tally = Tally(now - 1, now + 100)
    tally.done(now - 1.5, 5)
    assert len(tally.latencies_s) == 0
    assert tally.records == 5


def test_errors_are_counted_and_the_first_is_told() -> None:
    tally = Tally(0.0, 1.0)
    tally.failed(Overloaded("no room"))
    tally.failed(OSError("gone"))
    run = tally.run()
    assert (run.errors, run.fault, run.failed) == (2, "no room", True)


def test_the_time_until_the_last_was_acked_counts() -> None:
    tally = Tally(10.0, 11.0, records=100, acked_until=12.0)
    assert tally.run().records_per_s == pytest.approx(50.0)


def test_a_warm_up_is_short() -> None:
    assert warm_up_s(0.25) == pytest.approx(0.325)
    assert warm_up_s(8.0) == pytest.approx(1.1)
