"""How sure a difference is: few pairs prove nothing, and noise proves nothing however often."""

from __future__ import annotations

import math
import random

import pytest

from streamer_tools.tune import certainty


def test_chance_counts_the_ways_to_turn_pairs() -> None:
    assert certainty.chance([0.1] * 5) == 1 / 32
    assert certainty.chance([0.1, 0.1, 0.1, 0.1, -0.1]) == 6 / 32
    assert certainty.chance([0.0] * 5) == 1.0
    assert certainty.chance([]) == 1.0


def test_the_fewest_pairs_that_prove_something() -> None:
    assert certainty.is_better([0.3] * certainty.PAIRS_MIN)
    assert not certainty.is_better([9.0] * (certainty.PAIRS_MIN - 1))


def test_a_gain_that_is_sure_but_small_is_none() -> None:
    assert not certainty.is_better([0.01] * 8)
    assert certainty.gain([0.01] * 8) == pytest.approx(0.01, rel=0.01)


def test_noise_is_taken_for_a_gain_as_seldom_as_promised() -> None:
    rng = random.Random(7)
    rounds = 400
    found = sum(certainty.is_better([rng.gauss(0, 0.3) for _ in range(7)]) for _ in range(rounds))
    assert found / rounds < 0.08


def test_a_failure_outweighs_what_went_well() -> None:
    found = certainty.differences([1.5, 1.5, 1.5, 1.5, 0.0], [1.0] * 5)
    assert found[-1] < -10
    assert not certainty.is_better(found)


def test_spread_and_noise() -> None:
    assert certainty.spread([90.0, 100.0, 110.0]) == pytest.approx(0.1)
    assert certainty.spread([]) == 0.0
    rows = [[1.0, math.e], [2.0, 2.0]]
    assert certainty.pooled_noise(rows) == pytest.approx(0.5)
    assert certainty.pooled_noise([[1.0]]) == 0.0
