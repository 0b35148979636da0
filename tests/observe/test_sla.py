"""Service levels: what counts, what is bad, how fast the budget goes, what is kept."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import errors
from streamer.config_sla import SlaConfig
from streamer.observe.ring import Ring
from streamer.observe.sla import ASKERS_CODES, NAMES, Sample, Sla, sla_metrics
from streamer.stats import Gauge, Stats

GOOD = Sample(
    append_p99_s=0.01,
    records_per_s=1000.0,
    errors=0,
    answers=100,
    healthy=True,
    lag_age_s=1.0,
    pending=True,
)
SLOW = attrs.evolve(GOOD, append_p99_s=0.5)
IDLE = attrs.evolve(
    GOOD, append_p99_s=0.0, records_per_s=0.0, answers=0, lag_age_s=None, pending=False
)
DOWN = attrs.evolve(GOOD, healthy=False)
ALL = SlaConfig(
    latency_p99_s=0.1,
    throughput_min=500.0,
    error_rate_max=0.01,
    availability_min=0.999,
    lag_age_max_s=60.0,
)


class Daemon:
    """An `Sla` and its clock."""

    def __init__(self, config: SlaConfig) -> None:
        self.now = 1000.0
        self.sla = Sla(config, lambda: self.now)

    def run(self, sample: Sample, seconds: int = 1) -> Daemon:
        for _ in range(seconds):
            self.now += 1
            self.sla.tick(sample)
        return self

    def objective(self, name: str) -> dict[str, Any]:
        doc = self.sla.doc()
        assert doc is not None
        [found] = [each for each in doc["objectives"] if each["name"] == name]
        return found


def test_without_an_objective_there_is_nothing_to_tell() -> None:
    daemon = Daemon(SlaConfig()).run(GOOD)
    assert daemon.sla.doc() is None
    assert daemon.sla.names == ()


def test_all_objectives_in_their_order() -> None:
    doc = Daemon(ALL).run(GOOD, 10).sla.doc()
    assert doc is not None
    assert (doc["met"], doc["since_s"]) == (True, 10)
    assert tuple(each["name"] for each in doc["objectives"]) == NAMES
    assert [each["unit"] for each in doc["objectives"]] == ["s", "records/s", "share", "share", "s"]
    assert [each["now"] for each in doc["objectives"]] == [0.01, 1000.0, 0.0, 1.0, 1.0]
    assert all(each["ok"] and each["met"] for each in doc["objectives"])
    assert all(each["compliance"] == each["budget_left"] == 1.0 for each in doc["objectives"])


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("latency_p99", {"append_p99_s": 0.11}),
        ("throughput", {"records_per_s": 499.0}),
        ("availability", {"healthy": False}),
        ("lag_age", {"lag_age_s": 60.1}),
    ],
)
def test_a_bad_second(name: str, bad: dict[str, Any]) -> None:
    daemon = Daemon(ALL).run(GOOD, 3).run(attrs.evolve(GOOD, **bad))
    found = daemon.objective(name)
    assert (found["ok"], found["counted"], found["bad"]) == (False, 4, 1)
    assert found["compliance"] == 0.75
    others = [each for each in NAMES if each != name]
    assert all(daemon.objective(other)["bad"] == 0 for other in others)


@pytest.mark.parametrize(
    "sample",
    [
        attrs.evolve(GOOD, append_p99_s=0.1),
        attrs.evolve(GOOD, records_per_s=500.0),
        attrs.evolve(GOOD, lag_age_s=60.0),
    ],
)
def test_the_limit_itself_is_kept(sample: Sample) -> None:
    doc = Daemon(ALL).run(sample).sla.doc()
    assert doc is not None
    assert all(each["bad"] == 0 and each["ok"] for each in doc["objectives"])


def test_an_idle_second_counts_only_for_availability() -> None:
    daemon = Daemon(ALL).run(SLOW).run(IDLE, 99)
    assert daemon.objective("latency_p99")["counted"] == 1
    assert daemon.objective("latency_p99")["compliance"] == 0.0
    assert daemon.objective("throughput")["counted"] == 1
    assert daemon.objective("error_rate")["counted"] == 100
    assert daemon.objective("lag_age")["counted"] == 1
    assert daemon.objective("availability")["counted"] == 100
    for name in ("latency_p99", "throughput", "error_rate", "lag_age"):
        assert (daemon.objective(name)["now"], daemon.objective(name)["ok"]) == (None, True)


def test_what_waits_and_is_not_answered_is_bad_as_soon_as_it_waits_too_long() -> None:
    stuck = attrs.evolve(GOOD, records_per_s=0.0, answers=0)
    daemon = Daemon(ALL)
    for second in range(10):
        daemon.run(attrs.evolve(stuck, append_p99_s=second * 0.05))
    assert daemon.objective("latency_p99")["bad"] == 7
    assert daemon.objective("throughput")["bad"] == 10


def test_pending_without_a_latency_to_tell_does_not_count_for_it() -> None:
    daemon = Daemon(ALL).run(attrs.evolve(GOOD, append_p99_s=None))
    assert daemon.objective("latency_p99")["counted"] == 0


def test_errors_are_counted_by_answers_not_by_seconds() -> None:
    quiet = attrs.evolve(GOOD, answers=1, errors=1)
    busy = attrs.evolve(GOOD, answers=9999, errors=0)
    daemon = Daemon(ALL).run(quiet).run(busy)
    found = daemon.objective("error_rate")
    assert (found["counted"], found["bad"], found["met"]) == (10_000, 1, True)
    assert found["objective"] == 0.99
    assert found["burn_5m"] == pytest.approx(0.01)
    daemon.run(attrs.evolve(GOOD, answers=1000, errors=1000))
    assert daemon.objective("error_rate")["now"] == 1.0
    assert daemon.objective("error_rate")["met"] is False


def test_codes_of_the_asker_are_codes_that_there_are() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    known = {each.code for each in classes if issubclass(each, errors.StreamerError)}
    assert known >= ASKERS_CODES
    ours = {"timed_out", "outcome_unknown", "overloaded", "disk_full", "pipeline_down", "refused"}
    assert not ours & ASKERS_CODES


def test_more_errors_than_answers_are_not_below_nothing() -> None:
    daemon = Daemon(ALL).run(attrs.evolve(GOOD, answers=1, errors=5))
    assert daemon.objective("error_rate")["compliance"] == 0.0


# ------------------------------------------------------------------------------ budget and burn


def test_burn_is_one_where_just_what_is_allowed_is_bad() -> None:
    # 1 of 100 seconds may be bad.
    daemon = Daemon(ALL)
    for _ in range(40):
        daemon.run(SLOW).run(GOOD, 99)
    found = daemon.objective("latency_p99")
    assert found["burn_1h"] == pytest.approx(1.0, abs=0.05)
    assert found["budget_left"] == pytest.approx(0.0)
    assert found["met"] is True
    assert daemon.run(SLOW).objective("latency_p99")["met"] is False
    assert daemon.objective("latency_p99")["budget_left"] < 0


def test_the_short_burn_ends_soon_and_the_long_one_later() -> None:
    daemon = Daemon(ALL).run(GOOD, 3600).run(SLOW, 60)
    found = daemon.objective("latency_p99")
    assert found["burn_5m"] == pytest.approx(100 * 60 / 300, rel=0.05)
    assert found["burn_1h"] == pytest.approx(100 * 60 / 3600, rel=0.05)
    daemon.run(GOOD, 311)
    found = daemon.objective("latency_p99")
    assert found["burn_5m"] == 0.0
    assert found["burn_1h"] == pytest.approx(100 * 60 / 3600, rel=0.05)
    assert daemon.run(GOOD, 3600).objective("latency_p99")["burn_1h"] == 0.0
    assert daemon.objective("latency_p99")["bad"] == 60


def test_the_window_forgets() -> None:
    daemon = Daemon(attrs.evolve(ALL, window_s=300.0)).run(SLOW, 100)
    assert daemon.objective("latency_p99")["met"] is False
    found = daemon.run(GOOD, 400).objective("latency_p99")
    assert (found["bad"], found["met"], found["compliance"]) == (0, True, 1.0)
    assert 300 <= found["counted"] <= 360
    assert found["since_s"] == 500


def test_a_share_that_may_all_be_bad_has_no_budget_to_use() -> None:
    daemon = Daemon(SlaConfig(error_rate_max=1.0)).run(attrs.evolve(GOOD, errors=100))
    found = daemon.objective("error_rate")
    assert (found["met"], found["burn_5m"], found["budget_left"]) == (True, 1.0, 0.0)


# -------------------------------------------------------------------------------------- clocks


def test_seconds_without_a_tick_are_unavailable_and_nothing_else() -> None:
    daemon = Daemon(ALL).run(GOOD, 10)
    daemon.now += 20
    daemon.run(GOOD)
    found = daemon.objective("availability")
    assert (found["counted"], found["bad"], found["ok"]) == (31, 20, True)
    assert daemon.objective("latency_p99")["counted"] == 11
    assert daemon.objective("latency_p99")["since_s"] == 31


def test_who_looks_while_the_ticks_hang_sees_it() -> None:
    daemon = Daemon(ALL).run(GOOD, 10)
    daemon.now += 1.4
    assert daemon.objective("availability")["bad"] == 0
    daemon.now += 18.2
    assert daemon.objective("availability")["bad"] == 19
    stats = Stats()
    sla_metrics(stats, daemon.sla)
    daemon.now += 10
    assert gauges(stats)["sla_compliance", "availability"] == pytest.approx(10 / 39)
    daemon.run(GOOD)
    found = daemon.objective("availability")
    assert (found["counted"], found["bad"], found["since_s"]) == (41, 30, 41)


def test_a_tick_that_is_a_little_late_is_on_time() -> None:
    daemon = Daemon(ALL)
    for late in (0.3, -0.3, 0.45, -0.45, 0.002) * 20:
        daemon.now += late
        daemon.run(GOOD)
    found = daemon.objective("availability")
    assert (found["counted"], found["bad"]) == (100, 0)


def test_a_clock_that_jumps() -> None:
    daemon = Daemon(ALL).run(GOOD, 100)
    daemon.now -= 50
    daemon.run(GOOD)
    assert daemon.objective("availability")["counted"] == 101
    daemon.now += 400 * 86_400.0
    daemon.run(GOOD)
    found = daemon.objective("availability")
    assert found["bad"] == found["counted"] - 1
    assert 86_400 <= found["counted"] <= 86_400 + 60
    assert found["burn_1h"] == pytest.approx(1000, rel=0.01)
    assert daemon.objective("latency_p99")["counted"] == 1


# -------------------------------------------------------------------------------------- reload


def test_a_reload_keeps_what_did_not_change() -> None:
    daemon = Daemon(ALL).run(attrs.evolve(SLOW, healthy=False), 10)
    daemon.sla.apply(attrs.evolve(ALL, latency_p99_s=1.0, lag_age_max_s=0.0))
    assert daemon.sla.names == ("latency_p99", "throughput", "error_rate", "availability")
    fresh = daemon.run(SLOW).objective("latency_p99")
    assert (fresh["limit"], fresh["counted"], fresh["bad"], fresh["since_s"]) == (1.0, 1, 0, 1)
    assert daemon.objective("availability")["bad"] == 10
    assert daemon.objective("throughput")["counted"] == 11


def test_a_changed_share_judges_the_same_history() -> None:
    daemon = Daemon(ALL).run(DOWN, 5).run(GOOD, 95)
    assert daemon.objective("availability")["met"] is False
    daemon.sla.apply(attrs.evolve(ALL, availability_min=0.9, objective=0.5))
    found = daemon.objective("availability")
    assert (found["met"], found["bad"], found["objective"]) == (True, 5, 0.9)
    assert found["budget_left"] == pytest.approx(0.5)
    assert daemon.objective("latency_p99")["objective"] == 0.5


def test_a_changed_window_keeps_what_fits_into_it() -> None:
    daemon = Daemon(ALL).run(SLOW, 3600).run(GOOD, 600)
    daemon.sla.apply(attrs.evolve(ALL, window_s=300.0))
    found = daemon.objective("latency_p99")
    assert (found["bad"], found["window_s"]) == (0, 300.0)
    assert 240 <= found["counted"] <= 360
    daemon.sla.apply(attrs.evolve(ALL, window_s=7200.0))
    assert 240 <= daemon.objective("latency_p99")["counted"] <= 360
    assert daemon.run(GOOD, 7000).objective("latency_p99")["counted"] >= 7200


def test_the_same_configuration_again_changes_nothing() -> None:
    daemon = Daemon(ALL).run(SLOW, 5)
    before = daemon.sla.doc()
    daemon.sla.apply(attrs.evolve(ALL))
    assert daemon.sla.doc() == before


# -------------------------------------------------------------------------------------- memory


def test_thirty_days_of_all_objectives_stay_small() -> None:
    tracemalloc.start()
    try:
        daemon = Daemon(attrs.evolve(ALL, window_s=30 * 86_400.0)).run(GOOD, 10)
        daemon.now += 60 * 86_400.0
        daemon.run(GOOD, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * 1024 * 1024


@given(
    st.integers(1, 7),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(0, 3)), max_size=50),
)
def test_a_ring_sums_what_a_list_would(
    step_s: int, steps: int, given: list[tuple[int, int, int]]
) -> None:
    ring, kept, second = Ring(step_s, steps), [(0, 0, 0)], 0
    for forward, counted, bad in given:
        second += forward
        ring.add(second, counted, bad)
        kept.append((second // step_s, counted, bad))
    now = second // step_s
    alive = [each for each in kept if each[0] > now - steps]
    assert ring.counted == sum(each[1] for each in alive)
    assert ring.bad == sum(each[2] for each in alive)
    assert ring.last(step_s * (steps - 1)) == (ring.counted, ring.bad)
    smaller = ring.resized(max(1, steps // 2))
    few = [each for each in kept if each[0] > now - max(1, steps // 2)]
    assert smaller.counted == sum(each[1] for each in few)
    assert smaller.bad == sum(each[2] for each in few)


# ------------------------------------------------------------------------------------- metrics


def gauges(stats: Stats) -> dict[tuple[str, ...], float]:
    return {
        (metric.name, *metric.labels.values()): metric.value.read()
        for metric in stats.metrics()
        if isinstance(metric.value, Gauge)
    }


def test_metrics_come_and_go_with_the_objectives() -> None:
    daemon, stats = Daemon(ALL).run(SLOW).run(GOOD, 3), Stats()
    sla_metrics(stats, daemon.sla)
    found = gauges(stats)
    assert found["sla_compliance", "latency_p99"] == 0.75
    assert found["sla_objective", "error_rate"] == 0.99
    assert found["sla_met", "latency_p99"] == 0
    assert found["sla_met", "throughput"] == 1
    assert found["sla_budget_left", "latency_p99"] == pytest.approx(-24)
    assert found["sla_burn_rate", "latency_p99", "5m"] == pytest.approx(25)
    assert found["sla_burn_rate", "latency_p99", "1h"] == pytest.approx(25)
    assert len(found) == 6 * len(NAMES)
    daemon.sla.apply(SlaConfig(latency_p99_s=0.1))
    assert math.isnan(gauges(stats)["sla_met", "throughput"])
    sla_metrics(stats, daemon.sla)
    assert {labels[1] for labels in gauges(stats)} == {"latency_p99"}
    assert gauges(stats)["sla_compliance", "latency_p99"] == 0.75


def test_metrics_of_no_objectives() -> None:
    stats = Stats()
    sla_metrics(stats, Daemon(SlaConfig()).sla)
    assert gauges(stats) == {}
