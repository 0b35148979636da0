"""What a run sends: exactly the records that were asked for, from the pool in a circle."""

from __future__ import annotations

import pytest

from streamer_tools.bench.watch import Times, Watch
from streamer_tools.bench.workloads.records import RecordSettings, Values

POOL = [b"a", b"bb", b"ccc", b"dddd", b"eeeee"]


@pytest.mark.parametrize("records", [1, 4, 5, 6, 13])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_are_the_values_in_order(records: int, batch: int) -> None:
    made = Values(POOL, records)
    values = list(made)
    assert values == [POOL[number % 5] for number in range(records)]
    batches = list(made.batches(batch))
    assert [value for each in batches for value in each] == values
    assert all(len(each) == batch for each in batches[:-1])
    assert made.nbytes == sum(map(len, values))


def test_no_batch_holds_a_line_twice() -> None:
    values = Values.of(RecordSettings(records=100), 300)
    [first, *_] = Values.of(RecordSettings(records=1000), 300).batches(300)
    assert len(set(first)) == 300
    assert len(list(values)) == 100


def test_a_watch_counts_our_own_cpu() -> None:
    with Watch(None) as watch:
        sum(range(100_000))
    found = watch.measurement(10, 30)
    assert found.seconds > 0
    assert found.client_cpu_s is not None
    assert found.daemon_cpu_s is None
    assert found.nbytes == 30


def test_times_stand_on_the_line_of_their_watch() -> None:
    watch = Watch(None)
    times = Times(watch)
    with watch:
        times.add(watch.began)
        times.add(watch.began)
    assert 0 <= times.at_s[0] <= times.at_s[1] <= watch.seconds
    assert list(times.latencies_s) == list(times.at_s)
