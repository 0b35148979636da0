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


@pytest.mark.parametrize("heavy_tailed", [False, True])
def test_noise_is_taken_for_a_gain_as_seldom_as_promised(heavy_tailed: bool) -> None:
    rng = random.Random(7)
    rounds = 400

    def noise() -> float:
        return rng.gauss(0, 0.1) / (rng.random() if heavy_tailed else 1.0)

    found = sum(certainty.is_better([noise() for _ in range(9)]) for _ in range(rounds))
    assert found / rounds < 0.08


def test_one_wild_pair_does_not_hide_a_gain() -> None:
    found = [0.1, 0.12, 0.09, 0.11, 0.1, 0.13, 0.08, 0.1, 0.07, 0.14, -3.0]
    assert certainty.is_better(found)


def test_many_pairs_are_counted_over_as_quickly_as_few() -> None:
    assert certainty.chance([0.1 + number / 1000 for number in range(30)]) == 2**-30
    assert certainty.chance([0.1, -0.1] * 15) > 0.5


def test_a_failure_outweighs_what_went_well() -> None:
    found = certainty.differences([1.5, 1.5, 1.5, 1.5, 0.0], [1.0] * 5)
    assert found[-1] < -10
    assert not certainty.is_better(found)


def test_spread_and_noise() -> None:
    assert certainty.spread([90.0, 100.0, 110.0]) == pytest.approx(0.1)
    assert certainty.spread([]) == 0.0
    assert certainty.pooled_noise([[1.0], [2.0]]) == 0.0
    assert certainty.pooled_noise([[1.0, 2.0]]) == 0.0


def test_what_a_pass_does_to_all_is_no_noise() -> None:
    passes = [1.0, 7.0, 0.3]
    alike = [[2.0 * each for each in passes], passes, [0.5 * each for each in passes]]
    assert certainty.pooled_noise(alike) == pytest.approx(0.0, abs=1e-9)
    rng = random.Random(3)
    noisy = [[each * math.exp(rng.gauss(0, 0.2)) for each in row * 20] for row in alike]
    assert certainty.pooled_noise(noisy) == pytest.approx(0.2, rel=0.2)
