"""The highest rate that something keeps up with, found by trying: up in steps, then by halving."""

from __future__ import annotations

from collections.abc import Callable

_STEP = 1.6
#: Halvings after the first rate that was too much.
_HALVINGS = 3
_RATE_MAX = 1e7


def highest(keeps_up: Callable[[float], bool], first: float) -> float:
    """A rate that was kept up with, within about 6 % of the highest; it may be below `first`.

    A rate that fails is tried once more: on a busy machine one bad second would end the search.
    """
    good, rate = 0.0, first
    while rate < _RATE_MAX and _twice(keeps_up, rate):
        good, rate = rate, rate * _STEP
    bad = rate
    while not good:
        rate /= _STEP
        if rate < 1:
            return 1.0
        if _twice(keeps_up, rate):
            good = rate
        else:
            bad = rate
    for _ in range(_HALVINGS):
        middle = (good * bad) ** 0.5
        if _twice(keeps_up, middle):
            good = middle
        else:
            bad = middle
    return good


def _twice(keeps_up: Callable[[float], bool], rate: float) -> bool:
    return keeps_up(rate) or keeps_up(rate)
