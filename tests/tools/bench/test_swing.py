"""The swing: its schedule, its cases, the search for its rate, and what it concludes."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from streamer_tools.bench import search, swing
from streamer_tools.bench.contract import Benchmark, Case, Measurement, Result
from streamer_tools.bench.results import figures
from streamer_tools.bench.swing import SwingSettings
from streamer_tools.bench.workloads.swinging import SwingLoad, rate_at, schedule, warm


def test_the_rate_swings_as_far_as_asked() -> None:
    load = SwingLoad(rate=100, swing=10, period_s=2.0)
    assert rate_at(load, 0) == pytest.approx(100)
    assert rate_at(load, 1.0) == pytest.approx(1000)
    assert rate_at(load, 2.0) == pytest.approx(100)
    steps = SwingLoad(rate=100, swing=10, period_s=2.0, shape="square")
    assert [rate_at(steps, at) for at in (0.0, 0.9, 1.0, 1.9, 2.1)] == [100, 100, 1000, 1000, 100]


def test_a_schedule_is_that_of_its_seed_and_of_its_rate() -> None:
    load = SwingLoad(seconds=4.0, rate=200, swing=10, period_s=4.0, shape="square")
    due = schedule(load)
    assert due == schedule(load)
    assert due != schedule(SwingLoad(seconds=4.0, rate=200, period_s=4.0, shape="square", seed=1))
    assert list(due) == sorted(due)
    assert due[0] >= 0
    assert due[-1] <= 4.0
    low = sum(at < 2 for at in due)
    assert low == pytest.approx(400, rel=0.15)
    assert len(due) - low == pytest.approx(4000, rel=0.05)


def test_a_warm_up_goes_through_both_ends() -> None:
    found = warm(SwingLoad(seconds=60.0, period_s=30.0))
    assert found.seconds == found.period_s == 2.0


def test_cases_are_the_adaptive_one_and_each_fixed_one_under_one_load() -> None:
    settings = SwingSettings(top=1000.0, sizes=(1, 64), lingers_s=(0.001, 0.02))
    cases = swing.plan(settings, Machine(0))
    assert [case.name for case in cases] == [
        "adaptive", "fixed 1", "fixed 64, 1 ms", "fixed 64, 20 ms",
    ]  # fmt: skip
    assert len({case.settings for case in cases}) == 1
    assert cases[0].settings.rate == 100
    assert cases[-1].config == (
        "[[pipelines]]\n[pipelines.ingest]\nrecords_min = 64\nrecords_max = 64\nlinger_s = 0.02\n"
    )


class Machine:
    """A workbench that keeps up with so many records a second."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.said: list[str] = []

    def say(self, text: str, /) -> None:
        self.said.append(text)

    def measure(self, benchmark: Benchmark, case: Case, *, warm: bool = True) -> Result:
        assert case.settings.swing == 1.0, "a steady rate"
        late = 0.0 if case.settings.rate <= self.most else 3.0
        return Measurement(100, 100, 2.0 + late, array("d", [0.001] * 100), at_s=[2.0] * 100)


def test_the_rate_is_found_by_trying() -> None:
    machine = Machine(5000)
    cases = swing.plan(SwingSettings(load=0.8), machine)
    assert 0.93 * 4000 <= cases[0].settings.rate * 10 <= 4000
    assert "this machine takes about" in machine.said[-1]


@pytest.mark.parametrize("most", [37.0, 900.0, 1000.0, 6000.0])
def test_the_search_ends_close_below_the_highest(most: float) -> None:
    found = search.highest(lambda rate: rate <= most, 1000.0)
    assert 0.93 * most <= found <= most


def test_a_search_tries_again_before_it_gives_up() -> None:
    tried: list[float] = []

    def fails_at_first(rate: float) -> bool:
        tried.append(rate)
        return rate <= 4000 and tried.count(rate) > 1

    assert search.highest(fails_at_first, 1000.0) >= 0.93 * 4000
    assert search.highest(lambda rate: False, 1000.0) == 1.0


def case(name: str, *p99_ms: float, seconds: float = 1.0) -> dict[str, Any]:
    runs = [Measurement(1000, 1000, seconds, [each / 1000] * 100) for each in p99_ms]
    return {"name": name, **figures(runs)}


def concluded(*cases: dict[str, Any], other_cpu_cores: float = 0.0) -> list[str]:
    noise = {"other_cpu_cores": other_cpu_cores, "cpus": 2}
    found = swing.conclude({"cases": list(cases), "noise": noise})["conclusion"]
    assert isinstance(found, list)
    return found


def test_an_adaptive_setting_that_wins() -> None:
    [line] = concluded(
        case("adaptive", 4, 5, 6), case("fixed 1", 9, 9, 9), case("fixed 8", 7, 8, 5.5)
    )
    assert line.startswith("The adaptive setting (p99 5 ms) beats every fixed one on p99 at equal")
    assert "the nearest is fixed 8 with 7 ms, within the noise (adaptive lower in 2 of 3" in line


def test_one_that_loses_says_to_whom_and_by_how_much() -> None:
    lines = concluded(
        case("adaptive", 4, 5, 6), case("fixed 1", 9, 9, 9), case("fixed 8", 2, 3, 2.5),
        case("fixed 64", 1, 1, 1, seconds=2.0),
    )  # fmt: skip
    assert lines[0].startswith("The adaptive setting (p99 5 ms) loses to 1 of 2 fixed ones on p99")
    assert lines[1] == (
        "fixed 8 has 2.5 ms, 50.0% less, beyond the noise (adaptive lower in 0 of 3 repeats)."
    )
    assert lines[2] == "Did not reach that throughput, and so are not compared: fixed 64."


def test_one_that_is_level_is_not_said_to_lose() -> None:
    lines = concluded(case("adaptive", 4, 5, 6), case("fixed 8", 3, 4.5, 6.5))
    assert "(p99 5 ms) is level with the best fixed ones on p99 at equal throughput" in lines[0]
    assert lines[0].endswith("1 of 1 have less, within the noise.")
    assert "adaptive lower in 1 of 3 repeats" in lines[1]


def test_doubts_are_said() -> None:
    lines = concluded(case("adaptive", 5), case("fixed 1", 4), other_cpu_cores=1.0)
    assert "one repeat cannot tell" in lines[-1]
    assert any("Other programs used 1 of 2 cores" in line for line in lines)
    [line] = concluded(case("adaptive", 5), case("fixed 1", 4, seconds=9.0))[:1]
    assert line.startswith("No fixed setting reached")
    assert swing.conclude({"noise": {}}) == {}
