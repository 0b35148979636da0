"""How sure a difference is, from few repeats of noisy runs.

Rules: what is compared was measured in the same pass, so pairs are compared, as logarithms of
their scores: a machine that slows down hits both. No distribution is assumed: if two
configurations were alike, each pair might as well be the other way round, so the chance of what
was seen is counted over all 2^n ways to turn the n pairs. With five pairs it can be 1 in 32 at the
best, which is why fewer prove nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import product

#: Above it, chance may have done it.
CHANCE_MAX = 0.05
#: The fewest pairs that can be below it.
PAIRS_MIN = 5
#: The most that are counted over: 2^12 ways. Of more, the first are taken.
_PAIRS_MAX = 12
#: A gain below it is not worth a change.
GAIN_MIN = 0.02
#: A score of 0 has no logarithm; this is as bad as it gets.
_SCORE_MIN = 1e-6


def differences(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """The logarithm of how many times better each of `scores` is than its pair in `others`."""
    pairs = zip(scores, others, strict=False)
    return [math.log(max(a, _SCORE_MIN)) - math.log(max(b, _SCORE_MIN)) for a, b in pairs]


def chance(found: Sequence[float]) -> float:
    """How likely differences so much above zero are if there is none; 1 where there are none."""
    found = found[:_PAIRS_MAX]
    total = sum(found)
    turned = product((1, -1), repeat=len(found))
    # Rounding must not make a sum smaller than itself.
    least = total - 1e-9 * sum(map(abs, found))
    ways = [sum(s * d for s, d in zip(signs, found, strict=True)) >= least for signs in turned]
    return sum(ways) / len(ways)


def gain(found: Sequence[float]) -> float:
    """The middle difference as a share: 0.1 is ten percent better."""
    return math.exp(statistics.median(found)) - 1 if found else 0.0


def is_better(found: Sequence[float]) -> bool:
    """Whether the differences are beyond the noise, and worth it."""
    enough = len(found) >= PAIRS_MIN
    return enough and chance(found) <= CHANCE_MAX and gain(found) >= GAIN_MIN


def spread(values: Sequence[float]) -> float:
    """Half the range, as a share of the median: 0.05 is plus or minus five percent."""
    middle = statistics.median(values) if values else 0.0
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def pooled_noise(rows: Sequence[Sequence[float]]) -> float:
    """The standard deviation of one repeat, as a logarithm, over rows of repeats together."""
    variances = [
        statistics.variance([math.log(max(each, _SCORE_MIN)) for each in row])
        for row in rows
        if len(row) > 1
    ]
    return math.sqrt(statistics.mean(variances)) if variances else 0.0
