"""How sure a difference is, from few repeats of noisy runs.

Rules: what is compared was measured in the same pass, so pairs are compared, as logarithms of
their scores: a machine that slows down hits both. No distribution is assumed, and one wild pair
weighs no more than its rank (the signed-rank test of Wilcoxon): if two configurations were alike,
each pair might as well be the other way round, so the chance of what was seen is counted over all
2^n ways to turn the n pairs. With six pairs it can be 1 in 64 at the best; five, at 1 in 32, would
have to be all alike.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

#: Above it, chance may have done it.
CHANCE_MAX = 0.05
#: Fewer pairs prove nothing.
PAIRS_MIN = 6
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
    ranks = _doubled_ranks([each for each in found if each])
    reached = sum(rank for rank, above in ranks if above)
    #: Sum of the ranks above zero: how many ways to turn the pairs give it.
    ways = {0: 1}
    for rank, _ in ranks:
        turned = dict(ways)
        for total, count in ways.items():
            turned[total + rank] = turned.get(total + rank, 0) + count
        ways = turned
    return sum(count for total, count in ways.items() if total >= reached) / sum(ways.values())


def _doubled_ranks(found: Sequence[float]) -> list[tuple[int, bool]]:
    """For each difference twice its rank by size, equal ones sharing the mean, and its side."""
    sizes = sorted(map(abs, found))
    return [
        # First and last place of its size, counted from 1.
        (bisect_left(sizes, abs(each)) + 1 + bisect_right(sizes, abs(each)), each > 0)
        for each in found
    ]


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
    """The standard deviation of one repeat, as a logarithm, over rows of repeats together.

    Rows have the same passes. What a pass did to all of them is taken out, as it is when two rows
    are compared: their common reference, and a slow minute.
    """
    passes = min(map(len, rows), default=0)
    if len(rows) < 2 or passes < 2:
        return 0.0
    logs = [[math.log(max(each, _SCORE_MIN)) for each in row[:passes]] for row in rows]
    row_means = [statistics.mean(row) for row in logs]
    pass_means = [statistics.mean(column) for column in zip(*logs, strict=True)]
    mean = statistics.mean(row_means)
    total = sum(
        (each - row_mean - pass_mean + mean) ** 2
        for row, row_mean in zip(logs, row_means, strict=True)
        for each, pass_mean in zip(row, pass_means, strict=True)
    )
    return math.sqrt(total / ((len(rows) - 1) * (passes - 1)))
