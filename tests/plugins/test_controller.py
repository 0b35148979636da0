"""The batch size controller: larger under load, smaller when idle or when commits are slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer_plugins.ingest.controller import DECISIONS, PACE, Controller


def make(**changes: float) -> Controller:
    settings = {
        "records_min": 16,
        "records_max": 4096,
        "bytes_max": 512 * 1024,
        "latency_target_s": 0.02,
        **changes,
    }
    return Controller(**settings)  # type: ignore[arg-type]


def full(controller: Controller, nbytes: int = 100) -> None:
    count = controller.count_limit + 1
    controller.closed(count, count * nbytes)


def test_full_groups_and_quick_commits_grow_it_to_its_bound() -> None:
    controller = make()
    decisions = set()
    for _ in range(100):
        full(controller)
        decisions.add(controller.committed(0.001))
    assert controller.count_limit == 4096
    assert decisions == {"grow", "hold"}


def test_a_group_of_just_what_it_may_hold_is_full() -> None:
    """The limit has a fraction, and a group has not."""
    controller = make()
    for _ in range(100):
        count = controller.count_limit
        controller.closed(count, count * 100)
        controller.committed(0.001)
    assert controller.count_limit == 4096


def test_full_groups_that_wait_for_each_other_grow_it_however_slow_they_are() -> None:
    controller = make()
    full(controller)
    assert controller.committed(0.5, behind=3) == "grow"
    assert controller.committed(0.5, behind=0) == "shrink"
    controller.closed(1, 100)
    assert controller.committed(0.5, behind=3) == "hold", "at its bound, and the group was not full"


def test_slow_commits_shrink_it_to_its_bound() -> None:
    controller = make()
    controller.records = 4096.0
    assert controller.committed(0.5) == "shrink"
    for _ in range(100):
        full(controller)
        controller.committed(0.5)
    assert controller.count_limit == 16
    assert controller.committed(0.5) == "hold"


def test_groups_that_are_all_but_empty_let_it_fall_back() -> None:
    controller = make()
    controller.records = 1000.0
    controller.closed(3, 300)
    assert controller.committed(0.001) == "decay"
    assert controller.count_limit == 900


def test_groups_that_are_not_all_but_empty_leave_it_as_it_is() -> None:
    controller = make()
    controller.records = 1000.0
    controller.closed(200, 20_000)
    assert controller.committed(0.001) == "hold"
    assert controller.count_limit == 1000


def test_the_pace_is_that_of_usual_commits() -> None:
    controller = make()
    controller.closed(2, 200)
    assert controller.pace_s == 0
    for _ in range(100):
        controller.committed(0.002)
    controller.committed(5.0)
    assert controller.pace_s == pytest.approx(PACE * 0.0024), "one that hung counts three times"
    controller.closed(1, 100)
    assert controller.pace_s == 0, "it had no company"


def test_bytes_follow_the_measured_record_size_within_the_bound() -> None:
    controller = make()
    for _ in range(100):
        controller.closed(10, 10 * 1000)
    assert controller.bytes_limit == pytest.approx(2 * 16 * 1000, rel=0.01)
    controller.records = 4096.0
    assert controller.bytes_limit == 512 * 1024


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 10)), max_size=50))
def test_it_never_leaves_its_bounds(steps: list[tuple[int, float]]) -> None:
    controller = make()
    for records, latency_s in steps:
        controller.closed(records, records * 50)
        assert controller.committed(latency_s) in DECISIONS
        assert 16 <= controller.count_limit <= 4096
        assert 0 < controller.bytes_limit <= 512 * 1024
