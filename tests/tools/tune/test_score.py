"""Scores: what each weight does, what errors cost, and what weights may be."""

from __future__ import annotations

import math

import pytest

from streamer_tools.tune.score import Run, Weights, middle, parse_weights, score

PRESENT = Run(1000.0, 0.005, 0.010, 5000, 0)


def test_as_good_as_the_reference_is_one() -> None:
    assert score(PRESENT, PRESENT, Weights()).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("weights", "value"),
    [
        (Weights(1.0, 0.0, 0.0), 2.0),
        (Weights(0.0, 1.0, 0.0), 0.5),
        (Weights(0.5, 0.5, 0.0), 1.0),
    ],
)
def test_weights_say_what_counts(weights: Weights, value: float) -> None:
    quicker_but_less = Run(500.0, 0.001, 0.005, 5000, 0)
    assert score(quicker_but_less, PRESENT, weights).value == pytest.approx(value)


def test_an_error_costs_whatever_the_weights_are() -> None:
    one = Run(1000.0, 0.005, 0.010, 5000, 1)
    assert score(one, PRESENT, Weights(1.0, 0.0, 0.0)).value == pytest.approx(0.5)
    many = Run(1000.0, 0.005, 0.010, 5000, 500)
    assert score(many, PRESENT, Weights()).value < score(one, PRESENT, Weights()).value < 0.5


@pytest.mark.parametrize(
    "run",
    [
        Run(errors=1, fault="the daemon did not start"),
        Run(0.0, 0.001, 0.001, 0, 0),
        Run(math.inf, 0.001, 0.001, 1, 0),
        Run(1000.0, math.nan, math.nan, 1, 0),
    ],
)
def test_without_figures_it_is_nothing(run: Run) -> None:
    assert run.failed
    assert score(run, PRESENT, Weights()).value == 0.0


def test_the_middle_of_runs() -> None:
    runs = [Run(1.0, 1.0, 1.0, 1), Run(3.0, 3.0, 3.0, 1), Run(2.0, 2.0, 2.0, 1, 1, "late")]
    assert middle([*runs, Run(errors=2, fault="dead")]) == Run(2.0, 2.0, 2.0, 3, 3, "late")
    assert middle([Run(fault="dead")]).failed


def test_weights_are_made_to_add_up() -> None:
    assert parse_weights("latency=3, throughput=1") == Weights(0.75, 0.25, 0.0)
    assert parse_weights("errors=2").text() == "latency 0, throughput 0, errors 1"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("latency", "'latency'"),
        ("latency=fast", "'latency=fast'"),
        ("speed=1", "'speed=1'"),
        ("latency=-1", "'latency=-1'"),
        ("latency=nan", "'latency=nan'"),
        ("latency=1,latency=1", "'latency=1'"),
        ("latency=0", "only zeros"),
        ("", "''"),
    ],
)
def test_weights_that_are_none(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"found {found}, allowed latency=NUMBER"):
        parse_weights(text)
