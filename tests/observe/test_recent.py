"""The difference of a latency between two looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.observe.recent import Recent
from streamer.stats import Latency


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def p99_of(recent: Recent) -> float | None:
    found = recent.look(99.0)
    return None if found is None else found[0]


def test_only_what_is_new_is_told() -> None:
    clock = Clock()
    latency = Latency(clock, 60.0)
    latency.record(5.0)
    recent = Recent(latency)
    assert p99_of(recent) is None
    latency.record(0.01, 100)
    assert p99_of(recent) == pytest.approx(0.01, rel=0.01)
    assert p99_of(recent) is None
    latency.record(0.002)
    assert p99_of(recent) == pytest.approx(0.002, rel=0.01)


def test_one_of_a_hundred_may_be_slow() -> None:
    latency = Latency(Clock(), 60.0)
    recent = Recent(latency)
    latency.record(0.01, 99)
    latency.record(1.0)
    assert p99_of(recent) == pytest.approx(0.01, rel=0.01)
    latency.record(0.01, 98)
    latency.record(1.0, 2)
    assert p99_of(recent) == pytest.approx(1.0, rel=0.01)


def test_a_turn_of_the_window_between_two_looks() -> None:
    clock = Clock()
    latency = Latency(clock, 60.0)
    latency.record(9.0, 10)
    recent = Recent(latency)
    latency.record(0.5)
    clock.now = 61.0
    latency.record(0.1, 3)
    assert p99_of(recent) == pytest.approx(0.5, rel=0.01)
    clock.now = 130.0
    latency.record(0.2)
    assert p99_of(recent) == pytest.approx(0.2, rel=0.01)
    # Idle for long: both histograms were emptied.
    clock.now = 1000.0
    assert latency.summary().count == 0
    assert p99_of(recent) is None
    latency.record(0.3)
    assert p99_of(recent) == pytest.approx(0.3, rel=0.01)


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.0001, 100), max_size=20),
            st.sampled_from([0.0, 0.0, 1.0, 30.0, 61.0]),
        ),
        max_size=20,
    )
)
def test_it_is_what_a_list_would_tell(looks: list[tuple[list[float], float]]) -> None:
    clock = Clock()
    latency = Latency(clock, 60.0)
    recent = Recent(latency)
    for values, forward in looks:
        # Looks are more frequent than turns, so that a look sees one at the most.
        clock.now += forward
        for value in values:
            latency.record(value)
        found = p99_of(recent)
        if values:
            assert found == pytest.approx(max(values), rel=0.02)
        else:
            assert found is None
