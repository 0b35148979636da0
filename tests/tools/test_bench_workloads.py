"""What a run sends: exactly the records that were asked for, from the pool in a circle."""

from __future__ import annotations

import pytest

from streamer_tools.bench.workloads import Plan, Watch

POOL = [b"a", b"bb", b"ccc", b"dddd", b"eeeee"]


def plan(records: int, batch: int) -> Plan:
    return Plan("ws://h:1", POOL, records, batch, clients=1, in_flight=1, rate=1.0)


@pytest.mark.parametrize("records", [1, 4, 5, 6, 13])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_are_the_values_in_order(records: int, batch: int) -> None:
    made = plan(records, batch)
    values = list(made.values())
    assert values == [POOL[number % 5] for number in range(records)]
    batches = list(made.batches())
    assert [value for each in batches for value in each] == values
    assert all(len(each) == batch for each in batches[:-1])
    assert made.nbytes() == sum(map(len, values))


def test_a_watch_counts_our_own_cpu() -> None:
    with Watch(None) as watch:
        sum(range(100_000))
    found = watch.measurement(plan(10, 1))
    assert found.seconds > 0
    assert found.client_cpu_s is not None
    assert found.daemon_cpu_s is None
    assert found.nbytes == 30
